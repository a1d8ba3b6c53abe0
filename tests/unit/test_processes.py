"""Work shared out to processes: all of it done, what fails told at once, nothing left behind by a killed parent."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

PROGRAM = """
import os, sys, time
from pathlib import Path
from streamv2v_obs.processes import in_processes

def begin(folder):
    (Path(folder) / f"began {os.getpid()}").touch()

def work(folder, number, lasts_s):
    if number < 0:
        raise ValueError(f"no {number}")
    time.sleep(lasts_s)
    (Path(folder) / f"done {number}").touch()

if __name__ == "__main__":
    folder, first, count, lasts_s = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    tasks = [(folder, first + number, lasts_s) for number in range(count)]
    told = 0
    with in_processes(work, tasks, 2, begin, (folder,)) as done:
        for told, _ in enumerate(done, 1):
            if told == int(sys.argv[5]):
                raise KeyboardInterrupt
    print(told)
"""


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM, encoding="utf-8")
    return [sys.executable, str(path), str(tmp_path)]


NEVER = "-1"
"""Of how many tasks the program is interrupted while it is told of the last of them."""


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)  # whoever inherits it may not fetch it
    except psutil.NoSuchProcess:
        return False


def test_every_task_is_done_once_and_each_process_was_begun(program: list[str], tmp_path: Path) -> None:
    done = subprocess.run([*program, "0", "9", "0.2", NEVER], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("9\n", "")
    assert len(list(tmp_path.glob("done *"))) == 9
    assert len(list(tmp_path.glob("began *"))) == 2


def test_without_tasks_no_process_is_made(program: list[str], tmp_path: Path) -> None:
    assert subprocess.run([*program, "0", "0", "0", NEVER], capture_output=True, text=True, timeout=60).stdout == "0\n"
    assert not list(tmp_path.glob("began *"))


def test_what_a_task_raises_is_raised_and_the_rest_is_not_begun(program: list[str], tmp_path: Path) -> None:
    done = subprocess.run([*program, "-1", "40", "0.3", NEVER], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "ValueError: no -1" in done.stderr
    assert len(list(tmp_path.glob("done *"))) < 20


def test_a_parent_that_is_interrupted_between_two_tasks_begins_no_further_one(
    program: list[str], tmp_path: Path
) -> None:
    done = subprocess.run([*program, "0", "40", "0.3", "1"], capture_output=True, text=True, timeout=60)
    assert "KeyboardInterrupt" in done.stderr
    assert 1 <= len(list(tmp_path.glob("done *"))) < 20


def test_a_killed_parent_leaves_no_process_behind(program: list[str], tmp_path: Path) -> None:
    parent = subprocess.Popen([*program, "0", "2", "600", NEVER])
    until = time.monotonic() + 60
    while len(children := [int(path.name.split()[1]) for path in tmp_path.glob("began *")]) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    while any(alive(child) for child in children):
        assert time.monotonic() < until
        time.sleep(0.05)
