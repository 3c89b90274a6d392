"""A short run of `python -m tests.soak --switching`."""

from __future__ import annotations

from pixelkiln.jobs import Settings
from tests.soak.switching import install, switch


def test_switching_among_four_families_leaves_memory_and_peaks_as_they_were(settings: Settings) -> None:
    install(settings.models_dir)
    found = switch(settings, 10)
    assert found.faults() == []
    assert len(found.resident) == 10
