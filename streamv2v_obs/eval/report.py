"""One page that shows an evaluation: what holds, each arm's figures, plots, and films side by side; no other file."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from streamv2v_obs.eval.evaluation import Plan
from streamv2v_obs.eval.pictures import KINDS, SHOWN_FRAMES, picture_path

_PAGE = Path(__file__).with_name("report.html")
_WIDTH, _ROW, _LEFT = 420, 24, 90


def _cell(estimate: dict[str, Any] | None, digits: int = 3) -> str:
    if estimate is None:
        return "<td>-</td>"
    low, high = estimate["ci95"]
    return f"<td>{estimate['mean']:.{digits}f} <small>({low:.{digits}f} to {high:.{digits}f})</small></td>"


def _table(head: list[str], rows: list[str]) -> str:
    return f"<table><tr>{''.join(f'<th>{escape(text)}</th>' for text in head)}</tr>{''.join(rows)}</table>"


def _orders(pairs: list[dict[str, Any]]) -> str:
    rows = [
        f"<tr><td>{escape(pair['name'])}</td><td>{pair['lag']}</td>{_cell(pair['delta'])}{_cell(pair['ratio'])}"
        f"<td>{pair['wins']} of {pair['n']}</td>"
        f"<td class='{'yes' if pair['holds'] else 'no'}'>{'holds' if pair['holds'] else 'does not hold'}</td></tr>"
        for pair in pairs
    ]
    head = ["statement", "lag", "difference", "ratio", "clips in which the first is larger", ""]
    return _table(head, rows) if rows else "<p>None of the compared arms was run.</p>"


def _arms(arms: list[dict[str, Any]]) -> str:
    lags = list(arms[0]["by_lag"])
    rows = []
    for arm in arms:
        cells = "".join(_cell(arm["by_lag"][lag]["ratio"]) for lag in lags)
        cells += _cell(arm.get("static_std_ratio")) + _cell(arm.get("sharpness_ratio")) + _cell(arm.get("style_dist"))
        cells += _cell(arm.get("feat_cos"), 4) + f"<td>{arm['ms']:.1f}</td><td>{arm['mem_mib']:.2f}</td>"
        rows.append(f"<tr><td>{escape(arm['name'])}</td>{cells}</tr>")
    head = ["arm", *(f"warp error, lag {lag}" for lag in lags), "still scene", "sharpness", "style distance"]
    return _table([*head, "feature cosine", "UNet ms a frame", "bank MiB"], rows)


def _prompts(prompts: list[dict[str, Any]]) -> str:
    rows = []
    for entry in prompts:
        first = next(iter(entry["by_lag"]))
        for lag, found in entry["by_lag"].items():
            name = escape(entry["prompt"]) if lag == first else ""
            cells = "".join(_cell(ratio) for ratio in found["ratio"].values())
            rows.append(f"<tr><td>{name}</td><td>{lag}</td>{_cell(found['warp_mse'], 1)}{cells}</tr>")
    arms = list(next(iter(prompts[0]["by_lag"].values()))["ratio"])
    return _table(["prompt", "lag", "warp error without a bank", *arms], rows)


def _attention(found: dict[str, list[dict[str, Any]]]) -> str:
    if not found:
        return "<p>Neither of the arms that are watched was run.</p>"
    rows = []
    for number, layers in enumerate(zip(*found.values(), strict=True)):
        cells = "".join(
            f"<td>{layer['bank']:.3f}</td><td>{layer['spread']:.0f}</td>"
            f"<td>{'-' if layer['fused'] is None else format(layer['fused'], '.3f')}</td>"
            for layer in layers
        )
        rows.append(f"<tr><td>{number + 1}</td><td>{layers[0]['tokens']}</td>{cells}</tr>")
    heads = [f"{arm}: {what}" for arm in found for what in ("share of the bank", "spread over tokens", "fused")]
    return _table(["layer", "tokens", *heads], rows)


def _plot(arms: list[dict[str, Any]], lag: str) -> str:
    """A point and its interval for each arm; the line is the run without a bank."""
    shown = [(arm["name"], arm["by_lag"][lag]["ratio"]) for arm in arms if arm["by_lag"][lag]["ratio"]]
    values = [value for _, ratio in shown for value in (1.0, *ratio["ci95"])]
    low, high = min(values), max(values)
    room = float(max(high - low, 0.01))

    def x(value: float) -> float:
        return float(_LEFT + (value - low + 0.1 * room) / (1.2 * room) * (_WIDTH - _LEFT))

    height = _ROW * (len(shown) + 2)
    parts = [
        f"<line x1='{x(1):.1f}' y1='{_ROW}' x2='{x(1):.1f}' y2='{height - _ROW}' stroke='currentColor' opacity='.4'/>"
    ]
    for number, (name, ratio) in enumerate(shown):
        y = _ROW * (number + 1.5)
        first, last = ratio["ci95"]
        colour = "var(--good)" if last < 1 else "var(--bad)" if first > 1 else "gray"
        parts.append(f"<text x='0' y='{y + 4}'>{escape(name)}</text>")
        parts.append(
            f"<line x1='{x(first):.1f}' y1='{y}' x2='{x(last):.1f}' y2='{y}' stroke='{colour}' stroke-width='3'/>"
        )
        parts.append(f"<circle cx='{x(ratio['mean']):.1f}' cy='{y}' r='4.5' fill='{colour}'/>")
    for value in (low, high):
        parts.append(f"<text x='{x(value):.1f}' y='{height - 4}' text-anchor='middle'>{value:.3f}</text>")
    parts.append(f"<text x='{_LEFT}' y='14'>lag {lag}</text>")
    return f"<svg width='{_WIDTH}' height='{height}' role='img' aria-label='lag {lag}'>{''.join(parts)}</svg>"


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: int) -> str:
    ends = f"x1='{x1:.1f}' y1='{y1}' x2='{x2:.1f}' y2='{y2}'"
    return f"<line {ends} stroke='{colour}' stroke-width='{width}'/>"


def _data(path: Path) -> str:
    return f"data:image/jpeg;base64,{b64encode(path.read_bytes()).decode()}"


def _films(plan: Plan, folder: Path) -> str:
    found = []
    for number, spec in enumerate(plan.specs):
        if not plan.shows(number, 0):
            continue
        figures = []
        for name in ("input", *(arm.name for arm in plan.arms)):
            paths = {kind: picture_path(folder, number, name, kind) for kind in KINDS}
            if not paths["film"].is_file():
                continue
            count = min(SHOWN_FRAMES, plan.frames)
            film = (
                f"<div class='film' data-frames='{count}' style='background-image:url({_data(paths['film'])})'></div>"
            )
            others = "".join(
                f"<img class='{kind}' alt='' src='{_data(paths[kind])}'>"
                for kind in KINDS[1:]
                if paths[kind].is_file()
            )
            figures.append(f"<figure><figcaption>{escape(name)}</figcaption>{film}{others}</figure>")
        prompt = escape(plan.prompts[0])
        found.append(f"<h3>{escape(spec.name)}: {prompt}</h3><div class='films'>{''.join(figures)}</div>")
    return "".join(found)


def render(plan: Plan, found: dict[str, Any], folder: Path, title: str, about: str) -> str:
    """The page; ``found`` is what ``summarize`` gave, and the pictures lie in ``folder``."""
    quality = found["quality"]
    arms = quality["arms"]
    return Template(_PAGE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        about=escape(about),
        orders=_orders(quality["order_pairs"]),
        arms=_arms(arms),
        attention=_attention(quality["attention"]),
        prompts=_prompts(quality["by_prompt"]),
        plots="".join(_plot(arms[1:], lag) for lag in arms[0]["by_lag"]),
        films=_films(plan, folder),
    )
