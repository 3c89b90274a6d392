"""Taking names and secrets out of a text that strangers will read."""

from __future__ import annotations

import configparser
import getpass
import os
import platform
import pwd
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from pixelkiln.jobs import network
from pixelkiln.jobs.errors import KilnError
from pixelkiln.jobs.instance import Instance
from pixelkiln.jobs.queue.connection import redis_url
from pixelkiln.jobs.settings import Settings
from pixelkiln.worker.host.mac.names import as_sold, computer_name, local_host_name
from pixelkiln.worker.host.mac.proxies import read_proxies
from pixelkiln.worker.host.programs import Ask, ask, mac

SHORTEST = 3  # characters of a name that is looked for by itself; shorter ones stand in words by chance
_SECRET = re.compile(r"KEY|SECRET|TOKEN|PASS|CREDENTIAL|COOKIE|AUTH", re.IGNORECASE)
_USERINFO = re.compile(r"://[^/@\s]*@")
_HOME = re.compile(r"/(Users|home)/(?!<)[^/\s:,;]+")
_VOLUME = re.compile(r"/Volumes/(?!<)[^/\s:,;]+")
_ADDRESS = re.compile(r"(?<![\w.])(?!127\.|0\.0\.0\.0)(?:\d{1,3}\.){3}\d{1,3}(?![\w.])")
# Words of chips and of this project may be somebody's name as well: by themselves they give nobody away.
_COMMON = frozenset(
    {"root", "user", "admin", "mac", "apple", "max", "pro", "ultra", "mini", "air", "studio", "metal"}
    | {"python", "mlx", "kiln", "pixelkiln", "demo", "worker", "default", "redis", "valkey", "localhost"}
    | {"pictures", "renders", "test"}
)


class Scrubber:
    """Replaces what it was told of, and whatever looks like it."""

    def __init__(self, names: Mapping[str, str], secrets: Iterable[str], home: Path) -> None:
        """`names`: placeholders by the text they stand for."""
        self._homes = sorted({str(home), str(home.resolve())} - {"/"}, key=len, reverse=True)
        known = {name: mark for name, mark in names.items() if _tells(name)}
        self._names = [
            (re.compile(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", re.IGNORECASE), mark)
            for name, mark in sorted(known.items(), key=lambda one: -len(one[0]))
        ]
        forms = {form for one in secrets if len(one) >= SHORTEST for form in (one, quote(one, safe=""))}
        self._secrets = sorted(forms, key=len, reverse=True)

    @classmethod
    def of(
        cls, settings: Settings, environment: Mapping[str, str] = os.environ, asked: Ask = ask
    ) -> Scrubber:
        """One that knows this user, this machine and these settings."""
        home = Path.home()
        return cls(
            dict(_names(settings, environment, asked)), set(_secrets(settings, environment, home)), home
        )

    def __call__(self, text: str) -> str:
        """The text without them."""
        for secret in self._secrets:
            text = text.replace(secret, "<secret>")
        text = _USERINFO.sub("://", text)
        for home in self._homes:
            text = re.sub(rf"{re.escape(home)}(?=[/\s:,;'\")]|$)", "~", text)
        for pattern, mark in self._names:
            text = pattern.sub(mark, text)
        text = _HOME.sub(r"/\1/<user>", text)
        text = _VOLUME.sub("/Volumes/<volume>", text)
        return _ADDRESS.sub("<address>", text)


def _names(settings: Settings, environment: Mapping[str, str], asked: Ask) -> Iterator[tuple[str, str]]:
    for name in (environment.get("USER"), environment.get("LOGNAME"), environment.get("SUDO_USER"), _user()):
        yield name or "", "<user>"
    with suppress(KeyError, OSError):
        whole = pwd.getpwuid(os.getuid()).pw_gecos.split(",")[0]
        for name in (whole, *whole.split()):
            yield name, "<user>"
    hosts = [
        platform.node(),
        socket.gethostname(),
        environment.get("HOSTNAME", ""),
        settings.worker_name or "",
    ]
    if mac():
        hosts += [local_host_name(asked), computer_name(asked)]
        proxies = read_proxies(asked)
        for proxy in (proxies.http, proxies.https):
            yield proxy.rpartition(":")[0], "<proxy>"
        yield network.host_of(proxies.script), "<proxy>"
    for host in hosts:
        for name in (host, host.split(".")[0]):
            yield name, "<host>"
    for name, value in environment.items():
        if name.lower().endswith("_proxy") and name.lower() != "no_proxy":
            yield network.host_of(value), "<proxy>"
    urls = {"<redis>": "", "<s3>": settings.s3_endpoint or ""}
    with suppress(KilnError):
        urls["<redis>"] = redis_url(settings)
    for mark, url in urls.items():
        for host in network.hosts_of(url):
            if not network.loopback(f"//{host}"):
                yield host, mark
                yield host.split(".")[0], mark
        yield unquote(_part(url, "username")), "<user>"
    for host in (*map(network.host_of, settings.webhooks), *settings.webhook_hosts):
        yield host, "<webhook>"
    for folder in (settings.home, settings.models_dir, settings.spool_dir, settings.renders_dir):
        if folder and folder.is_absolute() and folder.parts[1:2] == ("Volumes",) and len(folder.parts) > 2:
            yield folder.parts[2], "<volume>"
    yield settings.client, "<client>"
    yield settings.s3_bucket, "<bucket>"
    yield environment.get("AWS_PROFILE", ""), "<profile>"


def _secrets(settings: Settings, environment: Mapping[str, str], home: Path) -> Iterator[str]:
    urls = [settings.s3_endpoint or "", *environment.values()]
    with suppress(KilnError):
        urls.append(redis_url(settings))
    for url in urls:
        yield _part(url, "password")
        yield unquote(_part(url, "password"))
        if "?" in url:
            yield from (value for name, value in parse_qsl(_part(url, "query")) if _SECRET.search(name))
    for key in (settings.admin_key, settings.webhook_secret):
        yield key.get_secret_value() if key else ""
    yield from settings.webhooks
    with suppress(KilnError):
        instance = Instance.read(settings.home)
        if instance:
            yield from (instance.access_key, instance.secret_key.get_secret_value())
            yield from (instance.admin_key.get_secret_value(),)
            yield _part(instance.redis_url.get_secret_value(), "password")
    for name, value in environment.items():
        if _SECRET.search(name) and len(value) > 5:
            yield value
    yield from _in_files(environment, home)


def _in_files(environment: Mapping[str, str], home: Path) -> Iterator[str]:
    """Of AWS and of the hub, which their libraries read by themselves."""
    for variable, usual in (
        ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
        ("AWS_CONFIG_FILE", ".aws/config"),
    ):
        parser = configparser.RawConfigParser()
        with suppress(OSError, configparser.Error, UnicodeDecodeError):
            parser.read_string(Path(environment.get(variable, home / usual)).read_text())
            for section in parser.sections():
                yield from (value for name, value in parser.items(section) if _SECRET.search(name))
    hub = Path(environment.get("HF_HOME", home / ".cache/huggingface"))
    with suppress(OSError, UnicodeDecodeError):
        yield (hub / "token").read_text().strip()


def _part(url: str, which: str) -> str:
    try:
        return str(getattr(urlsplit(url), which) or "") if "://" in url else ""
    except ValueError:
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _tells(name: str) -> bool:
    """Whether a name says anything of anybody, and can be looked for."""
    return len(name) >= SHORTEST and name.lower() not in _COMMON and not as_sold(name) and not name.isdigit()
