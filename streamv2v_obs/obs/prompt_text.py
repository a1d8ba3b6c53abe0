"""A text source of OBS as the prompt: what it says, once whoever types it has paused."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from streamv2v_obs.errors import ObsError
from streamv2v_obs.obs.client import ObsVersion, Requests
from streamv2v_obs.obs.events import Event, InputRenamed, InputSettingsChanged

PAUSE_S = 0.4
"""Without a change for so long, a text is meant; OBS tells every letter."""
POLL_S = 1.0
"""Between two looks, where OBS tells no changes of settings (websocket before 5.4)."""
LIMIT = 1000
"""Characters of a prompt; longer ones are refused, not cut."""


class PromptText:
    """A chore that calls ``use`` with each new text, once; an empty text leaves the prompt as it is.

    ``use`` may be another one later.
    """

    matter = "obs.prompt_text"
    changed = False

    def __init__(self, source: str, use: Callable[[str], None]) -> None:
        self.due_at = 0.0
        self._source = source  # its name now; it may be renamed while we listen
        self.use = use
        self._told = False  # OBS tells changes by itself
        self._used: str | None = None
        self._typed: str | None = None  # not used yet, since when it was last changed:
        self._typed_at = 0.0

    def begin(self, version: ObsVersion, now: float) -> None:
        """Look at once: the text may have changed meanwhile. The same text as before is no news."""
        self._told = version.at_least(5, 4)
        self.due_at = now

    def hear(self, event: Event, now: float) -> None:
        """Note what is typed."""
        match event:
            case InputSettingsChanged(name, settings) if name == self._source:
                self._note(settings, now)
                self.due_at = min(self.due_at, now + PAUSE_S)
            case InputRenamed(old, new) if old == self._source:
                self._source = new

    def do(self, requests: Requests, now: float) -> None:
        """Look what it says, and use it if it has said so for PAUSE_S."""
        answer = requests.call("GetInputSettings", {"inputName": self._source})
        kind = str(answer.get("inputKind", ""))
        if not kind.startswith("text_"):
            raise ObsError(f"{self._source!r} is a source of kind {kind}; allowed: a text source")
        settings = answer.get("inputSettings") or {}
        if settings.get("from_file") or settings.get("read_from_file"):
            raise ObsError(f"{self._source!r} reads its text from a file, which OBS does not tell; type it there")
        self._note(settings, now)
        if self._typed is not None and now >= self._typed_at + PAUSE_S:
            self._used, self._typed = _words(self._typed), None
            if 0 < len(self._used) <= LIMIT:
                self.use(self._used)
        if self._typed is not None:
            self.due_at = self._typed_at + PAUSE_S
        else:
            self.due_at = math.inf if self._told else now + POLL_S
        if self._typed is None and len(self._used or "") > LIMIT:
            raise ObsError(f"{self._source!r} says {len(self._used or '')} characters; allowed: {LIMIT}")

    def put_back(self, requests: Requests) -> None:
        """Nothing was changed."""

    def _note(self, settings: Mapping[str, Any], now: float) -> None:
        text = str(settings.get("text") or "")
        if _words(text) == self._used:
            self._typed = None
        elif text != self._typed:  # a blank more is no other prompt, but somebody who still types
            self._typed, self._typed_at = text, now


def _words(text: str) -> str:
    return " ".join(text.split())
