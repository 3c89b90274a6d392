from __future__ import annotations

import pytest

from pixelkiln.worker.engines.mlx.goldens import judged, worst


@pytest.mark.parametrize(
    ("errors", "ok"),
    [
        ({"z": 1e-5, "image": 1.0}, True),
        ({"z": 2e-4, "image": 0.0}, False),
        ({"z": 1e-5, "image": 1.5}, False),
        ({"z": float("nan"), "image": 0.0}, False),
    ],
)
def test_every_error_has_its_bound(errors: dict[str, float], ok: bool) -> None:
    case = judged("a", errors, {"z": 1e-4, "image": 1.0})
    assert (case.ok, case.errors, case.fault) == (ok, errors, None)


def test_a_nan_is_the_worst() -> None:
    assert worst([1.0, 3.0, 2.0]) == 3.0
    assert worst([1.0, float("nan"), 2.0]) != worst([1.0])
