"""The service at each login: what is written for each system, and what systemd is asked to do with it."""

from __future__ import annotations

import plistlib
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from streamv2v_obs import cli_autostart_linux, cli_autostart_macos, cli_autostart_windows
from streamv2v_obs.errors import StreamV2VError
from tests.rigs.cli import Cli

COMMAND = ["/opt/my env/python", "-m", "streamv2v_obs", "run", "--set", 'translator.prompt=100% "real" & $HOME <b>']

linux = pytest.mark.skipif(sys.platform != "linux", reason="systemd")

FAKE_SYSTEMCTL = """#!/bin/sh
# A fake of systemctl: writes down what it was asked, and says what a healthy one says.
echo "$@" >> "$HOME/asked"
case "$2" in is-enabled) echo enabled ;; is-active) echo active ;; esac
"""


def test_every_part_of_the_command_reaches_systemd_as_it_is() -> None:
    text = cli_autostart_linux.unit(COMMAND)
    line = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    assert line.startswith('ExecStart="/opt/my env/python" "-m" "streamv2v_obs" "run" "--set" ')
    assert line.endswith('"translator.prompt=100%% \\"real\\" & $$HOME <b>"')


@linux
@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="NOT TESTED, needs systemd-analyze: systemd's own look at the unit"
)
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    path = tmp_path / cli_autostart_linux.UNIT
    path.write_text(cli_autostart_linux.unit([sys.executable, *COMMAND[1:]]))
    done = subprocess.run(["systemd-analyze", "--user", "verify", str(path)], capture_output=True, text=True)
    assert not [line for line in done.stderr.splitlines() if path.name in line]


def test_windows_gets_a_task_that_it_can_read() -> None:
    tree = ElementTree.fromstring(cli_autostart_windows.task(COMMAND).partition("?>")[2])  # noqa: S314 - our own
    name = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"
    assert tree.findtext(f".//{name}Command") == COMMAND[0]
    assert tree.findtext(f".//{name}Arguments") == subprocess.list2cmdline(COMMAND[1:])
    assert tree.find(f".//{name}LogonTrigger") is not None


def test_macos_gets_an_agent_that_it_can_read() -> None:
    found = plistlib.loads(cli_autostart_macos.agent(COMMAND))
    assert found["ProgramArguments"] == COMMAND
    assert found["RunAtLoad"] is True


@linux
def test_from_install_to_uninstall(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "systemctl").write_text(FAKE_SYSTEMCTL)
    (tmp_path / "bin" / "systemctl").chmod(0o755)
    cli.environment["PATH"] = f"{tmp_path / 'bin'}:{cli.environment['PATH']}"
    (tmp_path / "mine.yaml").write_text("translator: {prompt: p}\n")
    assert cli("service", "status").stdout == "not installed\n"
    assert "prmpt" in cli("service", "install", "--set", "translator.prmpt=x", code=2).stderr
    found = cli.json("service", "install", "--config", "mine.yaml", "--set", "translator.seed=4")
    unit = Path(found["where"])
    assert unit == tmp_path / "config" / "systemd" / "user" / "streamv2v-obs.service"
    config = str(tmp_path / "mine.yaml")
    assert found["command"][1:] == [
        *("-m", "streamv2v_obs", "run", "--background"),
        *("--config", config, "--set", "translator.seed=4"),
    ]
    assert config in unit.read_text()
    assert cli("service", "status").stdout.startswith("enabled, active: ")
    cli("service", "uninstall")
    assert not unit.exists()
    assert "not installed" in cli("service", "uninstall", code=70).stderr
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[:4] == [
        "--user show-environment",
        "--user daemon-reload",
        "--user enable streamv2v-obs.service",
        "--user restart streamv2v-obs.service",
    ]
    assert "--user disable --now streamv2v-obs.service" in asked


@linux
def test_without_systemd_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(StreamV2VError, match=r"no systemd here.*streamv2v-obs start"):
        cli_autostart_linux.install(COMMAND)
    assert list(tmp_path.iterdir()) == []
