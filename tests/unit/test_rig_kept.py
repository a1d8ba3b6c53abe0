"""What tests keep in the user's cache: made once, never half of it, anew after a change, and why it is not there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import filelock
import pytest

from tests.rigs.kept import Kept, run

ROOT = Path(__file__).parents[2]
PYTHON = sys.executable
ASK = """
import os, sys, time
from pathlib import Path
from tests.rigs.kept import Kept

here, dies = Path(sys.argv[1]), sys.argv[2] == "dies"

def make(work, folder):
    (folder / "half").touch()
    if dies:
        os._exit(7)
    while len(list(here.glob("asking-*"))) < 2:
        time.sleep(0.01)
    time.sleep(0.3)
    with (here / "times").open("a") as times:
        times.write("made ")

(here / f"asking-{os.getpid()}").touch()
print(Kept("thing", b"", make, "a thing", "somewhere", cache=here / "cache").made())
"""


class Maker:
    """Writes how often it was called; fails as often as it is told to, with half of it done."""

    def __init__(self, failures: int = 0) -> None:
        self.calls = 0
        self._failures = failures

    def __call__(self, work: Path, folder: Path) -> None:
        self.calls += 1
        (work / "on the way").touch()
        (folder / "half").write_text(str(self.calls))
        if self.calls <= self._failures:
            raise RuntimeError("the disc is full")
        (folder / "whole").touch()


def thing(
    cache: Path, make: Callable[[Path, Path], None], recipe: bytes = b"", programs: tuple[str, ...] = ()
) -> Kept:
    """Something to keep; it waits for nobody."""
    return Kept("thing", recipe, make, "a thing", "on Debian", programs, patience_s=0, cache=cache)


def folders(cache: Path) -> list[Path]:
    """What lies there, besides locks."""
    return sorted(path for path in cache.iterdir() if path.is_dir())


def asking(here: Path, how: str = "lives") -> subprocess.Popen[str]:
    """A process that asks for it."""
    return subprocess.Popen([PYTHON, "-c", ASK, str(here), how], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_it_is_made_once_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    maker = Maker()
    kept = thing(tmp_path / "new" / "cache", maker)
    assert not kept.there
    assert kept.made() == kept.made() == kept.folder
    assert kept.there
    assert maker.calls == 1
    assert {path.name for path in kept.folder.iterdir()} == {"half", "whole", "done"}
    assert folders(kept.cache) == [kept.folder]


def test_two_processes_that_ask_at_a_time_get_the_same_one(tmp_path: Path) -> None:
    answers = [process.communicate(timeout=60)[0] for process in (asking(tmp_path), asking(tmp_path))]
    assert (tmp_path / "times").read_text() == "made "
    assert answers[0] == answers[1] != ""


def test_threads_that_ask_at_a_time_get_the_same_one(tmp_path: Path) -> None:
    maker, together = Maker(), Barrier(4)

    def ask(_: int) -> Path:
        kept = Kept("thing", b"", maker, "a thing", "on Debian", cache=tmp_path)
        together.wait(10)
        return kept.made()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(4)))) == 1
    assert maker.calls == 1


def test_a_maker_that_fails_leaves_nothing_and_is_asked_again(tmp_path: Path) -> None:
    maker = Maker(failures=1)
    kept = thing(tmp_path, maker)
    with pytest.raises(RuntimeError, match="disc is full"):
        kept.made()
    assert folders(tmp_path) == []
    assert (kept.made() / "half").read_text() == "2"


def test_half_of_it_that_a_killed_process_left_is_not_taken_for_it(tmp_path: Path) -> None:
    process = asking(tmp_path, "dies")
    process.communicate(timeout=60)
    assert process.returncode == 7
    kept = thing(tmp_path / "cache", Maker())
    assert not kept.there
    assert [path.name for path in folders(kept.cache)] == [f"{kept.folder.name}.making"]
    kept.made()
    assert folders(kept.cache) == [kept.folder]


def test_half_of_it_where_it_is_kept_is_replaced(tmp_path: Path) -> None:
    kept = thing(tmp_path, Maker())
    kept.folder.mkdir()
    (kept.folder / "old").touch()
    assert not (kept.made() / "old").exists()
    assert kept.there


def test_after_another_recipe_it_is_made_anew_and_the_other_stays(tmp_path: Path) -> None:
    maker = Maker()
    first, second = thing(tmp_path, maker, b"1"), thing(tmp_path, maker, b"2")
    assert first.made() != second.made()
    assert maker.calls == 2
    assert first.there


def test_what_stands_in_the_way_is_told(tmp_path: Path) -> None:
    maker = Maker(failures=1)
    lacking = thing(tmp_path, maker, programs=(PYTHON, "no-such-program", "nor-this"))
    assert lacking.obstacle() == "a thing is made on Debian; not here: no-such-program, nor-this"
    assert lacking.obstacle("later") == lacking.obstacle(), "no use in making it later"
    kept = thing(tmp_path, maker)
    assert kept.obstacle("made by hand") == "made by hand"
    assert maker.calls == 0
    assert kept.obstacle() == "a thing could not be made: the disc is full"
    with filelock.FileLock(f"{kept.folder}.lock"), ThreadPoolExecutor(1) as pool:
        said = pool.submit(kept.obstacle).result(10)
    assert said.startswith("a thing could not be made: ")
    assert maker.calls == 1
    assert kept.obstacle() == ""
    assert lacking.obstacle("later") == "", "what is there needs no programs"


def test_a_step_of_the_making_says_why_it_failed() -> None:
    assert run(PYTHON, "-c", "print('done')").strip() == "done"
    with pytest.raises(RuntimeError, match=r"ended with 1: no compiler"):
        run(PYTHON, "-c", "raise SystemExit('no compiler')")
    with pytest.raises(RuntimeError, match=r"timed out after 0\.2 seconds"):
        run(PYTHON, "-c", "import time; time.sleep(60)", timeout_s=0.2)
