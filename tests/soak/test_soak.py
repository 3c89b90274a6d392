"""A short soak; `python -m tests.soak` runs the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixelkiln.jobs import Kiln
from tests.soak.soak import MEMORY, MIB, install, mix, soak


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="on a Mac, resident is not all that a GPU holds")
def test_mixed_jobs_stay_within_the_budget_and_what_cannot_fit_is_refused(
    kiln: Kiln, environment: dict[str, str], tmp_path: Path
) -> None:
    install(tmp_path / "models")
    cycle = [one for one in mix(tmp_path) if one.get("refused") or one["width"] * one["height"] <= 2**14]
    report = soak(kiln, environment, tmp_path, cycle, 2 * len(cycle), MEMORY)
    assert report.faults(noise=16 * MIB) == []  # so few jobs are all warming up
    assert sum(report.refusable) == 8
    assert len(report.samples) > len(report.statuses)
    assert max(report.peaks) > MIB
