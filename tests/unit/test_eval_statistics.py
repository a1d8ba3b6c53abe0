"""Statements about arms, over records whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamv2v_obs.bench.evaluation import Wish, file_name
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.eval.arms import APPENDIX, ARMS, BEYOND, NOISE
from streamv2v_obs.eval.evaluation import choose_arms, read_variant
from streamv2v_obs.eval.statistics import compare, mean_of, ratio_of_means
from streamv2v_obs.eval.suite import SUITES
from streamv2v_obs.eval.summary import Table, summarize
from streamv2v_obs.settings import BankSettings, FusionSettings, TranslatorSettings


def records(factors: dict[str, float], clips: int = 18, noise: float = 0.02) -> list[dict[str, Any]]:
    """Errors of clips that differ much from each other, times an arm's factor; controls with seed 0 alone."""
    rng = np.random.default_rng(0)
    found = []
    for clip in range(clips):
        hard = float(rng.uniform(5, 500))
        for prompt in ("a", "b"):
            for seed in (0, 1, 2):
                for arm, factor in factors.items():
                    if arm in ("own", "foreign") and seed:
                        continue
                    error = hard * factor * float(rng.normal(1, noise))
                    found.append(
                        {
                            "clip": f"clip {clip}",
                            "kind": "pan",
                            "prompt": prompt,
                            "seed": seed,
                            "arm": arm,
                            "warp_mse": {"1": error, "4": 2 * error, "16": 4 * error},
                            "static_std": error**0.5 if clip < 4 else None,
                            "feat_cos": 0.9,
                            "sharpness": 4.0 * (0.5 if arm == "blurred" else 1),
                            "style": [float(clip), 1.0 + (arm == "blurred")],
                            "ms": 10.0,
                            "bank_mib": 1.0,
                        }
                    )
    return found


PAPER = {"off": 1.0, "ff": 0.95, "ea": 0.85, "dyme": 0.8, "queue 1": 0.9, "queue 2": 0.85, "queue 4": 0.8, "own": 1.0}


def test_the_paper_s_order_is_found_where_it_is() -> None:
    found = summarize(records(PAPER | {"foreign": 1.1}))
    assert found["holds"] == dict.fromkeys(found["holds"], True)
    assert len(found["holds"]) == 10
    assert (found["quality"]["clips"], found["quality"]["seeds"]) == (18, 3)
    off = found["quality"]["arms"][0]
    assert off["name"] == "off"
    assert off["style_dist"]["mean"] == 0
    ea = next(pair for pair in found["quality"]["order_pairs"] if pair["name"] == "ff > ea")
    assert ea["ratio"]["mean"] == pytest.approx(0.95 / 0.85, rel=0.02)
    assert ea["wins"] == ea["n"] == 18
    banks = {pair["name"]: pair for pair in found["quality"]["between_banks"]}
    assert len(banks) == 6 * 3, "each pair of four, at each lag"
    assert banks["queue 2 > queue 4 lag 16"]["ratio"]["mean"] == pytest.approx(0.85 / 0.8, rel=0.02)
    assert banks["queue 2 > queue 4 lag 16"]["holds"]
    assert not banks["queue 4 > dyme lag 1"]["holds"]


def test_each_prompt_is_told_by_itself() -> None:
    made = records({"off": 1.0, "dyme": 0.8}, noise=1e-4)
    for record in made:
        if record["prompt"] == "b" and record["arm"] == "dyme":  # a style in which a bank has nothing to say
            record["warp_mse"] = {lag: error / 0.8 for lag, error in record["warp_mse"].items()}
    first, second = summarize(made)["quality"]["by_prompt"]
    assert (first["prompt"], second["prompt"]) == ("a", "b")
    for lag in ("1", "4", "16"):
        assert first["by_lag"][lag]["ratio"]["dyme"]["mean"] == pytest.approx(0.8, rel=1e-3)
        assert second["by_lag"][lag]["ratio"]["dyme"]["mean"] == pytest.approx(1.0, rel=1e-3)
    without = {lag: first["by_lag"][lag]["warp_mse"]["mean"] for lag in ("1", "16")}
    assert without["16"] == pytest.approx(4 * without["1"], rel=1e-4)


def test_and_not_where_it_is_not() -> None:
    turned = PAPER | {"ff": 1.05, "queue 2": 0.95, "dyme": 0.95, "own": 0.9, "foreign": 0.9}
    holds = summarize(records(turned))["holds"]
    failed = {"off > ff", "queue 1 > queue 2", "queue 1 > dyme lag 4", "queue 1 > dyme lag 16", "ea >= dyme"}
    failed |= {"own helps nothing", "foreign helps nothing"}
    assert {name for name, held in holds.items() if not held} == failed


def test_equal_arms_hold_no_order() -> None:
    holds = summarize(records({"off": 1.0, "ff": 1.0, "queue 1": 1.0, "dyme": 1.0}, noise=0.1))["holds"]
    assert not holds["off > ff"]
    assert not holds["queue 1 > dyme lag 4"]
    assert "ff > ea" not in holds, "ea was not run"


@pytest.mark.parametrize(
    ("error", "sharpness", "failed"),
    [
        (0.7, 3.9, set()),
        (1.0, 3.9, {f"dyme > carried lag {lag}" for lag in (1, 4, 16)}),
        (0.7, 3.7, {"carried is as sharp"}),
    ],
)
def test_what_is_carried_on_has_to_flicker_less_and_stay_as_it_was(
    error: float, sharpness: float, failed: set[str]
) -> None:
    made = records({"off": 1.0, "dyme": 1.0, "carried": error})
    for record in made:
        if record["arm"] == "carried":
            record["sharpness"] = sharpness
    holds = summarize(made)["holds"]
    assert {name for name, held in holds.items() if "carried" in name and not held} == failed
    assert {"dyme > carried lag 16", "carried is as sharp"} <= set(holds)


def test_rounding_is_no_help_however_sure() -> None:
    assert summarize(records({"off": 1.0, "own": 0.998}, noise=1e-5))["holds"]["own helps nothing"]


def test_a_control_is_compared_with_the_seeds_it_was_run_with() -> None:
    table = Table(records({"off": 1.0, "own": 1.0}))
    first, second = table.paired("off", "own", lambda record: float(record["seed"]))
    assert first == second == [0.0] * 18


def test_blur_is_seen_by_the_guards() -> None:
    (_, blurred) = summarize(records({"off": 1.0, "blurred": 0.5}))["quality"]["arms"]
    assert blurred["sharpness_ratio"]["mean"] == pytest.approx(0.5)
    assert blurred["style_dist"]["mean"] > 1


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    inside = 0
    for trial in range(200):
        estimate = mean_of(list(rng.normal(7, 2, 18)), seed=trial)
        inside += estimate.low <= 7 <= estimate.high
    # A percentile bootstrap over 18 clips is a little narrow: nine in ten at least.
    assert 0.88 <= inside / 200 <= 0.99


def test_pairing_finds_what_clips_would_hide() -> None:
    rng = np.random.default_rng(0)
    hard = rng.uniform(5, 500, 18)
    first, second = hard * 1.05, hard
    compared = compare("a", "b", list(first), list(second))
    assert compared.larger
    assert compared.ratio.mean == pytest.approx(1.05)
    assert mean_of(list(first)).low < mean_of(list(second)).mean, "unpaired, nothing could be said"
    assert ratio_of_means([1.0, 3.0], [2.0, 2.0]).mean == 1


def test_arms_by_name_set_and_variant() -> None:
    assert [arm.name for arm in choose_arms(["table2"])] == ["off", "dyme", "queue 1", "queue 2", "queue 4"]
    assert [arm.name for arm in choose_arms(["ff"])] == ["off", "ff"]
    variant = read_variant("slow: bank.interval=8, fusion.site=block")
    settings = choose_arms(["bank"], [variant])[-1].settings(TranslatorSettings(), "a sketch", 5)
    assert (settings.bank.interval, settings.fusion.site, settings.prompt, settings.seed) == (
        8,
        "block",
        "a sketch",
        5,
    )
    for wrong in ("no colon", ": a=1", "x: y"):
        with pytest.raises(ConfigError, match="--variant"):
            read_variant(wrong)
    with pytest.raises(ConfigError, match="--arms fast: allowed are all, table2"):
        choose_arms(["fast"])


def test_each_arm_is_one_way_of_remembering() -> None:
    settings = {arm.name: arm.settings(TranslatorSettings(), "p", 0) for arm in (*ARMS, *BEYOND, *NOISE)}
    assert settings["off"].bank.kind == "off"
    assert (settings["ff"].bank.attend, settings["ff"].fusion.strength) == (False, 0.8)
    assert (settings["ea"].bank.attend, settings["ea"].fusion.strength) == (True, 0)
    assert settings["dyme by age"] == TranslatorSettings(prompt="p"), "as it is by default"
    for name in ("off", "dyme"):
        assert settings[f"{name}, white noise"] == settings[name].model_copy(update={"noise": "white"})
    assert settings["dyme"].bank == BankSettings(partition="random"), "as published"
    assert [settings[f"queue {n}"].bank.length for n in (1, 2, 4)] == [1, 2, 4]
    appendix = {arm.name: arm.settings(TranslatorSettings(), "p", 0) for arm in APPENDIX}
    assert appendix["dyme, ff everywhere"].fusion == FusionSettings(layers="all")
    assert not appendix["ff everywhere"].bank.attend
    assert [appendix[f"dyme, steps {n}"].steps for n in (1, 4)] == [1, 4]


@pytest.mark.parametrize(
    ("arms", "suite", "name"),
    [
        ([], "held-out", "quality.json"),
        (["all"], "quick", "quality_quick.json"),
        (["steps"], "held-out", "quality_steps.json"),
        (["queue 1", "ff"], "development", "quality_queue-1_ff_development.json"),
    ],
)
def test_a_part_of_the_arms_does_not_overwrite_the_whole(arms: list[str], suite: str, name: str) -> None:
    assert file_name(Wish(suite, None, (), 1, arms, (), 20, 64, None)) == name


def test_the_held_out_suite_shares_no_clip_with_the_one_for_choosing() -> None:
    held, development = SUITES["held-out"], SUITES["development"]
    assert len(held) == 48
    assert len({spec.name for spec in held}) == 48
    assert not {spec.seed for spec in held} & {spec.seed for spec in development}
