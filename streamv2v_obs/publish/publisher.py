"""The thread that never misses a beat: it takes the newest frame, decides what is on the air, and hands it out."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2

from streamv2v_obs.engine.slot import FrameSlot
from streamv2v_obs.frames import Frame, Pixels
from streamv2v_obs.publish.on_air import OnAir, decide
from streamv2v_obs.publish.outputs import Output
from streamv2v_obs.publish.pacer import Pacer
from streamv2v_obs.publish.slate import Slate
from streamv2v_obs.publish.virtual_camera import HEIGHT, WIDTH
from streamv2v_obs.settings import PublishSettings
from streamv2v_obs.shape import fit_to
from streamv2v_obs.stats import Meter, PublishStatus

log = logging.getLogger(__name__)

_PATIENCE_S = 0.05
"""How long ``stop`` may go unnoticed."""
_STOP_INTERVALS = 2
"""So many from one picture to the next, and a viewer sees that it stands."""


class Publisher:
    """Shows the newest permitted picture ``fps`` times a second, whatever happens to those who make and take them.

    ``start``, ``stop`` and ``join`` are called once each; everything else at any time from any thread. What
    ``set_panic``, ``set_slate`` and ``set_bypass`` forbid has left the publisher when they return.
    """

    def __init__(
        self,
        settings: PublishSettings,
        slot: FrameSlot | None,
        outputs: Sequence[Output],
        *,
        clock: Callable[[], float] = time.monotonic,
        pacer: Pacer | None = None,
    ) -> None:
        self._settings = settings
        self._outputs = tuple(outputs)
        self._clock = clock
        self._pacer = pacer or Pacer(1 / settings.fps)
        self._slate = Slate()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)
        self._fps = Meter(clock=clock)
        self._age_ms = Meter(clock=clock)
        self._deviation_ms = Meter(clock=clock)
        self._gap_ms = Meter(clock=clock)
        self._lock = threading.Lock()  # guards all that follows
        self._slot = slot
        self._unseen_before = 0
        self._bypass = False
        self._panic = False
        self._slated = False
        self._not_before = -math.inf
        self._line = ""
        self._on_air = OnAir()
        self._state_since = clock()
        self._beat_at: float | None = None
        self._stops = 0
        self._waited_s: float | None = None
        self._fitted: tuple[Frame, Pixels] | None = None
        self._size = (settings.width or WIDTH, settings.height or HEIGHT)
        self._had_pictures = False
        self._published = 0
        self._repeated = 0
        self._told: dict[str, str] = {}

    def start(self) -> None:
        """Begin, with the slate."""
        # OpenCV's own threads would take twice the work to save a tenth of a millisecond, from cores the engine wants.
        cv2.setNumThreads(1)
        for output in self._outputs:
            output.start()
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread and the outputs to end; a last slate is shown."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Whether all threads have ended within ``timeout_s``; those that hang are named in the log."""
        until = time.monotonic() + timeout_s
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        for output in self._outputs:
            output.stop()
        hanging = [o.kind for o in self._outputs if not o.join(max(0.0, until - time.monotonic()))]
        if hanging:
            log.warning("did not end within %g s and is left behind: output %s", timeout_s, ", ".join(hanging))
        return not hanging and not self._thread.is_alive()

    def set_panic(self, on: bool) -> None:
        """The slate at once, until it is called with False; nothing that was captured before comes back then."""
        with self._lock:
            self._hide(panic=on, slated=self._slated)

    def set_slate(self, on: bool) -> None:
        """The slate as by ``set_panic``, for another reason: both have to end before pictures are shown."""
        with self._lock:
            self._hide(panic=self._panic, slated=on)

    def _hide(self, *, panic: bool, slated: bool) -> None:
        if (self._panic or self._slated) and not (panic or slated):
            self._tick()  # what came meanwhile is taken and dropped
            self._not_before = self._clock()
        self._panic, self._slated = panic, slated
        self._tick()

    def set_bypass(self, on: bool) -> None:
        """The publisher's own lock: only while it is on are frames tagged BYPASS shown."""
        with self._lock:
            self._bypass = on
            self._told.pop("refused", None)
            self._tick()

    def say(self, line: str) -> None:
        """What the slate says is going on ("Loading the model"); an empty text leaves it to the publisher."""
        with self._lock:
            self._line = line

    def use(self, hold_s: float, slate: str) -> None:
        """Another time that pictures are held, and another line on the slate."""
        with self._lock:
            self._settings = self._settings.model_copy(update={"hold_s": hold_s, "slate": slate})

    def use_slot(self, slot: FrameSlot | None) -> None:
        """Take frames from ``slot`` from now on; when this returns the one before is no longer touched."""
        with self._lock:
            if self._slot is not None:
                self._unseen_before += self._slot.unseen
            self._slot = slot

    def status(self) -> PublishStatus:
        """What is on the air, and the counts. ``content_age`` is that of the frame shown at each tick."""
        with self._lock:
            return PublishStatus(
                state=self._on_air.state,
                state_s=round(self._clock() - self._state_since, 3),
                panic=self._panic,
                slate=self._slated,
                bypass=self._bypass,
                fps=self._fps.rate(),
                published=self._published,
                repeated=self._repeated,
                late=self._pacer.late,
                unseen=self._unseen_before + (self._slot.unseen if self._slot is not None else 0),
                refused=self._on_air.refused,
                content_age_ms_p50=_number(self._age_ms.percentile(0.5)),
                content_age_ms_p95=_number(self._age_ms.percentile(0.95)),
                content_age_ms_p99=_number(self._age_ms.percentile(0.99)),
                jitter_ms_p99=_number(self._deviation_ms.percentile(0.99)),
                gap_ms_max=_number(self._gap_ms.percentile(1.0)),
                stops=self._stops,
                outputs=tuple(output.status() for output in self._outputs),
            )

    # --- inside ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with self._lock:
            self._slate_now(self._clock())  # the first one takes long to draw, and would make the beat stumble
        while not self._stop.is_set():
            try:
                if not self._pacer.due(_PATIENCE_S):
                    continue
                self._deviation_ms.add(1000 * self._pacer.deviation_s)
                with self._lock:
                    self._waited_s = None
                    self._tick()
                    self._note_gap(self._clock())
                    if self._waited_s is not None:
                        self._pacer.met(self._waited_s)
                self._tell_once("tick", "")
            except Exception as error:
                # The beat goes on whatever it met; a frozen camera would tell nobody anything.
                self._tell_once("tick", f"a tick failed: {error!r}", error)
        self._farewell()

    def _tick(self) -> None:
        """One beat, or what a lock's change calls for between two. The lock is held."""
        now = self._clock()
        before = self._on_air
        after = decide(
            before,
            self._newest(),
            now,
            bypass=self._bypass,
            panic=self._panic or self._slated,
            hold_s=self._settings.hold_s,
            interval_s=self._pacer.interval_s,
        )
        self._on_air = after
        if after.state != before.state:
            self._state_since = now
            self._tell_state(after)
        if after.refused > before.refused and not (self._panic or self._slated):
            self._tell_once("refused", "pictures tagged as not translated come in and are refused: bypass is off")
        frame = after.shown
        if frame is None:
            pixels = self._slate_now(now)
        else:
            pixels = self._fit(frame)
            self._had_pictures = True
            self._repeated += frame is before.shown
            self._age_ms.add(1000 * (now - frame.captured_at))
        for output in self._outputs:
            # A recording begins with the first picture, whose size it takes: nobody wants the loading slate.
            if output.kind != "recording" or self._had_pictures:
                output.put(pixels)
        self._published += 1
        self._fps.add()

    def _note_gap(self, now: float) -> None:
        before, self._beat_at = self._beat_at, now
        if before is not None:
            self._gap_ms.add(1000 * (now - before))
            self._stops += now - before > _STOP_INTERVALS * self._pacer.interval_s

    def _newest(self) -> Frame | None:
        if self._slot is None:
            return None
        try:
            frame = self._slot.take()
        except Exception as error:
            # Closed under our hands, or damaged by a dying engine: that is no picture, and no reason to stop.
            self._tell_once("slot", f"the frame slot cannot be read: {error!r}", error)
            return None
        self._tell_once("slot", "")
        if frame is None:
            return None
        self._waited_s = self._slot.waited_s
        # Captured while it had to be hidden, and on its way through the engine since.
        return frame if frame.captured_at >= self._not_before else None

    def _fit(self, frame: Frame) -> Pixels:
        """The frame's pixels in the outputs' size; for one frame always the same array."""
        if self._fitted is None or self._fitted[0] is not frame:
            width, height = self._settings.width, self._settings.height
            pixels = frame.pixels
            if width is not None and height is not None:
                pixels = fit_to(pixels, width, height, self._settings.fit)
            self._size = (pixels.shape[1], pixels.shape[0])
            self._fitted = (frame, pixels)
        return self._fitted[1]

    def _slate_now(self, now: float) -> Pixels:
        # A raw or forbidden picture must not outlive its time in here.
        self._fitted = None
        width, height = self._size
        if self._panic or self._slated:
            return self._slate.picture(width, height, now, self._settings.slate or "Back in a moment")
        line = self._line or ("No new picture" if self._had_pictures else "Starting")
        return self._slate.picture(width, height, now, line, self._settings.slate)

    def _farewell(self) -> None:
        """The last picture is a slate: on some systems it stays in the camera long after the program's end."""
        with self._lock:
            self._on_air = replace(OnAir(), refused=self._on_air.refused)
            width, height = self._size
            pixels = self._slate.picture(width, height, self._clock(), "Off the air", self._settings.slate)
        for output in self._outputs:
            if output.kind != "recording":
                output.put(pixels)
            output.stop()

    def _tell_state(self, on_air: OnAir) -> None:
        if on_air.state == "BYPASS":
            log.warning("on the air: BYPASS, the captured picture itself")
        elif on_air.state == "TRANSLATED":
            log.info("on the air: TRANSLATED")
        else:
            why = f"no picture came; held for {self._settings.hold_s:g} s at most"
            why = "panic" if self._panic else "the scene's rule" if self._slated else why
            log.warning("on the air: %s (%s)", on_air.state, why)

    def _tell_once(self, topic: str, text: str, error: Exception | None = None) -> None:
        """Log ``text`` unless it was the last said on ``topic``; an empty text ends the matter silently."""
        if self._told.get(topic, "") != text:
            self._told[topic] = text
            if text:
                log.warning("%s", text, exc_info=error)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 1)
