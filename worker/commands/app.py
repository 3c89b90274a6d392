"""The console script `kiln`: a producer's commands and the worker's own.

Each command imports what it needs when it runs, so that `kiln submit` starts fast and needs no MLX.
"""

from __future__ import annotations

import sys

import pixelkiln.jobs.commands.batch
import pixelkiln.jobs.commands.batches
import pixelkiln.jobs.commands.battery
import pixelkiln.jobs.commands.control
import pixelkiln.jobs.commands.jobs
import pixelkiln.jobs.commands.report
import pixelkiln.jobs.commands.serve
import pixelkiln.jobs.commands.status
import pixelkiln.jobs.commands.submit
import pixelkiln.worker.commands.bench
import pixelkiln.worker.commands.doctor.command
import pixelkiln.worker.commands.local
import pixelkiln.worker.commands.models
import pixelkiln.worker.commands.service.command
import pixelkiln.worker.commands.service.run
import pixelkiln.worker.commands.service.status
import pixelkiln.worker.commands.worker  # noqa: F401 - commands are mounted by being there
from pixelkiln.jobs.commands.app import app
from pixelkiln.jobs.commands.output import err
from pixelkiln.jobs.errors import KilnError


def main() -> None:
    """Run the command line. Errors of ours are one line on stderr and their own exit code."""
    try:
        app(standalone_mode=True)
    except KilnError as error:
        err.print(f"kiln: {error}", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
