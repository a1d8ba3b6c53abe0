"""The wheel alone, without the source tree: everything is in it, and it works from anywhere."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.rigs.cli import Cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """What an installation of the wheel puts into site-packages."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    return tmp_path / "site"


@pytest.mark.timeout(400)
def test_the_wheel_needs_no_source_tree(unpacked: Path, tmp_path: Path) -> None:
    inside = unpacked / "streamv2v_obs"
    for folder in ("control/panel", "demo/weights", "packaging"):
        ours = {path.relative_to(ROOT) for path in (ROOT / "streamv2v_obs" / folder).rglob("*") if path.is_file()}
        assert ours
        assert [path for path in ours if "__pycache__" not in path.parts and not (unpacked / path).is_file()] == []
    for folder in ("configs", "plugin_scripts"):
        for path in (ROOT / folder).iterdir():
            assert (inside / folder / path.name).is_file() or path.name == "__pycache__"
    metadata = next(unpacked.glob("*.dist-info/METADATA")).read_text(encoding="utf-8")
    version = (ROOT / "streamv2v_obs" / "__init__.py").read_text(encoding="utf-8")
    assert next(line for line in metadata.splitlines() if line.startswith("Version: "))[9:] in version

    cli = Cli(tmp_path)
    cli.environment["PYTHONPATH"] = str(unpacked)
    code = "import streamv2v_obs; print(streamv2v_obs.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", code], env=cli.environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert where.stdout.startswith(str(inside)), "it is the wheel that is tried"
    assert Path(cli.json("script")["script"]).is_relative_to(inside)
    assert cli.json("config", "check", "webcam")["file"] == str(inside / "configs" / "webcam.yaml")
    assert "demo" in cli("models").stdout
    started = cli.json(
        "start", "--set", "capture={kind: pattern, fps: 5}", "--set", "control.port=0", "--set", "model.name=demo"
    )
    try:
        with httpx.Client(trust_env=False, follow_redirects=True, timeout=30) as client:
            page = client.get(started["panel"])
            assert page.status_code == 200
            assert "app.js" in page.text
            base = started["panel"].partition("/open")[0]
            assert client.get(f"{base}/plots.js").status_code == 200
    finally:
        cli("stop")
