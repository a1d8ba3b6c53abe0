"""The translator core against numbers of independent implementations, free-running in float32."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from streamv2v_obs.translator.conformance import TOLERANCE, main, run_case
from tests.rigs.plain_method import write_case
from tests.rigs.tiny_models import tiny_unet

VECTORS = Path(__file__).parents[1] / "vectors"


@pytest.mark.parametrize("name", ["s4_dyme", "s1_dyme", "s4_off"])
def test_published_vectors(name: str) -> None:
    errors = run_case(VECTORS / name)
    expected = {"timesteps", "alpha", "beta", "c_skip", "c_out", "x_t_new", "unet_in", "model_pred", "x0_batch"}
    if name != "s4_off":
        expected |= {"attn1_in", "attn1_out", "bank_key", "bank_value", "bank_output", "ff_maxcos", "ff_idx"}
    assert set(errors) == expected
    assert max(errors.values()) <= TOLERANCE, errors


CASES: dict[str, dict[str, Any]] = {
    "dyme": {},
    "dyme, every call": {"interval": 1},
    "dyme, interval 3": {"interval": 3},
    "no fusion": {"no_ff": True},
    "fuses everything": {"ff_threshold": -1, "ff_strength": 0.5},
    "never fuses": {"ff_threshold": 1.5},
    "queue of 1": {"queue": True, "maxframes": 1},
    "queue of 2": {"queue": True, "maxframes": 2},
    "queue of 4": {"queue": True, "maxframes": 4, "interval": 1},
    "queue, no fusion": {"queue": True, "maxframes": 2, "no_ff": True},
    "one row": {"t_index": [20]},
    "three rows": {"t_index": [10, 20, 45]},
    "off": {"mode": "off"},
}


@pytest.fixture(scope="module")
def unet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    torch.manual_seed(0)
    unet = tiny_unet(
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )
    save_file({name: t.contiguous() for name, t in unet.state_dict().items()}, folder / "unet.safetensors")
    (folder / "config.json").write_text(json.dumps(dict(unet.config)), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", CASES)
def test_other_settings_against_the_plain_method(name: str, unet_folder: Path) -> None:
    unet = UNet2DConditionModel.from_config(json.loads((unet_folder / "config.json").read_text(encoding="utf-8")))
    unet.load_state_dict(load_file(unet_folder / "unet.safetensors"))
    folder = write_case(unet_folder / name.replace(" ", "_").replace(",", ""), unet.eval(), **CASES[name])
    errors = run_case(folder)
    with_bank = CASES[name].get("mode") != "off"
    assert ("bank_key" in errors) == with_bank
    assert ("ff_idx" in errors) == (with_bank and not CASES[name].get("no_ff", False))
    assert max(errors.values()) <= TOLERANCE, errors


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A copy of a published case, to be damaged."""
    for name in ("config.json", "unet.safetensors"):
        shutil.copy(VECTORS / name, tmp_path / name)
    shutil.copytree(VECTORS / "s1_dyme", tmp_path / "case")
    return tmp_path / "case"


def _rewrite(case: Path, keep: Sequence[str] = (), **changes: Any) -> None:
    """``keep``: the names, or their beginnings, of what stays; none: all."""
    with np.load(case / "case.npz") as stored:
        arrays = {name: stored[name] for name in stored.files if not keep or name.startswith(tuple(keep))}
    for name, value in changes.items():
        key = name.replace("__", "/")
        arrays.pop(key)
        if value is not None:
            arrays[key] = value
    np.savez(case / "case.npz", **arrays)


def test_exit_0_and_a_line_for_each_kind_of_array(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(VECTORS / "s1_dyme")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("s1_dyme")
    assert any(line.split()[0] == "bank_value" for line in lines[1:])


def test_exit_1_where_numbers_differ(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(case / "case.npz") as stored:
        x0 = stored["x0_batch"].copy()
    x0[-1, 0, 0, 0, 0] += 3e-4
    _rewrite(case, x0_batch=x0)
    assert main([str(case)]) == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if "above" in line]
    assert [line.split()[0] for line in wrong] == ["x0_batch"]


def test_exit_1_where_a_setting_is_not_the_case_s(case: Path) -> None:
    settings = json.loads((case / "case.json").read_text(encoding="utf-8"))
    (case / "case.json").write_text(json.dumps(settings | {"ff_strength": 0.75}), encoding="utf-8")
    assert main([str(case)]) == 1


INPUTS = ("latents", "noise", "prompt_embeds")


def test_a_case_of_few_arrays_is_compared_with_those(case: Path) -> None:
    """The merge after the last call (12) has no effect on what is compared, so nobody needs its partitions."""
    settings = json.loads((case / "case.json").read_text(encoding="utf-8"))
    (case / "case.json").write_text(json.dumps(settings | {"calls": 9}), encoding="utf-8")
    with np.load(case / "case.npz") as stored:
        some = stored["x0_batch"][:7]
    _rewrite(case, [*INPUTS, "perm/004/", "x0_batch"], x0_batch=some)
    errors = run_case(case)
    assert list(errors) == ["x0_batch"]
    assert errors["x0_batch"] <= TOLERANCE
    _rewrite(case, x0_batch=some + np.float32(1e-3) * (np.arange(7) == 6).reshape(-1, 1, 1, 1, 1))
    assert run_case(case)["x0_batch"] > TOLERANCE


@pytest.mark.parametrize("wrong", [-1, 64])
def test_exit_1_on_a_token_that_is_not_there(case: Path, wrong: int) -> None:
    with np.load(case / "case.npz") as stored:
        index = stored["layer/001/04/ff_idx"].copy()
    index[0, 0] = wrong
    _rewrite(case, layer__001__04__ff_idx=index)
    assert main([str(case)]) == 1


def test_a_bad_folder_leaves_the_others_to_be_run(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(case / "nowhere"), f"{case}/"]) == 2
    told = capsys.readouterr()
    assert "no case.json" in told.err
    assert "bank_value" in told.out


def test_a_relative_folder_finds_the_unet_above_it(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case)
    assert main(["."]) == 0


@pytest.mark.parametrize("value", [np.float32("nan"), None])
def test_exit_1_on_nan_and_on_other_shapes(case: Path, value: Any) -> None:
    with np.load(case / "case.npz") as stored:
        x0 = stored["x0_batch"].copy()
    if value is None:
        x0 = x0[:, :, :2]
    else:
        x0[0, 0, 0, 0, 0] = value
    _rewrite(case, x0_batch=x0)
    assert main([str(case)]) == 1


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda c: (c / "case.json").unlink(), "no case.json"),
        (lambda c: (c / "case.npz").unlink(), "no case.npz"),
        (lambda c: (c / "case.json").write_text("{", encoding="utf-8"), "case.json"),
        (lambda c: (c / "case.json").write_text('{"t_index": []}', encoding="utf-8"), "t_index"),
        (lambda c: (c / "case.json").write_text('{"t_index": [50]}', encoding="utf-8"), "0..49"),
        (lambda c: (c / "case.json").write_text('{"t_index": [30], "steps": 2}', encoding="utf-8"), "steps"),
        (lambda c: (c / "case.json").write_text('{"t_index": [30], "mode": "x"}', encoding="utf-8"), "mode"),
        (lambda c: (c / "case.json").write_text('{"t_index": [30, 40]}', encoding="utf-8"), "2 rows"),
        (lambda c: (c / "case.npz").write_bytes(b"nothing"), "cannot be read"),
        (lambda c: (c / "case.npz").write_bytes((c / "case.npz").read_bytes()[:5000]), "cannot be read"),
        (lambda c: _rewrite(c, noise=None), "noise is missing"),
        (lambda c: _rewrite(c, [*INPUTS, "perm"]), "nothing to compare"),
        (lambda c: _rewrite(c, perm__004__03=None), "perm/004/03 is missing"),
        (lambda c: _rewrite(c, perm__004__03=np.zeros((1, 2), np.int16)), "no permutation"),
        (lambda c: _rewrite(c, latents=np.zeros((12, 3, 8, 8), np.float32)), "does not fit"),
        (lambda c: (c.parent / "unet.safetensors").unlink(), "no unet.safetensors"),
        (lambda c: (c.parent / "config.json").unlink(), "no config.json"),
        (lambda c: (c.parent / "config.json").write_text("[]", encoding="utf-8"), "does not fit"),
        (lambda c: (c.parent / "unet.safetensors").write_bytes(b"\0" * 100), "does not fit"),
    ],
)
def test_exit_2_and_one_line_for_a_bad_folder(
    case: Path, damage: Any, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(case)
    assert main([str(case)]) == 2
    message = capsys.readouterr().err
    assert says in message
    assert len(message.splitlines()) == 1


def test_exit_2_for_no_folder(tmp_path: Path) -> None:
    assert main([str(tmp_path / "nowhere")]) == 2
