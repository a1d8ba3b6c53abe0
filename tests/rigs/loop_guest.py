"""The whole loop, in a guest: service, loopback device, a real OBS that reads it; prints what OBS shows as JSON."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from streamv2v_obs.errors import ObsError
from streamv2v_obs.frames import Pixels
from tests.rigs import obs as obs_rig
from tests.rigs.service import RunningService, running_service

DEVICE, WIDTH, HEIGHT = "/dev/video3", 320, 240
_PATIENCE_S = 700.0
"""An emulated processor takes its time: torch alone is minutes in loading."""
_SETTINGS = (
    *("model.name=demo", "model.width=64", "model.height=64", "translator.steps=1"),
    *("translator.prompt=a blueprint", f"publish.camera.device={DEVICE}"),
    *(f"publish.width={WIDTH}", f"publish.height={HEIGHT}", "publish.fps=10", "capture.fps=5"),
)


def tell(**what: object) -> None:
    """One line of what was seen."""
    print(json.dumps(what), flush=True)


def decoded(jpeg: bytes) -> Pixels:
    """uint8 [H, W, 3] RGB."""
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)


def compared(service: RunningService, obs: obs_rig.RealObs, what: str) -> None:
    """How far what OBS shows of the device is from what the service publishes."""
    began_at = time.monotonic()
    error, shown = 255.0, np.zeros((1, 1, 3), np.uint8)
    while error > 4 and time.monotonic() < began_at + _PATIENCE_S / 5:
        time.sleep(1)
        published = decoded(service.client().get("/v1/preview", timeout=60).raise_for_status().content)
        try:
            shown = decoded(obs.requests.screenshot("Device"))
        except ObsError as problem:  # a source has no size before its first picture
            tell(**{f"{what}: not yet": str(problem)})
            continue
        if shown.shape == published.shape:
            error = float(np.abs(shown.astype(int) - published).mean())
    tell(**{what: {"error": error, "size": shown.shape[1::-1], "std": float(shown.std())}})


def main() -> None:
    """Try it, and tell how long each part took."""
    began_at = time.monotonic()

    def passed() -> float:
        return round(time.monotonic() - began_at, 1)

    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/tmp"], check=True)  # an X server writes there
    obs_rig.START_S = 400.0
    with obs_rig.real_obs({"A": (255, 0, 0)}) as obs, tempfile.TemporaryDirectory() as folder:
        tell(obs=str(obs.requests.version()), obs_up_s=passed())
        photograph = Path(folder) / "input.png"
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
        disc = (x - WIDTH / 2) ** 2 + (y - HEIGHT / 2) ** 2 < 80**2
        picture = np.where(disc[..., None], (40, 90, 220), np.stack([x, y, 255 - y], -1) // 2)
        cv2.imwrite(str(photograph), picture.astype(np.uint8))
        capture = (f"capture.path={photograph}", "capture.kind=image")
        with running_service(Path(folder) / "service", *capture, *_SETTINGS) as service:
            service.until(lambda: service.endpoint() is not None, "it says where it is", _PATIENCE_S)
            service.until(lambda: service.status()["publish"]["published"] > 5, "the slate is on air", _PATIENCE_S)
            tell(slate_s=passed())
            source = {"sceneName": "A", "inputName": "Device", "inputKind": "v4l2_input"}
            obs.requests.call("CreateInput", source | {"inputSettings": {"device_id": DEVICE}})
            compared(service, obs, "slate")
            service.until_on_air("TRANSLATED", _PATIENCE_S)
            tell(translated_s=passed())
            compared(service, obs, "translated")
            tell(engine=service.engine().get("translate_ms_p50"), ended_s=passed())


if __name__ == "__main__":
    main()
