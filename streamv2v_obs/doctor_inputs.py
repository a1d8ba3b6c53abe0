"""What can be captured here, and whether keys can be heard: the screen, cameras, global hotkeys."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator

from streamv2v_obs.doctor_check import Check, Verdict
from streamv2v_obs.errors import SourceLost
from streamv2v_obs.settings import Settings


def display(settings: Settings) -> Check:
    """Whether there is a screen that can be captured."""
    if sys.platform != "linux":
        return Check("display", "ok", f"{platform.system()}'s own")
    lacking: Verdict = "fail" if settings.capture.kind == "screen" else "note"
    instead = "capture an OBS source (capture.kind=obs), a camera (capture.kind=camera) or a film (capture.kind=video)"
    name = os.environ.get("DISPLAY")
    if os.environ.get("WAYLAND_DISPLAY") or os.environ.get("XDG_SESSION_TYPE") == "wayland":
        return Check("display", lacking, "Wayland: its screen cannot be captured here", instead)
    if not name:
        said = "none (DISPLAY is not set): there is no screen to capture"
        return Check("display", lacking, said, f"start it in a desktop session, or {instead}")
    from streamv2v_obs.capture.screen import monitors

    try:
        count = len(monitors()) - 1  # the first one is the whole desktop
    except SourceLost as error:
        return Check("display", lacking, f"X11 at {name} cannot be captured: {error}", instead)
    return Check("display", "ok", f"X11 at {name}, {count} monitor{'s' if count != 1 else ''}")


def camera(settings: Settings) -> Check:
    """Whether there is a camera to capture; none is opened."""
    if sys.platform != "linux":
        return Check("camera", "ok", "not looked for, which would open each; this lists them: streamv2v-obs cameras")
    from streamv2v_obs.capture.camera_linux import cameras, problem
    from streamv2v_obs.publish.virtual_camera_linux import loopback_devices

    virtual = {path for path, _ in loopback_devices()}
    found = [(path, name) for path, name in cameras() if path not in virtual]
    capture = settings.capture
    if capture.kind == "camera":
        if (why := problem(capture.device)) is not None:
            return Check("camera", "fail", why, "set capture.device to one of: streamv2v-obs cameras" if found else "")
    elif not found:
        fix = "connect one, or capture the screen, an OBS source (capture.kind=obs) or a film (capture.kind=video)"
        return Check("camera", "note", "there is none", fix)
    return Check("camera", "ok", ", ".join(f"{path} ({name})" for path, name in found) or str(capture))


def hotkeys(settings: Settings) -> Iterator[Check]:
    """Whether those that are set can be heard; nothing where none are."""
    from streamv2v_obs.control.hotkeys import obstacle

    keys = settings.control.hotkeys
    if not keys:
        return
    why, fix = obstacle()
    if why:
        yield Check("hotkeys", "note", f"{why}; control.hotkeys have no effect", fix)
    else:
        yield Check("hotkeys", "ok", ", ".join(f"{one} {what}" for what, one in keys.items()))
