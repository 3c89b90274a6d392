"""`python -m tests.soak`: mixed jobs through one worker; does its memory stay within what it was given?"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from pydantic import ByteSize, TypeAdapter

from pixelkiln.jobs import Kiln, Settings
from pixelkiln.worker.engines.blas import use_openblas
from pixelkiln.worker.local.instance import up
from tests.soak.soak import MEMORY, install, mix, soak


def main() -> int:
    """Run once, print what was seen; 0 where it was as promised."""
    parse = argparse.ArgumentParser(prog="soak", description=__doc__)
    parse.add_argument("--jobs", type=int, default=500)
    parse.add_argument("--switching", action="store_true", help="four models in turn, in this process")
    parse.add_argument("--memory", default=str(MEMORY), help="what the worker may use")
    asked = parse.parse_args()
    use_openblas()
    with tempfile.TemporaryDirectory(prefix="kiln-soak-") as name:
        folder = Path(name)
        install(folder / "models")
        with up(folder / "servers") as local:
            places = {"home": "servers", "models_dir": "models", "spool_dir": "spool", "cache_dir": "cache"}
            fields = {field: folder / place for field, place in places.items()}
            variables = {f"KILN_{field.upper()}": str(path) for field, path in fields.items()}
            os.environ |= {
                "AWS_ACCESS_KEY_ID": local.instance.access_key,
                "AWS_SECRET_ACCESS_KEY": local.instance.secret_key.get_secret_value(),
            }
            if asked.switching:
                from tests.soak.switching import switch

                found = switch(Settings(**fields), asked.jobs)
                print(*found.lines(), *found.faults(), sep="\n")
                return 1 if found.faults() else 0
            memory = TypeAdapter(ByteSize).validate_python(asked.memory)
            kiln, environment = Kiln(Settings(**fields)), {**os.environ, **variables}
            report = soak(kiln, environment, folder, mix(folder), asked.jobs, int(memory))
    print(*report.lines(), *report.faults(), sep="\n")
    return 1 if report.faults() else 0


if __name__ == "__main__":
    sys.exit(main())
