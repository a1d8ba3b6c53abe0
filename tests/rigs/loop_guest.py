"""The whole loop, in a guest: OBS's scene leads our service, which feeds a loopback device, which OBS shows.

Prints what OBS showed and what the service had published, as lines of JSON.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from streamv2v_obs.capture.pattern import draw_pattern
from streamv2v_obs.errors import ObsError
from streamv2v_obs.frames import Pixels
from tests.rigs import obs as obs_rig
from tests.rigs import xvfb
from tests.rigs.obs import PASSWORD, RealObs, real_obs
from tests.rigs.service import RunningService, running_service

DEVICE, SOURCE = "/dev/video3", "Our camera"
WIDTH, HEIGHT = 320, 240
PROMPTS = {"A": "a blueprint", "B": "a sepia photograph"}
NEAR = 6.0
"""Mean error of a picture that is the same one: its colours went through YUV, and one side through JPEG."""
_PATIENCE_S = 240.0
_LOOK_S = 30.0
_RULES = ", ".join(f"{{scene: {scene}, prompt: {prompt}, bank: reset}}" for scene, prompt in PROMPTS.items())
_SETTINGS = (
    *("model.name=demo", "model.width=256", "model.height=192", "capture.fps=2"),
    *(f"publish.camera.device={DEVICE}", "publish.outputs=[camera, browser]", "publish.browser.quality=95"),
    *(f"publish.width={WIDTH}", f"publish.height={HEIGHT}", "publish.fps=15", "publish.hold_s=2"),
    *("obs.enabled=true", "obs.timeout_s=10", "obs.password={env: OBS_PASSWORD}", f"obs.rules=[{_RULES}]"),
)


def tell(**what: object) -> None:
    """One line of what was seen."""
    print(json.dumps(what), flush=True)


def published(service: RunningService) -> Pixels:
    """What the service says that its outputs show, uint8 [H, W, 3] RGB."""
    jpeg = service.client().get("/v1/preview", timeout=_LOOK_S).raise_for_status().content
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)


def shown(obs: RealObs) -> Pixels | None:
    """What OBS shows of the device, uint8 [H, W, 3] RGB; None before its first picture."""
    try:
        answer = obs.requests.call("GetSourceScreenshot", {"sourceName": SOURCE, "imageFormat": "png"})
    except ObsError:  # it has no size yet
        return None
    png = base64.b64decode(str(answer["imageData"]).partition(",")[2])
    return np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)


def compared(obs: RealObs, service: RunningService) -> dict[str, object]:
    """What OBS shows beside what is published, as soon as they are near each other, or at the end of patience."""
    began_at = time.monotonic()
    while True:
        ours, theirs = published(service), shown(obs)
        same_size = theirs is not None and theirs.shape == ours.shape
        error = float(np.abs(theirs.astype(int) - ours).mean()) if theirs is not None and same_size else None
        waited_s = time.monotonic() - began_at
        if (error is not None and error < NEAR) or waited_s > _LOOK_S:
            told: dict[str, object] = {"error": error, "waited_s": round(waited_s, 1), "state": state(service)}
            return told | {"published": packed(ours), "shown": None if theirs is None else packed(theirs)}
        time.sleep(0.3)


def packed(pixels: Pixels) -> str:
    """A PNG in base64."""
    return base64.b64encode(cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()).decode()


def state(service: RunningService) -> str:
    """TRANSLATED, HOLD, SLATE or BYPASS."""
    return str(service.status()["publish"]["state"])


def until_led(service: RunningService, prompt: str) -> None:
    """Wait until pictures are of this prompt."""
    service.until(lambda: service.engine().get("prompt") == prompt, f"{prompt} is in force", _PATIENCE_S)
    before = service.engine()["translated"]
    service.until(lambda: bool(service.engine()["translated"] > before + 3), "some pictures more", _PATIENCE_S)


def main() -> None:
    """Go round once for each prompt, and once without an engine."""
    began_at = time.monotonic()

    def passed() -> float:
        return round(time.monotonic() - began_at, 1)

    xvfb.START_S = obs_rig.START_S = _PATIENCE_S
    with real_obs({"A": (255, 0, 0), "B": (0, 255, 0)}) as obs, tempfile.TemporaryDirectory() as name:
        tell(obs=str(obs.requests.version()), obs_s=passed())
        photograph = Path(name) / "input.png"
        cv2.imwrite(str(photograph), cv2.cvtColor(draw_pattern(40, 320, 240), cv2.COLOR_RGB2BGR))
        image = ("capture.kind=image", f"capture.path={photograph}")
        with running_service(
            Path(name) / "service", *image, *_SETTINGS, environment={"OBS_PASSWORD": PASSWORD}
        ) as service:
            service.until(lambda: service.endpoint() is not None, "it says where it is", _PATIENCE_S)
            service.until_on_air("TRANSLATED", _PATIENCE_S)
            tell(translated_s=passed(), outputs=service.status()["publish"]["outputs"])
            source = {"sceneName": "A", "inputName": SOURCE, "inputKind": "v4l2_input"}
            obs.requests.call("CreateInput", source | {"inputSettings": {"device_id": DEVICE}})
            for scene, prompt in PROMPTS.items():
                obs.scene(scene)
                until_led(service, prompt)
                tell(**{scene: compared(obs, service)})
            os.kill(service.status()["engine_pid"], signal.SIGKILL)
            service.until_on_air("SLATE", _PATIENCE_S)
            tell(slate=compared(obs, service))
            service.until_on_air("TRANSLATED", _PATIENCE_S)
            until_led(service, PROMPTS["B"])
            tell(again=compared(obs, service), service_ended_with=service.stop(60))
    tell(all_s=passed())


if __name__ == "__main__":
    main()
