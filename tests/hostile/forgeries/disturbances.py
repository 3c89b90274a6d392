"""What is no job at all: written between the jobs, and nothing may come of it."""

from __future__ import annotations

import json
import pickle

from pixelkiln.jobs.control.orders import Order
from tests.hostile.farm import LANE, Forger, Touch
from tests.hostile.forgeries.form import (
    ESCAPE,
    listed,
)
from tests.hostile.forgeries.records import owned


def commands(f: Forger) -> None:
    """RQ's own commands to a worker, and others, on each channel it might listen to."""
    name = f.worker.decode().removeprefix("rq:worker:")
    for command in ("shutdown", "kill-horse", "stop-job", "resume", "nonsense"):
        for channel in (f"rq:pubsub:{name}", "kiln:events", f"kiln:pubsub:{name}"):
            f.redis.publish(channel, json.dumps({"command": command, "job_id": "honest-0"}))
    for body in (b"\xff", b"[" * 9999, pickle.dumps(Touch(f.traps.mark))):
        f.redis.publish(f"rq:pubsub:{name}", body)


def suspended(f: Forger) -> None:
    f.redis.set("rq:suspended", 1)


def shutdown_requested(f: Forger) -> None:
    f.redis.hset(f.worker, mapping={"shutdown_requested_date": "x", "current_job": "x", "state": "suspended"})


def clocks(f: Forger) -> None:
    """The accounts of GPU time: one's own empty, the honest ones' full."""
    forged = {
        "mallory": "-1e308",
        "victim": "1e308",
        "default": "inf",
        "other": str(2**52),
        "nobody": "nan",
        "": "x",
    }
    f.redis.hset("kiln:clocks", mapping=forged)
    f.redis.set("kiln:now", "nan")


def clocks_of_another_type(f: Forger) -> None:
    for key in ("kiln:clocks", "kiln:leases", "kiln:now"):
        listed(f, "x", key)


def bells(f: Forger) -> None:
    for key in ("kiln:bell:demo", "kiln:bell:", "kiln:taken:x", "kiln:preview:honest-0"):
        listed(f, "x", key)
    f.redis.delete("kiln:bell:demo")
    f.redis.set("kiln:bell:demo", "text")


def orders(f: Forger) -> None:
    """Orders that no admin signed, and calls on the channel that says there are some."""
    pause = Order(verb="pause", target="farm", at=2.0**52)
    drain = Order(verb="drain", target="farm", at=2.0**52, now=True)
    texts = (b"", b"\xff", b"[" * 9999, ESCAPE.encode(), pickle.dumps(Touch(f.traps.mark)), b"x" * 1_000_000)
    f.redis.hset("kiln:orders", mapping={f"pause:client:{n}": text for n, text in enumerate(texts)})
    f.redis.hset(
        "kiln:orders", mapping={"pause:farm": pause.model_dump_json(), "drain:farm": drain.signed(b"x")}
    )
    f.redis.set("kiln:orders:serial", ESCAPE)
    for text in (*texts, b"orders", b"job:honest-0", b"job:" + ESCAPE.encode(), b"job:../../x"):
        f.redis.publish("kiln:calls", text)


def leases(f: Forger) -> None:
    members = {
        b"": 0,
        b":": 0,
        b"a:": 0,
        b":b": 0,
        b"\xff:\xfe": 0,
        ESCAPE + ":x": 0,
        "honest-0:": float("-inf"),
    }
    f.redis.zadd("kiln:leases", members | {f"gone-{n}:x": 1 for n in range(5000)})
    owned(f, ESCAPE, "ghost")


def queues(f: Forger) -> None:
    names = [
        b"",
        b"rq:queue:",
        b"rq:queue:kiln:",
        b"\xff",
        "rq:queue:" + ESCAPE,
        "rq:job:honest-0",
        "kiln:clocks",
    ]
    f.redis.sadd("rq:queues", *names)
    f.redis.sadd(
        "rq:queues", *(f"rq:queue:kiln:demo:bf16:high:{kind}" for kind in ("string", "set", "stream", "z"))
    )
    f.redis.set("rq:queue:kiln:demo:bf16:high:string", "x")
    f.redis.sadd("rq:queue:kiln:demo:bf16:high:set", "x")
    f.redis.xadd("rq:queue:kiln:demo:bf16:high:stream", {"x": "y"})
    f.redis.zadd("rq:queue:kiln:demo:bf16:high:z", {"x": 1})
    f.redis.sadd("rq:queues", "rq:queue:kiln:demo:bf16:high:" + "x" * 1_000_000)


def ready(f: Forger) -> None:
    """What RQ's recovery of dependents reads."""
    f.redis.delete(f"rq:ready:{LANE}")
    f.redis.zadd(f"rq:ready:{LANE}", {"bad": 1, b"\xff": 2, ESCAPE: 3, "../up": 4})
    f.redis.sadd("rq:queues", "rq:queue:kiln:" + ESCAPE)
    f.redis.set("rq:ready:kiln:" + ESCAPE, "text")


def workers(f: Forger) -> None:
    """RQ's list of workers, and the real one's own record, of which nothing may depend."""
    f.redis.sadd("rq:workers", b"", b"\xff", "rq:worker:" + ESCAPE, "rq:job:honest-0", "kiln:clocks")
    f.redis.hset("rq:worker:" + ESCAPE, mapping=dict.fromkeys(("queues", "hostname", "kiln_state"), ESCAPE))
    f.redis.delete(f.worker)
    f.redis.rpush(f.worker, "text")


def other_types(f: Forger) -> None:
    for name in ("finished", "failed", "wip"):
        f.redis.delete(f"rq:{name}:{LANE}")
        f.redis.set(f"rq:{name}:{LANE}", "text")


DISTURBANCES = (
    clocks_of_another_type,  # first: forged leases would be lost
    commands,
    suspended,
    shutdown_requested,
    clocks,
    bells,
    orders,
    leases,
    queues,
    ready,
    workers,
    other_types,
)
