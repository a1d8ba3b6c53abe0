"""A fake of obspython, which only exists inside OBS: settings are dicts, forms are dicts, the log is a list."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

SCRIPT = Path(__file__).parents[2] / "plugin_scripts" / "streamv2v_control.py"


class FakeObspython(ModuleType):
    """As much of it as the script uses; like OBS, it takes plain functions only."""

    LOG_INFO, LOG_WARNING = 300, 200
    OBS_TEXT_DEFAULT, OBS_TEXT_PASSWORD, OBS_TEXT_INFO = 0, 1, 3
    OBS_COMBO_TYPE_LIST, OBS_COMBO_FORMAT_STRING, OBS_PATH_FILE = 2, 3, 0

    def __init__(self) -> None:
        super().__init__("obspython")
        self.log: list[tuple[int, str]] = []
        self.hotkeys: dict[str, Any] = {}
        self.keys: dict[str, Any] = {}

    def script_log(self, level: int, line: str) -> None:
        self.log.append((level, line))

    def obs_data_get_string(self, data: dict[str, Any], name: str) -> str:
        return str(data.get(name, ""))

    def obs_data_get_double(self, data: dict[str, Any], name: str) -> float:
        return float(data.get(name, 0.0))

    def obs_data_get_bool(self, data: dict[str, Any], name: str) -> bool:
        return bool(data.get(name, False))

    def obs_data_get_array(self, data: dict[str, Any], name: str) -> Any:
        return data.get(name)

    def obs_data_set_array(self, data: dict[str, Any], name: str, array: Any) -> None:
        data[name] = array

    def obs_data_array_release(self, array: Any) -> None:
        pass

    def obs_data_set_default_string(self, data: dict[str, Any], name: str, value: str) -> None:
        data.setdefault(name, value)

    def obs_data_set_default_double(self, data: dict[str, Any], name: str, value: float) -> None:
        data.setdefault(name, value)

    def obs_hotkey_register_frontend(self, name: str, description: str, pressed: Any) -> str:
        assert isinstance(pressed, FunctionType)
        self.hotkeys[name] = pressed
        return name

    def obs_hotkey_load(self, number: str, keys: Any) -> None:
        self.keys[number] = keys

    def obs_hotkey_save(self, number: str) -> Any:
        return self.keys[number]

    def obs_properties_create(self) -> dict[str, Any]:
        return {}

    def obs_properties_get(self, form: dict[str, Any], name: str) -> Any:
        return form[name]

    def _add(self, form: dict[str, Any], name: str, text: str, kind: object) -> dict[str, Any]:
        form[name] = {"text": text, "kind": kind}
        return dict.__getitem__(form, name)

    def obs_properties_add_text(self, form: dict[str, Any], name: str, text: str, kind: int) -> Any:
        return self._add(form, name, text, kind)

    def obs_properties_add_bool(self, form: dict[str, Any], name: str, text: str) -> Any:
        return self._add(form, name, text, None)

    def obs_properties_add_path(self, form: Any, name: str, text: str, kind: int, allowed: str, begin: str) -> Any:
        return self._add(form, name, text, kind)

    def obs_properties_add_list(self, form: dict[str, Any], name: str, text: str, kind: int, holds: int) -> Any:
        return self._add(form, name, text, [])

    def obs_properties_add_float_slider(self, form: Any, name: str, text: str, *least_most_step: float) -> Any:
        return self._add(form, name, text, least_most_step)

    def obs_properties_add_button(self, form: dict[str, Any], name: str, text: str, clicked: Any) -> Any:
        assert isinstance(clicked, FunctionType)
        return self._add(form, name, text, clicked)

    def obs_property_list_add_string(self, shown: dict[str, Any], text: str, value: str) -> None:
        shown["kind"].append(value)

    def obs_property_list_clear(self, shown: dict[str, Any]) -> None:
        shown["kind"].clear()

    def obs_property_set_description(self, shown: dict[str, Any], text: str) -> None:
        shown["text"] = text

    def obs_property_set_long_description(self, shown: dict[str, Any], text: str) -> None:
        shown["long"] = text


@contextmanager
def loaded_script() -> Iterator[tuple[Any, FakeObspython]]:
    """The script as a module over such a fake; unloaded when the block ends."""
    fake = FakeObspython()
    found = importlib.util.spec_from_file_location("streamv2v_control", SCRIPT)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["obspython"], sys.modules["streamv2v_control"] = fake, module  # dataclasses look themselves up
    try:
        found.loader.exec_module(module)
        yield module, fake
        module.script_unload()
    finally:
        del sys.modules["obspython"], sys.modules["streamv2v_control"]
