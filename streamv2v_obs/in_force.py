"""The settings in force: what the file says, what was chosen by hand over it, and what could not be taken up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from streamv2v_obs.errors import ConfigError
from streamv2v_obs.reload import Plan, in_force, plan
from streamv2v_obs.settings import SceneRule, Settings
from streamv2v_obs.settings_file import SettingsFile, SettingsWatch

log = logging.getLogger(__name__)


class InForce:
    """Begins with ``settings``, follows ``file``, and has ``take_up`` do what each change needs.

    ``take_up`` is called with one change at a time. Everything here may be called from any thread; ``start``,
    ``stop`` and ``join`` are for the thread that watches the file.
    """

    def __init__(
        self, settings: Settings, file: SettingsFile | None, take_up: Callable[[Plan, Settings], None]
    ) -> None:
        self.current = settings
        self.notices = _about(settings)
        """What does not have the effect that somebody may think it has."""
        for notice in self.notices:
            log.warning("%s", notice)
        self._file = file
        self._take_up = take_up
        self._lock = threading.Lock()  # guards all that follows and precedes, and the order of changes
        self._loaded = settings  # what the file said last
        self._chosen: dict[tuple[str, str], Any] = {}  # (section, key) -> what was chosen by hand instead
        self._watch = SettingsWatch(file, self.reload) if file is not None else None

    def start(self) -> None:
        """Begin to watch the file."""
        if self._watch is not None:
            self._watch.start()

    def stop(self) -> None:
        """Ask for the end of that."""
        if self._watch is not None:
            self._watch.stop()

    def join(self, timeout_s: float) -> None:
        """Wait for it."""
        if self._watch is not None:
            self._watch.join(timeout_s)

    @property
    def rules_file(self) -> str | None:
        """Where scene rules are written to; None if they cannot be."""
        return str(self._file.path) if self._file is not None else None

    def model_names(self) -> list[str]:
        """Models that can be chosen: that of the settings, and those that are complete here."""
        from streamv2v_obs.translator.presets import list_models

        here = [model.name for model in list_models() if model.present]
        return list(dict.fromkeys([self._loaded.model.name, *here]))

    def set_rules(self, rules: Sequence[SceneRule]) -> None:
        """Write scene rules to the file and apply them. Raises ConfigError, and then nothing has changed."""
        if self._file is None:
            raise ConfigError("the service was started without a file that rules could be written to")
        with self._lock:
            self._go_over(self._file.write_rules(rules))

    def choose(self, chosen: Mapping[tuple[str, str], Any]) -> Plan:
        """Other values, such as ``{("translator", "steps"): 4}``, until the service ends or the file says something
        else of the same. Raises ConfigError if they cannot be had."""
        with self._lock:
            together = self._chosen | dict(chosen)
            settings = _with(self._loaded, together)
            self._chosen = together
            return self._become(settings)

    def reload(self) -> None:
        """Take up what the file says now; what is wrong with it is said, and then nothing has changed."""
        if self._file is None:
            return
        with self._lock:
            try:
                self._go_over(self._file.load())
            except ConfigError as error:
                self._say(f"not reloaded, the old settings stay: {error}", logging.ERROR)

    def go_back(self, settings: Settings, why: str) -> None:
        """The engine cannot begin with what was taken up last, and has gone back to its part of ``settings``."""
        with self._lock:
            self._chosen = {}
            self.current = self.current.model_copy(update={"model": settings.model, "translator": settings.translator})
            self._say(f"settings: the engine goes on with the ones before: {why}", logging.ERROR)

    def _go_over(self, loaded: Settings) -> None:
        """The file says something else: that wins over what was chosen by hand of the same."""
        news = plan(self._loaded, loaded)
        said = {*news.live, *news.engine}
        chosen = {keys: value for keys, value in self._chosen.items() if ".".join(keys) not in said}
        settings = _with(loaded, chosen)
        self._loaded, self._chosen = loaded, chosen
        self._become(settings)

    def _become(self, settings: Settings) -> Plan:
        found = plan(self.current, settings)
        self.current = in_force(self.current, settings)
        self._say("")
        if found.engine:
            log.warning("settings: the engine is started anew for %s", ", ".join(found.engine))
        if found.service:
            self._say(f"settings: start the service anew for {', '.join(found.service)}", logging.WARNING)
        self._take_up(found, self.current)
        if found.live:
            log.info("settings: applied at once: %s", ", ".join(found.live))
        return found

    def _say(self, notice: str, level: int = logging.INFO) -> None:
        if notice:
            log.log(level, "%s", notice)
        self.notices = (*_about(self.current), *([notice] if notice else []))


def _about(settings: Settings) -> tuple[str, ...]:
    """What of ``settings`` has less effect than somebody may think."""
    if settings.obs.rules and not settings.obs.enabled:
        return ("obs.rules are not in force: obs.enabled is false",)
    return ()


def _with(settings: Settings, chosen: Mapping[tuple[str, str], Any]) -> Settings:
    # What nobody has set stays so: a rule of a scene wins over its preset only with what it sets itself.
    tree = settings.model_dump(exclude_unset=True)
    for (section, key), value in chosen.items():
        tree.setdefault(section, {})[key] = value
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{key}: {first['msg'].removeprefix('Value error, ')}") from None
