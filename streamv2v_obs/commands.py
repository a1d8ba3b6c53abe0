"""What the service tells the engine; state that is overwritten is not queued."""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields, replace
from typing import TypeAlias

from streamv2v_obs.settings import BankPolicy, CaptureSettings


@dataclass(frozen=True)
class Change:
    """Everything one event changes, applied together between two frames. None leaves a thing as it is.

    ``scene`` names the OBS scene that this change brings in; ``bank: restore`` brings back the bank saved under
    that name, or under ``bank_of`` (or resets, if there is none). ``save_as`` saves the bank in force under that name
    first. ``blend_s`` is the time that the prompt takes to become another one, and a bank to fade. ``preset`` names
    the preset that this change brings in.
    """

    prompt: str | None = None
    strength: float | None = None
    seed: int | None = None
    style: str | None = None
    bank: BankPolicy = "keep"
    bank_of: str | None = None
    scene: str | None = None
    save_as: str | None = None
    source: CaptureSettings | None = None
    preset: str | None = None
    steps: int | None = None
    blend_s: float = 0.0

    def over(self, older: Change) -> Change:
        """This change laid over one that was never applied: one change with the effect of both.

        The bank to save is the one in force before ``older``; a scene that never came to be has none. A scene that
        keeps the bank keeps the one that ``older`` brings back.
        """
        newer = {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}
        for name in ("bank", "bank_of", "save_as", "blend_s"):
            newer.pop(name, None)
        save_as = older.save_as if older.scene is not None else (older.save_as or self.save_as)
        policy = older if self.bank == "keep" else self
        bank_of = policy.bank_of or policy.scene if policy.bank == "restore" else None
        timed = older if self.prompt is None and self.bank == "keep" else self
        return replace(older, **newer, save_as=save_as, bank=policy.bank, bank_of=bank_of, blend_s=timed.blend_s)


@dataclass(frozen=True)
class Prepare:
    """Encode this prompt, which may be wanted soon; changes no picture."""

    prompt: str


@dataclass(frozen=True)
class Bypass:
    """Send the captured picture itself, tagged BYPASS; the publisher's lock is a second one."""

    on: bool


@dataclass(frozen=True)
class WatchInput:
    """Fill the slot that the panel's view of the input reads."""

    on: bool


@dataclass(frozen=True)
class LogLevel:
    """Log from this level on."""

    level: str


@dataclass(frozen=True)
class Stop:
    """End in order."""


Command: TypeAlias = Change | Prepare | Bypass | WatchInput | LogLevel | Stop


class CommandBox:
    """Holds at most one command of each kind between two threads; the newest wins, changes are merged."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pending: dict[type, Command] = {}  # guarded by _changed

    def post(self, command: Command) -> None:
        """Lay ``command`` down for the next ``drain``."""
        with self._changed:
            older = self._pending.pop(type(command), None)
            if isinstance(command, Change) and isinstance(older, Change):
                command = command.over(older)
            self._pending[type(command)] = command
            self._changed.notify()

    def wait(self, timeout_s: float) -> None:
        """Return once something is pending, or after ``timeout_s``."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._pending), timeout_s)

    def drain(self) -> list[Command]:
        """All pending commands, each kind once, in the order of their last posting but for BYPASS and the end.

        What opens it comes last and what closes it first: a change of the source that is posted with it, and is
        merged with later ones meanwhile, never finds a raw picture of another scene's source on its way out.
        """
        with self._changed:
            commands = sorted(self._pending.values(), key=_rank)
            self._pending.clear()
            return commands


def _rank(command: Command) -> int:
    if isinstance(command, Bypass):
        return 1 if command.on else -1
    return 2 if isinstance(command, Stop) else 0
