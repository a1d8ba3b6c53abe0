"""Bad inputs through the real command line: one clear line, the documented exit code, and nothing left behind."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING

import av
import pytest

from streamv2v_obs.capture.pattern import draw_pattern
from streamv2v_obs.publish.recording import VideoWriter
from streamv2v_obs.translator.presets import demo_folder
from tests.conftest import Require
from tests.rigs.obs import RealObs, obs_obstacle, real_obs
from tests.rigs.program import Ended, Program
from tests.rigs.xvfb import xvfb, xvfb_installed

if TYPE_CHECKING:
    from collections.abc import Sequence

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux's devices, displays and file systems")

QUIET = ("--set", "control.port=0", "--set", "publish.outputs=[browser]", "--set", "model.backend=torch")
PATTERN = (*QUIET, "--set", "capture={kind: pattern, fps: 5}")
END_S = 5.0
"""Two seconds are promised; the rest is for a machine that does other things as well."""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    found = Program(tmp_path / "home")
    yield found
    assert found.left_behind() == []


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five small pictures."""
    return film(tmp_path_factory.mktemp("clip") / "clip.mp4", 5)


def film(path: Path, length: int) -> Path:
    with VideoWriter(path, 128, 128, Fraction(10)) as writer:
        for number in range(length):
            writer.write(draw_pattern(number, 128, 128))
    return path


def setting(**values: object) -> list[str]:
    """``--set`` for each; two underscores stand for a dot."""
    return [part for key, value in values.items() for part in ("--set", f"{key.replace('__', '.')}={value}")]


def capture(kind: str, **values: object) -> list[str]:
    return [*QUIET, "--set", f"capture={json.dumps({'kind': kind, **values})}"]


def together(program: Program, *commands: Sequence[str]) -> list[Ended]:
    """Run commands at the same time, which must not get into each other's way."""
    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(lambda command: program.run(*command), commands))


# --- configuration: 2, whatever the command -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("translater: {steps: 2}\n", (":1: unknown key translater", "allowed: capture, model, translator")),
        ("capture:\n  kind: pattern\n  fqs: 5\n", (":3: unknown key capture.fqs", "allowed: fps, fit")),
        ("capture: {kind: pattern\nmodel: [\n", (":2: not valid YAML", "expected")),
        (None, (": no such configuration file",)),
        ("translator: {strength: 0.02}\n", (":1: translator: strength 0.02 with 2 steps", "allowed: strength >= ")),
    ],
    ids=["unknown-key", "unknown-key-inside", "bad-yaml", "missing-file", "strength-collapses"],
)
def test_a_configuration(program: Program, clip: Path, text: str | None, parts: Sequence[str]) -> None:
    path = program.home / "mine.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    check, run, start, translate = together(
        program,
        ["config", "check", str(path), "--json"],
        ["run", "--config", str(path)],
        ["start", "--config", str(path), "--json"],
        ["translate", str(clip), "out.mp4", "--config", str(path), "--json"],
    )
    line = check.refusal(2)
    assert line.startswith(str(path))
    assert [part for part in parts if part not in line] == []
    assert [ended.refusal(2) for ended in (run, start, translate)] == [line] * 3
    assert [ended.json for ended in (check, start, translate)] == [{"error": line, "exit_code": 2}] * 3


def test_strength_and_steps_given_on_the_command_line(program: Program, clip: Path) -> None:
    translate, run, wrong, unknown = together(
        program,
        ["translate", str(clip), "out.mp4", "--strength", "0.1", "--steps", "8"],
        ["run", "--set", "translator.steps=99"],
        ["translate", str(clip), "out.mp4", "--steps", "many", "--json"],
        ["start", "--set", "capture.kind=moon", "--json"],
    )
    assert "strength 0.1 with 8 steps leaves no distinct timesteps; allowed: strength >= 0.16" in translate.refusal(2)
    assert run.refusal(2) == "--set: translator.steps = 99: Input should be less than or equal to 8"
    assert "Invalid value for '--steps'" in wrong.refusal(2)
    assert wrong.json == {"error": wrong.refusal(2), "exit_code": 2}
    assert "capture.kind = 'moon': allowed: auto, screen, camera, video" in unknown.refusal(2)


# --- sources: 3 ---------------------------------------------------------------------------------------------


def test_a_video_that_cannot_be_translated(program: Program, clip: Path) -> None:
    text = program.home / "text.mp4"
    text.write_text("no film at all")
    shutil.copy(clip, program.home / "same.mp4")
    missing, none, folder, suffix, same = together(
        program,
        ["translate", "nowhere.mp4", "out.mp4", "--json"],
        ["translate", str(text), "out.mp4", "--json"],
        ["translate", str(clip), "no folder/out.mp4"],
        ["translate", str(clip), "out.avi"],
        ["translate", "same.mp4", "./same.mp4"],
    )
    assert missing.refusal(3).startswith("nowhere.mp4: ")
    assert missing.json == {"error": missing.refusal(3), "exit_code": 3}
    assert f"cannot open the video {text}: Invalid data" in none.refusal(3)
    assert none.json["exit_code"] == 3
    assert "OUT = no folder/out.mp4" in folder.refusal(2)
    assert "cannot write .avi; allowed: .mp4" in suffix.refusal(2)
    assert "is the file that is read" in same.refusal(2)
    assert sorted(path.name for path in program.home.glob("*.*")) == ["same.mp4", "text.mp4"]


@pytest.mark.parametrize("kind", ["image", "video"])
def test_a_source_file_that_is_not_there(program: Program, kind: str) -> None:
    ended = program.run("run", *capture(kind, path="/nowhere/a.png"))
    assert "/nowhere/a.png: No such file or directory" in ended.refusal(3)
    begun = program.run("start", *capture(kind, path="/nowhere/a.png"), "--json")
    assert begun.json == {"error": ended.refusal(3), "exit_code": 3}
    assert begun.refusal(3) == ended.refusal(3)


def test_a_file_that_is_no_picture(program: Program) -> None:
    (program.home / "text.png").write_text("no picture at all")
    line = program.run("run", *capture("image", path="text.png")).refusal(3)
    assert line == "text.png is no picture that can be decoded; PNG, JPEG, WebP, BMP and TIFF can"


@on_linux
def test_no_display(program: Program) -> None:
    nothing = program.run("run", *capture("screen")).refusal(3)
    assert nothing.startswith("there is no display: DISPLAY is not set; ")
    assert "capture: {kind: camera}" in nothing
    program.environment["DISPLAY"] = ":987"
    assert "DISPLAY is :987" in program.run("run", *capture("screen")).refusal(3)


@on_linux
@pytest.mark.display
def test_what_is_not_on_the_desktop(program: Program, require: Require) -> None:
    require("display", xvfb_installed(), "install xvfb")
    with xvfb(640, 480) as display:
        program.environment["DISPLAY"] = display.name
        region = program.run("run", *capture("screen", region=[700, 0, 64, 64])).refusal(3)
        assert "64x64 at 700,0 lies wholly outside 640x480 at 0,0" in region
        assert "set capture.region" in region
        monitor = program.run("start", *capture("screen", monitor=7), "--json")
        assert "capture.monitor 7 does not exist; there are 0: 640x480 at 0,0" in monitor.refusal(3)
        assert monitor.json == {"error": monitor.refusal(3), "exit_code": 3}


@on_linux
def test_no_camera(program: Program) -> None:
    line = program.run("run", *capture("camera", device=63)).refusal(3)
    assert line.startswith("there is no camera 63 (/dev/video63: No such file or directory); cameras here: ")


@on_linux
def test_a_busy_camera(program: Program) -> None:
    """A file that another real process holds open stands for the camera.

    Not possible without a camera: the driver's own refusal (EBUSY) of a second reader. What OpenCV makes of it is
    the same as here, a device that does not open; who holds it is found out in the same way.
    """
    device = program.home / "video0"
    device.write_text("no camera at all")
    with device.open() as opened:
        holder = subprocess.Popen(["sleep", "60"], stdin=opened)
    try:
        line = program.run("run", *capture("camera", device=str(device))).refusal(3)
    finally:
        holder.kill()
        holder.wait()
    assert line == (
        f"camera {device} is busy, held by sleep ({holder.pid}); close it there, or choose another capture.device"
    )


# --- models: 4 ----------------------------------------------------------------------------------------------


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., int], tuple[str]]:
        return os.system, (f"touch '{self.path}'",)


def without_unet(model: Path) -> tuple[Path, str]:
    shutil.rmtree(model / "unet")
    return model, f"{model / 'unet'} is missing; a diffusers model has the folders unet, vae, "


def pickled(model: Path) -> tuple[Path, str]:
    path = model.parent / "model.ckpt"
    path.write_bytes(pickle.dumps(Bomb(model.parent / "exploded")))
    return path, f"{path}: pickled weights can run any code"


def truncated(model: Path) -> tuple[Path, str]:
    path = model / "unet" / "diffusion_pytorch_model.safetensors"
    os.truncate(path, 1_000_000)
    return model, f"{path}: is damaged or cut off (1000000 bytes: "


def truncated_file(model: Path) -> tuple[Path, str]:
    path = model / "unet" / "diffusion_pytorch_model.safetensors"
    os.truncate(path, 1_000_000)
    return path, f"{path}: is damaged or cut off (1000000 bytes: "


@pytest.mark.parametrize("spoil", [without_unet, pickled, truncated, truncated_file])
def test_a_model(program: Program, clip: Path, spoil: Callable[[Path], tuple[Path, str]]) -> None:
    model = program.home / "model"
    shutil.copytree(demo_folder(), model)
    name, part = spoil(model)
    run, translate = together(
        program,
        ["run", *PATTERN, *setting(model__name=name)],
        ["translate", str(clip), "out.mp4", "--model", str(name), "--json"],
    )
    line = run.refusal(4)
    assert line.startswith(part)
    assert translate.refusal(4) == line
    assert translate.json == {"error": line, "exit_code": 4}
    assert not (program.home / "out.mp4").exists()
    assert not (program.home / "exploded").exists()


# --- the service's own: 2 -----------------------------------------------------------------------------------


def test_a_port_in_use(program: Program) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = program.run("run", *PATTERN, *setting(control__port=port)).refusal(2)
        begun = program.run("start", *PATTERN, *setting(control__port=port), "--json")
    assert line.startswith(f"control.port = {port}: cannot listen on 127.0.0.1")
    assert "--set control.port=0" in line
    assert begun.json == {"error": line, "exit_code": 2}


def test_a_second_instance(program: Program) -> None:
    begun = program.run("start", *PATTERN, "--json").json
    try:
        run, start = together(program, ["run", *PATTERN], ["start", *PATTERN, "--json"])
        assert run.refusal(2) == (
            f"the service is already running as process {begun['pid']} at {begun['address']}; "
            "end it with: streamv2v-obs stop"
        )
        assert start.json == {"error": run.refusal(2), "exit_code": 2}
        assert program.status()["pid"] == begun["pid"], "the first one goes on"
    finally:
        assert program.run("stop").code == 0


# --- OBS: 6 where it is required ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def obs(require: Require) -> Iterator[RealObs]:
    obstacle = obs_obstacle()
    require("obs", not obstacle, obstacle)
    with real_obs() as running:
        yield running


@pytest.mark.obs
def test_a_wrong_password(program: Program, tmp_path: Path, obs: RealObs) -> None:
    wrong = setting(obs__enabled="true", obs__port=obs.port, obs__password="not-the-one")
    required = program.run("run", *PATTERN, *wrong, *setting(obs__required="true"))
    line = required.refusal(6)
    assert f"OBS at 127.0.0.1:{obs.port} refused: wrong password; set obs.password" in line
    begun = program.run("start", *PATTERN, *wrong, *setting(obs__required="true"), "--json")
    assert begun.json == {"error": line, "exit_code": 6}
    captured = program.run("run", *capture("obs"), *wrong)
    assert captured.refusal(6) == line
    assert "not-the-one" not in required.stderr + captured.stderr
    with program.running("run", *PATTERN, *wrong) as process:
        status = program.until_status("obs.state", "refused")
        assert "wrong password" in status["obs"]["detail"]
        program.until_status("engine.state", "loading")
        assert process.poll() is None, "the service goes on"
        process.terminate()
        assert program.ended(process).code == 0


@pytest.mark.obs
def test_obs_that_is_not_there(program: Program, tmp_path: Path, obs: RealObs) -> None:
    # In the same private network, where nothing else listens.
    absent = setting(obs__enabled="true", obs__port=obs.port + 1)
    other = Program(tmp_path / "other")
    with (
        other.running("run", *PATTERN, *absent, *setting(obs__required="true")) as required,
        program.running("run", *PATTERN, *absent) as process,
    ):
        program.until_status("engine.state", "loading")
        line = other.ended(required).refusal(6)
        assert f"nothing listens at 127.0.0.1:{obs.port + 1}; start OBS" in line
        assert "obs.required" in line
        status = program.status()
        assert status["obs"]["state"] == "connecting"
        assert "nothing listens" in status["obs"]["detail"]
        assert process.poll() is None, "the service goes on"
        process.terminate()
        assert program.ended(process).code == 0
    assert other.left_behind() == []


# --- a full disk: 5, or the service goes on -----------------------------------------------------------------


@pytest.fixture
def small_disk(require: Require, tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KB of its own."""
    able = sys.platform == "linux" and os.geteuid() == 0 and shutil.which("mount") is not None
    require("root", able, "a small file system can be mounted by root on Linux only")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True, encoding="utf-8"
    )
    require("root", mounted.returncode == 0, f"mount: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def pictures(path: Path) -> int:
    """How many there are, every one decoded."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_disk_that_is_full_while_it_is_recorded(program: Program, small_disk: Path) -> None:
    path = small_disk / "show.mp4"
    recording = setting(publish__outputs="[browser, recording]", publish__recording__path=path)
    with program.running("run", *PATTERN, *recording, *setting(publish__recording__bitrate_kbps=2000)) as process:

        def recorded() -> dict[str, object]:
            outputs = program.status().get("publish", {}).get("outputs", [])
            return next((dict(output) for output in outputs if output["kind"] == "recording"), {})

        program.until_status("publish.state", "TRANSLATED")
        until = time.monotonic() + 60
        while "the disk is full" not in str(recorded().get("detail")):
            assert time.monotonic() < until, recorded()
            time.sleep(0.1)
        assert recorded()["ok"] is False
        published = program.status()["publish"]["published"]
        time.sleep(0.5)
        status = program.status()
        assert status["publish"]["published"] > published, "the other outputs go on"
        assert status["publish"]["state"] == "TRANSLATED"
        process.terminate()
        ended = program.ended(process)
    assert ended.code == 0
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("the disk is full") == 1, "said once"
    assert pictures(path) > 25


def fill(file: IO[bytes]) -> None:
    while True:
        file.write(bytes(4096))


def test_translating_onto_a_full_disk(program: Program, clip: Path, small_disk: Path) -> None:
    with (small_disk / "ballast").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        fill(file)
    out = small_disk / "out.mp4"
    ended = program.run("translate", str(clip), str(out), "--json")
    assert ended.refusal(5).startswith(f"the disk is full: {out}")
    assert ended.json == {"error": ended.refusal(5), "exit_code": 5}
    assert os.listdir(small_disk) == ["ballast"]  # noqa: PTH208


def test_a_runtime_folder_on_a_full_disk(program: Program, small_disk: Path) -> None:
    with (small_disk / "ballast").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        fill(file)
    program.environment["STREAMV2V_RUNTIME_DIR"] = str(small_disk / "run")
    line = program.run("run", *PATTERN).refusal(2)
    assert line.startswith(f"the service's address cannot be kept in {small_disk / 'run'} (No space left on device)")
    assert "STREAMV2V_RUNTIME_DIR" in line


# --- Ctrl-C and a polite kill -------------------------------------------------------------------------------

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
ENDS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])


@contextmanager
def ends_soon(process: subprocess.Popen[bytes]) -> Iterator[None]:
    began_at = time.monotonic()
    yield
    process.wait(60)
    assert time.monotonic() - began_at < END_S


@on_posix
@ENDS
def test_the_end_of_run_while_it_loads_the_model(program: Program, number: signal.Signals) -> None:
    with program.running("run", *PATTERN) as process:
        program.until_status("engine.state", "loading")
        assert len(program.processes()) > 1
        with ends_soon(process):
            process.send_signal(number)
        ended = program.ended(process)
        assert program.left_behind() == []
    assert ended.code == 0
    assert "Traceback" not in ended.stderr


@on_posix
def test_the_end_of_start_before_the_service_is_ready(program: Program) -> None:
    with program.running("start", *PATTERN) as process:
        until = time.monotonic() + 30
        while len(program.processes()) < 2:
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(0.3)
        with ends_soon(process):
            process.send_signal(signal.SIGINT)
        ended = program.ended(process)
        assert program.left_behind() == []
    assert ended.code == 128 + signal.SIGINT
    assert "Traceback" not in ended.stdout + ended.stderr


@on_posix
@ENDS
def test_the_end_of_translate_while_it_loads_the_model(program: Program, clip: Path, number: signal.Signals) -> None:
    with program.running("translate", str(clip), "out.mp4") as process:
        until = time.monotonic() + 30
        while not (program.home / "out.mp4.part").exists():
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(0.5)  # within the import of torch
        with ends_soon(process):
            process.send_signal(number)
        ended = program.ended(process)
        assert program.left_behind() == []
    assert ended.code == 128 + number
    assert "Traceback" not in ended.stderr
    assert not (program.home / "out.mp4").exists()


@on_posix
def test_the_end_of_translate_in_the_middle(program: Program) -> None:
    """In a terminal, as a person sees it: the bar counts, and the second picture is the moment."""
    import pty  # missing on Windows

    long = film(program.home / "long.mp4", 200)
    (program.home / "out.mp4").write_bytes(b"an older one")
    program.environment["TERM"] = "xterm"
    ours, theirs = pty.openpty()
    with (
        program.running("translate", str(long), "out.mp4", stderr=theirs) as process,
        os.fdopen(ours, "rb", 0) as terminal,
    ):
        os.close(theirs)
        text = ""
        while "2/200" not in text:
            text += read(terminal) or pytest.fail(f"it ended before: {text}")
        with ends_soon(process):
            process.send_signal(signal.SIGINT)
        while piece := read(terminal):
            text += piece
    assert process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in text
    assert text.rfind(SHOW_CURSOR) > text.rfind(HIDE_CURSOR) >= 0
    assert (program.home / "out.mp4").read_bytes() == b"an older one"


HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def read(terminal: IO[bytes]) -> str:
    """What it shows next; empty once nobody writes to it any more, which Linux calls an error."""
    try:
        return terminal.read(4096).decode("utf-8", "replace")
    except OSError:
        return ""
