"""Frames out: the outputs, their size and pace, and what is shown when there is no picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from streamv2v_obs.settings.section import Fps, Number, Section, Size, Whole


class VirtualCameraSettings(Section):
    """The virtual camera of the system."""

    device: str | None = Field(None, description="name or path; none: the first free one")
    pixel_format: Literal["auto", "rgb", "i420", "nv12", "yuyv", "uyvy"] = "auto"


class BrowserSettings(Section):
    """A page and a stream on the control port."""

    quality: Whole = Field(85, ge=1, le=100, description="of the JPEG pictures")


class RecordingSettings(Section):
    """An mp4 file that stays playable whatever happens."""

    path: Path | None = None
    bitrate_kbps: Whole = Field(6000, ge=100, le=200_000)


class PublishSettings(Section):
    """Where pictures go, how often, and what is shown when there is none."""

    outputs: tuple[Literal["auto", "camera", "browser", "recording"], ...] = Field(
        ("auto",), min_length=1, description="auto: the camera if one can be opened, else the browser"
    )
    fps: Fps = 30
    width: Size | None = Field(None, description="none: the model's picture as it is")
    height: Size | None = None
    fit: Literal["crop", "letterbox"] = "letterbox"
    hold_s: Annotated[Number, Field(ge=0.1, le=60)] = Field(3, description="how long the last picture is held")
    slate: Annotated[str, Field(max_length=200)] = Field("", description="a line on the slate")
    camera: VirtualCameraSettings = VirtualCameraSettings()
    browser: BrowserSettings = BrowserSettings()
    recording: RecordingSettings = RecordingSettings()

    @model_validator(mode="after")
    def _whole_pairs(self) -> PublishSettings:
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height belong together: give both or neither")
        if "recording" in self.outputs and self.recording.path is None:
            raise ValueError("outputs name a recording, so recording.path is needed")
        return self
