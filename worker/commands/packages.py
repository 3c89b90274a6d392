"""Whether the packages that a worker needs are installed."""

from __future__ import annotations

import importlib.util

from pixelkiln.jobs.errors import NotReadyError


def needs_worker() -> None:
    """Raise NotReadyError, with the command that installs them, where they are not."""
    if importlib.util.find_spec("mlx") is None or importlib.util.find_spec("psutil") is None:
        raise NotReadyError("this needs the worker's packages; run: pip install 'pixelkiln[worker,local]'")
