"""`python -m tests.chaos`: faults thrown at a whole farm for a while. A seed that fails can be replayed."""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pixelkiln.worker.local.seaweed import Seaweed
from tests.chaos.farm import Store
from tests.chaos.run import Plan, Run


@contextmanager
def stored(kind: str, folder: Path) -> Iterator[Store]:
    """An S3 server that runs."""
    if kind == "radosgw":
        from tests.chaos.radosgw import Radosgw

        with Radosgw(folder) as store:
            yield store
    else:
        with Seaweed(folder) as seaweed:
            yield seaweed


def main() -> int:
    """Play one run a seed; 0 where no promise was broken."""
    parse = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parse.add_argument("--minutes", type=float, default=1.5, help="how long faults are thrown, each seed")
    parse.add_argument("--seed", type=int, help="drawn, and printed, where none is given")
    parse.add_argument("--seeds", type=int, default=1, help="how many runs, of this seed and those after it")
    parse.add_argument("--jobs", type=int, default=200)
    parse.add_argument("--workers", type=int, default=3)
    parse.add_argument("--lanes", type=int, default=0, help="beside, that nobody serves; to see what costs")
    parse.add_argument("--s3", choices=("seaweed", "radosgw"), default="seaweed")
    parse.add_argument("--keep", type=Path, help="a folder for logs; else they are kept only on failure")
    asked = parse.parse_args()
    first = asked.seed if asked.seed is not None else secrets.randbelow(10**6)
    bad = 0
    for seed in range(first, first + asked.seeds):
        folder = (
            asked.keep / str(seed) if asked.keep else Path(tempfile.mkdtemp(prefix=f"kiln-chaos-{seed}-"))
        )
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        plan = Plan(seed, asked.minutes * 60, asked.jobs, asked.workers, asked.lanes)
        with stored(asked.s3, folder / "s3") as store:
            outcome = Run(plan, folder, store).play()
        print(outcome, flush=True)
        if outcome.violations:
            bad += 1
            again = f"--jobs {asked.jobs} --workers {asked.workers} --lanes {asked.lanes} --s3 {asked.s3}"
            again = f"--minutes {asked.minutes} {again}"
            print(f"    replay: ./kiln chaos --seed {seed} {again}\n    logs: {folder}", flush=True)
        elif not asked.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
