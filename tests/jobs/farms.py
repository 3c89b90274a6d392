"""Farms to hold the contract to: a real one, its worker a process of its own, and the one in memory."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from pixelkiln import Kiln, Settings
from pixelkiln.testing import FakeKiln
from pixelkiln.worker.local.child import worker_process
from pixelkiln.worker.local.instance import Local
from tests.tiny import TINY_MODELS
from tests.waiting import until

MEMORY = 2**30  # bytes: enough for small pictures, and not for the largest
Door = Callable[[str], Kiln]  # of a client


@contextmanager
def real_farm(servers: Local, folder: Path) -> Iterator[Settings]:
    """A worker of this checkout on the servers: the settings of its producers, also in the environment."""
    instance = servers.instance
    variables = {
        "KILN_REDIS_URL": instance.redis_url.get_secret_value(),
        "KILN_S3_ENDPOINT": instance.s3_endpoint,
        "KILN_S3_BUCKET": instance.bucket,
        "KILN_ADMIN_KEY": instance.admin_key.get_secret_value(),
        "KILN_MODELS_DIR": str(TINY_MODELS),
        "KILN_MEMORY": str(MEMORY),
        "AWS_ACCESS_KEY_ID": instance.access_key,
        "AWS_SECRET_ACCESS_KEY": instance.secret_key.get_secret_value(),
    }
    with (
        redis.Redis.from_url(variables["KILN_REDIS_URL"]) as connection,
        pytest.MonkeyPatch.context() as patch,
    ):
        connection.flushdb()
        for name, value in variables.items():
            patch.setenv(name, value)
        settings = Settings.load()
        log = folder / "worker.log"
        with (
            worker_process(folder, folder / "spool", folder / "renders", log, ["demo"]) as worker,
            Kiln(settings) as kiln,
        ):
            until(lambda: worker.poll() is not None or kiln.farm().workers, "the worker is there", 60)
            assert worker.poll() is None, log.read_text()
            yield settings


def real_door(settings: Settings) -> Iterator[Door]:
    """Doors to the real farm."""
    opened: list[Kiln] = []

    def door(client: str) -> Kiln:
        opened.append(Kiln(settings.model_copy(update={"client": client})))
        return opened[-1]

    yield door
    for kiln in opened:
        kiln.close()


def memory_door() -> Door:
    """Doors to a farm in memory."""
    return FakeKiln(Settings.model_construct(admin_key=SecretStr("the key of the contract"))).as_client


def new_client(name: str) -> str:
    """A client's name that no other test has."""
    return f"{name}-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def farm(servers: Local, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with real_farm(servers, tmp_path_factory.mktemp("farm")) as settings:
        yield settings


@pytest.fixture(params=["real", "in memory"])
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    if request.param == "real":
        yield from real_door(request.getfixturevalue("farm"))
    else:
        yield memory_door()


@pytest.fixture
def kiln(door: Door) -> Kiln:
    return door(new_client("mine"))


@pytest.fixture
def other(door: Door) -> Kiln:
    return door(new_client("other"))


@pytest.fixture
def resting(kiln: Kiln) -> Iterator[Callable[[], object]]:
    """The client's jobs stay queued; called, they do no longer."""
    target = f"client:{kiln.settings.client}"
    kiln.pause(target)
    yield lambda: kiln.resume(target)
    kiln.resume(target)
