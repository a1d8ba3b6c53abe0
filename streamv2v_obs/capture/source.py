"""The promise every source keeps, and the one door through which sources are opened."""

from __future__ import annotations

import logging
from typing import Protocol

from streamv2v_obs.errors import SourceLost
from streamv2v_obs.frames import Frame
from streamv2v_obs.settings import (
    AutoCapture,
    CameraCapture,
    CaptureSettings,
    ImageCapture,
    ObsCapture,
    ObsSettings,
    PatternCapture,
    ScreenCapture,
    VideoCapture,
)

log = logging.getLogger(__name__)


class FrameSource(Protocol):
    """Delivers the newest picture when asked. Used by one thread, the one that opened it."""

    @property
    def detail(self) -> str:
        """What is captured, in a few words for ``status``."""
        ...

    def read(self) -> Frame:
        """The next picture; waits for it at the source's own pace.

        Raises SourceStalled (nothing new within a second; try again), SourceLost (open it anew) and, for a finite
        source that is over, EndOfSource.
        """
        ...

    def close(self) -> None:
        """Give everything back; once, nothing after it."""
        ...


def open_source(settings: CaptureSettings, obs: ObsSettings) -> FrameSource:
    """Open what ``settings`` name; ``obs`` is the connection that kind ``obs`` uses.

    Raises SourceLost with one clear line, and ObsRefused where OBS wants another password.
    """
    # Imported on demand: whoever captures from OBS needs no X libraries, and the other way round.
    if isinstance(settings, AutoCapture):
        return _open_first(settings)
    if isinstance(settings, ScreenCapture):
        from streamv2v_obs.capture.screen import ScreenSource

        return ScreenSource(settings)
    if isinstance(settings, CameraCapture):
        from streamv2v_obs.capture.camera import CameraSource

        return CameraSource(settings)
    if isinstance(settings, VideoCapture):
        from streamv2v_obs.capture.video import VideoSource

        return VideoSource(settings)
    if isinstance(settings, ImageCapture):
        from streamv2v_obs.capture.image import ImageSource

        return ImageSource(settings)
    if isinstance(settings, ObsCapture) and settings.method == "projector":
        from streamv2v_obs.capture.obs_projector import ObsProjector

        return ObsProjector(settings, obs)
    if isinstance(settings, ObsCapture):
        from streamv2v_obs.capture.obs_source import ObsSource

        return ObsSource(settings, obs)
    return _open_pattern(settings)


def _open_first(settings: AutoCapture) -> FrameSource:
    """The screen, else the first camera that opens, else the pattern; what is passed over is logged, and why."""
    pace = {"fps": settings.fps, "fit": settings.fit}
    source: FrameSource
    try:
        from streamv2v_obs.capture.screen import ScreenSource

        source = ScreenSource(ScreenCapture.model_validate({"kind": "screen", **pace}))
    except SourceLost as error:
        log.warning("capture: auto passes over the screen: %s", error)
    else:
        log.info("capture: auto takes the screen: %s", source.detail)
        return source

    from streamv2v_obs.capture.camera import CameraSource
    from streamv2v_obs.capture.listing import list_cameras

    cameras = list_cameras()
    for camera in cameras:
        try:
            source = CameraSource(CameraCapture.model_validate({"kind": "camera", "device": camera.device, **pace}))
        except SourceLost as error:
            log.warning("capture: auto passes over a camera: %s", error)
        else:
            log.info("capture: auto takes the camera %s (%s)", camera.device, camera.name)
            return source
    why = "no camera opens" if cameras else "there is no camera"
    log.warning("capture: auto shows the test pattern, since the screen cannot be captured and %s", why)
    return _open_pattern(PatternCapture.model_validate({"kind": "pattern", **pace}))


def _open_pattern(settings: PatternCapture) -> FrameSource:
    from streamv2v_obs.capture.pattern import PatternSource

    return PatternSource(settings)
