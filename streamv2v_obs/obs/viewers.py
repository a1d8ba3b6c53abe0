"""Prompts that viewers ask for: what is refused, who has to approve, how long each is shown, and what comes back."""

from __future__ import annotations

import itertools
import logging
import threading
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field

from streamv2v_obs.commands import Change
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.settings import ViewerSettings
from streamv2v_obs.worker import Worker

log = logging.getLogger(__name__)

_LOOKALIKES = str.maketrans("01345678@$!|l9", "oieasgtbasiiig")
"""l is an i, too: a 1, a ! or a | may stand for either, in a text as in a blocked word."""
_NAME_LENGTH = 40
_LOOK_S = 0.25
_PATIENCE_S = 3.0
"""So long the engine may take to say that it has a new prompt."""


@dataclass(frozen=True)
class Wanted:
    """What one viewer asked for."""

    number: int
    text: str
    name: str


@dataclass
class _Shown:
    wanted: Wanted
    before: str
    ends_at: float | None


@dataclass
class Queue:
    """The rules alone, with the time as an argument. For one thread at a time."""

    settings: ViewerSettings
    waiting: list[Wanted] = field(default_factory=list)
    """For the streamer's approval."""
    approved: list[Wanted] = field(default_factory=list)
    """For their turn."""
    shown: _Shown | None = None
    _asked_at: dict[str, float] = field(default_factory=dict)
    _free_at: float = 0.0
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def ask(self, text: str, name: str, now: float) -> Wanted:
        """Take a wish in. Raises ConfigError with one line that a chat may be shown: it never repeats the text."""
        text, name = " ".join(text.split()), " ".join(name.split())[:_NAME_LENGTH]
        limit = self.settings
        if not text:
            raise ConfigError("a viewer's prompt is empty")
        if len(text) > limit.length:
            raise ConfigError(f"a viewer's prompt of {len(text)} characters; allowed: {limit.length}")
        if any(unicodedata.category(letter) in ("Cc", "Cf", "Co", "Cs", "Cn") for letter in text):
            raise ConfigError("a viewer's prompt holds characters that cannot be seen")
        if blocked_in(text, limit.blocked):
            raise ConfigError("a viewer's prompt holds a word that is blocked")
        self._asked_at = {who: at for who, at in self._asked_at.items() if now - at < limit.cooldown_s}
        if name and name in self._asked_at:
            wait_s = limit.cooldown_s - (now - self._asked_at[name])
            raise ConfigError(f"this viewer has asked already; allowed again in {max(wait_s, 1):.0f} s")
        if len(self.waiting) + len(self.approved) >= limit.queue:
            raise ConfigError(f"{limit.queue} prompts of viewers are waiting, which is all that is allowed")
        wanted = Wanted(next(self._numbers), text, name)
        self._asked_at[name] = now
        (self.waiting if limit.approve else self.approved).append(wanted)
        return wanted

    def decide(self, number: int, approve: bool) -> Wanted:
        """The streamer's word on one that waits. Raises ConfigError where there is no such one."""
        for wanted in self.waiting:
            if wanted.number == number:
                self.waiting.remove(wanted)
                if approve:
                    self.approved.append(wanted)
                return wanted
        known = ", ".join(str(wanted.number) for wanted in self.waiting) or "none"
        raise ConfigError(f"number = {number}: no such prompt waits; waiting: {known}")

    def clear(self) -> None:
        """Drop all that wait, and have what is shown end now."""
        self.waiting.clear()
        self.approved.clear()
        if self.shown is not None:
            self.shown.ends_at = 0.0

    def due(self, prompt: str, now: float) -> str | None:
        """The prompt to be put in force now, while ``prompt`` is; None: nothing.

        A prompt that is not the viewer's any more was changed by the streamer or a scene: then nothing is brought
        back, and the next viewer's turn begins.
        """
        if self.shown is not None:
            if prompt != self.shown.wanted.text:
                self.shown = None
            elif self.shown.ends_at is not None and now >= self.shown.ends_at and not self.approved:
                before, self.shown = self.shown.before, None
                return before
        if not self.approved or now < self._free_at:
            return None
        wanted = self.approved.pop(0)
        self._free_at = now + self.settings.cooldown_s
        before = prompt if self.shown is None else self.shown.before
        ends_at = None if self.settings.revert_s is None else now + self.settings.revert_s
        self.shown = _Shown(wanted, before, ends_at)
        return wanted.text


def blocked_in(text: str, blocked: tuple[str, ...]) -> bool:
    """Whether one of ``blocked`` is in ``text``, whatever its case, accents, gaps and digits for letters."""
    squeezed = _squeezed(text)
    return any(word in squeezed for one in blocked if (word := _squeezed(one)))


def _squeezed(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).casefold().translate(_LOOKALIKES)
    return "".join(letter for letter in plain if letter.isalnum())


class Viewers(Worker):
    """The queue in a thread "viewers", which puts prompts in force and brings back what was there before.

    ``apply`` is called by that thread; ``prompt`` tells the one in force, or None while no engine runs. All methods
    return at once and may be called from any thread.
    """

    def __init__(
        self, settings: ViewerSettings | None, apply: Callable[[Change], None], prompt: Callable[[], str | None]
    ) -> None:
        super().__init__("viewers")
        self._apply = apply
        self._prompt = prompt
        self._lock = threading.Lock()  # guards _queue
        self._queue = None if settings is None else Queue(settings)
        self._expected: tuple[str, float] | None = None  # the thread's own: what the engine is to say, and since when

    def use(self, settings: ViewerSettings | None) -> None:
        """Other rules; what waits goes on waiting, or is dropped where viewers may not ask any more."""
        with self._lock:
            if settings is None:
                self._queue = None
            elif self._queue is None:
                self._queue = Queue(settings)
            else:
                self._queue.settings = settings

    def ask(self, text: str, name: str = "") -> None:
        """A viewer's wish. Raises ConfigError: off, too long, blocked, too soon, too many."""
        with self._lock:
            wanted = self._needed().ask(text, name, time.monotonic())
        log.info("viewer's prompt %d taken in: %r, asked by %r", wanted.number, wanted.text, wanted.name)

    def decide(self, number: int, approve: bool) -> None:
        """The streamer's word. Raises ConfigError."""
        with self._lock:
            self._needed().decide(number, approve)
        log.info("viewer's prompt %d %s", number, "approved" if approve else "rejected")

    def clear(self) -> None:
        """Drop everything of viewers, at once. Raises ConfigError where they may not ask."""
        with self._lock:
            self._needed().clear()
        log.info("viewers' prompts dropped")

    def told(self) -> dict[str, object]:
        """What waits, what is approved, and what is shown."""
        with self._lock:
            queue = self._queue
            if queue is None:
                return {"on": False, "approve": False, "waiting": [], "approved": [], "shown": None}
            return {
                "on": True,
                "approve": queue.settings.approve,
                "waiting": [vars(one) for one in queue.waiting],
                "approved": [vars(one) for one in queue.approved],
                "shown": None if queue.shown is None else vars(queue.shown.wanted),
            }

    def _needed(self) -> Queue:
        if self._queue is None:
            raise ConfigError("viewers may not ask for prompts; obs.viewers: {} allows it")
        return self._queue

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_S):
            prompt = self._prompt()
            if prompt is None or self._still_comes(prompt):
                continue
            with self._lock:
                due = None if self._queue is None else self._queue.due(prompt, time.monotonic())
            if due is not None and due != prompt:
                self._expected = (due, time.monotonic())
                self._apply(Change(prompt=due))

    def _still_comes(self, prompt: str) -> bool:
        """Whether the engine has not yet said the prompt that it was given: what it says is of before."""
        if self._expected is None:
            return False
        wanted, since = self._expected
        if prompt != wanted and time.monotonic() - since < _PATIENCE_S:
            return True
        self._expected = None
        return False
