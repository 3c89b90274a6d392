"""A sidecar that an earlier version wrote is read; what is written now fits what earlier versions read."""

from __future__ import annotations

import json

from pydantic import TypeAdapter

from pixelkiln.jobs.sidecar import Sidecar
from tests.worker.pictures import FACTS

# As stored before steps, guidance and scheduler were told.
OLD = """{
 "schema_version": 1,
 "job": {"id": "a1", "client": "default", "attempt": 1, "execution": "e1",
  "submitted_at": "2026-11-01T22:00:00Z", "started_at": "2026-11-01T22:00:01Z",
  "rendered_at": "2026-11-01T22:00:09Z"},
 "spec": {"version": 1, "prompt": "a fox", "model": "demo", "quantization": "bf16", "width": 256,
  "height": 256, "seed": 7, "steps": null, "guidance": null, "references": [],
  "keep_aspect": false, "layout": [], "priority": "normal", "client": "default",
  "labels": {}, "blend_seams": 0},
 "model": {"quantization": "bf16", "engine": "hidream", "model": "demo", "recipe": "dev", "bits": "16",
  "source": "postcards", "revision": "1", "digest": "sha256:00", "mlx": "0.32.4", "tokenizers": "0.23.3",
  "device": "Apple M4", "arithmetic": "bfloat16", "linears": "dense"},
 "versions": {"pixelkiln": "0.1.0"},
 "host": {"name": "studio"},
 "timings": {"queue_wait": 1.0, "load": 0.0, "prefix": 0.1, "steps": [0.2], "decode": 0.0, "checks": 0.0,
  "encode": 0.1, "upload": 0.1, "other": 0.0, "total": 0.5},
 "memory": {"peak_mlx": 1, "peak_resident": 2, "swap_ins": 0},
 "png": {"key": "jobs/default/a1/image.png", "sha256": "00", "bytes": 1, "width": 256, "height": 256},
 "checks": {"luma_mean": 100.0, "luma_spread": 40.0, "seam_score": 1.0, "warnings": []},
 "events": []
}"""


def test_an_old_one_is_read() -> None:
    sidecar = Sidecar.model_validate_json(OLD)
    assert (sidecar.spec.seed, sidecar.model["linears"]) == (7, "dense")
    assert json.loads(sidecar.model_dump_json()) == json.loads(OLD)


def test_what_is_told_of_the_model_is_text_as_before() -> None:
    record = {"quantization": "bf16", **FACTS.record()}
    assert TypeAdapter(dict[str, str]).validate_json(json.dumps(record), strict=True) == record
    told_before = json.loads(OLD)["model"].keys() - {"mlx", "tokenizers"}  # which only its engine has
    assert record.keys() - told_before == {"steps", "guidance", "scheduler"}
    assert told_before <= record.keys()
