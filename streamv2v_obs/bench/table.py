"""README's figures, made of the committed results; nobody types one."""

from __future__ import annotations

import json
import re
from pathlib import Path

from streamv2v_obs.bench import results
from streamv2v_obs.bench.table_rows import Result, rows_of
from streamv2v_obs.errors import ConfigError

BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
README = Path(__file__).parents[2] / "README.md"
PAGE = Path(__file__).parents[1] / "README.md"
"""The developer's page, which holds the table of faults."""
_NONE = "No measurement has been committed yet."
_FAULTS_HEAD = (
    "| fault | what the outputs showed | slate after | well after | lost | longest gap, intervals | raw / searched |\n"
    "|---|---|---|---|---|---|---|"
)
HEAD_ROW = "| what | measured | with | on |"
_HEAD = f"{HEAD_ROW}\n|---|---|---|---|"

_FIRST = (
    "computed by torch, at 256x256",
    "computed by openvino, at 256x256",
    "start of a process to its first translated picture",
    "whole service, published a second",
    "a scene of OBS to its prompt's first picture, 300 ms fade, `when: start`",
    "flicker of a still scene with the bank",
    "warp error with `configs/quality.yaml`, of that without a bank, lag 1 |",
    "runs searched",
    "arithmetic with the bank",
    "as fast as the published order of operations",
)
"""How the rows begin that a newcomer sees at once; all others are folded away."""

_SIZE = re.compile(r"\d+x\d+")
_STEPS = re.compile(r", \d steps?\b")


def block(folder: Path = results.RESULTS) -> str:
    """What stands between the markers: a row for each figure of each result in ``folder``."""
    rows = [row for path in sorted(folder.glob("*.json")) for row in _rows(json.loads(path.read_text("utf-8")))]
    first = [row for row in rows if row.startswith(tuple(f"| {beginning}" for beginning in _FIRST))]
    others = [row for row in rows if row not in first]
    folded = ["", "<details><summary>All figures</summary>", "", _HEAD, *others, "", "</details>"]
    return "\n".join([_HEAD, *first, *(folded if others else ())]) if rows else _NONE


def filled(readme: str, figures: str) -> str:
    """``readme`` with ``figures`` between its markers. Raises ConfigError unless both stand there, once, in order."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ConfigError(f"README.md: needs the markers {BEGIN} and {END}, once and in this order")
    return f"{before}{BEGIN}\n{figures}\n{END}{after}"


def _rows(result: Result) -> list[str]:
    where, how = _machine(result), result["protocol"]["input"]
    if "translator" not in result["protocol"].get("excludes", []):
        how = f"{_configuration(result['config'])}, {how}"
    unclean = " (uncommitted changes)" if result["git"]["dirty"] else ""
    own = f"{result['config']['width']}x{result['config']['height']}"
    rows = []
    for what, figure in rows_of(result):
        # A row that names a size or steps of its own was measured at those.
        size = _SIZE.search(what)
        told = how.replace(own, size[0]) if size else how
        told = _STEPS.sub("", told) if " steps" in what else told
        rows.append(f"| {what} | {figure} | {told} | {where}{unclean} |")
    return rows


def faults(folder: Path = results.RESULTS) -> str:
    """A row for each fault of the committed result."""
    path = folder / "faults.json"
    if not path.is_file():
        return _NONE
    rows = json.loads(path.read_text("utf-8"))["results"]["faults"].values()
    return "\n".join([_FAULTS_HEAD, *(_fault(row) for row in rows)])


def _fault(row: Result) -> str:
    def seconds(name: str) -> str:
        return "-" if row[name] is None else f"{row[name]:.1f} s"

    gap = f"{row['gap_intervals']:.1f}" if row["gap_intervals"] else "-"
    said = f" **{row['said']}**" if row["said"] else ""
    cells = (row["fault"], row["showed"], seconds("slate_s"), seconds("recovered_s"), row["lost"] + said, gap)
    return f"| {' | '.join(cells)} | {row['raw']} / {row['searched']} |"


def _machine(result: Result) -> str:
    env = result["env"]
    name, cpu = env["device"]["name"], env["cpu"]
    return (
        f"{name}, {cpu['cores']} cores" if name == cpu["model"] else f"{name} ({cpu['model']}, {cpu['cores']} cores)"
    )


def _configuration(config: Result) -> str:
    bank = config["bank"]
    kept = "no bank" if bank["kind"] == "off" else f"bank {bank['kind']} every {bank['interval']}"
    steps = "1 step" if config["steps"] == 1 else f"{config['steps']} steps"
    return f"{config['model']} model, {config['width']}x{config['height']}, {steps}, {kept}, {config['dtype']}"


def write() -> None:
    """Write the committed results' figures into README.md and the developer's page.

    Raises ConfigError where there is no checkout.
    """
    if not README.is_file():
        raise ConfigError(f"{README} is missing: the figures are written from a checkout of this project")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), faults()), encoding="utf-8", newline="\n")
    README.write_text(filled(README.read_text(encoding="utf-8"), block()), encoding="utf-8", newline="\n")
