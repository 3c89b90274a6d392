"""A folder full of modules that nobody may import, for tests to start programs in."""

from __future__ import annotations

import sys
from importlib.metadata import packages_distributions
from pathlib import Path

OURS = ("pixelkiln", "jobs", "worker", "tests", "postcards")
RUN_BY_NAME = (*OURS, "pip", "venv", "ensurepip", "uv", "sitecustomize", "usercustomize")


class Planted:
    """`folder` with a module of every name that Python, the packages here or we have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mark = folder / "imported"
        folder.mkdir(parents=True, exist_ok=True)
        code = f"open({str(self._mark)!r}, 'a').write(__name__ + chr(10))\n"
        names = {*sys.stdlib_module_names, *packages_distributions()} - set(RUN_BY_NAME)
        for name in names:
            if name.isidentifier() and name != "__main__":
                (folder / f"{name}.py").write_text(code)
        for name in RUN_BY_NAME:
            (folder / name).mkdir()
            for part in ("__init__.py", "__main__.py"):
                (folder / name / part).write_text(code)

    @property
    def imported(self) -> list[str]:
        """What was imported from there."""
        return self._mark.read_text().split() if self._mark.exists() else []
