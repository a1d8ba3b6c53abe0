"""The rows of README's figures: what each kind of result is made to say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Result = dict[str, Any]
Row = tuple[str, str]
"""What was measured, and the figure."""


def rows_of(result: Result) -> list[Row]:
    """Of a whole result file; none for a kind that README leaves out."""
    say = _SAYS.get(result["kind"])
    return [] if say is None else say(result["results"])


def _cpu_demo(found: Result) -> list[Row]:
    bank, start = found["bank_overhead"], found["startup"]
    return [
        ("translator alone, as fast as it can", f"{found['fps_steady']:.1f} fps"),
        (
            "a picture's way through it, median (99 %)",
            f"{found['latency_ms']['compute']['p50']:.0f} ms ({found['latency_ms']['compute']['p99']:.0f} ms)",
        ),
        ("time a frame takes with the bank, of that without", _with_interval(bank["ratio"], bank["ratio_ci95"])),
        ("start of a process to its first translated picture", f"{start['first_frame_s']:.1f} s"),
        *((_cell(name), f"{cell['fps']:.1f} fps ({cell['fps_bank_off']:.1f} fps)") for name, cell in _grid(found)),
    ]


def _grid(found: Result) -> list[tuple[str, Result]]:
    """Those cells of a grid that people ask for: two steps, every size and backend."""
    return [(name, cell) for name, cell in found.get("grid", {}).items() if name.endswith("_s2")]


def _cell(name: str) -> str:
    backend, size, _ = name.split("_")
    return f"computed by {backend}, at {size}x{size} (without the bank)"


def _pipeline(found: Result) -> list[Row]:
    if "processes" not in found:
        frame = found["frame_ms"]
        return [
            ("translator alone, as fast as it can", f"{found['fps_steady']:.1f} fps"),
            ("a frame, median (99 %)", f"{frame['p50']:.1f} ms ({frame['p99']:.1f} ms)"),
        ]
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


def _bank(found: Result) -> list[Row]:
    return [
        (f"time with bank {name}, of that without", _with_interval(arm["ratio"], arm["ratio_ci95"]))
        for name, arm in found["arms"].items()
        if name != "off"
    ]


def _ladder(found: Result) -> list[Row]:
    return [(f"a frame, rung {rung['name']}, median", f"{rung['frame_ms']['p50']:.1f} ms") for rung in found["rungs"]]


def _latency(found: Result) -> list[Row]:
    if "overhead" in found:
        return _overhead(found["overhead"])
    if "schedules" not in found:
        return _obs_switch(found) if "mixed" in found else _obs_capture(found)
    return [
        (
            f"age of a picture when translated, source at 30 fps, schedule {name}, median (99 %)",
            f"{seen['latency_ms']['content_age']['p50']:.0f} ms ({seen['latency_ms']['content_age']['p99']:.0f} ms)",
        )
        for name, seen in found["schedules"].items()
    ]


def _overhead(found: Result) -> list[Row]:
    delay = found["delay_ms"]
    return [
        (
            "capture to publishing less translating, 30 pictures a second, median (slowest five seconds)",
            f"{delay['p50']:.1f} ms ({delay['max']:.1f} ms)",
        ),
        ("the service's memory beside Python and its outputs", f"{found['memory_mib']:.0f} MiB"),
        ("the service's share of a core, with a viewer", f"{100 * found['cpu_share']:.1f} %"),
    ]


def _obs_capture(found: Result) -> list[Row]:
    delay, client = found["latency_ms"]["change_to_picture"], found["processes"]["client"]
    return [
        ("a source of OBS captured", f"{found['fps_steady']:.1f} fps with {client['cpu_share']:.2f} of a core"),
        ("a change in OBS to its picture here, median (99 %)", f"{delay['p50']:.0f} ms ({delay['p99']:.0f} ms)"),
    ]


def _obs_switch(found: Result) -> list[Row]:
    rows = (
        ("fade_start", "a scene of OBS to its prompt's first picture, 300 ms fade, `when: start`"),
        ("fade_end", "the same, `when: end`"),
        ("cut", "the same, a cut"),
        ("event", "a custom event in OBS to its preset's first picture"),
    )
    delays, restore = found["latency_ms"], found["restore"]
    return [
        *(
            (f"{what}, median (95 %)", f"{delays[key]['p50']:.0f} ms ({delays[key]['p95']:.0f} ms)")
            for key, what in rows
        ),
        ("pictures meanwhile that mix two prompts", f"{found['mixed']['mixed']} of {found['mixed']['pictures']}"),
        (
            "a scene left and come back to: difference of its picture with `restore`, of that with `reset`",
            _with_interval(restore["ratio"], restore["ratio_ci95"]),
        ),
    ]


def _soak(found: Result) -> list[Row]:
    if "faults" in found:
        return _faults(found["reliability"])
    if "soak" in found:
        return _soaked(found["soak"])
    frames = found["memory"]["series"][-1]["frame"]
    return [(f"memory grown over {frames} frames", f"{found['memory']['grown_bytes']} bytes")]


def _soaked(found: Result) -> list[Row]:
    grown = found["rss_grown_mib"]
    what = f"{found['minutes']:g} minutes with {found['faults']} faults"
    return [
        (f"{what}: memory grown, service, engine", f"{grown['service']:.1f} MiB, {grown['engine']:.1f} MiB"),
        (f"{what}: age of the picture (95 %), last part over first", f"{found['latency_drift']:.2f}"),
        (f"{what}: published a second, slowest hundredth", f"{found['fps_p1']:.1f} fps"),
    ]


def _faults(found: Result) -> list[Row]:
    rows = [
        (
            "runs searched: each kind of fault, and a recording of them; raw pictures in them",
            f"{found['faults']}; {found['raw']} of {found['searched']}",
        ),
        ("longest gap between two published pictures, in intervals", f"{found['gap_intervals']:.1f}"),
    ]
    if "engine_recovery_s" in found:
        rows.append(("a broken engine translates again, at the latest", f"{found['engine_recovery_s']:.1f} s"))
    if "obs_link_s" in found:
        rows.append(("OBS killed and back: the link is, too", f"{found['obs_link_s']:.1f} s"))
    return rows


def _prompt_switch(found: Result) -> list[Row]:
    switch = found["prompt_switch"]
    return [
        (
            "a change of prompt: longest stall; frames until it is seen",
            f"{switch['stall_ms_max']:.0f} ms; {switch['frames_until_new']}",
        )
    ]


def _jitter(found: Result) -> list[Row]:
    return [("lateness of a beat, engine at full load, 99 %", f"{found['jitter_ms']['abs_dev_p99']:.1f} ms")]


def _compare(found: Result) -> list[Row]:
    told = found["compare"]
    return [("as fast as the published order of operations", _with_interval(told["speedup"], told["speedup_ci95"]))]


_ARMS = {"dyme": "bank dyme as published", "carried": "`configs/quality.yaml`"}
"""Of an evaluation's arms those of the table, and what they are called there."""


def _quality(found: Result) -> list[Row]:
    if "flicker" not in found:
        return [
            (f"warp error with {said}, of that without a bank, lag {lag}", _with_interval(**_named(beside)))
            for arm in found["quality"]["arms"]
            if (said := _ARMS.get(arm["name"])) is not None
            for lag, entry in arm["by_lag"].items()
            if (beside := entry["ratio"]) is not None
        ]
    flicker, coder = found["flicker"], found["autoencoder_db"]
    return [
        ("autoencoder, held-out photographs", f"{coder['held-out photographs']:.1f} dB"),
        ("styles recognised, held-out pictures, 2 steps", f"{100 * found['recognised']['2']:.1f} %"),
        (
            "edges of the input found in the output (teachers, chance)",
            "{kept:.2f} ({teachers:.2f}, {chance:.2f})".format(**found["structure"]),
        ),
        ("deviation where the teachers' pictures are flat, worst style", f"{found['flats']['worst']:.1f} grey levels"),
        *(
            (
                f"{what} with the bank, of that without",
                _with_interval(flicker[key]["ratio"], flicker[key]["ratio_ci95"]),
            )
            for what, key in (("flicker of a still scene", "static_std"), ("warp error, lag 1,", "warp_mse_1"))
        ),
        ("weights", f"{found['weights_mb']:.1f} MB"),
    ]


def _memory(fits: Result, grown_bytes: int) -> list[Row]:
    needed: dict[str, dict[str, float]] = {}
    for name, row in fits.items():
        size, steps, bank = name.split()
        if bank == "dyme":
            needed.setdefault(f"{size}x{size}", {})[steps.removeprefix("s")] = row["total_gib"]
    return [
        *(
            (
                f"memory of a card, {size}, {', '.join(by_steps)} steps, counted",
                f"{', '.join(f'{gib:.1f}' for gib in by_steps.values())} GiB",
            )
            for size, by_steps in needed.items()
        ),
        ("memory that a frame leaves behind, 1 to 4 steps, counted", f"{grown_bytes} bytes"),
    ]


def _roofline(found: Result) -> list[Row]:
    if "fits" in found:
        return _memory(found["fits"], found["memory"]["grown_bytes"])
    if "launches" in found:
        told = found["launches"]
        plain = found["arms"]["ours"]["compiled"]
        said = f"{told['no_rung_eager']}, {told['eager']}, {plain}, {told['compiled']}"
        return [
            ("launches a frame: every rung off, as it is, compiled, compiled with the fused rungs asked for", said)
        ]
    return [("arithmetic with the bank, of that without", f"{found['bank_overhead']['ratio_flops']:.2f}")]


_SAYS: dict[str, Callable[[Result], list[Row]]] = {
    "cpu-demo": _cpu_demo,
    "pipeline": _pipeline,
    "bank": _bank,
    "ladder": _ladder,
    "latency": _latency,
    "soak": _soak,
    "prompt-switch": _prompt_switch,
    "jitter": _jitter,
    "compare": _compare,
    "quality": _quality,
    "roofline": _roofline,
}


def _named(estimate: Result) -> Result:
    return {"value": estimate["mean"], "interval": estimate["ci95"]}


def _with_interval(value: float, interval: Sequence[float]) -> str:
    low, high = interval
    return f"{value:.2f} (95 %: {low:.2f} to {high:.2f})"
