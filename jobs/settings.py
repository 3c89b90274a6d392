"""Every setting of a farm, its default and where it is read from: `KILN_*` variables, then `kiln.toml`."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import (
    AfterValidator,
    ByteSize,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from pixelkiln.jobs.batches.windows import Windows, zone_of
from pixelkiln.jobs.choice import Kind
from pixelkiln.jobs.errors import NotReadyError, UsageError
from pixelkiln.jobs.home import distrust, elsewhere
from pixelkiln.jobs.instance import Instance, brief
from pixelkiln.jobs.network import an_address
from pixelkiln.jobs.spec import Name
from pixelkiln.jobs.webhooks import Addresses, Hosts, Words


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}") from None


def _hard_to_guess(key: SecretStr) -> SecretStr:
    """Whoever reads an order can try keys on it, so one that a person would try first is none."""
    text = key.get_secret_value()
    repeats = text in (text * 2)[1:-1]  # as only what is a shorter text over and over does
    if len(text) < 16 or len(set(text)) < 8 or repeats:
        raise ValueError(
            "needs at least 16 characters, 8 different ones, and no repetition; "
            "make one with: openssl rand -hex 32"
        )
    return key


def _with_unit(size: ByteSize) -> ByteSize:
    """24 was meant as 24 GiB: as bytes nothing would run."""
    if 0 < size < 2**20:
        raise ValueError(f"is {int(size):,} bytes, too few for anything; write the unit, for instance 24GiB")
    return size


def _a_window(text: str) -> str:
    return Windows.parse(text).text


def _a_zone(name: str) -> str:
    zone_of(name)
    return name


Folder = Annotated[Path, AfterValidator(_expanded)]
Size = Annotated[ByteSize, AfterValidator(_with_unit)]
# No dot, which would end a host's name, and room for the ending that tells workers of one name apart.
WorkerName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,47}$")]
AdminKey = Annotated[SecretStr, AfterValidator(_hard_to_guess)]


class Settings(BaseSettings):
    """What a producer or a worker needs to know; secrets print as stars."""

    model_config = SettingsConfigDict(
        env_prefix="KILN_", toml_file="kiln.toml", extra="ignore", frozen=True, env_ignore_empty=True
    )

    redis_url: SecretStr | None = None  # absent: the instance in `home`
    s3_endpoint: str | None = None  # absent: the instance in `home`, or AWS where redis_url is set
    s3_bucket: str = "pixelkiln"
    s3_addressing: Literal["path", "virtual"] | None = (
        None  # absent: as AWS's own configuration says, else path
    )
    admin_key: AdminKey | None = None  # signs orders to workers; absent: the instance's in `home`, or none
    model: Annotated[str, AfterValidator(Kind.checked)] | None = (
        None  # for jobs that name none: MODEL or MODEL:QUANTIZATION; absent: one that a worker serves
    )
    client: Name = "default"  # whose jobs these are: pictures lie under it, and GPU time is shared by it
    home: Folder = Path(".kiln")  # local state of the embedded servers
    models_dir: Folder = Path("~/.kiln/models")
    spool_dir: Folder = Path("~/.kiln/spool")  # one folder per worker: finished, not yet stored
    renders_dir: Folder | None = None  # a worker keeps its pictures here too, as plain files
    cache_dir: Folder = Path("~/.kiln/cache")  # what was measured of this machine
    arithmetic: Literal["bfloat16", "float16", "float32"] | None = None  # absent: what suits the device
    check_digest: bool = False  # before a model is loaded, read its weights and compare their digest
    metrics: Annotated[str, AfterValidator(an_address)] | None = (
        None  # HOST:PORT at which a worker can be watched (docs/watching.md); absent: nowhere
    )
    log: Literal["text", "json"] = "text"  # json: one object a line
    previews: bool = True  # while a picture renders, a small one of it so far
    memory: Size | None = None  # bytes a worker may use; absent: 70% of the machine's, or Metal's limit
    worker_name: WorkerName | None = None  # that orders call workers here by; absent: the machine's
    keep_awake: Literal["always", "mains", "working"] = (
        "mains"  # when a worker keeps the machine from sleeping
    )
    window: Annotated[str, AfterValidator(_a_window)] | None = (
        None  # when a worker works, 22:00-07:00 or Mo-Fr 20:00-07:00, Sa-Su; absent: always
    )
    zone: Annotated[str, AfterValidator(_a_zone)] | None = None  # of times of day; absent: the machine's
    serve_host: str = "127.0.0.1"  # where `kiln serve` listens; beyond this machine with tokens alone
    serve_port: Annotated[int, Field(ge=0, le=65_535)] = 8765  # 0: any
    serve_cert: Folder | None = None  # certificate chain and key, PEM; absent: no HTTPS
    serve_key: Folder | None = None
    tokens: Folder | None = None  # file of tokens; absent: tokens.json in `home`
    image_links: bool = False  # `kiln serve` sends who asks for a picture to the bucket itself
    result_days: Annotated[int, Field(ge=1, le=365)] = 7  # how long Redis remembers a job that ended
    stall_seconds: Annotated[float, Field(gt=0)] = (
        900  # a load, or a step of a size not yet measured, may take
    )
    spool_jobs: Annotated[int, Field(ge=1)] = (
        200  # pictures, the one being rendered included, that may wait to be stored
    )
    spool_free: Size = ByteSize(2 * 1024**3)  # bytes the spool's disk must keep free

    webhooks: Annotated[Addresses, Field(repr=False)] = ()  # a worker tells them of jobs and batches that end
    webhook_secret: AdminKey | None = None  # signs what they are told
    webhook_hosts: Hosts = ()  # of theirs those that may be private, or not https
    webhook_prompts: bool = False  # whether they are told prompts
    on_batch_done: Words = ()  # run where someone watches a batch, once it has ended

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then `kiln.toml` in the working folder."""
        return init_settings, env_settings, _File(settings_cls)

    @property
    def windows(self) -> Windows | None:
        """When a worker works, in its zone; None for always."""
        return None if self.window is None else Windows.parse(self.window, zone_of(self.zone))

    @classmethod
    def load(cls) -> Self:
        """The settings in force; of no instance here, that of another folder of this user's, if one runs.

        Raises UsageError naming the variable at fault, NotReadyError where several run.
        """
        settings = cls.here()
        if settings.redis_url is None and "home" not in settings.model_fields_set:
            return settings.model_copy(update={"home": _nearest(settings.home)})
        return settings

    @classmethod
    def here(cls) -> Self:
        """The settings in force, for what starts an instance in this folder. Raises UsageError."""
        try:
            return cls()
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = "KILN_" + "_".join(str(part) for part in first["loc"]).upper()
            raise UsageError(f"{name}: {_said(first)}") from None
        except OSError as error:
            raise UsageError(f"kiln.toml: {error.strerror}") from None
        except ValueError as error:  # kiln.toml is not TOML
            raise UsageError(f"kiln.toml: {brief(error)}") from None


class _File(TomlConfigSettingsSource):
    """`kiln.toml`. Unknown keys in it are errors; unknown environment variables may be another program's."""

    def __call__(self) -> dict[str, Any]:
        if self.toml_data and (why := distrust(Path("kiln.toml"), 0o002)):
            raise UsageError(f"kiln.toml in {Path.cwd()} {why}: it is not used; make it yours, or leave")
        names = Settings.model_fields
        for key in self.toml_data:
            if key not in names:
                near = difflib.get_close_matches(key.lower().removeprefix("kiln_"), names, 1)
                meant = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(names)}"
                raise UsageError(f"kiln.toml: no setting {key[:60]!r}{meant}")
        return super().__call__()


def _nearest(home: Path) -> Path:
    """`home` where an instance was started there, or none elsewhere; else the one where one runs."""
    if (home / "instance.json").exists():
        return home
    running = []
    for folder in elsewhere():
        try:
            Instance.running(folder, "valkey")
        except NotReadyError:
            continue
        running.append(folder)
    if len(running) > 1:
        listed = ", ".join(map(str, running))
        raise NotReadyError(
            f"no servers run in {home.absolute()}, but in {listed}: set KILN_HOME to one of them"
        )
    return running[0] if running else home


def without_password(url: str) -> str:
    """`url` as it may be shown; redis-py takes a password in the query too."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is none"
    if "@" in parts.path + parts.query + parts.fragment:  # a password with / ? or # in it ends the host early
        return f"{parts.scheme}://…"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


_IN_WORDS = {  # of pydantic's findings those that do not say what to write
    "bool_parsing": "must be true or false",
    "byte_size": "must be a number with its unit, for instance 24GiB",
    "byte_size_unit": "must be a number with its unit, for instance 24GiB",
    "float_parsing": "must be a number",
    "int_parsing": "must be a whole number",
    "string_pattern_mismatch": "must be 1 to 48 of {}, - and _, beginning with a letter or digit",
}


def _said(first: ErrorDetails) -> str:
    """What is wrong with a setting; its value stays out, which may be a secret."""
    if words := _IN_WORDS.get(first["type"]):
        return words.format("a-z, 0-9" if first["loc"] == ("client",) else "letters, digits")
    return first["msg"].removeprefix("Value error, ").replace("Input should", "must", 1)
