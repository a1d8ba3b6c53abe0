"""Frames in: every kind of source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from streamv2v_obs.settings.section import Fps, Section, Size, Text, Whole


class _Capture(Section):
    fps: Fps = Field(30, description="pictures a second that are asked of the source, at most")
    fit: Literal["crop", "letterbox"] = Field(
        "crop", description="how the picture meets the model's shape; letterbox bars are cut off again"
    )


class AutoCapture(_Capture):
    """The screen where there is one, else a camera, else the test pattern."""

    kind: Literal["auto"] = "auto"


class ScreenCapture(_Capture):
    """A monitor, a region of the desktop, or a window."""

    kind: Literal["screen"]
    monitor: Whole = Field(1, ge=0, description="0 is the whole desktop, 1 the first monitor")
    region: tuple[Whole, Whole, Annotated[Whole, Field(ge=1)], Annotated[Whole, Field(ge=1)]] | None = Field(
        None, description="x, y, width, height in desktop pixels; wins over monitor"
    )
    window: Text | None = Field(None, description="part of a window's title (X11); wins over region")


class CameraCapture(_Capture):
    """A webcam, or any device that looks like one."""

    kind: Literal["camera"]
    device: Whole | str = Field(0, description="index, or a path such as /dev/video0")
    width: Size = 1280
    height: Size = 720


class VideoCapture(_Capture):
    """A video file."""

    kind: Literal["video"]
    path: Path
    loop: bool = True
    realtime: bool = Field(True, description="false: as fast as the translator takes them, none dropped")


class ImageCapture(_Capture):
    """A still picture."""

    kind: Literal["image"]
    path: Path


class PatternCapture(_Capture):
    """A moving test picture with a frame counter."""

    kind: Literal["pattern"]
    width: Size = 512
    height: Size = 512
    watermark: bool = Field(False, description="a faint mark that shows, in whatever is published, if it was raw")


class ObsCapture(_Capture):
    """A source or scene of OBS, by screenshots or from a window; the connection is that of section obs."""

    kind: Literal["obs"]
    source: Text | None = Field(None, description="its name in OBS; none: the program scene")
    width: Size = 512
    method: Literal["screenshot", "projector"] = Field(
        "screenshot", description="projector: a window of OBS on this X11 display, exact pixels; nothing may cover it"
    )


CaptureSettings: TypeAlias = Annotated[
    AutoCapture | ScreenCapture | CameraCapture | VideoCapture | ImageCapture | PatternCapture | ObsCapture,
    Field(discriminator="kind"),
]
