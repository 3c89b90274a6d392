"""The errors that a user can meet: one tree, at the public door, each with a meaning and an exit code."""

from __future__ import annotations

import pytest

import pixelkiln
from pixelkiln import KilnError
from pixelkiln.jobs import errors

EVERY = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Exception)]
EXITS = {"SpecError": 2, "UsageError": 2, "NotReadyError": 3, "StorageAwayError": 3, "StorageRefusedError": 3}


@pytest.mark.parametrize("error", EVERY, ids=lambda error: error.__name__)
def test_each_is_public_and_says_what_it_means(error: type[KilnError]) -> None:
    assert issubclass(error, KilnError)
    assert getattr(pixelkiln, error.__name__) is error
    assert error.__name__ in pixelkiln.__all__
    assert error.__doc__
    assert error.exit_code == EXITS.get(error.__name__, 1)


def test_what_is_public_is_there() -> None:
    assert pixelkiln.__all__ == sorted(pixelkiln.__all__, key=lambda name: (name.islower(), name))
    assert all(hasattr(pixelkiln, name) for name in pixelkiln.__all__)
    assert set(pixelkiln.__all__) - {"render"} == set(pixelkiln.jobs.__all__)
