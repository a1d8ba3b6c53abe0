"""A service to be broken: watched from its first translated picture on, and what is noted of each blow."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from streamv2v_obs.bench.fault_injection import Injection
from streamv2v_obs.bench.fault_watch import Status, Watch
from streamv2v_obs.bench.live import service, until
from streamv2v_obs.control.endpoint import FOLDER_VARIABLE
from streamv2v_obs.errors import StreamV2VError

PATIENCE_S = 40.0
_GAP_S = 6.0
_AFTER_S = 1.0
"""Watched once more when all is well again: what follows on a fault's heels is of that fault."""


@dataclass(frozen=True)
class Row:
    """One fault, and what came of it. Times count from the blow; None: it did not come to that."""

    fault: str
    showed: str
    slate_s: float | None
    recovered_s: float | None
    lost: str
    gap_ms: float
    gap_intervals: float
    stops: int
    published: int
    searched: int
    raw: int
    score_max: float
    passed: bool
    said: str = ""

    def __str__(self) -> str:
        back = "" if self.recovered_s is None else f", recovered after {self.recovered_s:.1f} s"
        return (
            f"{'ok ' if self.passed else 'BAD'} {self.fault}: {self.showed}{back}; longest gap {self.gap_ms:.0f} ms, "
            f"{self.raw} raw of {self.searched}; {self.lost}{f' [{self.said}]' if self.said else ''}"
        )

    def failed(self, why: str) -> Row:
        """The same, with one more thing that is wrong."""
        return replace(self, passed=False, said="; ".join(filter(None, (self.said, why))))

    def as_dict(self) -> dict[str, Any]:
        """For the result file."""
        return asdict(self)


@dataclass
class Stage:
    """One running service and the means to break it."""

    folder: Path
    process: subprocess.Popen[bytes]
    client: httpx.Client
    watch: Watch
    config: Path
    injection: Injection
    interval_s: float
    patience_s: float = PATIENCE_S

    @property
    def status(self) -> Status:
        """What it says now."""
        return dict(self.client.get("/v1/status").raise_for_status().json())

    @property
    def state(self) -> str:
        """What its outputs show now."""
        return str(self.status["publish"]["state"])

    @property
    def said(self) -> str:
        """Its log so far."""
        return (self.folder / "said.log").read_text(encoding="utf-8", errors="replace")

    @property
    def environment(self) -> dict[str, str]:
        """In which a second command finds this service."""
        return {FOLDER_VARIABLE: str(self.folder / "runtime")}

    def engine(self) -> psutil.Process:
        """Its engine process."""
        pid = self.status["engine_pid"]
        if pid is None:
            raise StreamV2VError("no engine runs")
        return psutil.Process(pid)

    def post(self, what: str, **body: object) -> None:
        """POST /v1/``what``."""
        self.client.post(f"/v1/{what}", json=body).raise_for_status()

    def set(self, key: str, value: object) -> None:
        """Another value in the settings file, which the service watches."""
        settings = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        section, _, name = key.rpartition(".")
        found = settings
        for part in section.split(".") if section else ():
            found = found.setdefault(part, {})
        found[name] = value
        self.write(yaml.safe_dump(settings))

    def write(self, text: str) -> None:
        """The whole settings file anew."""
        part = self.config.with_suffix(".new")
        part.write_text(text, encoding="utf-8")
        part.replace(self.config)

    def wait(self, reached: Callable[[], bool], within_s: float | None = None) -> bool:
        """Whether it was reached in time. A service that has ended is an error."""
        patient_until = time.monotonic() + (self.patience_s if within_s is None else within_s)
        while time.monotonic() < patient_until:
            if self.process.poll() is not None:
                raise StreamV2VError(f"the service ended (exit code {self.process.returncode}): {self.said[-500:]}")
            if reached():
                return True
            time.sleep(0.05)
        return False

    def strike(
        self,
        fault: str,
        blow: Callable[[], None],
        well: Callable[[], bool],
        *,
        lost: str | Callable[[], str],
        recovered: Callable[[], float | None] | None = None,
        since: Callable[[], float] | None = None,
        slate_within_s: float | None = None,
        recovered_within_s: float | None = None,
        raw_allowed: bool = False,
        and_also: Callable[[], str] = lambda: "",
        stood_until: Callable[[], float] | None = None,
    ) -> Row:
        """Break it, wait until ``well``, look on for a moment, and note what was seen.

        ``recovered`` tells the instant at which it was well; without it, it is that of the next translated picture
        after something else was shown. It counts from the blow, or from ``since``, the instant at which what was
        broken from outside was whole again. ``and_also`` says what else is wrong, if anything is. ``stood_until``
        tells the instant until which the service itself was made to stand: the one stop that this is does not count.
        """
        began_at = time.monotonic()
        blow()
        came = self.wait(well)
        if came:
            time.sleep(_AFTER_S)
        seen = self.watch.window(began_at, time.monotonic())
        stops, gap_ms = seen.stops, seen.gap_ms
        if stood_until is not None:
            # Its own longest gap is that of the last five seconds.
            time.sleep(max(0.0, stood_until() + _GAP_S - time.monotonic()))
            now = time.monotonic()
            time.sleep(_AFTER_S)
            stops, gap_ms = max(0, stops - 1), self.watch.window(now, time.monotonic()).gap_ms
        slate_at = seen.entered_at("SLATE", began_at)
        left_at = next((entered.at for entered in seen.states[1:] if entered.state != "TRANSLATED"), None)
        back_at = recovered() if recovered else None if left_at is None else seen.entered_at("TRANSLATED", left_at)
        slate_s = None if slate_at is None else round(slate_at - began_at, 2)
        recovered_s = None if back_at is None else round(back_at - (since() if since and came else began_at), 2)
        gap_intervals = round(gap_ms / 1000 / self.interval_s, 2)
        wrong = [
            *([] if came else [f"not well again within {self.patience_s:g} s"]),
            *([f"a stop of {gap_intervals:g} intervals"] if stops else []),
            *([f"{seen.raw} raw pictures"] if seen.raw and not raw_allowed else []),
            *([self.watch.broken] if self.watch.broken else []),
            *([also] if (also := and_also()) else []),
        ]
        if slate_within_s is not None and (slate_s is None or slate_s > slate_within_s):
            wrong.append(f"the slate was to come within {slate_within_s:g} s")
        if recovered_within_s is not None and (recovered_s is None or recovered_s > recovered_within_s):
            wrong.append(f"it was to be well within {recovered_within_s:g} s")
        return Row(
            fault=fault,
            showed=seen.story,
            slate_s=slate_s,
            recovered_s=recovered_s,
            lost=lost if isinstance(lost, str) else lost(),
            gap_ms=round(gap_ms, 1),
            gap_intervals=gap_intervals,
            stops=stops,
            published=seen.published,
            searched=seen.searched,
            raw=seen.raw,
            score_max=round(seen.score_max, 3),
            passed=not wrong,
            said="; ".join(wrong),
        )


@contextmanager
def stage(
    settings: Mapping[str, Any], environment: Mapping[str, str] | None = None, streams: int | None = None
) -> Iterator[Stage]:
    """A service with these settings, given once its first translated picture is on the air.

    What it says goes to the descriptor ``streams``, if one is given, and not where ``said`` finds it.
    """
    with tempfile.TemporaryDirectory(prefix="streamv2v-faults-") as name:
        folder = Path(name)
        config = folder / "settings.yaml"
        config.write_text(yaml.safe_dump(dict(settings)), encoding="utf-8")
        injection = Injection(folder / "injection")
        surroundings = injection.environment | dict(environment or {})
        with service(folder, (), config=config, environment=surroundings, streams=streams) as (process, client, _):
            token = client.headers["authorization"].removeprefix("Bearer ")
            with Watch(str(client.base_url), token) as watch:
                interval_s = 1 / float(settings.get("publish", {}).get("fps", 30))
                opened = Stage(folder, process, client, watch, config, injection, interval_s)
                until(lambda: opened.state == "TRANSLATED", process, folder)
                time.sleep(_AFTER_S)
                yield opened


def base(folder: Path | None = None, **sections: Mapping[str, Any]) -> dict[str, Any]:
    """Settings to begin with: marked pattern, demo model by torch, a browser and, into ``folder``, a recording."""
    publish: dict[str, Any] = {"outputs": ["browser"], "fps": 30}
    if folder is not None:
        publish |= {"outputs": ["browser", "recording"], "recording": {"path": str(folder / "show.mp4")}}
    settings: dict[str, Any] = {
        "capture": {"kind": "pattern", "watermark": True},
        "model": {"name": "demo", "backend": "torch"},
        "translator": {"prompt": "a pencil sketch", "seed": 5},
        "publish": publish,
    }
    for section, values in sections.items():
        settings[section] = {**settings.get(section, {}), **values}
    return settings
