"""Things go wrong with secrets at hand; none shows in what is printed, logged, stored or written to Redis."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import pytest
from pydantic import SecretStr

from pixelkiln.jobs import Kiln, Settings
from pixelkiln.jobs.instance import Instance
from pixelkiln.jobs.queue.connection import connect
from pixelkiln.jobs.settings import without_password
from pixelkiln.worker.commands.app import main
from tests.leaks.scan import Scanner
from tests.waiting import until
from tests.wire import Proxy

WRONG = "Wr0ng-but-Secret-all-the-same"
ADMIN = "an-admin-key-that-nobody-shows"
ODD = "a/b?c#d@e:f%g-odd-Secret"


@pytest.fixture
def secrets(settings: Settings, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Scanner:
    """Knows every secret that the commands of these tests are given."""
    assert settings.redis_url is not None
    environment["KILN_ADMIN_KEY"] = ADMIN
    monkeypatch.setenv("KILN_ADMIN_KEY", ADMIN)
    return Scanner(
        {
            "the Redis password": urlsplit(settings.redis_url.get_secret_value()).password or "",
            "the S3 key": environment["AWS_SECRET_ACCESS_KEY"],
            "the S3 key's name": environment["AWS_ACCESS_KEY_ID"],
            "the admin key": ADMIN,
            "a wrong password": WRONG,
            "an odd password": ODD,
        }
    )


Command = Callable[..., str]


@pytest.fixture
def command(
    environment: dict[str, str],
    secrets: Scanner,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Command:
    """Run `kiln` in this process; what it printed, once the secrets were looked for in it."""

    def act(*arguments: str, code: int, **changed: str) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["kiln", *arguments])
            for name, value in changed.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as end:
                main()
        printed = "".join(capfd.readouterr())
        assert secrets.leaks(printed.encode()) == set()
        assert (end.value.code or 0) == code, printed
        return printed

    return act


def small(kiln: Kiln, side: int = 64) -> str:
    return kiln.submit(prompt="a fox", model="demo", width=side, height=side).id


def with_password(settings: Settings, password: str) -> str:
    assert settings.redis_url is not None
    parts = urlsplit(settings.redis_url.get_secret_value())
    return urlunsplit(parts._replace(netloc=f":{password}@{parts.netloc.rpartition('@')[2]}"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["status", "--json"],
        ["submit", "-m", "demo", "x"],
        ["worker"],
        ["pause", "farm"],
        ["reap"],
    ],
    ids=" ".join,
)
def test_a_wrong_password(arguments: list[str], command: Command, settings: Settings) -> None:
    said = command(*arguments, code=3, KILN_REDIS_URL=with_password(settings, WRONG))
    assert "refuses the user or password in KILN_REDIS_URL" in said


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{ODD}@127.0.0.1:6379/0",
        f"redis://{ODD}",
        f"redis://127.0.0.1:{ODD}/0",
        f"redis://127.0.0.1:6379/{ODD}",
        f"redis://127.0.0.1:6379/0?password={quote(ODD, safe='')}&no_such_option={WRONG}",
        f"http://:{WRONG}@127.0.0.1:1",
        f"{WRONG}@127.0.0.1",
        f"redis://[::1:{WRONG}@h",
        f"redis://:{quote(ODD, safe='')}@127.0.0.1:1/0",
    ],
)
def test_an_address_with_a_password_in_an_odd_place(url: str, command: Command, secrets: Scanner) -> None:
    command("status", "--json", code=3, KILN_REDIS_URL=url)
    command("doctor", "--json", code=3, KILN_REDIS_URL=url)
    assert secrets.leaks(without_password(url).encode()) == set()


def test_storage_that_refuses(command: Command, kiln: Kiln) -> None:
    refused = {"AWS_SECRET_ACCESS_KEY": WRONG}
    assert "refuses these credentials" in command("worker", code=3, **refused)
    assert "refuses these credentials" in command("doctor", "--json", code=3, **refused)
    for odd in (f"http://user:{WRONG}@127.0.0.1:1", f"user:{WRONG}@127.0.0.1:1", f"http://127.0.0.1:{ODD}"):
        command("doctor", "--json", code=3, KILN_S3_ENDPOINT=odd)
        command("worker", code=3, KILN_S3_ENDPOINT=odd)
    assert kiln.status(small(kiln)).state == "queued"


def test_a_setting_that_is_refused_is_not_shown(command: Command) -> None:
    assert "short-1" not in command("status", code=2, KILN_ADMIN_KEY="short-1")


def test_what_settings_print(settings: Settings, secrets: Scanner, tmp_path: Path) -> None:
    assert settings.redis_url is not None
    secret = SecretStr(ADMIN)
    instance = Instance(
        redis_url=settings.redis_url,
        s3_endpoint="http://127.0.0.1:1",
        bucket="b",
        access_key="a",
        secret_key=secret,
        admin_key=secret,
        pid=1,
        started=1.0,
    )
    whole = settings.model_copy(update={"admin_key": secret})
    client = connect(whole)
    shown: list[object] = [
        whole,
        instance,
        client,
        client.connection_pool,
        client.connection_pool.make_connection(),
    ]
    for one in (whole, instance):
        shown += [one.model_dump(), one.model_dump_json(), copy.deepcopy(one), dict(one)]
    for one in shown:
        assert secrets.leaks(f"{one} {one!r}".encode()) == set()
    instance.write(tmp_path)
    assert (tmp_path / "instance.json").stat().st_mode & 0o777 == 0o600
    assert secrets.leaks(
        (tmp_path / "instance.json").read_bytes()
    )  # where it must stand, and the scan sees it
    (tmp_path / "instance.json").unlink()


# A worker whose render goes wrong in a way that nobody foresaw, and one that breaks altogether.
BROKEN = """
import sys
from pixelkiln.worker.render.renderer import Renderer
from pixelkiln.worker.service import Service
def render(self, *args):
    raise {error}
Renderer.render = render
sys.argv[1:] = ["worker", "--verbose"]
from pixelkiln.worker.commands.app import main
main()
"""


@pytest.mark.parametrize(
    "error", ["RuntimeError('unforeseen')", "SystemError", "MemoryError()", "GeneratorExit"]
)
def test_a_worker_that_breaks(
    error: str,
    environment: dict[str, str],
    secrets: Scanner,
    kiln: Kiln,
    tmp_path: Path,
) -> None:
    job_id = small(kiln)
    log = tmp_path / "worker.log"
    with log.open("wb") as lines:
        worker = subprocess.Popen(
            [sys.executable, "-c", BROKEN.format(error=error)], env=environment, stderr=lines
        )
    try:
        until(lambda: kiln.status(job_id).ended or worker.poll() is not None, "it breaks")
        command_line = Path(f"/proc/{worker.pid}/cmdline")
        assert not command_line.exists() or secrets.leaks(command_line.read_bytes()) == set()
    finally:
        worker.kill()
        worker.wait()
    said = log.read_bytes()
    assert b"Traceback" in said
    assert secrets.leaks(said) == set()
    assert secrets.leaks(repr(kiln.status(job_id)).encode()) == set()


def test_a_whole_life_with_redis_away_in_the_middle(
    rewire: Callable[..., tuple[Settings, Proxy]],
    environment: dict[str, str],
    secrets: Scanner,
    command: Command,
    kiln: Kiln,
    tmp_path: Path,
) -> None:
    to_redis, redis_proxy = rewire("redis")
    to_both, s3_proxy = rewire("s3", to_redis)
    assert to_both.redis_url is not None
    through = {
        "KILN_REDIS_URL": to_both.redis_url.get_secret_value(),
        "KILN_S3_ENDPOINT": str(to_both.s3_endpoint),
    }
    log = tmp_path / "worker.log"
    with log.open("wb") as lines:
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "pixelkiln", "worker", "--verbose"],
            env=environment | through,
            stderr=lines,
        )
    try:
        job_id = small(kiln, 448)
        until(lambda: kiln.status(job_id).step > 2, "it renders")
        redis_proxy.cut()
        s3_proxy.cut()
        until(lambda: b"Redis is away" in log.read_bytes(), "the worker notices")
        command("status", job_id, code=3, **through)
        redis_proxy.mend()
        until(lambda: b"nothing can be stored now" in log.read_bytes(), "storage is missed too", 60)
        said = command("doctor", "--json", code=3, **through)
        assert "is unreachable" in said
        s3_proxy.mend()
        until(lambda: kiln.status(job_id).state == "finished", "it is stored", 60)
        for arguments in (["status"], ["status", job_id], ["doctor"], ["models", "list"], ["pause", "farm"]):
            command(*arguments, "--json", code=0)
        command("fetch", job_id, "--out", str(tmp_path / "home"), code=0)
    finally:
        worker.kill()
        worker.wait()
    assert secrets.leaks_in(tmp_path) == []
    keys = kiln.redis.keys("*")
    assert b"kiln:orders" in keys
    assert secrets.leaks(b"\n".join(kiln.redis.dump(key) or b"" for key in keys)) == set()


def test_tracebacks_of_what_the_client_raises(settings: Settings, secrets: Scanner) -> None:
    away = settings.model_copy(update={"redis_url": SecretStr(with_password(settings, WRONG))})
    with pytest.raises(Exception, match="refuses the user or password") as caught:
        Kiln(away).status("job-1")
    told = "".join(traceback.format_exception(caught.value))
    assert secrets.leaks(told.encode()) == set()
    assert secrets.leaks(pickle.dumps(str(caught.value))) == set()
