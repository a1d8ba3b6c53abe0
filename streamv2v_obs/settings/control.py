"""Steering by people: the address of the panel, keys, and how much is told."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from streamv2v_obs.settings.section import Section, Whole


def _loopback_or_address(host: str) -> str:
    if host != "localhost":
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ValueError("allowed: localhost or an address in digits, such as 127.0.0.1 or ::1") from None
    return host


_MODIFIERS = ("ctrl", "alt", "shift", "cmd")
_ALONE = (*(f"f{number}" for number in range(1, 21)), "pause", "scroll_lock")
_NAMED = (
    *_ALONE,
    *("left", "right", "up", "down", "home", "end", "page_up", "page_down", "insert", "delete", "space"),
)


def _combination(text: str) -> str:
    """ctrl+alt+p, in one order and spelling."""
    *modifiers, key = [part.strip().lower() for part in text.split("+")]
    known = set(modifiers) <= set(_MODIFIERS) and len(set(modifiers)) == len(modifiers)
    if not known or not (key in _NAMED or (len(key) == 1 and key.isprintable())):
        raise ValueError(
            f"{text!r}: allowed are {', '.join(_MODIFIERS)} and one key behind them, such as ctrl+alt+p; "
            f"a key is one character, f1 to f20, {', '.join(_NAMED[20:])}"
        )
    if key not in _ALONE and set(modifiers) <= {"shift"}:
        raise ValueError(f"{text!r}: whoever types would press it; allowed: together with ctrl, alt or cmd")
    return "+".join([*(one for one in _MODIFIERS if one in modifiers), key])


# None switches bypass on: what shows the raw picture must not be a slip of a finger.
HotkeyAction: TypeAlias = Literal[
    "panic",
    "panic off",
    "bypass off",
    "bank reset",
    "next",
    "previous",
    "preset 1",
    "preset 2",
    "preset 3",
    "preset 4",
    "preset 5",
    "preset 6",
    "preset 7",
    "preset 8",
    "preset 9",
]


class ControlSettings(Section):
    """The HTTP API and the panel."""

    host: Annotated[str, AfterValidator(_loopback_or_address)] = Field(
        "127.0.0.1", description="0.0.0.0 or an address of this machine: others in the network, too, with lan"
    )
    port: Annotated[Whole, Field(ge=0, le=65535)] = Field(8770, description="0: any free one")
    lan: bool = Field(False, description="let whoever has a link in from the network; what is sent is not encrypted")
    hotkeys: dict[HotkeyAction, Annotated[str, AfterValidator(_combination)]] = Field(
        {}, description="keys that steer whatever window is in front, such as panic: ctrl+alt+p; needs pynput"
    )

    @model_validator(mode="after")
    def _each_key_means_one_thing(self) -> ControlSettings:
        for action, keys in self.hotkeys.items():
            for other, others in self.hotkeys.items():
                if action != other and set(keys.split("+")) <= set(others.split("+")):
                    raise ValueError(f"hotkeys: {others} ({other}) would be {keys} ({action}), too; allowed: others")
        return self

    @model_validator(mode="after")
    def _the_network_is_asked_for(self) -> ControlSettings:
        if not self.lan and self.host != "localhost" and not ipaddress.ip_address(self.host).is_loopback:
            raise ValueError(
                f"host = {self.host!r}: others in the network could reach it; allowed: 127.0.0.1, ::1 or localhost, "
                "or together with lan: true"
            )
        return self


class LogSettings(Section):
    """What is told, and how much of it."""

    level: Literal["debug", "info", "warning", "error"] = "info"
