"""What can be captured here, and how to name it in the configuration; for the command line."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import cv2

from streamv2v_obs.capture.quiet import quiet_opencv
from streamv2v_obs.errors import SourceLost

_PROBED = 6
"""How many camera indices are tried where the system has no list."""


@dataclass(frozen=True)
class FoundSource:
    """Something that can be captured."""

    kind: str
    """As in ``capture.kind``."""
    name: str
    width: int | None
    """In pixels; None where only opening it would tell."""
    height: int | None
    setting: str
    """The YAML that captures it, on one line."""
    problem: str = ""
    """Why it cannot be captured, if so; then ``setting`` is empty."""


@dataclass(frozen=True)
class FoundCamera:
    """A camera."""

    device: int | str
    """For ``capture.device``."""
    name: str
    width: int | None = None
    height: int | None = None


def list_sources() -> list[FoundSource]:
    """Monitors, windows, cameras and the pattern; where there is no screen or no camera, a row that says why."""
    return [*_screens(), *_cameras(), FoundSource("pattern", "moving test picture", 512, 512, _yaml("pattern"))]


def list_cameras() -> list[FoundCamera]:
    """Every camera of this machine; where the system keeps no list, each index is opened for a moment."""
    if sys.platform == "linux":
        from streamv2v_obs.capture.camera_linux import cameras

        return [FoundCamera(path, name) for path, name in cameras()]
    found = []
    for index in range(_PROBED):
        with quiet_opencv():
            camera = cv2.VideoCapture(index)
            try:
                if camera.isOpened():
                    size = (int(camera.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
                    found.append(FoundCamera(index, f"camera {index}", *size))
            finally:
                camera.release()
    return found


def _screens() -> list[FoundSource]:
    from streamv2v_obs.capture.screen import monitors, say

    try:
        rectangles = monitors()
    except SourceLost as error:
        return [FoundSource("screen", "screen", None, None, "", str(error))]
    rows = [
        FoundSource(
            "screen",
            f"monitor {n} ({say(rectangle)})" if n else "whole desktop",
            rectangle[2],
            rectangle[3],
            _yaml("screen", monitor=n),
        )
        for n, rectangle in enumerate(rectangles)
    ]
    return rows + _windows()


def _windows() -> list[FoundSource]:
    if sys.platform != "linux":
        return []
    from streamv2v_obs.capture.window_x11 import windows

    try:
        return [
            FoundSource("screen", f"window {w.title}", w.width, w.height, _yaml("screen", window=w.title))
            for w in windows()
        ]
    except SourceLost as error:
        return [FoundSource("screen", "windows", None, None, "", str(error))]


def _cameras() -> list[FoundSource]:
    cameras = list_cameras()
    if not cameras:
        return [FoundSource("camera", "camera", None, None, "", "there is no camera")]
    return [FoundSource("camera", c.name, c.width, c.height, _yaml("camera", device=c.device)) for c in cameras]


def _yaml(kind: str, **settings: str | int) -> str:
    """A flow mapping; JSON texts are YAML texts, whatever a window calls itself."""
    rest = "".join(f", {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items())
    return f"capture: {{kind: {kind}{rest}}}"
