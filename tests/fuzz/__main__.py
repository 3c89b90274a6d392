"""`python -m tests.fuzz [--examples N] [pytest's arguments]`: requests made from the API's own description.

Needs `pip install schemathesis`. Asks each route the cases of its description and up to N more (default 25),
of the farm in memory and of a real one, as the admin and as a client; prints how often what was answered.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest


def main() -> int:
    """Run them."""
    arguments = sys.argv[1:]
    os.environ["FUZZ"] = "25"
    if "--examples" in arguments:
        at = arguments.index("--examples")
        os.environ["FUZZ"] = arguments[at + 1]
        del arguments[at : at + 2]
    return pytest.main(["-s", str(Path(__file__).parent), *arguments])


if __name__ == "__main__":
    sys.exit(main())
