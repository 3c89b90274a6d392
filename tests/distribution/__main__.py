"""`python -m tests.distribution`: installs the package in fresh environments, and runs an app with each.

As a wheel, as a wheel built from the sdist, and editable; without the worker's packages. The app has packages
`jobs` and `worker` of its own; a worker of this checkout renders for it. Needs uv and a package index.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

from pixelkiln.worker.local.instance import up
from tests.distribution.build import APP, ROOT, build, unpacked
from tests.jobs.farms import real_farm

HEAVY = ("mlx", "numpy", "torch", "psutil", "transformers")


def uv() -> str:
    """The uv that `./kiln` uses."""
    installed = sorted((ROOT / ".uv").glob("*/bin/uv"))
    found = str(installed[-1]) if installed else shutil.which("uv")
    assert found, "uv is missing; ./kiln installs one"
    return found


def smoke(name: str, arguments: list[str], folder: Path) -> dict[str, object]:
    """Install so, run the app, check its types; what the app told."""
    folder = folder / name
    app = shutil.copytree(APP, folder / "app")
    python = folder / "venv" / "bin" / "python"
    subprocess.run([uv(), "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
    # Outside the project, so that its constraints do not hold: as an app would install it.
    install = [uv(), "pip", "install", "--quiet", "--python", python, *arguments]
    subprocess.run(install, cwd=folder, check=True)
    listed = [uv(), "pip", "list", "--quiet", "--format", "json", "--python", python]
    packages = {one["name"] for one in json.loads(subprocess.check_output(listed, cwd=folder))}
    assert not packages & set(HEAVY), packages
    told = json.loads(
        subprocess.check_output([python, app / "main.py", folder / "renders"], cwd=folder, text=True)
    )
    assert told["state"] == "finished", told
    assert told["own"] == ["the app's jobs", "the app's worker"], told
    assert told["heavy"] == [], told
    assert told["bytes"] > 0, told
    inside = ROOT if "--editable" in arguments else folder
    assert Path(told["from"]).is_relative_to(inside), told
    kiln = [folder / "venv" / "bin" / "kiln", "schema"]
    assert json.loads(subprocess.check_output(kiln, cwd=app, text=True))["title"] == "pixelkiln render spec"
    subprocess.run(
        [python, "-m", "pixelkiln", "status", "--json"], cwd=folder, check=True, capture_output=True
    )
    strict = [sys.executable, "-m", "mypy", "--strict", "--warn-unreachable", "--config-file="]
    strict += ["--python-executable", str(python), "--cache-dir", str(folder / "cache")]
    checked = subprocess.run(
        [*strict, app / "typed.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
    return told | {"packages": len(packages), "mypy": checked.stdout.strip()}


def main() -> None:
    """Try all three, or those that are named."""
    parser = argparse.ArgumentParser(prog="python -m tests.distribution", description=__doc__)
    parser.add_argument("ways", nargs="*", default=["wheel", "wheel-from-sdist", "editable"])
    ways = parser.parse_args().ways
    with tempfile.TemporaryDirectory(prefix="kiln-packaging-") as temporary, chdir(temporary):
        folder = Path(temporary).resolve()
        wheel = build("wheel", ROOT, folder / "built" / "wheel")
        project = unpacked(build("sdist", ROOT, folder / "built" / "sdist"), folder / "built" / "project")
        arguments = {
            "wheel": [str(wheel)],
            "wheel-from-sdist": [str(build("wheel", project, folder / "built" / "again"))],
            "editable": ["--editable", str(ROOT)],
        }
        (folder / "farm").mkdir()
        with up(folder / "servers") as servers, real_farm(servers, folder / "farm"):
            for way in ways:
                print(way, json.dumps(smoke(way, arguments[way], folder)), flush=True)


if __name__ == "__main__":
    main()
