"""The developer's page's table of fuzzers, made of the committed results; nobody types one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "streamv2v_obs" / "README.md"
READERS = Path(__file__).with_name("fuzzed.json")
API = Path(__file__).parents[1] / "rigs" / "fuzzed.json"
BEGIN, END = "<!-- fuzzed -->", "<!-- /fuzzed -->"
_HEAD = (
    "| what is read | inputs spoiled, by hypothesis | inputs guided, by atheris | crashes, hangs | "
    "lines reached (coverage.py) |\n|---|---|---|---|---|"
)
_NAMES = {
    "config": "settings file",
    "event": "events of OBS, and wishes in them",
    "obs-server": "a hostile obs-websocket server",
    "safetensors": "weights files",
    "description": "a model's JSON description",
    "video": "video files",
}


def table() -> str:
    """A row for each reader of foreign bytes, and one for the HTTP API."""
    told = json.loads(READERS.read_text(encoding="utf-8"))
    spoiled, guided = told.get("spoiled", {}), told.get("guided", {})
    rows = [_row(_NAMES[name], spoiled[name], guided.get(name)) for name in _NAMES if name in spoiled]
    api = json.loads(API.read_text(encoding="utf-8"))
    rows.append(f"| the HTTP API, with and without a right | {api['requests']:,} (schemathesis) | - | 0, 0 | - |")
    return "\n".join([_HEAD, *rows])


def _row(name: str, spoiled: dict[str, Any], guided: dict[str, Any] | None) -> str:
    by_path = "-" if guided is None else f"{guided['inputs']:,}"
    crashes, hangs = (sum(one[what] for one in (spoiled, guided or spoiled)) for what in ("crashes", "hangs"))
    reached = ", ".join(f"{100 * share:.0f} % of `{parser}`" for parser, share in spoiled["coverage"].items())
    return f"| {name} | {spoiled['inputs']:,} | {by_path} | {crashes}, {hangs} | {reached} |"


def filled(page: str) -> str:
    """``page`` with the table between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
