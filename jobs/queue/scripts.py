"""Scripts that run on the Redis server: a Lua file behind the names of the keys and the guards it shares."""

from __future__ import annotations

import json
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import redis

from pixelkiln.jobs import keys

HERE = files("pixelkiln.jobs.queue")


def assembled(*sources: Traversable) -> str:
    """What Redis is given: key names, the arguments as `a`, the guards, then `sources` in their order."""
    texts = [source.read_text("utf-8") for source in (HERE.joinpath("guards.lua"), *sources)]
    return "\n".join([keys.lua(), "local a = cjson.decode(ARGV[1])", *texts])


class Script:
    """One operation, called with named arguments: text, numbers, flags, and lists and mappings of these.

    An argument that is None is left out, so that in Lua it is nil: JSON's null is true there.
    """

    def __init__(self, connection: redis.Redis, name: str, *sources: Traversable) -> None:
        self._name = name  # sent along: Redis's slow log shows arguments, and of the script only its digest
        self._script = connection.register_script(assembled(*sources))

    def __call__(self, *raw: Any, **named: Any) -> Any:
        """What the script answers. `raw` values follow as they are, in ARGV[2] and on."""
        given = {name: value for name, value in named.items() if value is not None}
        # Not escaped: text that is none raises here; an error of Redis's would be taken for an outage.
        text = json.dumps({"operation": self._name, **given}, allow_nan=False, ensure_ascii=False)
        return self._script(args=[text, *raw])
