"""HiDream-O1 as a family."""

from __future__ import annotations

from pathlib import Path

from pixelkiln.worker.engines.hidream.configs import CONFIGS
from pixelkiln.worker.engines.packaged import Packaged


class HiDream(Packaged):
    """See worker.engines.family."""

    package = "hidream"
    engine = "HiDreamEngine"
    configs = tuple(CONFIGS)
    coarse = True

    def recognises(self, folder: Path) -> bool:
        """See Family.recognises: no other release has its config at the top."""
        return (folder / "config.json").exists()
