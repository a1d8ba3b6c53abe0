"""The command line as a process of its own: what it says, its exit codes, and that it starts without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from streamv2v_obs import __version__
from streamv2v_obs.config import load_settings
from tests.rigs.cli import Cli

COMMANDS = ["run", "start", "stop", "logs", "status", "prompt", "preset", "bank", "bypass", "panic", "open"]
COMMANDS += ["translate", "download", "doctor", "models", "sources", "cameras", "config"]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def test_help_names_every_command_and_imports_no_torch(cli: Cli) -> None:
    code = (
        "import sys\n"
        "from streamv2v_obs import cli\n"
        "sys.argv = ['streamv2v-obs', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'cv2', 'httpx', 'starlette', 'uvicorn', 'av'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", env=cli.environment)
    assert done.returncode == 0, done.stderr
    assert [name for name in COMMANDS if f" {name} " not in done.stdout] == []


def test_no_command_around_the_service_imports_torch(cli: Cli) -> None:
    commands = [["doctor"], ["status"], ["config", "show"], ["models"], ["sources"], ["cameras"], ["start", "--help"]]
    code = (
        "import sys\n"
        "from streamv2v_obs import cli\n"
        f"for arguments in {commands!r}:\n"
        "    sys.argv = ['streamv2v-obs', *arguments]\n"
        "    try: cli.main()\n"
        "    except SystemExit as end: assert end.code in (0, None, 2), end.code\n"
        "    assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules), arguments\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", env=cli.environment)
    assert done.returncode == 0, done.stderr


def test_the_installed_command_is_this_one(cli: Cli) -> None:
    script = Path(sys.executable).parent / ("streamv2v-obs.exe" if sys.platform == "win32" else "streamv2v-obs")
    done = subprocess.run([script, "--version"], capture_output=True, encoding="utf-8", env=cli.environment)
    assert done.stdout == f"streamv2v-obs {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["bank", "drop"],
        ["bypass", "maybe"],
        ["translate", "only-one"],
        ["translate", "a", "b", "--schedule", "auto"],
    ],
)
def test_wrong_usage_ends_with_2_and_a_word_about_it(cli: Cli, arguments: list[str]) -> None:
    done = cli(*arguments, code=2)
    assert "Usage:" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [["status"], ["prompt", "p"], ["panic", "on"], ["stop"]])
def test_without_a_service_the_command_that_starts_it_is_named(cli: Cli, arguments: list[str]) -> None:
    done = cli(*arguments, "--json", code=2)
    assert done.stderr == "error: the service is not running; start it with: streamv2v-obs start\n"
    assert json.loads(done.stdout) == {"error": done.stderr[7:-1], "exit_code": 2}


@pytest.mark.parametrize("command", ["run", "start", "doctor"])
def test_a_mistake_in_the_configuration_ends_with_2_before_anything_starts(cli: Cli, command: str) -> None:
    path = cli.home / "mine.yaml"
    path.write_text("translator:\n  steps: 99\n", encoding="utf-8")
    done = cli(command, "--config", str(path), code=2)
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {path}:2: translator.steps = 99: ")
    assert "less than or equal to 8" in done.stderr
    assert not (cli.home / "run").exists()
    assert not (cli.home / "state").exists()


def test_config_check(cli: Cli) -> None:
    assert "defaults are right" in cli("config", "check").stdout
    good = cli.home / "good one.yaml"
    good.write_text("translator: {prompt: 'a: b'}\r\n", encoding="utf-8")
    assert cli.json("config", "check", str(good)) == {"ok": True, "file": str(good)}
    assert cli("config", "check", "missing.yaml", code=2).stderr.startswith("error: missing.yaml: no such")
    done = cli.json("config", "check", "--set", "control.port=99999", code=2)
    assert done["exit_code"] == 2
    assert "control.port = 99999" in done["error"]


def test_a_configuration_is_found_by_name_and_the_users_own_wins(cli: Cli) -> None:
    folder = cli.home / "config" / "streamv2v-obs"
    folder.mkdir(parents=True)
    (folder / "stage.yaml").write_text("translator: {prompt: on stage}\n", encoding="utf-8")
    assert "prompt: on stage" in cli("config", "show", "stage").stdout
    done = cli("config", "show", "nowhere", code=2)
    assert "neither a file nor a known name" in done.stderr
    assert "stage" in done.stderr


def test_config_show_masks_secrets_and_can_be_read_again(cli: Cli, tmp_path: Path) -> None:
    done = cli("config", "show", "--set", "obs.password=hunter2", "--set", "translator.prompt=ein [Öl]-Bild: Meer")
    assert "hunter2" not in done.stdout
    path = tmp_path / "shown.yaml"
    path.write_text(done.stdout, encoding="utf-8")
    assert load_settings(path).translator.prompt == "ein [Öl]-Bild: Meer"
    assert cli.json("config", "show")["control"]["port"] == 8770


def test_config_schema_is_json(cli: Cli) -> None:
    schema = json.loads(cli("config", "schema").stdout)
    assert "translator" in schema["properties"]


def test_translate_tells_a_missing_source_from_a_bad_target_and_a_bad_setting(cli: Cli) -> None:
    (cli.home / "in.mp4").write_bytes(b"no video")
    assert "missing.mp4: there is no such file" in cli("translate", "missing.mp4", "out.mp4", code=3).stderr
    assert "OUT = in.mp4: is the file that is read" in cli("translate", "in.mp4", "in.mp4", code=2).stderr
    assert "OUT = none/out.mp4" in cli("translate", "in.mp4", "none/out.mp4", code=2).stderr
    assert "translator.steps = 9" in cli("translate", "in.mp4", "out.mp4", "--steps", "9", code=2).stderr
    done = cli.json("translate", "missing.mp4", "out.mp4", code=3)
    assert done["exit_code"] == 3
    assert [path.name for path in cli.home.iterdir()] == ["in.mp4"]


def test_models_sources_cameras_and_doctor_speak_json(cli: Cli) -> None:
    models = {model["name"]: model for model in cli.json("models")["models"]}
    assert models["demo"]["present"] is True
    assert models["sd15-lcm"]["present"] is False
    assert models["sd15-lcm"]["download_command"] == "streamv2v-obs download sd15-lcm"
    assert "pattern" in {source["kind"] for source in cli.json("sources")["sources"]}
    assert isinstance(cli.json("cameras")["cameras"], list)
    checks = {check["name"]: check for check in cli.json("doctor", "--set", "control.port=0")["checks"]}
    assert checks["python"]["verdict"] == "ok"
    assert checks["torch"]["verdict"] == "ok"
    assert {"gpu", "cpu", "model", "display", "virtual camera", "obs", "control", "disk"} <= set(checks)
    assert all(check["detail"] for check in checks.values())


def test_doctor_names_what_would_not_run(cli: Cli) -> None:
    path = cli.home / "bad.yaml"
    path.write_text("model: {name: sd15-lcm}\nobs: {enabled: true, required: true, port: 9}\n", encoding="utf-8")
    done = cli.json("doctor", "--config", str(path), code=2)
    checks = {check["name"]: check for check in done["checks"]}
    assert done["ok"] is False
    assert checks["model"]["verdict"] == checks["obs"]["verdict"] == "fail"
    assert checks["model"]["fix"] == "streamv2v-obs download sd15-lcm"
    assert checks["obs"]["fix"]


def test_an_unknown_preset_is_no_bug(cli: Cli) -> None:
    done = cli("download", "nothing", code=2)
    assert "allowed: " in done.stderr
    assert "sd15-lcm" in done.stderr


def test_logs_before_the_first_start(cli: Cli) -> None:
    assert "streamv2v-obs start" in cli("logs", code=2).stderr


def test_our_bug_ends_with_70_and_leaves_its_traceback(cli: Cli) -> None:
    code = (
        "import sys\n"
        "from streamv2v_obs import cli, cli_files\n"
        "def broken(*_): raise RuntimeError('inner\\nthoughts')\n"
        "cli_files.load_settings = broken\n"
        "sys.argv = ['streamv2v-obs', 'config', 'check', '--json']\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", env=cli.environment)
    assert done.returncode == 70
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: RuntimeError: inner thoughts - this is our bug, please report it")
    assert json.loads(done.stdout)["exit_code"] == 70
    (path,) = (cli.home / "state").rglob("*.log")
    assert str(path) in done.stderr
    assert "Traceback" in path.read_text(encoding="utf-8")
