"""`kiln demo` and `kiln up`: a whole farm on this machine, to look at or to use."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import KilnError, NotReadyError
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.settings import Settings
from pixelkiln.worker.local.child import worker_process
from pixelkiln.worker.local.instance import Local, running, up
from pixelkiln.worker.local.sheet import contact_sheet

PROMPTS = (
    "A red fox in the snow at dusk, with the sun on the left",
    "A white lighthouse on the right and an orange boat on the left by the sea at dawn",
    "Three purple tents in the desert by night, with a crescent moon and stars",
    "A big red balloon over green hills by day, and a yellow house on the left",
    "A blue cottage on the left and a green pine in the mountains at night, with a full moon",
    "An orange cat on the left and a green windmill in the hills at dawn",
)
SEED = 4  # the same pictures each time; another seed composes them otherwise
COLUMNS = 3  # of the contact sheet


@dataclass(frozen=True, slots=True)
class Farm:
    """A farm that runs: the door to it, and the worker's process where one was started here."""

    kiln: Kiln
    settings: Settings
    log: Path
    worker: subprocess.Popen[bytes] | None = None
    servers: Local | None = None

    def check(self) -> None:
        """Raise KilnError with the last words of a server or the worker that has ended."""
        if self.servers is not None:
            self.servers.check()
        if self.worker is not None and self.worker.poll() is not None:
            lines = self.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise KilnError(f"the worker ended: {lines[-1][:300]} (see {self.log})")


@contextmanager
def farm(settings: Settings, *, models: Sequence[str] = (), worker: bool = True) -> Iterator[Farm]:
    """Servers where the settings name none and none run here, and a worker if asked for; gone afterwards.

    Raises NotReadyError where a server cannot start or be reached.
    """
    home = settings.home.absolute()
    servers = None
    with ExitStack() as stack:
        if settings.redis_url is None and running(home) is None:
            servers = stack.enter_context(up(home))
        elif settings.redis_url is not None and settings.s3_endpoint is None:
            raise NotReadyError("KILN_REDIS_URL is set and KILN_S3_ENDPOINT is not; set both, or neither")
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            (home / "spool").mkdir(exist_ok=True)
        except OSError as error:
            raise NotReadyError(f"{home} cannot be written ({error.strerror}); set KILN_HOME") from None
        log = home / "worker.log"
        process = None
        if worker:
            renders = settings.renders_dir or Path("renders")
            process = stack.enter_context(
                worker_process(home, home / "spool" / "demo", renders, log, list(models))
            )
        yield Farm(Kiln(settings), settings, log, process, servers)


def rows(kiln: Kiln, ended: dict[str, JobStatus], renders: Path) -> list[dict[str, str]]:
    """The demo's table: prompt, size, seconds per step, total seconds, where the picture is."""
    table = []
    for job_id, status in ended.items():
        if status.state != "finished":
            table.append(
                {"prompt": job_id, "size": "", "step": "", "total": status.state, "file": status.error}
            )
            continue
        sidecar = kiln.sidecar(job_id)
        steps = sidecar.timings.steps
        table.append(
            {
                "prompt": sidecar.spec.prompt,
                "size": f"{sidecar.png.width}x{sidecar.png.height}",
                "step": f"{sum(steps) / len(steps):.3f}",
                "total": f"{sidecar.timings.total:.2f}",
                "file": str(renders / f"{job_id}.png"),
            }
        )
    return table


def sheet(table: list[dict[str, str]], path: Path) -> Image.Image | None:
    """The finished pictures of `rows` in one, written to `path`; None when there are none."""
    pictures = [Path(row["file"]) for row in table if row["size"]]
    if not pictures:
        return None
    picture = contact_sheet(pictures, COLUMNS)
    picture.save(path)
    return picture
