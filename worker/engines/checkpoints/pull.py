"""Fetches a model's weights from the Hugging Face hub, at one commit, resumably."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import HfApi, snapshot_download

from pixelkiln.worker.engines.checkpoints.files import write_json
from pixelkiln.worker.engines.checkpoints.manifest import NAME, Manifest, digest
from pixelkiln.worker.engines.checkpoints.sources import Source
from pixelkiln.worker.engines.checkpoints.staging import staged
from pixelkiln.worker.engines.engine import CheckpointError, EngineError
from pixelkiln.worker.host import durable

# Checks a folder: the bits of what is stored quantised there, and its weight files.
Inspect = Callable[[Path], tuple[Collection[int], Iterable[Path]]]

BESIDE = ("*.json", "*.jinja", "*.txt", "LICENSE*")  # also in folders
WEIGHTS = "*.safetensors"
HUB_NOTES = ".cache"  # what the hub's client keeps beside the files, to resume


class PullError(EngineError):
    """The hub could not be reached, or it has no such repository or revision."""


def pull(
    model: str,
    source: Source,
    target: Path,
    inspect: Inspect,
    *,
    repo_id: str | None = None,
    revision: str | None = None,
    endpoint: str | None = None,
    parts: Sequence[str] = (),
) -> Manifest:
    """Fetch `model`'s weights into a new folder `target`, check them, and return its kiln.json.

    Without `repo_id` and `revision` what `source` names is fetched; a branch or tag is pinned to the commit
    it stands for now. What an interrupted pull fetched is kept beside `target`, and the next one goes on from
    there. `parts` are the folders whose weights are wanted, where not all are. Raises PullError,
    CheckpointError for a target that exists and a disk too small, and what `inspect` raises for weights that
    do not fit their config.
    """
    if revision is None:
        revision = source.revision if repo_id in (None, source.repo_id) else "main"
    repo_id = repo_id or source.repo_id
    if target.exists():
        raise CheckpointError(f"{target} exists: choose another folder or remove it")
    try:
        patterns = [*BESIDE, *([f"{part}/{WEIGHTS}" for part in parts] or [WEIGHTS])]
        commit, size = _look_up(repo_id, revision, endpoint, patterns)
        with staged(target, size, keep=True) as folder:
            snapshot_download(
                repo_id,
                revision=commit,
                local_dir=folder,
                allow_patterns=patterns,
                endpoint=endpoint,
            )
            widths, files = inspect(folder)
            shutil.rmtree(folder / HUB_NOTES, ignore_errors=True)
            for path in folder.rglob("*"):  # the hub's client leaves that to the system
                durable.sync_path(path)
            manifest = Manifest(
                model=model,
                recipe=source.recipe,
                bits=min(widths, default=16),  # type: ignore[arg-type]
                mixed=len(widths) > 1,
                source=repo_id,
                revision=commit,
                digest=digest(folder, files),
            )
            write_json(folder / NAME, manifest.model_dump(by_alias=True))
    except (HTTPError, OSError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise PullError(
            f"{repo_id} at {revision}: {said[0]} "
            "(what was fetched is kept: the same command goes on from there)"
        ) from error
    return manifest


def _look_up(repo_id: str, revision: str, endpoint: str | None, patterns: Sequence[str]) -> tuple[str, int]:
    """The commit a revision stands for, and the bytes of what would be fetched."""
    info = HfApi(endpoint=endpoint).model_info(repo_id, revision=revision, files_metadata=True)
    if info.sha is None:
        raise PullError(f"{repo_id} at {revision}: the hub names no commit")
    files = info.siblings or []
    wanted = (one for one in files if any(fnmatch(one.rfilename, pattern) for pattern in patterns))
    return info.sha, sum(one.size or 0 for one in wanted)
