"""What has to be done with OBS from time to time, in the listener's thread, between two events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from streamv2v_obs.errors import ObsError, ObsRefused, ObsUnreachable
from streamv2v_obs.obs.client import ObsVersion, Requests
from streamv2v_obs.obs.events import Event

RETRY_S = 5.0
"""Until a chore that OBS says no to is tried again: its source may come."""

Complain: TypeAlias = Callable[[str, str], None]
"""(matter, line): what cannot be done about a matter; an empty line when it can."""


class Chore(Protocol):
    """One of them. Instants are those of ``time.monotonic``; methods may raise ObsError."""

    matter: str
    """The setting that asks for it."""
    due_at: float
    changed: bool
    """Whether something in OBS is not as it was, so that ``put_back`` is called at the end."""

    def begin(self, version: ObsVersion, now: float) -> None: ...  # at each new connection
    def hear(self, event: Event, now: float) -> None: ...
    def do(self, requests: Requests, now: float) -> None: ...  # and set due_at anew
    def put_back(self, requests: Requests) -> None: ...


def do_due(chores: tuple[Chore, ...], requests: Requests, now: float, complain: Complain) -> None:
    """Do what is due; what OBS says no to is told and tried again. Raises what ends the connection."""
    for chore in chores:
        if now < chore.due_at:
            continue
        try:
            chore.do(requests, now)
        except (ObsUnreachable, ObsRefused):
            raise
        except ObsError as error:
            complain(chore.matter, str(error))
            chore.due_at = now + RETRY_S
        else:
            complain(chore.matter, "")
