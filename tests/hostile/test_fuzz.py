"""Random bytes, JSON and records where a producer is first read: each is a spec, or one clear line."""

from __future__ import annotations

import base64
import json
import math
import zlib
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixelkiln.jobs import Kiln, RenderSpec, SpecError
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.record import FUNCTION, read_spec
from tests.hostile.farm import LANE, SPEC

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(st.sampled_from([*RenderSpec.model_fields]) | st.text(max_size=4), JSON, max_size=3)
SPECS = st.one_of(FIELDS.map(lambda fields: {**SPEC, **fields}), JSON)
PAYLOADS = st.one_of(
    st.builds(
        lambda function, instance, arguments, named: [function, instance, arguments, named],
        st.just(FUNCTION) | JSON,
        st.none() | JSON,
        st.lists(SPECS, max_size=2) | JSON,
        st.just({}) | JSON,
    ),
    st.builds(lambda spec: [FUNCTION, None, [spec], {}], SPECS),
    JSON,
)
PARTS = st.text(alphabet="a:/.*\n\x1b\u202e", max_size=6) | st.sampled_from(
    ["demo", "bf16", "normal", "default"]
)
NAMES = st.just(LANE) | st.lists(PARTS, max_size=6).map(lambda parts: ":".join(["kiln", *parts])) | st.text()
LANES = NAMES.map(Lane.parse).filter(lambda lane: lane is not None)
UNFIT = [chr(c) for c in (*range(32), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x202E, 0xD800)]


def wire(payload: Any) -> bytes:
    return json.dumps(payload).encode()


@st.composite
def bent(draw: st.DrawFn) -> bytes:
    """A payload's bytes, some of them changed, cut or added, compressed or not, and bent once more."""
    body = wire(draw(PAYLOADS))
    for wrap in draw(st.lists(st.sampled_from([bytes, zlib.compress]), max_size=2)):
        body = wrap(body)
        at = draw(st.integers(0, len(body)))
        body = draw(
            st.sampled_from(
                [
                    body,
                    body[:at],
                    body[at:],
                    body[:at] + draw(st.binary(max_size=3)) + body[at + 1 :],
                    body + body,
                ]
            )
        )
    return body


@settings(max_examples=400, deadline=None)
@given(bent() | st.binary(max_size=40), LANES)
def test_any_payload_is_a_spec_or_one_line(data: bytes, lane: Lane) -> None:
    try:
        spec = read_spec(data, lane, "job-1")
    except SpecError as error:
        told = str(error)
        assert told.isprintable()
        assert 0 < len(told) < 1000
        return
    assert spec.lane == lane
    assert spec.seed is not None
    assert RenderSpec.parse(json.dumps(spec.wire())) == spec
    assert read_spec(wire([FUNCTION, None, [spec.wire()], {}]), lane, "another") == spec


NUMBERS = st.floats() | st.integers() | st.just(math.inf)
TEXTS = st.binary(max_size=12) | st.text(max_size=8).map(str.encode) | NUMBERS.map(lambda n: str(n).encode())
VALUES = TEXTS | JSON.map(wire) | JSON.map(lambda v: base64.b64encode(wire(v))) | st.just(b"x" * 100_000)
STATES = st.sampled_from([b"queued", b"started", b"finished", b"failed", b"canceled", b"stopped", b"on fire"])
NAMES = [
    "status",
    "origin",
    "meta",
    "kiln_attempts",
    "worker_name",
    "enqueued_at",
    "started_at",
    "ended_at",
    "x",
]
RECORDS = st.dictionaries(st.sampled_from(NAMES), VALUES, min_size=1)
RESULTS = st.dictionaries(
    st.sampled_from(
        ["type", "return_value", "exc_string", "worker_name", "execution_id", "execution_ended_at"]
    ),
    VALUES | VALUES.map(lambda v: base64.b64encode(zlib.compress(v))),
    min_size=1,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RECORDS, STATES, RESULTS)
def test_any_record_has_a_status_fit_to_be_shown(
    kiln: Kiln, record: dict[str, bytes], state: bytes, outcome: dict[str, bytes]
) -> None:
    with kiln.redis.pipeline() as pipe:
        pipe.delete("rq:job:a", "rq:results:a")
        pipe.hset("rq:job:a", mapping={**record, "status": state})
        pipe.xadd("rq:results:a", outcome)  # type: ignore[arg-type]
        pipe.execute()
    found = kiln.status("a")
    shown = json.dumps(found.as_dict(), ensure_ascii=False)
    assert not any(character in shown for character in UNFIT)
    assert len(shown) < 8000
    assert json.loads(shown)["steps"] >= 0
