"""Who may prune, with the credentials that `deploy/` gives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from pixelkiln.jobs import NotReadyError
from pixelkiln.jobs.batches.prune import carry_out, plan
from pixelkiln.jobs.errors import StorageRefusedError
from pixelkiln.jobs.keys import REFERENCE
from pixelkiln.jobs.queue.connection import connect
from tests.deploy.test_roles import Farm, farm

__all__ = ["farm"]


@pytest.mark.parametrize("farm", ["policies"], indirect=True)
def test_only_the_admin_may_prune(farm: Farm, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "teal.png")
    key = REFERENCE("alice", farm.producer("alice").upload(tmp_path / "teal.png"))
    later = datetime.now(UTC) + timedelta(days=40)
    month = timedelta(days=30)
    for user in ("producer", "worker"):
        with connect(farm.settings(user)) as other, pytest.raises(NotReadyError, match="give the admin's in"):
            plan(other, farm.bucket("admin"), month, now=later)
    with connect(farm.settings("admin")) as admin:
        chosen = plan(admin, farm.bucket("admin"), month, now=later)
        assert key in [one.key for _, one in chosen.doomed]
        with pytest.raises(StorageRefusedError):  # a producer may delete its own where SeaweedFS says Write
            list(carry_out(admin, farm.bucket("worker"), chosen))
        assert farm.bucket("admin").head(key)
        assert key in [one.key for one in carry_out(admin, farm.bucket("admin"), chosen)]
        assert farm.bucket("admin").head(key) is None
