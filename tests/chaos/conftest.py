"""What farms under fire leave behind goes away with them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from unittest.mock import patch

import pytest


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """Keys of their stores: to those of later tests they are strangers', which servers log."""
    with patch.dict(os.environ):
        yield
