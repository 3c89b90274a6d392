"""What models make of reference pictures, as the authors' recorded sizes have it."""

from __future__ import annotations

import pytest

from pixelkiln.jobs import RenderSpec
from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.references import Own, Size, fit

SHA = "0" * 64
SQUARE = (1024, 1024)


@pytest.mark.parametrize(
    ("picture", "prepared"),
    [
        ((1024, 1024), (1024, 1024)),
        ((1025, 1024), (1024, 1008)),
        ((1340, 830), (1296, 800)),
        ((4000, 3000), (1168, 880)),
        ((3000, 4000), (880, 1168)),
        ((64, 64), (64, 64)),
        ((64, 512), (64, 512)),
        ((8000, 1000), (2896, 352)),
        ((1920, 1080), (1360, 768)),
        ((100, 77), (96, 64)),
        ((1000, 1048), (992, 1040)),
        ((2048, 512), (2048, 512)),
    ],
)
def test_each_keeps_its_own_size(picture: Size, prepared: Size) -> None:
    rule = CATALOGUE["flux2-klein-4b"].references
    assert isinstance(rule, Own)
    assert rule.fault(picture, SQUARE, 1, False, False) == ""
    assert rule.prepared(picture) == rule.output(picture) == prepared
    assert CATALOGUE["flux2-klein-4b"].fits(*prepared)


@pytest.mark.parametrize("picture", [(63, 64), (64, 63), (1000, 124), (64, 513)])
def test_what_is_refused(picture: Size) -> None:
    spec = RenderSpec.parse({"prompt": "x", "model": "flux2-klein-base-4b", "references": [SHA]})
    assert spec.reference_fault(picture)
    assert not RenderSpec.parse({"prompt": "x", "references": [SHA]}).reference_fault(picture)


@pytest.mark.parametrize(
    ("picture", "encoded", "seen"),
    [
        ((1328, 1328), (1024, 1024), (384, 384)),
        ((1664, 928), (1376, 768), (512, 288)),
        ((928, 1664), (768, 1376), (288, 512)),
        ((4032, 3024), (1184, 896), (448, 320)),
        ((333, 77), (2144, 480), (800, 192)),
        ((77, 333), (480, 2144), (192, 800)),
        ((1000, 999), (1024, 1024), (384, 384)),
        ((100, 37), (1696, 608), (640, 224)),
        ((2048, 512), (2048, 512), (768, 192)),
        ((1184, 880), (1184, 896), (448, 320)),
    ],
)
def test_each_is_fitted_to_two_areas(picture: Size, encoded: Size, seen: Size) -> None:
    model = CATALOGUE["qwen-image-edit-2511"]
    assert model.references.output(picture) == fit(1024 * 1024, picture) == encoded
    assert fit(384 * 384, picture) == seen
    assert model.references.fault(picture, SQUARE, 1, False, False) == ""
    assert model.fits(*encoded)


def test_what_leaves_nothing_to_see_is_refused() -> None:
    for picture in ((65_000, 100), (1, 600)):
        assert "too narrow" in CATALOGUE["qwen-image-edit-2509"].references.fault(
            picture, SQUARE, 1, False, False
        )
