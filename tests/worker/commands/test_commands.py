"""The worker's own commands, where they need no minutes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from pixelkiln.worker import engines
from pixelkiln.worker.commands.app import main
from pixelkiln.worker.engines.mlx import timing
from tests.tiny import TINY
from tests.worker.engines.test_explore import benched


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["kiln", *arguments])
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0), capsys.readouterr().out


def test_doctor_tells_what_is_in_force(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILN_SPOOL_FREE", "1MiB")
    code, out = run(capsys, monkeypatch, "doctor", "--json")
    findings = {one["what"]: one for one in json.loads(out)}
    assert code == 0
    assert {"versions", "memory", "mlx", "redis", "bucket", "spool", "models"} <= findings.keys()
    assert findings["redis"]["state"] == findings["bucket"]["state"] == "ok"
    assert environment["KILN_REDIS_URL"].split("@")[0].rpartition(":")[2] not in out
    assert run(capsys, monkeypatch, "doctor")[0] == 0


@pytest.mark.usefixtures("environment")
def test_doctor_tells_when_a_worker_works(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILN_WINDOW", "Mo-Su")
    monkeypatch.setenv("KILN_ZONE", "Europe/Berlin")
    findings = {one["what"]: one for one in json.loads(run(capsys, monkeypatch, "doctor", "--json")[1])}
    assert findings["window"]["found"] == "a worker works Mo-Su (Europe/Berlin); it works always"
    monkeypatch.setenv("KILN_WINDOW", "22-7")
    monkeypatch.setattr(sys, "argv", ["kiln", "doctor"])
    with pytest.raises(SystemExit) as end:
        main()
    assert (end.value.code, "KILN_WINDOW: '22-7' is no window" in capsys.readouterr().err) == (2, True)


def test_doctor_names_the_command_that_mends_it(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILN_REDIS_URL", "redis://:hunter2@127.0.0.1:1/0")
    monkeypatch.setenv("KILN_S3_BUCKET", "not-there")
    code, out = run(capsys, monkeypatch, "doctor", "--json")
    findings = {one["what"]: one for one in json.loads(out)}
    assert code == 3
    assert findings["redis"]["state"] == findings["bucket"]["state"] == "problem"
    assert "kiln up" in findings["redis"]["mend"]
    assert "hunter2" not in out
    assert "problem" in run(capsys, monkeypatch, "doctor")[1]


@pytest.mark.usefixtures("environment")
def test_doctor_tells_the_budget_and_what_fits_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(what: str) -> dict[str, str]:
        findings = json.loads(run(capsys, monkeypatch, "doctor", "--json")[1])
        return next(one for one in findings if one["what"] == what)

    assert "(70%; KILN_MEMORY sets another)" in found("memory")["found"]
    monkeypatch.setenv("KILN_MEMORY", "64GiB")
    assert "may use 64.0 GiB (KILN_MEMORY)" in found("memory")["found"]
    assert found("models")["found"] == "only the demo's, demo:bf16 (up to 2048 x 2048)"
    monkeypatch.setenv("KILN_MEMORY", "16MiB")
    assert found("models")["state"] == "problem"
    assert "KILN_MEMORY" in found("models")["mend"]


@pytest.mark.usefixtures("environment")
def test_models_are_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "[red]odd"
    folder.mkdir(parents=True)
    (folder / "kiln.json").write_text(json.dumps({"model": "hidream-o1-dev", "bits": 6}))
    code, out = run(capsys, monkeypatch, "models", "list", "--json")
    assert code == 0
    assert {(one["model"], one["quantization"]) for one in json.loads(out)} == {
        ("hidream-o1-dev", "q6"),
        ("demo", "bf16"),
    }
    assert str(folder) in run(capsys, monkeypatch, "models", "list")[1]


@pytest.mark.usefixtures("environment")
def test_a_folder_that_is_not_served_is_named_with_the_command_that_makes_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = shutil.copytree(TINY, tmp_path / "models" / "bare")
    (folder / "kiln.json").unlink()
    command = f"kiln models convert {folder} <new folder> --bits 16 --model NAME"
    findings = json.loads(run(capsys, monkeypatch, "doctor", "--json")[1])
    assert [one["state"] for one in findings if command in one["found"]] == ["warning"]
    monkeypatch.setattr(sys, "argv", ["kiln", "models", "list", "--json"])
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr()
    assert command in told.err
    assert [one["model"] for one in json.loads(told.out)] == ["demo"]


@pytest.mark.usefixtures("environment")
def test_doctor_says_what_is_wrong_with_a_checkpoint(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = shutil.copytree(TINY, tmp_path / "models" / "twice")
    shutil.copy(folder / "model.safetensors", folder / "old.safetensors")
    (folder / "kiln.json").write_text(
        json.dumps(json.loads((folder / "kiln.json").read_bytes()) | {"model": "hidream-o1-dev"})
    )
    findings = json.loads(run(capsys, monkeypatch, "doctor", "--json")[1])
    whole, broken = (one for one in findings if one["what"] == "models")
    assert (whole["state"], whole["found"]) == ("ok", "demo:bf16 (up to 2048 x 2048)")
    assert broken["state"] == "problem"
    assert broken["found"].startswith(f"hidream-o1-dev:bf16 cannot be loaded: {folder}: tensor ")
    assert "is in model.safetensors and old.safetensors: move the file" in broken["found"]
    assert "KILN_MEMORY" not in broken["mend"]


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("command", [("convert", "nowhere", "out", "--bits", "4"), ("bench", "nowhere")])
def test_a_checkpoint_that_is_not_there_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sys, "argv", ["kiln", "models", *command])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    assert "nowhere is not there: name the folder that holds the weights" in capsys.readouterr().err


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("config.json", b'{"text_config": {"num_attention_heads": 1e30}}'),
        ("config.json", b"[" * 100_000),
        ("kiln.json", b'{"model": []}'),
        ("model.safetensors", b"\xff" * 100),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "../secret.safetensors"}}'),
    ],
    ids=["numbers", "depth", "kiln", "weights", "index"],
)
def test_a_malformed_checkpoint_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    body: bytes,
) -> None:
    folder = shutil.copytree(TINY, tmp_path / "models" / "tiny")
    (folder / name).write_bytes(body)
    for command in (
        ("convert", str(folder), str(tmp_path / "out"), "--bits", "4"),
        ("bench", str(folder), "--size", "64x64", "--steps", "1"),
        ("verify", str(folder), "--digest"),
    ):
        monkeypatch.setattr(sys, "argv", ["kiln", "models", *command])
        with pytest.raises(SystemExit) as end:
            main()
        told = capsys.readouterr()
        wrong = name != "config.json" or command[0] != "verify"  # a digest is of the weights alone
        assert end.value.code == int(wrong), (command, told)
        assert len(told.err.strip().splitlines()) == int(wrong), (command, told)
    assert run(capsys, monkeypatch, "models", "list")[0] == 0


@pytest.mark.usefixtures("environment")
def test_a_bench_tells_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "CPU_SIDE", 32)
    sizes = ("--size", "64x64", "--size", "96x64")
    command = ["kiln", "models", "bench", str(TINY), *sizes, "--steps", "2", "--compare", "--json"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as end:
        main()
    told = capsys.readouterr()
    assert end.value.code in (None, 0)
    usual = json.loads(told.out)["arithmetic"]
    steps = [f"step {n} of {timing.WARM_UP + 2}" for n in range(1, timing.WARM_UP + 3)]
    runs = [(size, usual) for size in ("64x64", "96x64")]
    runs += [("64x64", "bfloat16"), ("64x64", "float16")]
    assert told.err.splitlines() == [
        f"16 bits, {size}, {arithmetic}: {step}" for size, arithmetic in runs for step in steps
    ]


@pytest.mark.usefixtures("environment")
def test_an_exploration_is_a_table_and_advice(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "bench", benched)
    command = ("models", "bench", str(TINY), "--size", "512x512", "--explore")
    code, out = run(capsys, monkeypatch, *command)
    assert code == 0
    assert "layers ahead" in out
    assert 'in kiln.toml: arithmetic = "float16"' in out
    advice = json.loads(run(capsys, monkeypatch, *command, "--json")[1])["advice"]
    assert len(advice) == 3
    for refused in (
        ("models", "bench", "--random", "--explore"),
        ("models", "bench", str(TINY), "--picture", "8:8"),
    ):
        assert run(capsys, monkeypatch, "models", "bench", *refused)[0] == 2
