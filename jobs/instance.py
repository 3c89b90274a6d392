"""The servers that `kiln up` runs on this machine, as other commands find them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.home import check_home, distrust, serves


class Instance(BaseModel):
    """What `kiln up` leaves in `.kiln/instance.json`: how to reach the servers that run on this machine."""

    model_config = ConfigDict(frozen=True)

    redis_url: SecretStr
    s3_endpoint: str
    bucket: str
    access_key: str
    secret_key: SecretStr
    admin_key: SecretStr
    pid: int
    started: float  # seconds since the epoch

    @classmethod
    def read(cls, home: Path) -> Self | None:
        """The instance that was last started in `home`, or None where none was.

        Raises NotReadyError where another user may have put it there.
        """
        path = home / "instance.json"
        try:
            check_home(home)
            if why := distrust(path):
                raise NotReadyError(f"{path} {why}: it is not used; stop and start `kiln up`")
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise NotReadyError(f"{path} cannot be read ({brief(error)}); stop and start `kiln up`") from None

    @classmethod
    def running(cls, home: Path, server: Literal["valkey", "s3"]) -> Self:
        """The instance of `home` while that server of it lives. Raises NotReadyError where it does not.

        To be asked before anything is sent: a port that a dead server left may be anybody's.
        """
        instance = cls.read(home)
        if instance is None or not serves(home / server, instance.pid):
            raise NotReadyError(f"no servers run in {home}; start them with `kiln up`")
        return instance

    def write(self, home: Path) -> None:
        """Put it where `read` finds it, whole and readable by its owner alone."""
        record = self.model_dump() | {
            "redis_url": self.redis_url.get_secret_value(),
            "secret_key": self.secret_key.get_secret_value(),
            "admin_key": self.admin_key.get_secret_value(),
        }
        part = home / "instance.json.part"
        part.touch(mode=0o600)
        part.chmod(0o600)
        part.write_text(json.dumps(record, indent=1))
        part.replace(home / "instance.json")


def brief(error: Exception) -> str:
    """The first line of what a parser says, not too long."""
    return str(error).splitlines()[0][:200]
