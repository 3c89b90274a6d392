"""Who may import whom, read from the sources and seen in real processes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"mlx", "mlx_vlm", "numpy", "psutil", "safetensors", "tokenizers", "transformers", "torch"}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute here"
            yield node.module or ""


def importers(folder: str, of: set[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in imports(path)
        if name.partition(".")[0] in of
    ]


def test_jobs_needs_nothing_of_the_workers() -> None:
    assert importers("jobs", {"worker", "tests", *HEAVY}) == []
    assert importers("worker", {"jobs"})  # and the other way round it does


def test_mlx_is_imported_under_engines_alone() -> None:
    found = importers("worker", {"mlx", "mlx_vlm"})
    assert found
    assert [line for line in found if not line.startswith("worker/engines/")] == []


def test_the_packages_import_no_tests() -> None:
    assert importers("worker", {"tests"}) == []


def imported_by(code: str) -> set[str]:
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return {name.partition(".")[0] for name in ran.stdout.splitlines()[-1].split()}


HELP = """
from worker.cli import main
sys.argv[1:] = {arguments}
try:
    main()
except SystemExit as end:
    assert not end.code, end
"""


@pytest.mark.parametrize(
    "code",
    [
        "import jobs",
        "import jobs.cli",
        HELP.format(arguments=["--help"]),
        HELP.format(arguments=["schema"]),
        HELP.format(arguments=["worker", "--help"]),
    ],
    ids=["jobs", "jobs.cli", "kiln --help", "kiln schema", "kiln worker --help"],
)
def test_a_producer_loads_nothing_heavy(code: str) -> None:
    assert find_spec("mlx") is not None  # it could be
    assert imported_by(code) & (HEAVY | ({"worker"} if code.startswith("import") else set())) == set()


def test_importing_reads_no_settings_and_connects_to_nothing() -> None:
    code = """
import socket
def refuse(*args, **kwargs):
    raise AssertionError(args)
socket.socket.connect = refuse
import os
os.environ |= {"KILN_RESULT_DAYS": "nonsense", "KILN_REDIS_URL": "nonsense"}
import jobs, jobs.cli, worker.cli, worker.service, worker.tasks
"""
    assert "worker" in imported_by(code)
