"""LoRAs: fused as diffusers fuses them, switched without a trace, refused with the layer's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from streamv2v_obs.errors import ConfigError, ModelLoadError
from streamv2v_obs.frames import Frame
from streamv2v_obs.settings import BankSettings, Lora, ModelSettings, TranslatorSettings
from streamv2v_obs.translator.loading import Model, load_model
from streamv2v_obs.translator.lora import read_lora
from streamv2v_obs.translator.translator import Translator
from tests.rigs.tiny_loras import kohya_state, save_diffusers, save_kohya
from tests.rigs.tiny_models import save_model, tiny_unet


def load(folder: Path, **settings: object) -> Model:
    return load_model(
        ModelSettings.model_validate({"name": str(folder), "device": "cpu", "dtype": "float32"} | settings)
    )


def weights(model: Model) -> dict[str, Tensor]:
    parts: tuple[tuple[str, nn.Module], ...] = (("unet", model.unet), ("text", model.text.module))
    return {f"{part}.{name}": tensor.clone() for part, module in parts for name, tensor in module.state_dict().items()}


def identical(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def fused_by_diffusers(folder: Path, path: Path, scale: float) -> dict[str, Tensor]:
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.load_lora_weights(path.parent, weight_name=path.name)
    pipeline.fuse_lora(lora_scale=scale)
    pipeline.unload_lora_weights()
    parts = (("unet", pipeline.unet), ("text", pipeline.text_encoder))
    return {f"{part}.{name}": tensor for part, module in parts for name, tensor in module.state_dict().items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "model"


@pytest.fixture
def pipeline(folder: Path) -> StableDiffusionPipeline:
    return save_model(folder)


Save = Callable[[Path, StableDiffusionPipeline], Path]

SPELLINGS: dict[str, Save] = {
    "diffusers": lambda to, pipeline: save_diffusers(to / "lora", pipeline),
    "kohya": lambda to, pipeline: save_kohya(to / "kohya.safetensors", pipeline),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("scale", [1.0, -0.5])
def test_fused_weights_equal_those_of_diffusers(
    tmp_path: Path, folder: Path, pipeline: StableDiffusionPipeline, spelling: str, scale: float
) -> None:
    path = SPELLINGS[spelling](tmp_path, pipeline)
    plain = weights(load(folder))
    ours = weights(load(folder, loras=[{"path": str(path), "scale": scale}]))
    theirs = fused_by_diffusers(folder, path, scale)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], atol=1e-6, rtol=1e-5, msg=name)
    changed = [name for name in ours if not torch.equal(ours[name], plain[name])]
    assert any(".conv" in name and ours[name].dim() == 4 for name in changed)
    assert any(name.startswith("text.") for name in changed)
    assert len(changed) > 80


def test_two_loras_add_up(tmp_path: Path, folder: Path, pipeline: StableDiffusionPipeline) -> None:
    first = save_kohya(tmp_path / "1.safetensors", pipeline, seed=1)
    second = save_kohya(tmp_path / "2.safetensors", pipeline, seed=2)
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    plain = weights(load(folder))[name]
    one, other = (weights(load(folder, loras=[{"path": str(p)}]))[name] - plain for p in (first, second))
    both = weights(load(folder, loras=[{"path": str(first)}, {"path": str(second), "scale": 2}]))[name]
    torch.testing.assert_close(both - plain, one + 2 * other, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_styles_switch_without_a_trace(
    tmp_path: Path, folder: Path, pipeline: StableDiffusionPipeline, dtype: str
) -> None:
    oil = save_kohya(tmp_path / "oil.safetensors", pipeline, seed=1)
    ink = save_diffusers(tmp_path / "ink", pipeline, text=False)
    base = save_kohya(tmp_path / "base.safetensors", pipeline, seed=3)
    styles = {"oil": {"path": str(oil)}, "ink": {"path": str(ink), "scale": 0.7}}
    model = load(folder, dtype=dtype, styles=styles, loras=[{"path": str(base)}])
    addresses = [parameter.data_ptr() for parameter in model.unet.parameters()]
    seen: dict[str | None, dict[str, Tensor]] = {None: weights(model)}
    for name in ("oil", "ink"):
        model.set_style(name)
        seen[name] = weights(model)
        assert model.style == name
        assert not identical(seen[name], seen[None])
    for wanted in (None, "ink", "oil", "ink", None, "oil", "oil", None):
        model.set_style(wanted)
        assert identical(weights(model), seen[wanted])
    assert addresses == [parameter.data_ptr() for parameter in model.unet.parameters()]
    started = load(folder, dtype=dtype, styles=styles, loras=[{"path": str(base)}], style="ink")
    assert identical(weights(started), seen["ink"])


def test_a_style_equals_the_same_lora_fused(tmp_path: Path, folder: Path, pipeline: StableDiffusionPipeline) -> None:
    path = save_kohya(tmp_path / "oil.safetensors", pipeline)
    model = load(folder, styles={"oil": {"path": str(path), "scale": 0.5}})
    model.set_style("oil")
    assert identical(weights(model), weights(load(folder, loras=[{"path": str(path), "scale": 0.5}])))


def test_a_style_set_live_is_in_every_frame_that_enters_after_it(
    tmp_path: Path, folder: Path, pipeline: StableDiffusionPipeline
) -> None:
    """In the prompt's embedding, too: this LoRA changes the text encoder."""
    lora = {"path": str(save_kohya(tmp_path / "oil.safetensors", pipeline))}
    rng = np.random.default_rng(0)
    frames = [Frame(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8), float(n), n) for n in range(5)]
    settings = TranslatorSettings(steps=2, bank=BankSettings(kind="off"))
    live = load(folder, styles={"oil": lora})
    translator = Translator(live, settings)
    for frame in frames[:2]:
        translator.step(frame)
    live.set_style("oil")
    answers = [translator.step(frame) for frame in frames[2:]]
    fused = Translator(load(folder, loras=[lora]), settings)
    expected = [fused.step(frame) for frame in frames[2:]]
    for ours, theirs in zip(answers[1:], expected[1:], strict=True):
        assert ours is not None
        assert theirs is not None
        assert ours.index == theirs.index
        assert np.array_equal(ours.pixels, theirs.pixels)


def test_the_version_tells_who_keeps_copies_of_weights(
    tmp_path: Path, folder: Path, pipeline: StableDiffusionPipeline
) -> None:
    path = save_kohya(tmp_path / "oil.safetensors", pipeline)
    model = load(folder, styles={"oil": {"path": str(path)}})
    versions = [model.weights_version]
    for name in ("oil", "oil", None, None):
        model.set_style(name)
        versions.append(model.weights_version)
    assert versions == [0, 1, 1, 2, 2]


def test_an_unknown_style_changes_nothing(tmp_path: Path, folder: Path, pipeline: StableDiffusionPipeline) -> None:
    path = save_kohya(tmp_path / "oil.safetensors", pipeline)
    model = load(folder, styles={"oil": {"path": str(path)}}, style="oil")
    before = weights(model)
    with pytest.raises(ConfigError, match=r"style 'neon' is not among model\.styles: oil"):
        model.set_style("neon")
    assert identical(weights(model), before)


def test_alpha_defaults_to_the_rank(tmp_path: Path, pipeline: StableDiffusionPipeline) -> None:
    state = {key: value for key, value in kohya_state(pipeline).items() if not key.endswith(".alpha")}
    save_file(state, tmp_path / "x.safetensors")
    found = read_lora(tmp_path / "x.safetensors")
    assert {pair.factor for pair in (*found.unet.values(), *found.text.values())} == {1.0}


def refused(path: Path, folder: Path) -> str:
    with pytest.raises(ModelLoadError) as caught:
        load(folder, loras=[Lora(path=str(path))])
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_lora_of_another_model_names_the_layer(
    tmp_path: Path, folder: Path, pipeline: StableDiffusionPipeline
) -> None:
    wider = save_model(tmp_path / "wider", unet=tiny_unet(block_out_channels=(64, 128)))
    message = refused(save_kohya(tmp_path / "wide.safetensors", wider), folder)
    assert "does not fit" in message
    assert "at unet.conv_in it is" in message
    deeper = save_model(tmp_path / "deeper", unet=tiny_unet(layers_per_block=3))
    assert "which is not there" in refused(save_kohya(tmp_path / "deep.safetensors", deeper), folder)


def test_files_that_are_no_plain_lora_are_refused(
    tmp_path: Path, folder: Path, pipeline: StableDiffusionPipeline
) -> None:
    path = tmp_path / "x.safetensors"
    good = kohya_state(pipeline)
    layer = "lora_unet_conv_in"
    for extra, said in (
        ({f"{layer}.hada_w1_a": torch.zeros(1)}, "LoHa"),
        ({f"{layer}.lokr_w1": torch.zeros(1)}, "LoKr"),
        ({f"{layer}.dora_scale": torch.zeros(1)}, "DoRA"),
        ({f"{layer}.lora_mid.weight": torch.zeros(1)}, "plain LoRA"),
        ({"lora_unet_what": torch.zeros(1)}, "spelling"),
    ):
        save_file(good | extra, path)
        assert said in refused(path, folder)
    half = dict(good)
    del half[f"{layer}.lora_up.weight"]
    save_file(half, path)
    refused(path, folder)
    save_file({"model.weight": torch.zeros(1)}, path)
    assert "holds no LoRA weights" in refused(path, folder)
    path.write_bytes(path.read_bytes()[:-2])
    assert "damaged or cut off" in refused(path, folder)
    assert "does not exist" in refused(tmp_path / "none.safetensors", folder)
    (tmp_path / "x.bin").write_bytes(b"x")
    assert "never opened" in refused(tmp_path / "x.bin", folder)


def test_a_lora_that_does_not_fit_leaves_the_weights(
    tmp_path: Path, folder: Path, pipeline: StableDiffusionPipeline
) -> None:
    from streamv2v_obs.translator.lora import fuse

    state = kohya_state(pipeline)
    last = sorted(key for key in state if key.startswith("lora_unet_up") and key.endswith("up.weight"))[-1]
    state[last] = torch.zeros(7, *state[last].shape[1:])
    save_file(state, tmp_path / "x.safetensors")
    model = load(folder)
    before = weights(model)
    with pytest.raises(ModelLoadError, match="does not fit"):
        fuse(model.unet, model.text.module, read_lora(tmp_path / "x.safetensors"), 1.0)
    assert identical(weights(model), before)


def test_the_rigs_write_what_they_say(tmp_path: Path, pipeline: StableDiffusionPipeline) -> None:
    new = load_file(save_diffusers(tmp_path / "lora", pipeline))
    assert any(key.startswith("unet.") and key.endswith(".lora_A.weight") for key in new)
    assert any(key.startswith("text_encoder.") for key in new)
