"""The wheel, installed by pip into a fresh environment without the source tree: everything is in it, and works.

Its dependencies, which take gigabytes, are lent by the environment that the tests run in.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.rigs.cli import Cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    (found,) = (tmp_path / "dist").glob("*.whl")
    return found


@pytest.fixture
def program(wheel: Path, tmp_path: Path) -> Path:
    """The command that the wheel installs."""
    fresh = tmp_path / "fresh"
    venv.create(fresh)
    python = fresh / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-index", "--no-deps", str(wheel)]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    # Lent packages come last, and .pth files beside them, one of which may name the source tree, are not read.
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    Path(site, "lent.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python.with_name("streamv2v-obs" + python.suffix)


def test_it_holds_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        (metadata,) = (file.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    for folder, place in (
        ("streamv2v_obs", "streamv2v_obs"),
        ("configs", "streamv2v_obs/configs"),
        ("plugin_scripts", "streamv2v_obs/plugin_scripts"),
    ):
        paths = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert paths
        wanted = {f"{place}/{path.relative_to(ROOT / folder).as_posix()}" for path in paths}
        assert wanted - names == set()
    version = (ROOT / "streamv2v_obs" / "__init__.py").read_text(encoding="utf-8")
    assert next(line for line in metadata.splitlines() if line.startswith("Version: "))[9:] in version


@pytest.mark.timeout(400)
def test_it_works_without_the_source_tree(program: Path, tmp_path: Path) -> None:
    cli = Cli(tmp_path, program)
    cli.environment.pop("PYTHONPATH", None)
    script = Path(cli.json("script")["script"])
    assert script.is_file()
    inside = script.parents[1]
    assert inside.is_relative_to(tmp_path / "fresh"), "it is the wheel that is tried"
    assert cli.json("config", "check", "webcam")["file"] == str(inside / "configs" / "webcam.yaml")
    assert "demo" in cli("models").stdout
    assert "demo: complete" in cli("doctor", "--set", "model.name=demo", "--set", "control.port=0").stdout
    pattern = ("--set", "capture={kind: pattern, fps: 5}", "--set", "publish.outputs=[browser]")
    started = cli.json("start", *pattern, "--set", "control.port=0", "--set", "model.name=demo")
    try:
        with httpx.Client(trust_env=False, follow_redirects=True, timeout=30) as client:
            page = client.get(started["panel"])
            assert page.status_code == 200
            assert "app.js" in page.text
            base = started["panel"].partition("/open")[0]
            for path in (ROOT / "streamv2v_obs" / "control" / "panel").iterdir():
                address = {"index.html": "", "view.html": "view"}.get(path.name, path.name)
                served = client.get(f"{base}/{address}")
                assert served.content == path.read_bytes(), address
            until = time.monotonic() + 120
            while client.get(f"{base}/v1/status").json()["publish"]["state"] != "TRANSLATED":
                assert time.monotonic() < until, "the demo model translates"
                time.sleep(0.2)
            assert client.get(f"{base}/v1/preview").content[:2] == b"\xff\xd8"
    finally:
        cli("stop")
