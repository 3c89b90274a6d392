"""The report that is shown to strangers: what is in it, and what is not."""

from __future__ import annotations

import json
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.instance import Instance
from pixelkiln.jobs.settings import Settings
from pixelkiln.worker import engines
from pixelkiln.worker.commands.doctor import report
from pixelkiln.worker.commands.doctor.report import families, sections, write_report
from pixelkiln.worker.commands.doctor.report.scrub import Scrubber
from pixelkiln.worker.engines.explore import explore
from pixelkiln.worker.host import programs
from tests.leaks.scan import Scanner
from tests.tiny import TINY, TINY_MODELS
from tests.worker.commands.test_commands import run
from tests.worker.engines.test_explore import benched
from tests.worker.macs import FakeMac

GOLDEN = Path(__file__).parents[3] / "golden"


@pytest.mark.usefixtures("environment")
def test_a_report_answers_what_a_maintainer_asks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sections, "BENCH", 64)
    monkeypatch.setenv("KILN_SPOOL_FREE", "1MiB")
    path = tmp_path / "report.txt"
    code, out = run(
        capsys, monkeypatch, "doctor", "--report", str(path), "--soak", "0.5", "--golden", str(GOLDEN)
    )
    text = path.read_text()
    assert code == 0
    assert str(path) in out
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one for one in os.listdir(tmp_path) if one.endswith(".part")] == []  # noqa: PTH208
    titles = [line.strip("= ") for line in text.splitlines() if line.startswith("== ")]
    assert titles == [title for title, _ in sections.SECTIONS]
    parts = dict(zip(titles, text.split("\n== ")[1:], strict=True))
    assert "ok       redis: " in parts["doctor"]
    assert "tiny-hidream-o1: 5 of 5 hold" in parts["models verify"]
    assert "demo:bf16:" in parts["models bench"]
    assert "s/step (" in parts["models bench"]
    assert "demo:bf16: not explored: kiln models bench FOLDER" in parts["models bench --explore"]
    assert parts["10 demo renders"].count(" s/step, peak ") == 10
    assert "without a pause" in parts["soak"]
    assert "read from swap meanwhile" in parts["soak"]
    assert parts["memory"].count("MLX holds") == 2
    assert "wheel of mlx: cp" in parts["machine"]
    assert "failed: " not in text
    assert str(tmp_path) not in text or str(tmp_path).startswith("/tmp")


def test_a_report_holds_the_last_exploration(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    chip = engines.device_facts().device
    monkeypatch.setattr(engines, "bench", lambda *given: replace(benched(*given), device=chip))
    assert families.explored(TINY, settings) == []
    explore(TINY, (512, 512), 4, settings.cache_dir, None)
    lines = families.explored(TINY, settings)
    assert lines[0] == "16 bits, 512x512, MLX 0.1"
    assert "arithmetic, bfloat16: overflows" in lines
    assert "arithmetic, float16: 0.5000 s, 0.50" in lines
    assert any('in kiln.toml: arithmetic = "float16"' in line for line in lines)


NAMES = {
    "user": "annabella",
    "whole name": "Annabella Quux",
    "last name": "Quux",
    "node": "quuxbook",
    "local name": "Quuxes-Mac-mini",
    "computer name": "Annabella’s Mac mini",
    "worker": "quux-under-desk",
    "client": "client-quux",
    "redis host": "quuxnas",
    "s3 host": "storage.quux.example",
    "bucket": "quux-pictures",
    "proxy": "proxy.quux.example",
    "volume": "QuuxDisk",
    "address": "10.77.88.99",
    "profile": "quux-profile",
    "other user": "zacharias",
}
SECRETS = {
    "redis password": "pa/ss:w0rd@redis",
    "admin key": "admin-key-0123456789abcdef",
    "access key": "AKIAPLANTEDPLANTED01",
    "secret key": "planted/secret+key/of/aws",
    "session token": "planted-session-token",
    "hub token": "hf_plantedtokenofthehub",
    "hub file": "hf_plantedtokeninafile",
    "aws file": "planted+in+credentials/file",
    "instance": "planted-secret-of-the-instance",
    "proxy password": "proxy-planted-pw",
    "s3 password": "endpoint-planted-pw",
    "query": "planted-in-a-query",
}


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Settings, Scrubber]:
    """A Mac whose every corner names its owner or holds a secret."""
    home = tmp_path / "Users" / NAMES["user"]
    (home / ".aws").mkdir(parents=True)
    (home / ".aws/credentials").write_text(f"[default]\naws_secret_access_key = {SECRETS['aws file']}\n")
    (home / ".cache/huggingface").mkdir(parents=True)
    (home / ".cache/huggingface/token").write_text(SECRETS["hub file"] + "\n")
    (home / ".kiln").mkdir()
    Instance(
        redis_url=SecretStr("redis://:instance-redis-pw@127.0.0.1:6379/0"),
        s3_endpoint="http://127.0.0.1:8333",
        bucket="pixelkiln",
        access_key="instance-access",
        secret_key=SecretStr(SECRETS["instance"]),
        admin_key=SecretStr("instance-admin-key-0123"),
        pid=1,
        started=0.0,
    ).write(home / ".kiln")
    for variable in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "HF_HOME"):
        monkeypatch.delenv(variable, raising=False)
    for name, value in {
        "HOME": str(home),
        "USER": NAMES["user"],
        "LOGNAME": NAMES["user"],
        "AWS_ACCESS_KEY_ID": SECRETS["access key"],
        "AWS_SECRET_ACCESS_KEY": SECRETS["secret key"],
        "AWS_SESSION_TOKEN": SECRETS["session token"],
        "AWS_PROFILE": NAMES["profile"],
        "HF_TOKEN": SECRETS["hub token"],
        "HTTPS_PROXY": f"http://quux:{SECRETS['proxy password']}@{NAMES['proxy']}:3128",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("platform.node", lambda: f"{NAMES['node']}.fritz.box")
    monkeypatch.setattr("socket.gethostname", lambda: NAMES["node"])
    who = SimpleNamespace(pw_name=NAMES["user"], pw_gecos=f"{NAMES['whole name']},,,")
    monkeypatch.setattr(pwd, "getpwuid", lambda number: who)
    fake = FakeMac(
        local_name=NAMES["local name"],
        computer_name=NAMES["computer name"],
        proxy={"HTTPEnable": "1", "HTTPProxy": NAMES["proxy"], "HTTPPort": "3128"},
        source="Battery Power",
    )
    monkeypatch.setattr(programs, "SYSTEM", "")
    monkeypatch.setenv("PATH", str(fake.install(tmp_path / "bin")))
    monkeypatch.setattr("sys.platform", "darwin")
    settings = Settings(
        redis_url=SecretStr(
            f"redis://ann:pa%2Fss%3Aw0rd%40redis@{NAMES['redis host']}.local:1/0?password={SECRETS['query']}"
        ),
        s3_endpoint=f"http://ann:{SECRETS['s3 password']}@{NAMES['s3 host']}:1",
        s3_bucket=NAMES["bucket"],
        admin_key=SecretStr(SECRETS["admin key"]),
        client=NAMES["client"],
        worker_name=NAMES["worker"],
        home=home / ".kiln",
        models_dir=TINY_MODELS,
        spool_dir=home / "spool",
        cache_dir=home / "cache",
        renders_dir=Path("/Volumes") / NAMES["volume"] / "renders",
    )
    return settings, Scrubber.of(settings)


def everything(settings: Settings) -> Iterator[str]:
    """All that was planted, as errors and programs might print it."""
    yield from (value for name, value in NAMES.items() if name != "other user")
    yield from SECRETS.values()
    yield str(settings.spool_dir)
    yield f"File /Users/{NAMES['other user']}/x and /home/{NAMES['other user']}"
    yield str(settings.redis_url.get_secret_value() if settings.redis_url else "")
    yield str(settings.s3_endpoint)
    yield "redis://:instance-redis-pw@127.0.0.1:6379/0 instance-access instance-admin-key-0123"
    yield json.dumps(dict(os.environ))
    yield f"{NAMES['user'].upper()} {NAMES['local name'].lower()}.local {NAMES['node']}.fritz.box"


def left(text: str) -> set[str]:
    """Which of the planted stand in a text, in whatever disguise."""
    names = {name for name, value in NAMES.items() if value.lower() in text.lower()}
    return names | Scanner(SECRETS).leaks(text.encode())


def test_whatever_was_planted_is_replaced(planted: tuple[Settings, Scrubber]) -> None:
    settings, scrub = planted
    text = "\n".join(everything(settings))
    assert left(text) >= set(SECRETS) | set(NAMES)
    assert left(scrub(text)) == set()
    assert scrub(f"{settings.spool_dir} has room") == "~/spool has room"


def test_a_report_holds_no_secret_and_names_nobody(
    planted: tuple[Settings, Scrubber], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings, _ = planted

    def loose(context: sections.Context) -> Iterator[str]:
        yield from everything(settings)
        raise RuntimeError(f"no route to {NAMES['redis host']} for {SECRETS['admin key']}")

    kept = [one for one in sections.SECTIONS if one[0] in ("machine", "settings", "doctor")]
    monkeypatch.setattr(report, "SECTIONS", [*kept, ("loose", loose)])
    path = tmp_path / "report.txt"
    write_report(path, settings, soak=0)
    text = path.read_text()
    assert left(text) == set()
    assert "on battery" in text
    assert "<redis>" in text
    assert "/Volumes/<volume>" in text
    assert "failed: RuntimeError" in text


def test_every_sentinel_is_a_name(tmp_path: Path) -> None:
    url = f"redis+sentinel://:{SECRETS['query']}@watch-1.example.org:1,Watch-2.example.org/farm?sentinel_password=hunter2x"
    scrub = Scrubber.of(Settings(redis_url=SecretStr(url), home=tmp_path))
    text = scrub(f"watch-1.example.org watch-2 {SECRETS['query']} hunter2x {url}")
    assert not [one for one in ("watch", "hunter2x", SECRETS["query"]) if one in text.lower()]


def test_what_is_no_name_stays(tmp_path: Path) -> None:
    scrub = Scrubber({"max": "<user>", "Mac-mini": "<host>", "ab": "<user>", "ann": "<user>"}, [], tmp_path)
    text = "Apple M2 Max, mlx 0.32.4, Mac-mini, 127.0.0.1, abandon, annual, 15.6.1"
    assert scrub(text) == text
    assert scrub("ann, ANN's, 10.0.0.9") == "<user>, <user>'s, <address>"


def test_a_failing_section_does_not_end_the_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(context: Any) -> Iterator[str]:
        yield "begun"
        raise RuntimeError("[METAL] Command buffer execution failed")

    def well(context: Any) -> Iterator[str]:
        yield "well"

    monkeypatch.setattr(report, "SECTIONS", [("broken", broken), ("well", well)])
    write_report(tmp_path / "report.txt", Settings(), soak=0)
    text = (tmp_path / "report.txt").read_text()
    assert "begun\nfailed: RuntimeError: [METAL] Command buffer execution failed\n" in text
    assert text.endswith("\n== well ==\nwell\n")


def test_what_there_is_is_written_where_it_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(context: Any) -> Iterator[str]:
        yield "begun"
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "SECTIONS", [("first", interrupted)])
    with pytest.raises(KeyboardInterrupt):
        write_report(tmp_path / "report.txt", Settings(), soak=0)
    assert "begun\ninterrupted here\n" in (tmp_path / "report.txt").read_text()


def test_a_file_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        write_report(tmp_path / "none" / "report.txt", Settings(), soak=0)


def test_without_goldens_it_says_so(tmp_path: Path) -> None:
    context = sections.Context(Settings(), 0, tmp_path, print)
    assert "not in the wheel" in next(sections._verified(context))
