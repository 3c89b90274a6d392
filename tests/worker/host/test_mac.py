"""What a Mac tells of itself, read from programs that speak as macOS's do."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixelkiln.worker.host import machine, programs
from pixelkiln.worker.host.mac import boot, chip, disk, names, power, proxies, tools
from pixelkiln.worker.host.programs import SYSTEM, Answer
from tests.worker.macs import FakeMac


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No program of this machine answers in place of a simulated one."""
    monkeypatch.setattr(programs, "SYSTEM", "")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/nowhere")


def install(tmp_path: Path, **changed: object) -> None:
    FakeMac(**changed).install(tmp_path / "bin")  # type: ignore[arg-type]


def test_a_mac_mini(tmp_path: Path) -> None:
    install(tmp_path)
    found = chip.read_chip()
    assert (found.name, found.model, found.memory) == ("Apple M2 Pro", "Mac14,12", 32 * 2**30)
    assert (found.cores, found.performance, found.efficiency) == (10, 6, 4)
    assert found.apple
    assert not found.translated
    assert (found.generation, found.emulates_bfloat16) == (2, True)
    assert chip.system_version() == (15, 6, 1)
    assert chip.wired_limit() is None
    assert power.read_power() == power.Power(
        mains=True,
        charge=None,
        low=False,
        sleep=0,
        restarts=True,
        lid_closed=None,
        lid_sleeps=None,
        never=False,
    )
    assert (names.local_host_name(), names.computer_name()) == ("studio-mini", "Studio’s Mac mini")
    assert (boot.file_vault(), boot.auto_login()) == (False, False)
    assert proxies.read_proxies() == proxies.Proxies(exceptions=("*.local", "169.254/16"))
    assert tools.developer_folder() == "/Library/Developer/CommandLineTools"
    assert disk.container_free(tmp_path) == 400 * 10**9


def test_a_laptop(tmp_path: Path) -> None:
    install(
        tmp_path,
        chip="Apple M4 Max",
        source="Battery Power",
        charge=78,
        low=1,
        sleep=1,
        restart=None,
        lid=("Yes", "Yes"),
        vault="FileVault is On.\n",
        local_name=None,
        tools=None,
        wired=26000,
        proxy={"HTTPEnable": "1", "HTTPProxy": "proxy.corp", "HTTPPort": "3128", "HTTPSEnable": "0"},
    )
    assert power.read_power() == power.Power(
        mains=False,
        charge=78,
        low=True,
        sleep=1,
        restarts=None,
        lid_closed=True,
        lid_sleeps=True,
        never=False,
    )
    assert not chip.read_chip().emulates_bfloat16
    assert chip.wired_limit() == 26000 * 2**20
    assert boot.file_vault() is True
    assert names.local_host_name() == tools.developer_folder() == ""
    assert proxies.read_proxies().http == "proxy.corp:3128"
    assert proxies.read_proxies().https == ""


def test_a_script_of_proxies(tmp_path: Path) -> None:
    url = "http://wpad.example.org/proxy.pac"
    install(tmp_path, proxy={"ProxyAutoConfigEnable": "1", "ProxyAutoConfigURLString": url})
    assert proxies.read_proxies().script == url
    install(tmp_path, proxy={"ProxyAutoDiscoveryEnable": "1"})
    assert proxies.read_proxies().script == "discovered"


def test_where_no_program_is_nothing_is_known() -> None:
    assert chip.read_chip() == chip.Chip("", "", 0, 0, 0, 0, False, False)
    assert chip.system_version() == ()
    assert power.read_power() == power.Power(None, None, False, None, None, None, None, False)
    assert names.local_host_name() == tools.developer_folder() == ""
    assert boot.file_vault() is None
    assert proxies.read_proxies() == proxies.Proxies()
    assert disk.container_free(Path("/")) is None


@pytest.mark.parametrize("text", ["", "nonsense", "<plist><dict>", "<plist><array/></plist>", "a = b\n" * 9])
def test_programs_may_say_anything(text: str) -> None:
    def says(*command: str) -> Answer:
        return Answer(0, text)

    assert disk.container_free(Path("/"), says) is None
    assert power.read_power(says).mains is None
    assert chip.read_chip(says).memory == 0
    assert chip.system_version(says) == ()
    assert proxies.read_proxies(says).http == ""
    assert boot.file_vault(says) is None


def test_sysctl_is_found_without_its_folder_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path)
    monkeypatch.setenv("PATH", "/opt/homebrew/bin")
    monkeypatch.setattr(programs, "SYSTEM", str(tmp_path / "bin"))
    monkeypatch.setattr("sys.platform", "darwin")
    assert machine.chip() == "Apple M2 Pro"


def test_the_systems_folders_are_those_of_macos() -> None:
    assert {"/usr/sbin", "/usr/bin", "/sbin", "/bin"} == set(SYSTEM.split(":"))


def test_a_worker_goes_by_the_name_that_dhcp_does_not_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path)
    monkeypatch.setattr("platform.node", lambda: "192-168-1-23")
    assert machine.name() == "192-168-1-23"
    monkeypatch.setattr("sys.platform", "darwin")
    assert machine.name() == "studio-mini"
    assert machine.name("mini-1") == "mini-1"
    install(tmp_path, local_name=None)
    assert machine.name() == "192-168-1-23"


@pytest.mark.parametrize("name", ["192-168-1-23", "192.168.1.23", "ip-10-0-0-7.lan", "a4c3f0112233"])
def test_names_that_are_addresses(name: str) -> None:
    assert names.from_dhcp(name)


@pytest.mark.parametrize("name", ["mini-1", "studio", "anns-mac-mini", "rack-2-3"])
def test_names_that_are_names(name: str) -> None:
    assert not names.from_dhcp(name)
    assert not names.as_sold(name)


@pytest.mark.parametrize("name", ["Mac", "Mac-mini", "Mac-mini-2", "MacBook-Pro", "localhost", "Mac.local"])
def test_names_that_any_mac_has(name: str) -> None:
    assert names.as_sold(name)


def test_the_share_and_the_gpus_limit_hold_both() -> None:
    share = machine.budget(None)
    assert machine.budget(None, share - 1) == share - 1
    assert machine.budget(None, share + 1) == share
    assert machine.budget(share * 2, share) == share * 2  # as told; doctor warns
