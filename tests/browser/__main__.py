"""`python -m tests.browser [--axe AXE_MIN_JS] [pytest's arguments]`: the page in Chromium, all of it.

Needs Debian's chromium and `pip install playwright` (its own browsers are not used). With `--axe`, a copy of
axe.min.js of npm's axe-core, each view is looked through for what keeps people out.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest


def main() -> int:
    """Run them."""
    arguments = sys.argv[1:]
    if "--axe" in arguments:
        at = arguments.index("--axe")
        os.environ["AXE"] = str(Path(arguments[at + 1]).resolve())
        del arguments[at : at + 2]
    return pytest.main(["-m", "browser or not browser", str(Path(__file__).parent), *arguments])


if __name__ == "__main__":
    sys.exit(main())
