"""What is tried on the guest's real loopback devices; runs in there, and prints what it saw as lines of JSON."""

from __future__ import annotations

import faulthandler
import fcntl
import json
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamv2v_obs.capture.camera import CameraSource
from streamv2v_obs.errors import SinkLost
from streamv2v_obs.frames import Pixels
from streamv2v_obs.publish.pacer import Pacer
from streamv2v_obs.publish.slate import still
from streamv2v_obs.publish.virtual_camera import VirtualCamera
from streamv2v_obs.publish.virtual_camera_linux import loopback_devices
from streamv2v_obs.settings import CameraCapture, PublishSettings

WIDTH, HEIGHT = 320, 240
FRAMES, FPS = 1000, 30
_PATIENCE_S = 240
_QUERYCAP, _G_FMT = 0x80685600, 0xC0D05604
_CAPTURE, _OUTPUT = 1, 2
"""Bits of a device's capabilities."""
_BACK = {
    "YU12": (cv2.COLOR_YUV2RGB_I420, (HEIGHT * 3 // 2, WIDTH)),
    "NV12": (cv2.COLOR_YUV2RGB_NV12, (HEIGHT * 3 // 2, WIDTH)),
    "YUYV": (cv2.COLOR_YUV2RGB_YUYV, (HEIGHT, WIDTH, 2)),
    "UYVY": (cv2.COLOR_YUV2RGB_UYVY, (HEIGHT, WIDTH, 2)),
}


class Reader:
    """Another program that watches a device: by plain system calls, through none of our code."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDWR)

    def format(self) -> tuple[str, int, int]:
        """The four letters, width, height."""
        request = bytearray(208)
        struct.pack_into("I", request, 0, 1)  # V4L2_BUF_TYPE_VIDEO_CAPTURE
        fcntl.ioctl(self.descriptor, _G_FMT, request)
        width, height, fourcc = struct.unpack_from("II4s", request, 8)
        return fourcc.decode(), width, height

    def read(self, size: int = WIDTH * HEIGHT * 2) -> bytes:
        """The newest picture; waits for one that it has not had yet."""
        return os.read(self.descriptor, size)

    def close(self) -> None:
        """Look away."""
        os.close(self.descriptor)


def capabilities(path: str) -> int:
    """What the device says it is, of _CAPTURE and _OUTPUT."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        answer = bytearray(104)
        fcntl.ioctl(descriptor, _QUERYCAP, answer)
        return int(struct.unpack_from("I", answer, 88)[0]) & (_CAPTURE | _OUTPUT)
    finally:
        os.close(descriptor)


def colours() -> Pixels:
    """Smooth, so that halving the colour's resolution loses little; and not the same upside down."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([40 + 170 * x / WIDTH, 210 - 170 * y / HEIGHT, 90 + 60 * y / HEIGHT], -1).astype(np.uint8)


def camera(device: str | None, **settings: Any) -> VirtualCamera:
    """Our sink, on this device."""
    pixel_format = settings.pop("pixel_format", "auto")
    size = {"width": WIDTH, "height": HEIGHT, "fps": FPS} | settings
    return VirtualCamera(
        PublishSettings.model_validate(size | {"camera": {"device": device, "pixel_format": pixel_format}})
    )


@contextmanager
def shown(sink: VirtualCamera) -> Iterator[VirtualCamera]:
    """The sink, closed after the block."""
    try:
        yield sink
    finally:
        sink.close()


def lost(do: Callable[[], object]) -> str:
    """What SinkLost says of it; empty if it worked."""
    try:
        do()
    except SinkLost as error:
        return str(error)
    return ""


def every_pixel_format() -> dict[str, Any]:
    """What a reader gets of each format: the device's format, and the error of the picture that comes back."""
    found = {}
    for pixel_format in ("auto", "rgb", "i420", "nv12", "yuyv", "uyvy"):
        with shown(camera("/dev/video3", pixel_format=pixel_format)) as sink:
            sink.send(colours())
            reader = Reader("/dev/video3")
            fourcc, width, height = reader.format()
            code, shape = _BACK[fourcc]
            raw = np.frombuffer(reader.read(), np.uint8)
            reader.close()
            error = np.abs(cv2.cvtColor(raw.reshape(shape), code).astype(int) - colours())
            found[pixel_format] = [fourcc, width, height, float(error.mean()), int(error.max()), sink.detail]
    return found


def our_own_camera_source() -> dict[str, Any]:
    """The picture as our camera source sees it, which maps the driver's buffers as browsers do."""
    enough = threading.Event()

    def feed(sink: VirtualCamera) -> None:
        while not enough.wait(1 / FPS):
            sink.send(colours())

    with shown(camera("Stage left")) as sink:
        sink.send(colours())
        feeding = threading.Thread(target=feed, args=(sink,), name="feed", daemon=True)
        feeding.start()
        try:
            source = CameraSource(CameraCapture(kind="camera", device="/dev/video5", width=WIDTH, height=HEIGHT))
            errors = [float(np.abs(source.read().pixels.astype(int) - colours()).mean()) for _ in range(5)]
            source.close()
        finally:
            enough.set()
            feeding.join()
        return {"detail": sink.detail, "errors": errors}


def names() -> dict[str, Any]:
    """Devices by name, and those that are none."""
    with shown(camera(None)) as sink:
        first = sink.detail
    return {"there": loopback_devices(), "first": first, "unknown": lost(lambda: camera("Balcony"))}


def exclusive_caps() -> dict[str, Any]:
    """A device as browsers want it: what it says of itself, and whether it can be fed again after each kind of end."""
    path = "/dev/video7"
    seen = {"fresh": capabilities(path)}
    with shown(camera("Booth")) as sink:
        sink.send(colours())
        seen["fed"] = capabilities(path)
    seen["closed"] = capabilities(path)
    with crashing("Booth"):
        pass
    seen["crashed"] = capabilities(path)
    with crashing("Booth"):
        watcher = Reader(path)
        watcher.read()
    seen["crashed while watched"] = capabilities(path)
    with shown(camera("Booth")) as sink:
        sink.send(colours()[::-1])
        luma = np.frombuffer(watcher.read(WIDTH * HEIGHT), np.uint8).reshape(HEIGHT, WIDTH)
    watcher.close()
    return {"seen": seen, "the watcher sees the new writer's picture": bool(luma[0].mean() < luma[-1].mean() - 50)}


@contextmanager
def crashing(device: str, **settings: Any) -> Iterator[None]:
    """Another process that has sent a picture there, and dies without closing after the block."""
    ready, tell_ready = os.pipe()
    wait, let_go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(let_go)
        sink = camera(device, **settings)  # held: let go of, the library closes it
        sink.send(colours())
        os.write(tell_ready, b"!")
        os.read(wait, 1)
        os._exit(0)
    os.close(tell_ready)
    os.read(ready, 1)
    try:
        yield
    finally:
        for descriptor in (let_go, ready, wait):
            os.close(descriptor)
        os.waitpid(child, 0)


def slate_of_the_driver() -> dict[str, Any]:
    """What a watcher sees when the program that fed the device dies, and what is left of it after an orderly end."""
    path = "/dev/video9"
    with crashing("Hall", hold_s=0.5):
        watcher = Reader(path)
        last = watcher.read()
    then = np.frombuffer(watcher.read(), np.uint8)
    watcher.close()
    slate = cv2.cvtColor(still(WIDTH, HEIGHT, "No picture"), cv2.COLOR_RGB2YUV_I420).reshape(-1)
    with shown(camera("Hall", hold_s=0.5)) as sink:
        watcher = Reader(path)
        sink.send(colours())
        watcher.read()
    os.set_blocking(watcher.descriptor, False)
    time.sleep(1.2)
    try:
        more = len(watcher.read())
    except BlockingIOError:
        more = 0
    watcher.close()
    return {
        "first the picture": bool(np.frombuffer(last, np.uint8).mean() > 100),
        "then the slate": bool(np.array_equal(then[: slate.size], slate)),
        "bytes after the end": more,
    }


def one_thousand_pictures() -> dict[str, Any]:
    """Numbered pictures at 30 a second, and when another process got which."""
    path = "/dev/video3"
    begin, end = os.pipe()
    with shown(camera(path)) as sink:
        sink.send(_numbered(0))
        child = os.fork()
        if child == 0:
            _follow(path, end)
            os._exit(0)
        os.close(end)
        pacer, number, written_at = Pacer(1 / FPS), 1, []
        while number <= FRAMES:
            if pacer.due(1.0):
                sink.send(_numbered(number))
                written_at.append(time.monotonic())
                number += 1
        with os.fdopen(begin) as pipe:
            got = json.load(pipe)
        os.waitpid(child, 0)
    return {
        "written": len(written_at),
        "late": pacer.late,
        "numbers": [number for number, _ in got],
        "deviation_ms": _deviation([at for _, at in got]),
        "written_deviation_ms": _deviation(written_at),
    }


def _deviation(instants: list[float]) -> dict[str, float]:
    """How far intervals are from 1/FPS, in ms."""
    off = [1000 * abs(after - before - 1 / FPS) for before, after in pairwise(instants)]
    return {f"p{q}": round(float(np.percentile(off, q)), 2) for q in (50, 99)}


def _numbered(number: int) -> Pixels:
    """Ten broad bars, light for each bit of ``number`` that is set."""
    bars = np.array([[235 if number >> bit & 1 else 20 for bit in range(10)]], np.uint8)
    return np.dstack([np.repeat(np.repeat(bars, WIDTH // 10, 1), HEIGHT, 0)] * 3)


def _follow(path: str, pipe: int) -> None:
    reader, got = Reader(path), []
    number = 0
    while number < FRAMES:
        luma = np.frombuffer(reader.read(WIDTH * HEIGHT), np.uint8).reshape(HEIGHT, WIDTH)
        at = time.monotonic()
        middles = luma[HEIGHT // 2, WIDTH // 20 :: WIDTH // 10]
        number = sum(1 << bit for bit in range(10) if middles[bit] > 128)
        got.append((number, at))
    with os.fdopen(pipe, "w") as told:
        json.dump(got, told)


def failures() -> dict[str, Any]:
    """What the sink says when a watcher keeps another format, when a write fails, and when its device is gone."""
    found = {}
    with crashing("Stage"):
        watcher = Reader("/dev/video3")
    with shown(camera("Stage", width=160, height=120)) as sink:
        found["watched in another size"] = lost(lambda: sink.send(colours()))
    watcher.close()
    with shown(camera("Stage", width=160, height=120)) as sink:
        found["no longer watched"] = lost(lambda: sink.send(colours()))
        (ours,) = _descriptors_of("/dev/video3")
        os.dup2(os.open("/dev/full", os.O_WRONLY), ours)
        found["a write fails"] = lost(lambda: sink.send(colours()))
    with shown(camera("Stage left")) as sink:
        sink.send(colours())
        Path("/dev/video5").unlink()
        time.sleep(1.1)
        found["gone"] = lost(lambda: sink.send(colours()))
    return found


def _descriptors_of(path: str) -> list[int]:
    """This process's open files that are ``path``."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [int(link.name) for link in links if str(link.readlink()) == path]


def main() -> None:
    """Try all, and tell it."""
    for try_it in (
        names,
        every_pixel_format,
        our_own_camera_source,
        exclusive_caps,
        slate_of_the_driver,
        one_thousand_pictures,
        failures,
    ):
        faulthandler.dump_traceback_later(_PATIENCE_S, exit=True)
        began_at = time.monotonic()
        print(json.dumps({try_it.__name__: try_it()}), flush=True)
        print(json.dumps({f"{try_it.__name__}_s": round(time.monotonic() - began_at, 2)}), flush=True)


if __name__ == "__main__":
    main()
