"""What `deploy/` gives Prometheus and Grafana, beside what a worker and a server tell."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pixelkiln.jobs import Kiln, Settings
from pixelkiln.worker.host.pages import Pages
from pixelkiln.worker.service import Service
from tests.jobs.web.serving import serving
from tests.waiting import until
from tests.worker.conftest import submit
from tests.worker.watched import Numbers, scraped, total
from tests.worker.working import all_ended, working

__all__ = ["submit"]

DEPLOY = Path(__file__).parents[2] / "deploy"


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def asked() -> set[str]:
    """Every metric that a rule or the dashboard names."""
    board = json.loads((DEPLOY / "grafana.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return {name for text in [*queries, *(rule["expr"] for rule in rules())] for name in named(text)}


def named(query: str) -> list[str]:
    return re.findall(r"\bkiln_\w+", query)


def test_every_metric_that_is_asked_for_is_there(
    settings: Settings, submit: Callable[..., str], kiln: Kiln, tmp_path: Path
) -> None:
    service = Service(settings.model_copy(update={"metrics": "127.0.0.1:0"}), ["demo"])
    (watch,) = (one for one in service._beside if isinstance(one, Pages))
    job_id, found = submit(steps=4), dict[str, Numbers]()
    done = all_ended(kiln, [job_id])
    with serving(settings, tmp_path / "none.json") as where:

        def look() -> bool:
            until(watch.is_alive, "it can be watched")
            found.update(before=scraped(watch.address))
            if not done():
                return False
            until(lambda: total(scraped(where), "kiln_farm_workers", state="idle") == 1, "it is idle")
            found.update(worker=scraped(watch.address), server=scraped(where))
            return True

        working(service, look)
    there = found["worker"].keys() | found["server"].keys()
    assert len(asked()) > 30
    assert asked() - there == set()
    assert found["before"].keys() == found["worker"].keys()  # each is there before it changes first
    told = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in there}
    written = set(re.findall(r"`(kiln_\w+)`", (DEPLOY.parent / "docs/watching.md").read_text()))
    assert told == written


def promtool(*words: str, folder: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("Debian's prometheus is not installed, which has promtool")
    ran = subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_promtool_takes_the_files(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x")
    config = (DEPLOY / "prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(config.replace("/etc/prometheus/kiln-token", "token"))
    shutil.copy(DEPLOY / "alerts.yml", tmp_path)
    promtool("check", "config", "prometheus.yml", folder=tmp_path)
    promtool("check", "rules", "alerts.yml", folder=tmp_path)


WAITS = {
    'kiln_lane_jobs{model="demo",quantization="bf16",priority="normal"}': "5x200",
    'kiln_lane_oldest_seconds{model="demo",quantization="bf16",priority="normal"}': "0+60x200",
}
IDLE = 'kiln_farm_workers{state="idle"}'
PAUSED = 'kiln_farm_workers{state="paused"}'
STORED = 'kiln_jobs_total{end="finished",model="demo",quantization="bf16"}'
MAC = 'up{job="kiln-worker",instance="mini-1:9464"}'
# The alert, what Prometheus sees once a minute, and whether it fires after two hours.
CASES: list[tuple[str, dict[str, str], bool]] = [
    ("KilnNothingStored", {**WAITS, STORED: "7x200", IDLE: "1x200"}, True),
    ("KilnNothingStored", {**WAITS, IDLE: "1x200"}, True),  # the worker itself is not scraped
    ("KilnNothingStored", {**WAITS, STORED: "0+1x200", IDLE: "1x200"}, False),
    ("KilnNothingStored", {**WAITS, STORED: "7x200", IDLE: "0x200", PAUSED: "2x200"}, False),
    ("KilnNothingStored", {**WAITS, STORED: "7x200", IDLE: "1x200", PAUSED: "1x200"}, True),
    ("KilnNothingStored", {STORED: "7x200", IDLE: "1x200", "kiln_lane_oldest_seconds": "0x200"}, False),
    ("KilnNoWorker", {**WAITS, IDLE: "0x200", 'kiln_farm_workers{state="gone"}': "1x200"}, True),
    ("KilnNoWorker", {**WAITS, IDLE: "1x200"}, False),
    ("KilnFewerWorkers", {IDLE: "2x100 1x100"}, True),
    ("KilnFewerWorkers", {IDLE: "1x100 2x100"}, False),
    ("KilnWorkerBlocked", {'kiln_farm_workers{state="blocked"}': "1x200"}, True),
    ("KilnDeadline", {"kiln_batches_late": "0x90 1x100"}, True),
    ("KilnDeadline", {"kiln_batches_late": "0x200"}, False),
    ("KilnWebhooksFailing", {'kiln_webhooks_total{outcome="failed"}': "0+1x200"}, True),
    ("KilnWebhooksFailing", {'kiln_webhooks_total{outcome="dropped"}': "0x110 1x100"}, True),
    ("KilnWebhooksFailing", {'kiln_webhooks_total{outcome="told"}': "0+1x200"}, False),
    ("KilnServerGone", {'up{job="kiln-serve"}': "0x200"}, True),
    ("KilnMacGone", {MAC: "1x100 0x100"}, True),
    ("KilnMacGone", {MAC: "1x200"}, False),
    ("KilnSpoolFilling", {"kiln_spool_pictures": "120x200", "kiln_spool_limit_pictures": "200x200"}, True),
    ("KilnSpoolFilling", {"kiln_spool_pictures": "20x200", "kiln_spool_limit_pictures": "200x200"}, False),
    ("KilnSpoolFilling", {"kiln_spool_free_bytes": "5x200", "kiln_spool_free_limit_bytes": "4x200"}, True),
    ("KilnFailuresInARow", {"kiln_failures_in_a_row": "3x200"}, True),
    ("KilnFailuresInARow", {"kiln_failures_in_a_row": "2x200"}, False),
    ("KilnQuarantined", {'kiln_jobs_total{end="quarantined"}': "0x100 1x100"}, True),
    ("KilnStorageAway", {"kiln_storage_up": "0x200"}, True),
    ("KilnRedisAway", {"kiln_redis_up": "1x118 0x100"}, False),  # a moment is none
    ("KilnRedisAway", {"kiln_redis_up": "0x200"}, True),
    ("KilnSwapping", {"kiln_swap_in_bytes_total": "0+600000000x200"}, True),
]


def test_alerts_fire_when_they_shall(tmp_path: Path) -> None:
    assert {alert for alert, _, fires in CASES if fires} == {rule["alert"] for rule in rules()}
    cases = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
                    "eval_time": "2h",
                    "exp_samples": [{"labels": "{}", "value": int(fires)}],
                }
            ],
        }
        for alert, series, fires in CASES
    ]
    shutil.copy(DEPLOY / "alerts.yml", tmp_path)
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"rule_files": ["alerts.yml"], "tests": cases}))
    promtool("test", "rules", "tests.yml", folder=tmp_path)
