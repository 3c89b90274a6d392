"""Keys by what they are for: the same in Python and in the scripts."""

from __future__ import annotations

import pytest

from pixelkiln.jobs import Kiln, keys
from pixelkiln.jobs.lanes import Lane

LANE = Lane("demo", "bf16", "normal", "studio")


def test_a_key_takes_text_lanes_and_bytes() -> None:
    assert keys.JOB("job-1") == "rq:job:job-1"
    assert keys.QUEUE(LANE) == "rq:queue:kiln:demo:bf16:normal:studio"
    assert keys.EXECUTION("job-1", "e1") == "rq:execution:job-1:e1"
    assert keys.WORKER_EXECUTIONS("mini-1") == "rq:worker:mini-1:executions"
    assert keys.QUEUE(b"kiln:\xff") == b"rq:queue:kiln:\xff"
    assert keys.EXECUTION(b"\xff", b"e1") == b"rq:execution:\xff:e1"
    assert keys.QUEUE.prefix == "rq:queue:"


def test_scripts_have_the_same_keys(kiln: Kiln) -> None:
    """Each key of Redis, as Lua makes it, is the one that Python makes; objects are no business of theirs."""
    parts = ["a", "b{}", "c"]
    for name, value in vars(keys).items():
        if isinstance(value, keys.Key) and ":" in value.template:
            wanted = parts[: value.template.count("{}")]
            arguments = ", ".join(f"'{part}'" for part in wanted)
            made = kiln.redis.eval(f"{keys.lua()} return key.{name}({arguments})", 0)
            assert made == value(*wanted).encode()
        elif name.isupper() and isinstance(value, str):
            assert kiln.redis.eval(f"{keys.lua()} return key.{name}", 0) == value.encode()
    assert "PICTURE" not in keys.lua()
    assert "key.OWNER" in keys.lua()


@pytest.mark.parametrize(
    "name",
    ["", "kiln", "kiln:demo:bf16:normal", "kiln:demo:bf16:normal:", "kiln::bf16:normal:a", "other:a:b:c:d"],
)
def test_what_is_no_lane(name: str) -> None:
    assert Lane.parse(name) is None
    assert Lane.parse(name.encode()) is None


def test_a_lane_is_its_parts() -> None:
    assert Lane.parse(LANE.name) == Lane.parse(LANE.name.encode()) == LANE
    assert str(LANE) == LANE.name
    assert LANE.kind == "demo:bf16"
    strange = Lane.parse(b"kiln:\xff:bf16:normal:a")
    assert strange is not None
    assert strange.model == "\ufffd"
