"""A running OBS with scenes of our own in it, and the service that follows them, for measurements of the two."""

from __future__ import annotations

import os
import re
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import httpx

from streamv2v_obs.bench import live
from streamv2v_obs.bench.live import Status
from streamv2v_obs.errors import ObsError, StreamV2VError
from streamv2v_obs.obs.client import Requests

_PATIENCE_S = 60.0
_GLANCE_S = 0.1
_APPLIED = re.compile(r"^(\S+ \S+) .*: change \d+ applied: ", re.MULTILINE)


def with_password(overrides: Sequence[str]) -> list[str]:
    """``overrides``, after the password from OBS_PASSWORD where it is set; they win."""
    return [*(["obs.password={env: OBS_PASSWORD}"] if "OBS_PASSWORD" in os.environ else []), *overrides]


@contextmanager
def scenes(requests: Requests, names: Sequence[str]) -> Iterator[None]:
    """Empty scenes with these names; they go after the block, and scene and transition are as they were."""
    before = requests.program_scene()
    transition = requests.call("GetCurrentSceneTransition")
    made: list[str] = []
    try:
        for name in names:
            requests.call("CreateScene", {"sceneName": name})
            made.append(name)
        yield
    finally:
        with suppress(ObsError):
            _use(requests, str(transition["transitionName"]), transition["transitionDuration"])
        with suppress(ObsError):
            requests.call("SetCurrentProgramScene", {"sceneName": before})
        for name in made:
            with suppress(ObsError):
                requests.call("RemoveScene", {"sceneName": name})


def use_transition(requests: Requests, kind: str, duration_ms: int) -> None:
    """Switch by the transition of this kind from now on; its name depends on the language of OBS."""
    known = requests.call("GetSceneTransitionList")["transitions"]
    found = [str(one["transitionName"]) for one in known if one["transitionKind"] == kind]
    if not found:
        there = ", ".join(str(one["transitionKind"]) for one in known)
        raise StreamV2VError(f"this OBS has no transition of kind {kind}; it has {there}")
    _use(requests, found[0], duration_ms)


def _use(requests: Requests, name: str, duration_ms: int | None) -> None:
    requests.call("SetCurrentSceneTransition", {"transitionName": name})
    if duration_ms:  # a cut has none
        requests.call("SetCurrentSceneTransitionDuration", {"transitionDuration": duration_ms})


class Led:
    """The service, watched; see ``led``."""

    def __init__(self, client: httpx.Client, folder: Path, viewer: live.Viewer, running: Callable[[], bool]) -> None:
        self.viewer = viewer
        self._client = client
        self._folder = folder
        self._running = running

    def status(self) -> Status:
        """What it says of itself now."""
        return dict(self._client.get("/v1/status").raise_for_status().json())

    def post(self, what: str, **body: object) -> None:
        """POST /v1/``what``."""
        self._client.post(f"/v1/{what}", json=body).raise_for_status()

    def until(self, reached: Callable[[Status], bool], what: str) -> None:
        """Wait until its status is so."""
        until = time.monotonic() + _PATIENCE_S
        while not reached(self.status()):
            if not self._running() or time.monotonic() > until:
                raise StreamV2VError(f"the service was expected to be so, and was not: {what}")
            time.sleep(_GLANCE_S)

    def between(self, begin: float, end: float) -> list[tuple[float, bytes]]:
        """The pictures that came in this time, each that was not the one before once more: instant and JPEG."""
        at = self.viewer.changed_at[: len(self.viewer.pictures)]
        part = slice(bisect_left(at, begin), bisect_right(at, end))
        return list(zip(at[part], self.viewer.pictures[part], strict=True))

    def applied_at(self) -> list[float]:
        """The instants, as ``time.monotonic`` counts, at which its engine has applied a change; from its log."""
        said = (self._folder / "said.log").read_text(encoding="utf-8", errors="replace")
        behind = time.time() - time.monotonic()
        return [
            datetime.strptime(when, "%Y-%m-%d %H:%M:%S,%f").timestamp() - behind for when in _APPLIED.findall(said)
        ]


@contextmanager
def led(folder: Path, settings: Mapping[str, str], overrides: Sequence[str]) -> Iterator[Led]:
    """The service with these settings, JSON values by their keys, and ``overrides`` after them; on air."""
    folder.mkdir()
    given = [f"{key}={value}" for key, value in settings.items()]
    with live.service(folder, [*given, *overrides]) as (process, client, _):
        viewer = live.Viewer(client, keep=True)
        watched = Led(client, folder, viewer, lambda: process.poll() is None)
        watched.until(lambda status: status["publish"]["state"] == "TRANSLATED", "a translated picture is on air")
        viewer.start()
        try:
            yield watched
        finally:
            viewer.stop()
