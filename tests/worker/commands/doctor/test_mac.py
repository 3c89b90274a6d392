"""Doctor on simulated Macs, good and broken: each broken one gets the mend that mends it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ByteSize, SecretStr

from pixelkiln.jobs.settings import Settings
from pixelkiln.worker import engines
from pixelkiln.worker.commands.doctor import mac
from pixelkiln.worker.commands.doctor.finding import Finding
from pixelkiln.worker.commands.doctor.looks import examine
from pixelkiln.worker.commands.doctor.mac import places
from pixelkiln.worker.engines import DeviceFacts
from pixelkiln.worker.host import programs
from pixelkiln.worker.render.budget import Budget
from tests.worker.commands.test_commands import run
from tests.worker.macs import FakeMac

GIB = 2**30
METAL = int(21.33 * GIB)  # of a 32 GB Mac
NAS = {"redis_url": SecretStr("redis://:secret@192.168.1.7:6379/0"), "s3_endpoint": "http://192.168.1.7:8333"}
WEB = {"redis_url": SecretStr("redis://127.0.0.1:6379/0"), "s3_endpoint": "https://s3.example.com"}
Examine = Callable[..., dict[str, Finding]]


@pytest.fixture
def examine_mac(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Examine:
    """What doctor finds on a Mac that is changed so, with settings that are changed so."""
    monkeypatch.setattr(programs, "SYSTEM", "")
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("pixelkiln.worker.host.machine.memory_bytes", lambda: 32 * GIB)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(places, "project", lambda: home / "pixelkiln")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def act(
        changed: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        *,
        metal: bool = True,
        node: str = "studio-mini.local",
    ) -> dict[str, Finding]:
        monkeypatch.setenv("PATH", str(FakeMac(**(changed or {})).install(tmp_path / "bin")))
        monkeypatch.setattr("platform.node", lambda: node)
        facts = DeviceFacts("Apple M2 Pro", "applegpu_g14s", metal, METAL if metal else None, 0, 0)
        monkeypatch.setattr(engines, "device_facts", lambda: facts)
        spool = {"spool_dir": home / "spool", "home": home / ".kiln", "models_dir": home, "cache_dir": home}
        return {one.what: one for one in mac.look(Settings(**(spool | (settings or {}))), home=home)}

    return act


def test_a_mac_mini_that_is_as_it_should_be(examine_mac: Examine) -> None:
    found = examine_mac({}, NAS)
    assert {what for what, one in found.items() if one.state != "ok"} == set()
    assert len(found) == len(mac.LOOKS) == 20
    assert found["chip"].found == "Apple M2 Pro, 10 cores (6 fast, 4 efficient), 32 GiB, Mac14,12"
    assert found["gpu memory"].found == "Metal lets the GPU have 21.3 GiB; a worker may use 21.3 GiB"
    assert "worker:studio-mini" in found["name"].found


LAPTOP = {"charge": 78, "restart": None, "lid": ("No", "Yes")}
DHCP = {"node": "192-168-1-23"}
PROXY = {"HTTPSEnable": "1", "HTTPSProxy": "proxy.corp", "HTTPSPort": "3128"}


@pytest.mark.parametrize(
    ("changed", "settings", "more", "what", "state", "mend"),
    [
        ({**LAPTOP, "source": "Battery Power"}, {}, {}, "power", "warning", "plug it in"),
        ({**LAPTOP, "lid": ("Yes", "Yes")}, {}, {}, "lid", "problem", "sudo pmset -a disablesleep 1"),
        ({**LAPTOP, "low": 1}, {}, {}, "low power mode", "warning", "sudo pmset -a lowpowermode 0"),
        ({"sleep": 1}, {}, {}, "idle sleep", "warning", "sudo pmset -c sleep 0"),
        ({"sleep": 1}, {"keep_awake": "working"}, {}, "idle sleep", "warning", "KILN_KEEP_AWAKE=mains"),
        ({"restart": 0}, {}, {}, "power cut", "warning", "sudo pmset -a autorestart 1"),
        ({"vault": "FileVault is On.\n"}, {}, {}, "filevault", "warning", "sudo fdesetup authrestart"),
        (
            {"vault": "FileVault is On, but needs to be restarted to finish.\n"},
            {},
            {},
            "filevault",
            "warning",
            "System Settings › Privacy & Security › FileVault",
        ),
        ({"translated": "1"}, {}, {}, "rosetta", "problem", "arch -arm64"),
        ({"arm64": "0"}, {}, {}, "chip", "problem", "Apple silicon"),
        ({"version": "14.6"}, {}, {}, "macos", "warning", "Software Update"),
        ({"version": "13.7.1"}, {}, {}, "macos", "problem", "Software Update"),
        ({}, {"memory": ByteSize(24 * GIB)}, {}, "gpu memory", "problem", "iogpu.wired_limit_mb=24576"),
        ({}, {"memory": ByteSize(31 * GIB)}, {}, "gpu memory", "problem", "KILN_MEMORY=28GiB at most"),
        ({}, {}, {"metal": False}, "metal", "problem", "rm -r .venv"),
        ({"proxy": PROXY}, WEB, {}, "proxy", "warning", "Bypass proxy settings"),
        ({"proxy": {"ProxyAutoDiscoveryEnable": "1"}}, WEB, {}, "proxy", "warning", "HTTPS_PROXY="),
        ({"local_name": None}, {}, DHCP, "name", "warning", "KILN_WORKER_NAME=mini-1"),
        ({"local_name": "Mac"}, {}, {}, "name", "warning", "scutil --set LocalHostName"),
        ({"tools": None}, {}, {}, "developer tools", "warning", "xcode-select --install"),
        ({"free": 10**9}, {}, {}, "disk", "problem", "tmutil deletelocalsnapshots"),
        ({}, {"s3_endpoint": "http://127.0.0.1:5000"}, {}, "ports", "problem", "AirPlay Receiver: off"),
        ({"silent": ("pmset", "ioreg")}, {}, {}, "power", "warning", ""),
    ],
)
def test_what_is_broken_gets_its_mend(
    examine_mac: Examine,
    changed: dict[str, Any],
    settings: dict[str, Any],
    more: dict[str, Any],
    what: str,
    state: str,
    mend: str,
) -> None:
    found = examine_mac(changed, settings, **more)[what]
    assert found.state == state, found
    assert mend in found.mend, found


@pytest.mark.parametrize(
    ("changed", "settings", "more", "what", "words"),
    [
        (LAPTOP, {}, {}, "lid", "open"),
        ({**LAPTOP, "lid": ("Yes", "No")}, {}, {}, "lid", "a display"),
        ({**LAPTOP, "lid": ("Yes", "Yes"), "never": 1}, {}, {}, "lid", "sleep is disabled"),
        ({"sleep": 10, "never": 1}, {}, {}, "idle sleep", "never"),
        ({"proxy": PROXY | {"HTTPEnable": "1", "HTTPProxy": "p.corp"}}, NAS, {}, "proxy", "not used for S3"),
        (
            {"proxy": PROXY},
            {**WEB, "s3_endpoint": "http://s3.example.com"},
            {},
            "proxy",
            "not for S3's scheme",
        ),
        ({}, {}, DHCP, "name", "follows DHCP and is not used"),
        ({"local_name": None}, {"worker_name": "mini-1"}, DHCP, "name", "worker:mini-1"),
        ({"wired": 26000}, {}, {}, "gpu memory", "iogpu.wired_limit_mb=26000"),
        ({"version": "14.6"}, NAS, {}, "local network", "no leave before 15"),
        ({}, WEB, {}, "local network", "not needed"),
        ({"chip": "Apple M3"}, {}, {}, "arithmetic", "what suits"),
    ],
)
def test_what_is_well_is_said_to_be(
    examine_mac: Examine,
    changed: dict[str, Any],
    settings: dict[str, Any],
    more: dict[str, Any],
    what: str,
    words: str,
) -> None:
    found = examine_mac(changed, settings, **more)[what]
    assert found.state == "ok", found
    assert words in found.found, found


def test_float16_is_worth_a_try_on_m1_and_m2(examine_mac: Examine) -> None:
    for chip in ("Apple M1", "Apple M2 Ultra"):
        found = examine_mac({"chip": chip})["arithmetic"]
        assert "emulated" in found.found
        assert "kiln models bench" in found.mend
        assert "KILN_ARITHMETIC=float16" in found.mend
    assert examine_mac({"chip": "Apple M2"}, {"arithmetic": "float16"})["arithmetic"].mend == ""


@pytest.mark.parametrize("folder", ["Documents/pixelkiln", "Library/Mobile Documents/com~apple~CloudDocs/pk"])
def test_a_checkout_in_a_guarded_folder(
    examine_mac: Examine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str
) -> None:
    monkeypatch.setattr(places, "project", lambda: tmp_path / "home" / folder)
    found = examine_mac()["folders"]
    assert found.state == "warning"
    assert "move the checkout" in found.mend
    spool = tmp_path / "home/Desktop/spool"
    monkeypatch.setattr(places, "project", lambda: tmp_path / "home/pixelkiln")
    assert "KILN_SPOOL_DIR=" in examine_mac({}, {"spool_dir": spool})["folders"].mend


def test_an_agent_that_may_not_use_the_local_network_nor_start_alone(
    examine_mac: Examine, tmp_path: Path
) -> None:
    agents = tmp_path / "home/Library/LaunchAgents"
    agents.mkdir(parents=True)
    (agents / "com.pixelkiln.worker.plist").write_text("")
    found = examine_mac({}, NAS)
    assert found["local network"].state == found["login"].state == "warning"
    assert "sudo kiln service install" in found["local network"].mend
    assert "sudo kiln service install" in found["login"].mend
    assert examine_mac({"auto": "ann"}, NAS)["login"].state == "ok"
    assert "secret" not in str(found)


def test_space_that_macos_would_have_to_clear_is_not_counted(
    examine_mac: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100 * GIB}))
    found = examine_mac({"free": 20 * GIB})["disk"]
    assert found.found.startswith("20.0 GiB are free at once; 80.0 GiB more only once macOS clears")


def test_a_worker_may_use_no_more_than_metal_lets_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    facts = DeviceFacts("Apple M2 Pro", "", True, 2 * GIB, 0, 0)
    monkeypatch.setattr(engines, "device_facts", lambda: facts)
    assert Budget({}, Settings()).total == 2 * GIB
    assert Budget({}, Settings(memory=ByteSize(3 * GIB))).total == 3 * GIB


def test_plain_doctor_has_it_on_a_mac_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mac, "look", lambda settings: [Finding("ok", "chip", "Apple M9")])
    settings = Settings(
        redis_url=SecretStr("redis://127.0.0.1:1/0"), s3_endpoint="http://127.0.0.1:1", spool_dir=tmp_path
    )
    assert "chip" not in {one.what for one in examine(settings)}
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(programs, "SYSTEM", "")
    assert "chip" in {one.what for one in examine(settings)}


def test_elsewhere_it_is_told_what_would_be_looked_at(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out = run(capsys, monkeypatch, "doctor", "--mac", "--json")
    plan = {one["what"]: one for one in json.loads(out)}
    assert code == 0
    assert list(plan) == [one.what for one in mac.LOOKS]
    assert plan["power"]["by"] == "pmset -g batt"
    assert plan["gpu memory"]["by"] == "sysctl iogpu.wired_limit_mb"
    code, out = run(capsys, monkeypatch, "doctor", "--mac")
    assert code == 0
    for one in mac.LOOKS:
        assert one.what in out


def test_a_surprise_in_one_look_does_not_hide_the_others(
    examine_mac: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def surprised(folder: Path) -> None:
        raise RuntimeError("no such thing here")

    monkeypatch.setattr(places.shutil, "disk_usage", surprised)
    found = examine_mac()
    assert len(found) == len(mac.LOOKS)
    assert found["disk"].found == "could not be looked at: RuntimeError: no such thing here"
    assert "diskutil info" in found["disk"].mend


def test_no_finding_tells_a_password(examine_mac: Examine) -> None:
    settings = {**NAS, "s3_endpoint": "http://ann:secret@127.0.0.1:7000"}
    assert "secret" not in str(examine_mac({"proxy": PROXY}, settings))


def test_every_untried_line_of_the_page_names_the_check_that_will_tell() -> None:
    page = (Path(__file__).parents[4] / "docs/mac.md").read_text()
    checks = {one.what for one in mac.LOOKS}
    for line in page.split("○")[2:]:  # the first stands where the mark is explained
        named = set(re.findall(r"\[([a-z ]+)\](?!\()", line))
        assert named, line
        assert named <= checks, line
