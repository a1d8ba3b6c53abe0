"""Named set-ups of the prompt: which one is meant, what it changes, and which is in force."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from streamv2v_obs.commands import Change
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.settings import Preset, SceneRule


class Presets:
    """The presets in their order, and which of them is in force. From any thread."""

    def __init__(self, presets: Sequence[Preset]) -> None:
        self.all = tuple(presets)
        self._lock = threading.Lock()
        self._last: int | None = None  # guarded by _lock, like what follows: where next and previous go on from
        self._in_force = False

    @property
    def current(self) -> str | None:
        """The name of the preset in force; None once anything that it may set was set by other means."""
        with self._lock:
            return self.all[self._last].name if self._last is not None and self._in_force else None

    def renewed(self, presets: Sequence[Preset]) -> Presets:
        """``presets`` instead of these; the one in force stays so if it is among them as it was."""
        found = Presets(presets)
        current = next((preset for preset in self.all if preset.name == self.current), None)
        if current is not None and current in found.all:
            found.note(change_to(current))
        return found

    def called(self, which: str | int) -> Change:
        """What is meant by a name, a number from 1, ``next`` or ``previous``; ConfigError if there is no such."""
        if isinstance(which, int) or which.isdecimal():
            return self.numbered(int(which))
        steps = {"next": 1, "previous": -1}
        return self.stepped(steps[which]) if which in steps else self.named(which)

    def named(self, name: str) -> Change:
        """What the preset of this name changes; ConfigError if there is none."""
        for preset in self.all:
            if preset.name == name:
                return change_to(preset)
        raise ConfigError(f"preset = {name[:100]!r}: there is none of that name; {self._allowed()}")

    def numbered(self, number: int) -> Change:
        """What the preset at this place changes, counted from 1; ConfigError if there is none."""
        if not 1 <= number <= len(self.all):
            raise ConfigError(f"preset = {number}: there is none of that number; {self._allowed()}")
        return change_to(self.all[number - 1])

    def stepped(self, step: int) -> Change:
        """What the one ``step`` places after the last one changes, round and round; ConfigError without presets.

        Several steps in a row count from each other, however long the engine takes to apply them.
        """
        if not self.all:
            raise ConfigError(f"preset: {self._allowed()}")
        with self._lock:
            if self._last is None:
                self._last = 0 if step > 0 else -1
            else:
                self._last += step
            self._last %= len(self.all)
            return change_to(self.all[self._last])

    def note(self, change: Change) -> None:
        """``change`` was asked of the engine."""
        with self._lock:
            names = [preset.name for preset in self.all]
            if change.preset in names:  # else it was called a moment before the presets were replaced
                self._last = names.index(change.preset)
                self._in_force = True
            elif (change.prompt, change.strength, change.seed, change.style) != (None,) * 4:
                self._in_force = False

    def _allowed(self) -> str:
        names = ", ".join(preset.name for preset in self.all)
        return f"allowed: {names}" if names else "the settings hold none (section presets)"


def change_to(preset: Preset) -> Change:
    """All that ``preset`` sets."""
    return Change(
        prompt=preset.prompt,
        strength=preset.strength,
        seed=preset.seed,
        style=preset.style,
        bank=preset.bank,
        blend_s=preset.blend_s,
        preset=preset.name,
    )


def fill_in(rules: Sequence[SceneRule], presets: Sequence[Preset]) -> tuple[SceneRule, ...]:
    """The rules with what the presets they name set; what a rule itself sets wins."""
    known = {preset.name: preset for preset in presets}

    def filled(rule: SceneRule) -> SceneRule:
        if rule.preset is None:
            return rule
        preset = known[rule.preset].model_dump(exclude={"name"}, exclude_none=True)
        return rule.model_copy(update={k: v for k, v in preset.items() if k not in rule.model_fields_set})

    return tuple(map(filled, rules))
