"""The status of the service as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

_COLOURS = {
    "TRANSLATED": "black on green",
    "HOLD": "black on yellow",
    "SLATE": "white on blue",
    "BYPASS": "bold white on red",
}


def status_table(status: Mapping[str, Any]) -> Table:
    """``status`` is the JSON of ServiceStatus."""
    publish, engine, obs = status["publish"], status["engine"], status["obs"]
    found = Table(box=None, show_header=False, pad_edge=False)
    found.add_column(style="bold")
    found.add_column(overflow="fold")

    def row(name: str, value: str | Text) -> None:
        # Text, not markup: prompts and window titles may hold brackets.
        found.add_row(name, value if isinstance(value, Text) else Text(value))

    on_air = Text(f" {publish['state']} ", style=_COLOURS.get(publish["state"], ""))
    if publish["panic"]:
        on_air.append("  panic: slate until released")
    if publish["slate"]:
        on_air.append("  slate for as long as the scene is on air")
    if publish["bypass"]:
        on_air.append("  the captured picture itself may be shown")
    row("on air", on_air)
    age = _ms(publish["content_age_ms_p50"], publish["content_age_ms_p95"])
    row("output", f"{publish['fps']:.1f} fps, age of the picture {age}, repeated {publish['repeated']}")
    for output in publish["outputs"]:
        state = "ok" if output["ok"] else "NOT OK"
        row(f"  {output['kind']}", f"{state}: {output['detail']} (sent {output['sent']}, dropped {output['dropped']})")
    doing = f" ({engine['state']})" if engine else ""
    row(
        "engine",
        status["engine_state"] + doing + (f", restarted {n} times" if (n := status["engine_restarts"]) else ""),
    )
    if engine and engine["source"]:
        row("  source", f"{engine['source']}, {engine['capture_fps']:.1f} fps, dropped {engine['dropped']}")
    if engine and engine["model"]:
        kind = " ".join(engine[key] for key in ("device", "backend", "dtype", "attention", "schedule") if engine[key])
        row("  model", f"{engine['model']}, {kind}, {engine['width']}x{engine['height']}")
        if engine.get("path"):
            row("  path", engine["path"])
        if engine.get("schedule_reason"):
            row("  schedule", f"{engine['schedule']} ({engine['schedule_reason']})")
        speed = _ms(engine["translate_ms_p50"], engine["translate_ms_p95"])
        row("  speed", f"{engine['translate_fps']:.1f} fps, {speed}")
        row("  prompt", engine["prompt"] + (f" (preset {status['preset']})" if status["preset"] else ""))
        style = engine["style"] or "none"
        row("  strength", f"{engine['strength']:g}, {engine['steps']} steps, seed {engine['seed']}, style {style}")
        bank = "filled" if engine["bank_filled"] else "empty"
        row("  bank", f"{engine['bank']}, {bank}, scenes stored: {', '.join(engine['scenes_stored']) or 'none'}")
    if engine and engine["note"]:
        row("  note", Text(engine["note"], style="yellow"))
    if status["failure"]:
        row("failure", Text(status["failure"], style="red"))
    scene = f", scene {obs['scene']}" if obs["scene"] else ""
    row("OBS", f"{obs['state']}{scene} {obs['version']} {obs['detail']}".rstrip())
    if obs["note"]:
        row("  note", Text(obs["note"], style="yellow"))
    for notice in status["notices"]:
        row("notice", notice)
    uptime = status["uptime_s"]
    row("service", f"process {status['pid']} at {status['address']}, up {uptime:.0f} s, version {status['version']}")
    return found


def _ms(middle: float | None, high: float | None) -> str:
    if middle is None or high is None:
        return "not measured yet"
    return f"{middle:.0f} ms (95%: {high:.0f} ms)"
