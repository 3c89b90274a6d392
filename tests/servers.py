"""Real servers for tests: a conftest that imports `local_instance` from here has it as a fixture."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pixelkiln.worker.local.instance import Local, up
from tests.leaks.witness import keep_objects


@pytest.fixture(scope="session")
def local_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """One Valkey and one SeaweedFS for the whole run."""
    with up(tmp_path_factory.mktemp("kiln")) as local:
        yield local
        keep_objects(local, tmp_path_factory.mktemp("bucket"))
