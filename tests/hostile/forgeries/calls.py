"""What a producer would have called: functions, callbacks, addresses, pickles."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from collections.abc import Callable
from typing import Any

from pixelkiln.jobs.queue.record import FUNCTION
from tests.hostile.farm import CANARY, SPEC, Forger, Touch, payload
from tests.hostile.forgeries.form import (
    BAD,
    BAD_LINE,
    ESCAPE,
    FINISHED,
    NOT_RQS,
    Form,
    beside,
    data,
    record,
)

CALLBACKS = {f"{end}_callback_name": f"{CANARY}.run" for end in ("success", "failure", "stopped")}


def function(name: Any, *arguments: Any) -> Form:
    """A job that names a function."""
    return data(
        payload(*arguments, function=name), f"function: is {str(name)!r}; the only one is {FUNCTION!r}"
    )


def pickled(wrap: Callable[[Any], bytes]) -> Form:
    """A job whose data would leave the mark when unpickled."""
    return Form(lambda f, i: f.put(i, wrap(Touch(f.traps.mark))), NOT_RQS)


def hook(url: str) -> str:
    ends = ("finished", "failed", "stopped", "canceled", "started")
    return json.dumps([{"url": url, "job_status": end, "method": "POST"} for end in ends])


def calls_back(body: bytes | None, ends: str, **fields: Any) -> Form:
    return Form(lambda f, i: f.put(i, body, **{**CALLBACKS, **fields}), ends)


def pickled_result(f: Forger, i: str) -> None:
    value = base64.b64encode(pickle.dumps(Touch(f.traps.mark)))
    f.result(i, type="1", return_value=value, exc_string=value)


CALLS: dict[str, dict[str, Form]] = {
    "foreign functions": {
        "os.system": Form(
            lambda f, i: f.put(i, payload(f"touch {f.traps.mark}", function="os.system")),
            "function: is 'os.system'",
        ),
        "eval": Form(
            lambda f, i: f.put(i, payload(f"open({str(f.traps.mark)!r}, 'w')", function="builtins.eval")),
            "function: is 'builtins.eval'",
        ),
        "a module on the path": function(f"{CANARY}.run"),
        "a command of ours": function("pixelkiln.worker.commands.app.main"),
        "an attribute of the allowed module": function("worker.tasks.os.system"),
        "an attribute of the function": function("worker.tasks.render.__globals__"),
        "with a newline": function("worker.tasks.render\n"),
        "with an escape": function(ESCAPE),
        "no function": function(None),
        "a list": function(["os.system"]),
        "a method": data(payload(instance="subprocess.Popen"), "arguments: must be one object"),
        "a pickled instance": data(
            payload(instance={"py/object": "os.system"}), "arguments: must be one object"
        ),
        "of a huge name": data(payload(function="a." * 50_000), "function: is 'a.a."),
    },
    "callbacks": {
        "of a job that finishes": calls_back(None, FINISHED),
        "of a job that fails": calls_back(BAD, BAD_LINE),
        "with timeouts": calls_back(
            BAD, BAD_LINE, failure_callback_timeout="-1", success_callback_timeout="x"
        ),
        "with a pickled name": Form(
            lambda f, i: f.put(i, BAD, failure_callback_name=pickle.dumps(Touch(f.traps.mark))), BAD_LINE
        ),
    },
    "webhooks": {
        "of a job that finishes": Form(lambda f, i: f.put(i, webhooks=hook(f.traps.url)), FINISHED),
        "of a job that fails": Form(lambda f, i: f.put(i, BAD, webhooks=hook(f.traps.url)), BAD_LINE),
        "to a file": record(webhooks=hook("file:///etc/passwd")),
        "that are none": record(webhooks="[" * 1000),
    },
    "pickles": {
        "protocol 0": pickled(lambda it: pickle.dumps(it, 0)),
        "protocol 5": pickled(lambda it: pickle.dumps(it, 5)),
        "as RQ's default writes them": pickled(
            lambda it: zlib.compress(pickle.dumps((FUNCTION, None, [it], {})))
        ),
        "compressed twice": pickled(lambda it: zlib.compress(zlib.compress(pickle.dumps(it)))),
        "in meta, result and exc_info": Form(
            lambda f, i: f.put(
                i, BAD, **dict.fromkeys(("meta", "result", "exc_info"), pickle.dumps(Touch(f.traps.mark)))
            ),
            BAD_LINE,
        ),
        "in every other field": Form(
            lambda f, i: f.put(
                i,
                BAD,
                **dict.fromkeys(
                    ("timeout", "created_at", "enqueued_at", "description", "group_id", "dependency_ids"),
                    pickle.dumps(Touch(f.traps.mark)),
                ),
            ),
            BAD_LINE,
        ),
        "in the results": beside(pickled_result, BAD_LINE, BAD),
    },
    "arguments": {
        "none": data(json.dumps([FUNCTION, None, [], {}]).encode(), "arguments: must be one object"),
        "two": data(payload(SPEC, SPEC), "arguments: must be one object"),
        "named": data(payload(SPEC, shell=True), "arguments: must be one object"),
        "text": data(payload("a fox"), "arguments: must be one object"),
        "as an object": data(json.dumps([FUNCTION, None, {"0": SPEC}, {}]).encode()),
        "five parts": data(json.dumps([FUNCTION, None, [SPEC], {}, {}]).encode()),
        "an object": data(b'{"func": 1}'),
    },
}
