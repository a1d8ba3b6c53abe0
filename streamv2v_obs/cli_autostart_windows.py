"""The service as a task that Windows begins at logon. Written from the documentation; not yet tried."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

from streamv2v_obs.errors import StreamV2VError

TASK = "streamv2v-obs"


def task(command: list[str]) -> str:
    """The task's XML: at logon, for as long as it likes, begun anew when it fails."""
    program, arguments = escape(command[0]), escape(subprocess.list2cmdline(command[1:]))
    return f"""\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <Triggers><LogonTrigger><Enabled>true</Enabled></LogonTrigger></Triggers>
  <Principals><Principal id="Author">
    <LogonType>InteractiveToken</LogonType><RunLevel>LeastPrivilege</RunLevel>
  </Principal></Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <RestartOnFailure><Interval>PT1M</Interval><Count>3</Count></RestartOnFailure>
  </Settings>
  <Actions Context="Author"><Exec><Command>{program}</Command><Arguments>{arguments}</Arguments></Exec></Actions>
</Task>
"""


def install(command: list[str]) -> str:
    """Register the task and run it; returns its name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.xml"
        path.write_text(task(command), encoding="utf-16")
        _ask("/Create", "/TN", TASK, "/XML", str(path), "/F")
    _ask("/Run", "/TN", TASK)
    return f"scheduled task {TASK}"


def uninstall() -> None:
    """End and remove it."""
    _schtasks("/End", "/TN", TASK)  # one that does not run is no matter
    _ask("/Delete", "/TN", TASK, "/F")


def status() -> str:
    """What schtasks says of it."""
    done = _schtasks("/Query", "/TN", TASK, "/FO", "LIST")
    return "; ".join(line.strip() for line in done.stdout.splitlines() if line.strip()) or "not installed"


def _schtasks(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["schtasks", *arguments], capture_output=True, text=True, timeout=60, check=False)


def _ask(*arguments: str) -> None:
    done = _schtasks(*arguments)
    if done.returncode != 0:
        raise StreamV2VError(f"schtasks {arguments[0]}: {' '.join((done.stderr or done.stdout).split())}")
