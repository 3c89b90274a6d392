"""The command of the operator's that runs at the desk when a batch has ended."""

from __future__ import annotations

import json
import os
import subprocess

from pixelkiln.jobs.batches.batch import Batch
from pixelkiln.jobs.commands.about import counts
from pixelkiln.jobs.commands.output import err
from pixelkiln.jobs.plain import MAX_TEXT, plain
from pixelkiln.jobs.settings import Settings

PATIENCE = 30.0  # seconds
OURS = ("KILN_", "AWS_")  # variables that hold secrets, some of them


def tell_desk(settings: Settings, batch: Batch) -> None:
    """Run KILN_ON_BATCH_DONE about a batch that has ended; what goes wrong is said, and changes nothing."""
    if not settings.on_batch_done:
        return
    status = batch.status()
    if status.open:
        return
    shown = ("total", "finished", "failed", "cancelled", "missing", "suspicious")
    totals = {name: getattr(status, name) for name in shown}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    about = {"KILN_BATCH": status.name, "KILN_BATCH_TOTALS": json.dumps(totals)}
    command = [*settings.on_batch_done, f"{status.name}: {counts(status)}"]
    fault = ""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            env=kept | about,
            check=False,
        )
        if done.returncode:
            last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            fault = f"ended with {done.returncode}{''.join(f': {plain(line)[:MAX_TEXT]}' for line in last)}"
    except subprocess.TimeoutExpired:
        fault = f"did not end within {PATIENCE:.0f} s"
    except (OSError, ValueError) as error:
        fault = f"cannot be run ({getattr(error, 'strerror', None) or error})"
    if fault:
        err.print(f"kiln: KILN_ON_BATCH_DONE: {plain(command[0])} {fault}", soft_wrap=True)
