"""A short run of `python -m tests.soak --switching`."""

from __future__ import annotations

from pixelkiln.jobs import Settings
from tests.soak.soak import install
from tests.soak.switching import switch


def test_switching_among_four_models_leaves_memory_as_it_was(settings: Settings) -> None:
    install(settings.models_dir)
    found = switch(settings, 16)
    assert found.faults() == []
    assert len(found.resident) == 16
