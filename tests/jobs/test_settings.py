"""Where settings come from, and that secrets stay in them."""

from __future__ import annotations

import os
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis import SSLConnection

from pixelkiln.jobs import NotReadyError, Settings, UsageError
from pixelkiln.jobs.instance import Instance
from pixelkiln.jobs.queue.address import Address
from pixelkiln.jobs.queue.connection import DEFAULT_URL, connect, redis_url
from pixelkiln.jobs.settings import without_password

SECRET = "hunter2-and-more"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def instance(**changes: object) -> Instance:
    fields = {
        "redis_url": f"redis://:{SECRET}@127.0.0.1:7000/0",
        "s3_endpoint": "http://127.0.0.1:7001",
        "bucket": "pixelkiln",
        "access_key": "kiln",
        "secret_key": SECRET,
        "admin_key": SECRET,
        "pid": 1,
        "started": 1.0,
    }
    return Instance.model_validate(fields | changes)


def test_defaults() -> None:
    settings = Settings.load()
    assert settings.redis_url is None
    assert settings.s3_endpoint is None
    assert settings.s3_bucket == "pixelkiln"
    assert settings.client == "default"
    assert settings.home == Path(".kiln")
    assert settings.spool_dir == Path("~/.kiln/spool").expanduser()
    assert settings.renders_dir is None
    assert settings.memory is None
    assert settings.result_days == 7
    assert settings.spool_jobs == 200


def test_the_environment_comes_before_the_file_and_both_before_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("kiln.toml").write_text('client = "file"\ns3_bucket = "file"\n')
    monkeypatch.setenv("KILN_CLIENT", "environment")
    settings = Settings.load()
    assert settings.client == "environment"
    assert settings.s3_bucket == "file"
    assert settings.result_days == 7
    assert Settings(client="argument").client == "argument"


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KILN_CLIENT", "")
    assert Settings.load().client == "default"


def test_sizes_may_have_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KILN_MEMORY", "48GiB")
    assert Settings.load().memory == 48 * 2**30


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("KILN_RESULT_DAYS", "0", "must be greater than or equal to 1"),
        ("KILN_RESULT_DAYS", "many", "must be a whole number"),
        ("KILN_RESULT_DAYS", "400", "must be less than or equal to 365"),
        ("KILN_STALL_SECONDS", "long", "must be a number"),
        ("KILN_STALL_SECONDS", "-1", "must be greater than 0"),
        ("KILN_CLIENT", "Not A Name", "must be 1 to 48 of a-z, 0-9, - and _, beginning with a letter"),
        ("KILN_WORKER_NAME", "mini.local", "must be 1 to 48 of letters, digits, - and _, beginning with"),
        ("KILN_MEMORY", "lots", "must be a number with its unit, for instance 24GiB"),
        ("KILN_MEMORY", "24 gigs", "must be a number with its unit, for instance 24GiB"),
        ("KILN_MEMORY", "24", "is 24 bytes, too few for anything; write the unit, for instance 24GiB"),
        ("KILN_SPOOL_FREE", "2", "is 2 bytes, too few for anything; write the unit"),
        ("KILN_SPOOL_JOBS", "-1", "must be greater than or equal to 1"),
        ("KILN_CHECK_DIGEST", "perhaps", "must be true or false"),
        ("KILN_KEEP_AWAKE", "never", "must be 'always', 'mains' or 'working'"),
        ("KILN_S3_ADDRESSING", "auto", "must be 'path' or 'virtual'"),
        ("KILN_ARITHMETIC", "fp16", "must be 'bfloat16', 'float16' or 'float32'"),
    ],
)
def test_a_bad_value_names_its_variable_and_what_to_write(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as caught:
        Settings.load()
    assert str(caught.value).startswith(f"{name}: {said}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("KILN_SPOOL_FREE", "0"), ("KILN_MEMORY", "25769803776")])
def test_bytes_may_be_meant(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert getattr(Settings.load(), name.removeprefix("KILN_").lower()) == int(value)


@pytest.mark.parametrize("text", ["client = [", "redis_url = 7", "client = 'a\x00b'"])
def test_a_bad_file_is_one_line(text: str) -> None:
    Path("kiln.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        Settings.load()
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_one_line() -> None:
    Path("kiln.toml").touch(mode=0)
    with pytest.raises(UsageError, match=r"^kiln.toml: Permission denied$"):
        Settings.load()


@pytest.mark.parametrize("url", ["redis://[::1", "redis://h?foo=bar", f"redis://:a/{SECRET}@h:6379/0"])
def test_doctor_finds_an_address_that_is_none(url: str) -> None:
    from pixelkiln.worker.commands.doctor.looks import examine

    found = {finding.what: finding for finding in examine(Settings(redis_url=SecretStr(url)))}
    assert found["redis"].state == "problem"
    assert "KILN_REDIS_URL is not a Redis URL" in found["redis"].found
    assert SECRET not in str(found)
    assert "sleep" in found


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("modles_dir", "no setting 'modles_dir'; did you mean models_dir?"),
        ("KILN_CLIENT", "no setting 'KILN_CLIENT'; did you mean client?"),
        ("zzz", "no setting 'zzz'; there are redis_url, "),
    ],
)
def test_a_slip_in_the_file_is_named(key: str, told: str) -> None:
    Path("kiln.toml").write_text(f'{key} = "x"\n')
    with pytest.raises(UsageError, match=f"^kiln.toml: {re.escape(told)}"):
        Settings.load()


def test_a_variable_that_is_no_setting_is_someone_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KILN_TEMPERATURE", "1200")
    assert Settings.load() == Settings()


def test_a_tilde_is_the_home_folder_wherever_it_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KILN_SPOOL_DIR", "~/spool")
    Path("kiln.toml").write_text('renders_dir = "~/renders"\n')
    found = Settings.load()
    assert (found.spool_dir, found.renders_dir) == (tmp_path / "spool", tmp_path / "renders")
    assert found.models_dir == tmp_path / ".kiln/models"
    assert Settings(home=Path("~/here")).home == tmp_path / "here"


@pytest.mark.parametrize("key", ["short", "a" * 16, "ab" * 32, "password1" * 2, "a" * 20 + "bcd"])
def test_a_key_that_is_guessed_is_none(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("KILN_ADMIN_KEY", key)
    with pytest.raises(UsageError, match=r"^KILN_ADMIN_KEY: needs at .*openssl rand -hex 32$") as caught:
        Settings.load()
    assert key not in str(caught.value)


def test_what_openssl_makes_is_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(200):
        monkeypatch.setenv("KILN_ADMIN_KEY", secrets.token_hex(32))
        assert Settings.load().admin_key is not None


def test_secrets_print_as_stars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KILN_REDIS_URL", f"redis://:{SECRET}@example.org:6379/0")
    monkeypatch.setenv("KILN_ADMIN_KEY", f"{SECRET}, but longer")
    shown = [Settings.load(), instance()]
    assert SECRET not in "".join([*map(repr, shown), *map(str, shown), Settings.load().model_dump_json()])


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://:{SECRET}@h:6379/0", "redis://h:6379/0"),
        (f"rediss://user:{SECRET}@h/1", "rediss://h/1"),
        (f"redis://user:a@{SECRET}@h/1", "redis://h/1"),
        (f"redis://h:6379/0?password={SECRET}", "redis://h:6379/0"),
        (f"unix://:{SECRET}@/run/redis.sock?db=1", "unix:/run/redis.sock"),
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://[::1", "an address that is none"),
        (f"redis+sentinel://:{SECRET}@h:1,i:2/farm/0", "redis+sentinel://h:1,i:2/farm/0"),
        (f"valkeys://u:{SECRET}@h:1/0?sentinel_password={SECRET}", "valkeys://h:1/0"),
        (f"redis://:1/{SECRET}@h:6379/0", "redis://…"),
        (f"redis://:1?{SECRET}@h:6379/0", "redis://…"),
        (f"redis://:1#{SECRET}@h:6379/0", "redis://…"),
        (f"redis://h/0#{SECRET}", "redis://h/0"),
    ],
)
def test_addresses_are_shown_without_their_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        f"http://:{SECRET}@h",
        SECRET,
        f"redis://:{SECRET}/x@h:6379/0",
        f"redis://[{SECRET}",
        f"redis://h?foo={SECRET}",
        f"redis+sentinel://:{SECRET}@h",
        f"redis+sentinel://:{SECRET}@h,/farm",
        f"redis+sentinel://:{SECRET}@h:x/farm",
        f"redis+sentinel://h/farm/{SECRET}",
        f"redis+cluster://:{SECRET}@h/0",
        f"unix+sentinel://:{SECRET}@h/farm",
    ],
)
def test_a_url_that_is_none_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(NotReadyError, match=r"^KILN_REDIS_URL is not a Redis URL") as caught:
        connect(Settings(redis_url=SecretStr(url)))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("valkey://u:a%2Fb@h:1/2", {"host": "h", "port": 1, "db": 2, "username": "u", "password": "a/b"}),
        ("valkeys://h?ssl_ca_certs=x", {"host": "h", "ssl_ca_certs": "x", "connection_class": SSLConnection}),
        ("redis+sentinel://u:p@h:1,i/farm/3", {"db": 3, "username": "u", "password": "p"}),
        ("rediss+sentinel://h/farm?sentinel_password=q", {"db": 0, "connection_class": SSLConnection}),
    ],
)
def test_valkey_and_sentinels_are_understood(url: str, options: dict[str, object]) -> None:
    address = Address.parse(url)
    assert address.options == options
    assert (address.sentinels is not None) == ("sentinel" in url)
    connect(Settings(redis_url=SecretStr(url))).close()


def test_the_url_comes_from_the_setting_then_the_instance_then_the_usual_place(tmp_path: Path) -> None:
    home = tmp_path / ".kiln"
    home.mkdir()
    assert redis_url(Settings()) == DEFAULT_URL
    instance().write(home)
    assert redis_url(Settings()).endswith(":7000/0")
    assert redis_url(Settings(redis_url=SecretStr("redis://h"))) == "redis://h"


def test_an_instance_is_written_for_its_owner_alone_and_read_back(tmp_path: Path) -> None:
    assert Instance.read(tmp_path) is None
    (tmp_path / "instance.json.part").write_text("left by a killed one")
    (tmp_path / "instance.json.part").chmod(0o644)
    instance().write(tmp_path)
    assert Instance.read(tmp_path) == instance()
    assert (tmp_path / "instance.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["instance.json"]


@pytest.mark.parametrize("content", ["", "{", "{}", "[]"])
def test_a_broken_instance_says_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "instance.json").write_text(content)
    with pytest.raises(NotReadyError, match=r"stop and start `kiln up`$"):
        Instance.read(tmp_path)


def test_the_readme_names_settings_that_there_are() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    named = {name.lower() for name in re.findall(r"KILN_([A-Z][A-Z0-9_]+)", readme)}
    assert {"redis_url", "s3_bucket", "client"} <= named <= set(Settings.model_fields)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("KILN_WINDOW", "22-7", r"'22-7' is no window: write 22:00-07:00, or Mo-Fr 20:00-07:00, Sa-Su"),
        ("KILN_WINDOW", "22:00-22:00", "'22:00-22:00' begins when it ends"),
        ("KILN_ZONE", "Mars", "no zone 'Mars' is known here; write it as Europe/Berlin"),
    ],
)
def test_a_window_or_a_zone_that_is_none_is_told(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, told: str
) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(UsageError, match=f"^{name}: {re.escape(told)}"):
        Settings.load()


def test_windows_are_in_the_zone_of_the_settings() -> None:
    windows = Settings(window="22:00-07:00", zone="Asia/Tokyo").windows
    assert windows is not None
    assert windows.opens(datetime(2026, 11, 26, tzinfo=UTC)) == datetime(2026, 11, 26, 13, tzinfo=UTC)
    assert Settings().windows is None
