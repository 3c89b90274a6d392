"""Who may import whom, read from the sources and seen in real processes. docs/architecture.md draws it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"mlx", "mlx_vlm", "numpy", "psutil", "safetensors", "tokenizers", "transformers", "torch"}
SERVING = {"fastapi", "starlette", "uvicorn", "jinja2", "httpx", "httpx2", "prometheus_client"}  # no client's

# Each room, and the rooms whose modules it may import beside its own. Imports run one way.
JOBS = "jobs"
HOST = "worker.host"
ENGINES = "worker.engines"
QUEUE = "worker.queue"
RENDER = "worker.render"
DELIVER = "worker.deliver"
TELLING = "worker.telling"
LOCAL = "worker.local"
SERVICE = "worker.service"
COMMANDS = "worker.commands"
MAY = {
    JOBS: set(),
    HOST: {JOBS},
    ENGINES: {JOBS, HOST},
    QUEUE: {JOBS, HOST},
    RENDER: {JOBS, HOST, ENGINES, f"{QUEUE}.claim"},
    DELIVER: {JOBS, HOST, ENGINES, QUEUE, RENDER},
    TELLING: {JOBS},
    LOCAL: {JOBS, HOST},
    SERVICE: {JOBS, HOST, ENGINES, QUEUE, RENDER, DELIVER, TELLING},
    COMMANDS: {JOBS, HOST, ENGINES, QUEUE, RENDER, DELIVER, TELLING, LOCAL, SERVICE},
}
SERVICES = {f"{SERVICE}", "worker.intake", "worker.metrics"}  # the service loop is more than one file


def room_of(module: str) -> str | None:
    """The room of a module, named without `pixelkiln.`; None for a package's own `__init__`."""
    if module.partition(".")[0] == JOBS:
        return JOBS
    if ".".join(module.split(".")[:2]) in SERVICES:
        return SERVICE
    return next((room for room in MAY if module == room or module.startswith(f"{room}.")), None)


FAMILIES = {path.name for path in (ROOT / "worker/engines").iterdir() if path.is_dir()}
FAMILIES = FAMILIES - {"mlx", "checkpoints", "__pycache__"} | {"z_image", "flux2", "qwen_image"}


def family_of(module: str) -> str | None:
    """The engine family that a module belongs to, or None."""
    parts = module.split(".")
    found = parts[2] if parts[:2] == ENGINES.split(".") and len(parts) > 2 else None
    return found if found in FAMILIES else None


def imports(source: str, module: str) -> Iterator[str]:
    """Every module of ours, or of others, that a source imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: imports are absolute here"
            yield node.module or ""
            yield from (f"{node.module}.{name.name}" for name in node.names)


def sources() -> Iterator[tuple[str, str]]:
    """Name without `pixelkiln.`, and text, of every module in jobs/ and worker/."""
    for folder in ("jobs", "worker"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            yield name, path.read_text(encoding="utf-8")


def faults(module: str, source: str) -> list[str]:
    """What a module imports and may not."""
    room = room_of(module)
    found = []
    for name in imports(source, module):
        first = name.partition(".")[0]
        if first in {"mlx", "mlx_vlm"} and room != ENGINES:
            found.append(f"{module}: {name}, which only engines import")
        if first in HEAVY and room == JOBS:
            found.append(f"{module}: {name}, which no producer has")
        if first in {"tests", "postcards", "jobs", "worker"}:
            found.append(f"{module}: {name}, which is not the package's")
        if first in {"redis", "rq", "boto3", "botocore"} and room == ENGINES:
            found.append(f"{module}: {name}; an engine knows neither queue nor bucket")
        if name == "pixelkiln.worker" and room == JOBS:
            found.append(f"{module}: {name}; jobs may not import it")
        target = room_of(name.removeprefix("pixelkiln.")) if first == "pixelkiln" else None
        family, other = family_of(module), family_of(name.removeprefix("pixelkiln."))
        if family and other and family != other:
            found.append(f"{module}: {name}; no family imports another")
        if other and not family and room_of(module) != ENGINES:
            found.append(f"{module}: {name}; only the table of families knows them")
        if room is None or target is None or target == room:
            continue
        ours = name.removeprefix("pixelkiln.")
        if target not in MAY[room] and not any(
            ours == one or ours.startswith(f"{one}.") for one in MAY[room]
        ):
            found.append(f"{module}: {name}; {room} may not import {target}")
    return found


def test_imports_run_one_way() -> None:
    assert [line for module, source in sources() for line in faults(module, source)] == []


@pytest.mark.parametrize("room", MAY)
@pytest.mark.parametrize("target", MAY)
def test_a_planted_import_in_the_wrong_direction_is_found(room: str, target: str) -> None:
    planted = f"from pixelkiln.{target}.engine import Anything"
    expected = target != room and target not in MAY[room]
    assert bool(faults(f"{room}.module", planted)) is expected
    assert bool(faults(f"{room}.module", f"def late():\n    import pixelkiln.{target}.engine")) is expected


@pytest.mark.parametrize(
    ("module", "planted"),
    [
        ("worker.service", "import mlx.core"),
        ("worker.render.checks", "from mlx_vlm import anything"),
        ("jobs.client", "import numpy"),
        ("jobs.client", "from pixelkiln.worker.engines import anything"),
        ("jobs.client", "from pixelkiln import worker"),
        ("worker.render.renderer", "from pixelkiln.worker.queue.heartbeat import Heartbeat"),
        ("worker.engines.hidream.engine", "import redis"),
        ("worker.engines.hidream.engine", "from pixelkiln.worker.engines.z_image import engine"),
        ("worker.local.seaweed", "from tests.servers import anything"),
        ("worker.service", "import worker.queue"),
    ],
)
def test_other_planted_imports_are_found(module: str, planted: str) -> None:
    assert faults(module, planted)


def test_worker_is_a_house_of_few_rooms() -> None:
    entries = [path for path in (ROOT / "worker").iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 14


def lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


def test_files_are_one_thing_each() -> None:
    shipped = [
        path
        for folder in ("jobs", "worker")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".lua"}
    ]
    assert [f"{path}: {lines(path)}" for path in shipped if lines(path) > 300] == []
    tests = (ROOT / "tests").rglob("*.py")
    assert [f"{path}: {lines(path)}" for path in tests if lines(path) > 500] == []


def imported_by(code: str) -> set[str]:
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.splitlines()[-1].split())


def tops(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


HELP = """
from pixelkiln.worker.commands.app import main
sys.argv[1:] = {arguments}
try:
    main()
except SystemExit as end:
    assert not end.code, end
"""


@pytest.mark.parametrize(
    "code",
    [
        "import pixelkiln",
        "import pixelkiln.jobs.commands.submit",
        HELP.format(arguments=["--help"]),
        HELP.format(arguments=["schema"]),
        HELP.format(arguments=["worker", "--help"]),
    ],
    ids=["pixelkiln", "kiln submit", "kiln --help", "kiln schema", "kiln worker --help"],
)
def test_a_producer_loads_nothing_heavy(code: str) -> None:
    assert find_spec("mlx") is not None  # it could be
    found = imported_by(code)
    assert tops(found) & (HEAVY | SERVING) == set()
    if code.startswith("import"):
        assert not [name for name in found if name.startswith("pixelkiln.worker")]


def test_commands_that_need_no_bucket_load_nothing_for_it() -> None:
    assert (
        tops(imported_by(HELP.format(arguments=["status", "--help"]))) & {"boto3", "botocore", "PIL"} == set()
    )


def test_importing_reads_no_settings_and_connects_to_nothing() -> None:
    code = """
import socket
def refuse(*args, **kwargs):
    raise AssertionError(args)
socket.socket.connect = refuse
import os
os.environ |= {"KILN_RESULT_DAYS": "nonsense", "KILN_REDIS_URL": "nonsense"}
import pixelkiln, pixelkiln.worker.commands.app, pixelkiln.worker.service
"""
    assert "pixelkiln.worker.service" in imported_by(code)
