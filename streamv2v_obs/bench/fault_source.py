"""Faults of what the engine reads: its source, its model, and the disk that a recording goes to."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from streamv2v_obs.bench.fault_stage import Row, Stage, base, stage
from streamv2v_obs.bench.fault_watch import search_recording
from streamv2v_obs.capture.pattern import draw_pattern
from streamv2v_obs.capture.watermark import marked
from streamv2v_obs.publish.recording import VideoWriter
from streamv2v_obs.translator.presets import demo_folder

if TYPE_CHECKING:
    from tests.rigs.x_window import XWindow

_TITLE = "Broken on purpose"
_VIDEO_S, _FPS, _SIDE = 16, 30, 256
_SMALLER = (512, 384)
_DISK = "1m"
_LEFT = 25
"""Pictures that have to be left of a recording when the disk is full."""


def video_ends() -> Row:
    """A video that is not played again and again comes to its end."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "clip.mp4"
        with VideoWriter(path, _SIDE, _SIDE, Fraction(_FPS)) as writer:
            for number in range(_VIDEO_S * _FPS):
                writer.write(marked(draw_pattern(number, _SIDE, _SIDE)))
        settings = base() | {"capture": {"kind": "video", "path": str(path), "loop": False}}
        with stage(settings) as opened:
            return opened.strike(
                "the video comes to its end",
                lambda: None,
                lambda: opened.state == "SLATE",
                lost="nothing; the slate stays",
                recovered=lambda: None,
                and_also=lambda: "" if "is over" in str((opened.status["engine"] or {}).get("source")) else "not told",
            )


def window_closed() -> Row:
    """The window that is captured is closed, and opened again once the slate is there."""
    from tests.rigs.xvfb import xvfb

    with xvfb(640, 480) as display, _captured(display.name) as (opened, windows):

        def open_again() -> XWindow:
            return _window(display.name)

        def close() -> None:
            windows[-1].destroy()

        return _gone(opened, "the captured window is closed, and opened again", close, open_again, windows)


def x_server_dies() -> Row:
    """The display itself goes, and comes back by the same name."""
    from tests.rigs.xvfb import xvfb

    with ExitStack() as kept, xvfb(640, 480) as display, _captured(display.name) as (opened, windows):

        def come_back() -> XWindow:
            words = ["Xvfb", display.name, "-screen", "0", "640x480x24", "-noreset", "-nolisten", "tcp"]
            server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            kept.callback(server.wait)
            kept.callback(server.terminate)
            until = time.monotonic() + 10
            while True:
                try:
                    return _window(display.name)
                except Exception:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.05)

        return _gone(
            opened, "the X server dies under the screen source, and is back", display.kill, come_back, windows
        )


def monitor_resized() -> Row:
    """A monitor of 640x480 becomes one of 512x384 while it is captured; a picture fills it before and after."""
    from tests.rigs.x_window import resize_desktop
    from tests.rigs.xvfb import xvfb

    with xvfb(640, 480) as display:
        windows = [_window(display.name, (0, 0, 640, 480))]
        try:
            settings = base() | {"capture": {"kind": "screen", "monitor": 1, "fps": 30}}
            with stage(settings, {"DISPLAY": display.name}) as opened:
                whole_at: list[float] = []

                def resize() -> None:
                    resize_desktop(display.name, *_SMALLER)
                    windows.append(_window(display.name, (0, 0, *_SMALLER)))
                    whole_at.append(time.monotonic())

                size = f"{_SMALLER[0]}x{_SMALLER[1]}"
                return opened.strike(
                    f"the captured monitor becomes one of {size}",
                    resize,
                    lambda: (
                        opened.state == "TRANSLATED" and size in str((opened.status["engine"] or {}).get("source"))
                    ),
                    lost="nothing but a moment",
                )
        finally:
            for window in windows:
                window.close()


def _gone(
    opened: Stage,
    fault: str,
    blow: Callable[[], None],
    mend: Callable[[], XWindow],
    windows: list[XWindow],
) -> Row:
    whole_at: list[float] = []

    def both() -> None:
        blow()
        opened.wait(lambda: opened.state == "SLATE")
        windows.append(mend())
        whole_at.append(time.monotonic())

    return opened.strike(
        fault,
        both,
        lambda: opened.state == "TRANSLATED",
        lost="new pictures as long as it was gone",
        since=lambda: whole_at[-1],
    )


def _window(display: str, place: tuple[int, int, int, int] = (100, 80, _SIDE, _SIDE)) -> XWindow:
    from tests.rigs.x_window import XWindow

    window = XWindow(display, _TITLE, *place, (0, 0, 0))
    window.show_picture(marked(draw_pattern(7, *place[2:])))
    return window


@contextmanager
def _captured(display: str) -> Iterator[tuple[Stage, list[XWindow]]]:
    """A service that captures a window, and the windows there were, the last of them open."""
    windows = [_window(display)]
    try:
        settings = base() | {"capture": {"kind": "screen", "window": _TITLE, "fps": 30}}
        with stage(settings, {"DISPLAY": display}) as opened:
            yield opened, windows
    finally:
        for window in windows:
            window.close()


def model_vanishes() -> Row:
    """The model's folder is renamed and the engine killed; the folder comes back after the first failure."""
    with tempfile.TemporaryDirectory() as name:
        folder, away = Path(name) / "model", Path(name) / "away"
        shutil.copytree(demo_folder(), folder)
        settings = base() | {"model": {"name": str(folder), "backend": "torch"}}
        whole_at: list[float] = []
        with stage(settings) as opened:

            def vanish() -> None:
                folder.rename(away)
                opened.engine().kill()
                opened.wait(lambda: str(folder) in opened.status["failure"])
                away.rename(folder)
                whole_at.append(time.monotonic())

            return opened.strike(
                "the model's files vanish, the engine dies; they come back",
                vanish,
                lambda: opened.state == "TRANSLATED" and opened.status["engine_state"] == "running",
                lost="new pictures until then, and the bank",
                since=lambda: whole_at[-1],
            )


def disk_full() -> Row:
    """A disk of a megabyte, and a recording onto it."""
    with small_disk() as folder:
        settings = base(folder)
        settings["publish"]["recording"]["bitrate_kbps"] = 800
        with stage(settings) as opened:

            def told() -> bool:
                outputs = {one["kind"]: one for one in opened.status["publish"]["outputs"]}
                return "the disk is full" in outputs["recording"]["detail"]

            row = opened.strike(
                "the disk is full while it is recorded",
                lambda: None,
                told,
                lost="the recording from there on; what is there plays",
            )
        left = search_recording(folder / "show.mp4")
        raw = sum(one.raw for one in left)
        if len(left) < _LEFT or raw:
            return row.failed(f"{len(left)} pictures are left, {raw} of them raw")
        return row


@contextmanager
def small_disk() -> Iterator[Path]:
    """A file system of a megabyte. Raises OSError or CalledProcessError where none can be mounted."""
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", name], check=True, capture_output=True)
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


CASES: dict[str, Callable[[], Row]] = {
    "video-ends": video_ends,
    "window-closed": window_closed,
    "x-server": x_server_dies,
    "monitor-resized": monitor_resized,
    "model-vanishes": model_vanishes,
    "disk-full": disk_full,
}
