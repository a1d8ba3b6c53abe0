"""The file that the service was started with: watched for changes, and its scene rules written back to it."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from streamv2v_obs.config import default_path, load_settings
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.rules_text import with_rules
from streamv2v_obs.settings import SceneRule, Settings
from streamv2v_obs.worker import Worker

log = logging.getLogger(__name__)

_LOOK_S = 0.5


def as_written(rule: SceneRule) -> dict[str, Any]:
    """The rule as people write it: its scene first, and what it sets, which wins over its preset even as a default."""
    without = {"scene"} if rule.preset is not None else {"scene", "preset"}
    return {"scene": rule.scene, **rule.model_dump(mode="json", exclude_unset=True, exclude=without)}


class SettingsFile:
    """``path`` (none: the user's own, which need not exist) and the ``a.b=value`` overrides given beside it."""

    def __init__(self, path: Path | None, overrides: Sequence[str]) -> None:
        self.path = path or default_path()
        self._given = path
        self._overrides = tuple(overrides)
        self._writing = threading.Lock()

    def load(self) -> Settings:
        """What it says now; raises ConfigError."""
        return load_settings(self._given, self._overrides)

    def stamp(self) -> tuple[int, int, int] | None:
        """Tells one state of the file from another; None while there is none."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def write_rules(self, rules: Sequence[SceneRule]) -> Settings:
        """Put ``rules`` where ``obs.rules`` stand, comments and all else kept; returns the settings with them.

        Raises ConfigError, with the file as it was, if they are wrong or the file cannot be written.
        """
        if any(override.partition("=")[0].strip() in ("obs", "obs.rules") for override in self._overrides):
            raise ConfigError(
                "obs.rules was given with --set, which wins over the file; start without it to edit them"
            )
        scenes = [rule.scene for rule in rules]
        for number, scene in enumerate(scenes):
            if scene in scenes[:number]:
                raise ConfigError(f"obs.rules.{number}.scene = {scene!r}: has a rule already")
        written = [as_written(rule) for rule in rules]
        with self._writing:
            text = self._with_rules(written)
            # Beside the real one: what would not load again never takes its place.
            handle, name = tempfile.mkstemp(dir=self._folder(), prefix=f".{self.path.name}.", suffix=".yaml")
            draft = Path(name)
            try:
                with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                    file.write(text)
                try:
                    settings = load_settings(draft, self._overrides)
                except ConfigError as error:
                    raise ConfigError(str(error).replace(str(draft), str(self.path))) from None
                if self.path.exists():
                    draft.chmod(self.path.stat().st_mode & 0o777)
                draft.replace(self.path.resolve())
            except OSError as error:
                raise ConfigError(f"{self.path}: cannot be written: {error.strerror}") from error
            finally:
                draft.unlink(missing_ok=True)
            return settings

    def _folder(self) -> Path:
        folder = self.path.resolve().parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be made: {error.strerror}") from error
        return folder

    def _with_rules(self, rules: Sequence[Mapping[str, Any]]) -> str:
        try:
            data = self.path.read_bytes().decode("utf-8-sig") if self.path.exists() else ""
            text = with_rules(data.replace("\r\n", "\n"), rules)
        except (OSError, UnicodeDecodeError, YAMLError) as error:
            raise ConfigError(f"{self.path}: {' '.join(str(error).split())}") from error
        except ValueError as error:
            raise ConfigError(f"{self.path}: {error}") from None
        return text.replace("\n", "\r\n") if "\r\n" in data else text


class SettingsWatch(Worker):
    """A thread "settings" that looks at the file twice a second and calls ``on_change`` when it is another one.

    It looks, rather than being told by the system: editors put a new file in the old one's place, and network and
    virtual disks tell nothing. A look is one ``stat``.
    """

    def __init__(self, file: SettingsFile, on_change: Callable[[], None]) -> None:
        super().__init__("settings")
        self._file = file
        self._on_change = on_change
        self._seen = file.stamp()

    def _run(self) -> None:
        before = self._seen
        while not self._stop.wait(_LOOK_S):
            now = self._file.stamp()
            # Twice the same: whoever writes it has finished.
            if now == before and now != self._seen:
                self._seen = now
                try:
                    self._on_change()
                except Exception:
                    log.exception("the settings were not reloaded")
            before = now
