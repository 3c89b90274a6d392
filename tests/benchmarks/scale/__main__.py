"""python -m tests.benchmarks.scale [--workers 1000] [--clients 500] [--seconds 30] [--window 60] …

A farm simulated on one embedded Valkey, in real time; --goals: how long commands and scripts take instead.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource

from tests.benchmarks.scale.carry import carry
from tests.benchmarks.scale.goals import goals
from tests.benchmarks.scale.macs import Plan


def main() -> None:
    """Print what was seen."""
    parse = argparse.ArgumentParser(prog="scale", description=__doc__)
    parse.add_argument("--workers", type=int, default=1000)
    parse.add_argument("--clients", type=int, default=500)
    parse.add_argument("--seconds", type=float, default=30.0, help="of a picture")
    parse.add_argument("--steps", type=int, default=28, help="of a picture")
    parse.add_argument("--watchers", type=int, default=0, help="`kiln watch` of 20 jobs each")
    parse.add_argument("--no-previews", action="store_true", help="as KILN_PREVIEWS=false")
    parse.add_argument("--window", type=float, default=60.0, help="seconds that are measured")
    parse.add_argument("--goals", action="store_true")
    parse.add_argument("--rounds", type=int, default=3, help="of the goals")
    parse.add_argument("--processes", type=int, default=2)
    asked = parse.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    if asked.goals:
        goals(asked.rounds)
        return
    plan = Plan(
        asked.workers, asked.clients, asked.seconds, asked.steps, not asked.no_previews, asked.watchers
    )
    carry(plan, asked.window, asked.processes)


if __name__ == "__main__":
    main()
