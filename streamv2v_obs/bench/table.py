"""README's figures, made of the committed results; nobody types one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from streamv2v_obs.bench import results
from streamv2v_obs.errors import ConfigError

BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
README = Path(__file__).parents[2] / "README.md"
_NONE = "No measurement has been committed yet."
_HEAD = "| what | measured | with | on |\n|---|---|---|---|"

Result = dict[str, Any]


def block(folder: Path = results.RESULTS) -> str:
    """What stands between the markers: a row for each figure of each result in ``folder``."""
    rows = [row for path in sorted(folder.glob("*.json")) for row in _rows(json.loads(path.read_text("utf-8")))]
    return "\n".join([_HEAD, *rows]) if rows else _NONE


def filled(readme: str, figures: str) -> str:
    """``readme`` with ``figures`` between its markers. Raises ConfigError unless both stand there, once, in order."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ConfigError(f"README.md: needs the markers {BEGIN} and {END}, once and in this order")
    return f"{before}{BEGIN}\n{figures}\n{END}{after}"


def _rows(result: Result) -> list[str]:
    say = {"cpu-demo": _cpu_demo, "pipeline": _pipeline}.get(result["kind"])
    if say is None:
        return []
    where, how = _machine(result), f"{_configuration(result['config'])}, {result['protocol']['input']}"
    unclean = " (uncommitted changes)" if result["git"]["dirty"] else ""
    return [f"| {what} | {figure} | {how} | {where}{unclean} |" for what, figure in say(result["results"])]


def _cpu_demo(found: Result) -> list[tuple[str, str]]:
    bank, start = found["bank_overhead"], found["startup"]
    low, high = bank["ratio_ci95"]
    return [
        ("translator alone, as fast as it can", f"{found['fps_steady']:.1f} fps"),
        (
            "a picture's way through it, median (99 %)",
            f"{found['latency_ms']['compute']['p50']:.0f} ms ({found['latency_ms']['compute']['p99']:.0f} ms)",
        ),
        ("time a frame takes with the bank, of that without", f"{bank['ratio']:.2f} (95 %: {low:.2f} to {high:.2f})"),
        ("start of a process to its first translated picture", f"{start['first_frame_s']:.1f} s"),
    ]


def _pipeline(found: Result) -> list[tuple[str, str]]:
    age, parts, start = found["latency_ms"]["content_age"], found["processes"], found["startup"]
    return [
        (
            "whole service, published a second, median (slowest second)",
            f"{found['fps_steady']:.1f} fps ({found['fps_min']:.1f} fps)",
        ),
        ("of these new pictures, the others repeat one", f"{found['distinct_fps']:.1f} fps"),
        ("age of the picture shown, median (95 %)", f"{age['p50']:.0f} ms ({age['p95']:.0f} ms)"),
        ("lateness of a beat, 99 %", f"{found['jitter_ms']['abs_dev_p99']:.1f} ms"),
        ("start to slate, to first translated picture", f"{start['slate_s']:.1f} s, {start['first_frame_s']:.1f} s"),
        (
            "memory of service, engine; cores they keep busy",
            f"{parts['service']['rss_mib']:.0f} MiB, {parts['engine']['rss_mib']:.0f} MiB; "
            f"{parts['service']['cpu_share']:.2f}, {parts['engine']['cpu_share']:.2f}",
        ),
    ]


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


def main() -> None:
    """Write the committed results' figures into README.md."""
    README.write_text(filled(README.read_text(encoding="utf-8"), block()), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    results.run(main)
