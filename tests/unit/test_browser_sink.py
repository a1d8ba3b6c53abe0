"""One picture for many clients: encoded once, only while somebody waits, never queued."""

from __future__ import annotations

import asyncio
import threading
import time

import cv2
import numpy as np
import pytest

from streamv2v_obs.errors import SinkLost
from streamv2v_obs.frames import Pixels
from streamv2v_obs.publish.browser import BrowserSink, encode_jpeg


def picture(value: int) -> Pixels:
    return np.full((48, 64, 3), value, np.uint8)


def decoded(jpeg: bytes) -> Pixels:
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert bgr is not None
    return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)


def value_of(jpeg: bytes) -> int:
    return round(float(decoded(jpeg).mean()))


def until(sink: BrowserSink, waiting: int) -> None:
    ends_at = time.monotonic() + 10
    while sink.clients_waiting != waiting:
        assert time.monotonic() < ends_at
        time.sleep(0.001)


def test_nothing_is_encoded_while_nobody_looks() -> None:
    sink = BrowserSink()
    before = threading.active_count()
    for n in range(100):
        sink.send(picture(n))
    assert sink.encoded == 0
    assert threading.active_count() == before
    found = sink.wait_jpeg(-1, 5)
    assert found is not None
    assert found[0] == 100
    assert value_of(found[1]) == 99
    assert sink.encoded == 1
    sink.send(picture(7))
    time.sleep(0.05)
    assert sink.encoded == 1
    sink.close()


def test_the_colours_are_the_right_way_round() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 250
    rgb = decoded(encode_jpeg(red, 95))
    assert rgb[8, 8, 0] > 230
    assert rgb[8, 8, 2] < 20


def test_a_latecomer_gets_the_newest_not_what_was_encoded_for_another() -> None:
    sink = BrowserSink()
    sink.send(picture(10))
    assert sink.wait_jpeg(0, 5) is not None
    sink.send(picture(200))
    found = sink.wait_jpeg(0, 5)
    assert found is not None
    assert found[0] == 2
    assert value_of(found[1]) == 200
    sink.close()


def test_no_new_picture_means_none_and_the_same_array_is_not_new() -> None:
    sink = BrowserSink()
    assert sink.wait_jpeg(-1, 0.01) is None
    same = picture(1)
    sink.send(same)
    assert sink.wait_jpeg(0, 5) is not None
    sink.send(same)
    assert sink.wait_jpeg(1, 0.05) is None
    assert sink.encoded == 1
    sink.close()


def test_many_threads_share_one_encoding() -> None:
    sink = BrowserSink()
    found: list[tuple[int, bytes] | None] = []
    clients = [threading.Thread(target=lambda: found.append(sink.wait_jpeg(0, 10))) for _ in range(20)]
    for client in clients:
        client.start()
    until(sink, 20)
    sink.send(picture(5))
    for client in clients:
        client.join()
    assert len({id(f[1]) for f in found if f is not None}) == 1
    assert None not in found
    assert sink.encoded == 1
    sink.close()


def test_close_wakes_everybody_and_ends_the_sink() -> None:
    sink = BrowserSink()
    found: list[object] = []
    client = threading.Thread(target=lambda: found.append(sink.wait_jpeg(0, 60)))
    client.start()
    until(sink, 1)
    sink.close()
    client.join(5)
    assert found == [None]
    assert sink.wait_jpeg(-1, 60) is None
    with pytest.raises(SinkLost):
        sink.send(picture(1))
    assert not any(thread.name == "browser-jpeg" for thread in threading.enumerate())


def test_a_picture_that_cannot_be_encoded_does_not_end_the_stream() -> None:
    sink = BrowserSink()
    sink.send(np.zeros((1, 70_000, 3), np.uint8))  # JPEG ends at 65,500
    assert sink.wait_jpeg(0, 0.2) is None
    sink.send(picture(3))
    found = sink.wait_jpeg(0, 5)
    assert found is not None
    assert found[0] == 2
    sink.close()


def test_a_hundred_coroutines_share_one_thread_and_one_encoding_and_the_slow_skip() -> None:
    sink = BrowserSink()
    pictures = 30
    threads_seen = 0

    async def client(slow_s: float) -> list[int]:
        seen = []
        async for jpeg in sink.stream():
            seen.append(value_of(jpeg))
            await asyncio.sleep(slow_s)
        return seen

    async def never_reads() -> None:
        stream = sink.stream()
        await anext(stream)
        await asyncio.sleep(3600)

    async def session() -> tuple[list[list[int]], list[int]]:
        nonlocal threads_seen
        quick = [asyncio.create_task(client(0)) for _ in range(100)]
        slow = asyncio.create_task(client(0.3))
        stuck = asyncio.create_task(never_reads())
        loop = asyncio.get_running_loop()
        for n in range(1, pictures + 1):
            while sink.clients_waiting < 100:
                await asyncio.sleep(0.001)
            sink.send(picture(n * 8))
            while sink.encoded < n:
                await asyncio.sleep(0.001)
        threads_seen = sum(thread.name != "MainThread" for thread in threading.enumerate())
        while sink.clients_waiting < 100:
            await asyncio.sleep(0.001)
        await loop.run_in_executor(None, sink.close)
        stuck.cancel()
        return await asyncio.gather(*quick), await slow

    before = threading.active_count() - 1
    quick, slow = asyncio.run(session())
    assert sink.encoded == pictures
    assert threads_seen <= before + 1
    for seen in quick:
        assert len(seen) == pictures
        assert all(abs(value - 8 * (n + 1)) <= 2 for n, value in enumerate(seen))
    assert 1 <= len(slow) < pictures
    assert slow == sorted(slow)


def test_a_client_that_leaves_is_forgotten() -> None:
    sink = BrowserSink()

    async def session() -> None:
        client = asyncio.create_task(sink.next_jpeg(0))
        while sink.clients_waiting == 0:
            await asyncio.sleep(0.001)
        client.cancel()
        await asyncio.gather(client, return_exceptions=True)

    asyncio.run(session())
    assert sink.clients_waiting == 0
    sink.send(picture(1))
    time.sleep(0.02)
    assert sink.encoded == 0
    sink.close()


def test_a_forgotten_picture_is_given_to_nobody() -> None:
    sink = BrowserSink()
    sink.send(picture(1))
    assert sink.wait_jpeg(0, 5) is not None
    sink.forget()
    sink.forget()
    assert sink.wait_jpeg(0, 0.1) is None, "neither the picture nor its JPEG is there any more"
    sink.send(picture(2))
    found = sink.wait_jpeg(0, 5)
    assert found is not None
    assert value_of(found[1]) == 2
    sink.close()
