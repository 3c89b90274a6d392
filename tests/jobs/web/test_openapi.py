"""The API's own description."""

from __future__ import annotations

import httpx
from openapi_spec_validator import validate


def test_it_is_valid(local: httpx.Client) -> None:
    found = local.get("/v1/openapi.json").json()
    validate(found)
    assert all(path.startswith("/v1/") for path in found["paths"])


def test_every_route_tells_of_problems_and_asks_for_a_token(local: httpx.Client) -> None:
    found = local.get("/v1/openapi.json").json()
    for path in found["paths"].values():
        for operation in path.values():
            assert operation["security"] == [{"HTTPBearer": []}]
            for status in ("401", "422", "503"):
                assert "application/problem+json" in operation["responses"][status]["content"]
