"""Bad models: each refused with one line that names the file and what to do."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from streamv2v_obs.errors import ConfigError, ModelLoadError, OutOfDeviceMemory
from streamv2v_obs.settings import ModelSettings
from streamv2v_obs.translator.components import reading
from streamv2v_obs.translator.loading import load_model
from tests.rigs.tiny_models import save_model, save_single_file, tiny_text_encoder, tiny_unet, tiny_vae

UNET = "unet/diffusion_pytorch_model.safetensors"


def refused(name: str | Path, **settings: str) -> str:
    """The one line with which the loader refuses ``name``."""
    wanted = ModelSettings.model_validate({"name": str(name), "device": "cpu", "dtype": "float32"} | settings)
    with pytest.raises(ModelLoadError) as caught:
        load_model(wanted)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Bomb:
    """Its unpickling would be seen."""

    exploded = False

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _explode, ()


def _explode() -> None:
    Bomb.exploded = True


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(tmp_path / "model")
    return tmp_path / "model"


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", ["weights.ckpt", "weights.pt", "weights.PTH", "weights.bin"])
def test_a_pickled_checkpoint_is_never_opened(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Bomb()))
    message = refused(path)
    assert str(path) in message
    assert "can run any code" in message
    assert not Bomb.exploded


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_renamed_pickle_is_told_by_its_bytes(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Bomb(), protocol=protocol))
    assert "is a pickle with another name" in refused(path)
    assert not Bomb.exploded


def test_a_renamed_torch_zip_is_told_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    assert "is a pickle with another name" in refused(path)


def test_a_folder_with_pickled_weights_only_is_refused(model: Path) -> None:
    state = load_file(model / UNET)
    (model / UNET).unlink()
    torch.save(state, model / "unet/diffusion_pytorch_model.bin")
    message = refused(model)
    assert "diffusion_pytorch_model.bin" in message
    assert "never opened" in message


def test_a_pickle_inside_a_folder_is_refused(model: Path) -> None:
    (model / "text_encoder/model.safetensors").write_bytes(pickle.dumps(Bomb()))
    assert str(model / "text_encoder/model.safetensors") in refused(model)
    assert not Bomb.exploded


@pytest.mark.parametrize("part", [UNET, "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"])
@pytest.mark.parametrize("keep", [0, 5, 300, -1])
def test_a_file_that_is_cut_off_is_named(model: Path, part: str, keep: int) -> None:
    path = model / part
    path.write_bytes(path.read_bytes()[:keep])
    message = refused(model)
    assert str(path) in message
    assert "download it again" in message


@pytest.mark.parametrize("content", [{}, {"weight_map": ["a"]}, {"weight_map": {"a": 3}}, {"weight_map": {}}])
def test_an_index_that_names_no_files_is_named(model: Path, content: object) -> None:
    (model / UNET).rename(model / "unet/diffusion_pytorch_model-00001-of-00001.safetensors")
    index = model / "unet/diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps(content))
    assert str(index) in refused(model)


def test_an_index_that_names_a_pickle_is_refused(model: Path) -> None:
    (model / UNET).rename(model / "unet/weights.bin")
    index = model / "unet/diffusion_pytorch_model.safetensors.index.json"
    for name, said in (("weights.bin", "never opened"), ("../unet/weights.bin", "outside its folder")):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        assert said in refused(model)


def test_a_scale_that_is_no_number_is_refused(model: Path) -> None:
    edit(model / "vae/config.json", scaling_factor="large")
    assert str(model) in refused(model)


def test_a_unet_without_a_size_wants_one_of_the_settings(model: Path) -> None:
    edit(model / "unet/config.json", sample_size=None)
    assert "set model.width and model.height" in refused(model)
    sized = {"name": str(model), "device": "cpu", "dtype": "float32", "width": 96, "height": 64}
    assert load_model(ModelSettings.model_validate(sized)).width == 96
    edit(model / "unet/config.json", sample_size=[16, 24])
    loaded = load_model(ModelSettings(name=str(model), device="cpu", dtype="float32"))
    assert (loaded.width, loaded.height) == (48, 32)


def test_garbage_is_named(model: Path) -> None:
    (model / UNET).write_bytes(b"<html>503 try later</html>" * 100)
    assert str(model / UNET) in refused(model)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(model: Path, part: str) -> None:
    (model / part).rename(model.parent / part)
    assert str(model / part) in refused(model)


@pytest.mark.parametrize("part", ["unet/config.json", "scheduler/scheduler_config.json", "text_encoder/config.json"])
@pytest.mark.parametrize("content", ["{", "[]", "\xff", ""])
def test_a_broken_description_is_named(model: Path, part: str, content: str) -> None:
    (model / part).write_bytes(content.encode("latin-1"))
    assert str(model / part) in refused(model)


def test_weights_of_another_size_are_named(model: Path) -> None:
    edit(model / "unet/config.json", block_out_channels=[32, 96])
    assert str(model / "unet") in refused(model)


@pytest.mark.parametrize(
    ("part", "what"),
    [(UNET, "UNet"), ("vae/diffusion_pytorch_model.safetensors", "auto"), ("text_encoder/model.safetensors", "text")],
)
def test_a_gap_in_the_weights_is_not_filled_with_noise(model: Path, part: str, what: str) -> None:
    state = load_file(model / part)
    gone = sorted(state)[3]
    del state[gone]
    save_file(state, model / part, {"format": "pt"})
    message = refused(model)
    assert gone in message
    assert what in message


def test_parts_of_different_models_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "text", text_encoder=tiny_text_encoder(width=16))
    assert "the text encoder is 16 wide, the UNet wants 32" in refused(tmp_path / "text")
    save_model(tmp_path / "vae", vae=tiny_vae(channels=8))
    assert "8 latent channels" in refused(tmp_path / "vae")
    save_model(tmp_path / "words", text_encoder=tiny_text_encoder(vocabulary=100))
    assert "knows more tokens" in refused(tmp_path / "words")


def test_models_that_want_more_than_a_prompt_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "inpainting", unet=tiny_unet(in_channels=9))
    assert "inpainting" in refused(tmp_path / "inpainting")
    save_model(tmp_path / "classes", unet=tiny_unet(class_embed_type="timestep"))
    assert "class labels" in refused(tmp_path / "classes")
    save_model(tmp_path / "numbered", unet=tiny_unet(num_class_embeds=10))
    assert "class labels" in refused(tmp_path / "numbered")


@pytest.mark.parametrize(
    ("said", "changes"),
    [
        (
            "down_blocks.0.attentions.0 is attention outside",
            {"down_block_types": ("AttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "AttnUpBlock2D")},
        ),
        ("mid_block.attentions.0 is attention outside", {"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}),
        ("no self-attention", {"only_cross_attention": True, "mid_block_type": None}),
        ("several widths", {"cross_attention_dim": (32, 32)}),
        ("several prompts", {"dual_cross_attention": True}),
    ],
)
def test_a_unet_whose_attention_would_stay_without_memory_is_refused(
    tmp_path: Path, said: str, changes: dict[str, Any]
) -> None:
    save_model(tmp_path / "model", unet=tiny_unet(**changes))
    message = refused(tmp_path / "model")
    assert str(tmp_path / "model" / "unet") in message
    assert said in message


def test_sdxl_is_refused_by_name(model: Path) -> None:
    (model / "text_encoder_2").mkdir()
    assert "SDXL" in refused(model)


def test_another_kind_of_unet_is_refused(model: Path) -> None:
    edit(model / "unet/config.json", _class_name="FluxTransformer2DModel")
    assert "FluxTransformer2DModel" in refused(model)


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("text_encoder/config.json", {"auto_map": {"AutoModel": "evil.py--Evil"}}),
        ("tokenizer/tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}),
        ("unet/config.json", {"auto_map": {"AutoModel": "evil.Evil"}}),
        ("model_index.json", {"unet": ["evil", "EvilUNet"]}),
    ],
)
def test_code_that_comes_with_a_model_is_never_run(model: Path, file: str, changes: dict[str, object]) -> None:
    (model / "evil.py").write_text("raise SystemExit('ran')")
    edit(model / file, **changes)
    message = refused(model)
    assert str(model / file) in message
    assert "never" in message


def test_a_schedule_that_lcm_cannot_use_is_refused(model: Path) -> None:
    path = model / "scheduler/scheduler_config.json"
    edit(path, num_train_timesteps=500)
    assert "500 noise levels" in refused(model)
    edit(path, num_train_timesteps=1000, prediction_type="flow")
    assert "prediction_type 'flow'" in refused(model)
    edit(path, prediction_type="epsilon", initial_noise="pink")
    assert "initial_noise 'pink' is not known; what is: white, blue" in refused(model)
    edit(path, initial_noise="blue", beta_schedule="wavy")
    assert str(path) in refused(model)


def test_a_name_that_means_nothing_lists_what_does(tmp_path: Path) -> None:
    message = refused("sd16-lcm")
    assert "allowed: auto, sd15-lcm, sd-turbo, demo" in message
    assert "does not exist" in refused(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    "name", ["someone/model", "someone/model@main", "someone/model@v1.0", "someone/model@451f4fe"]
)
def test_a_repository_without_a_commit_says_why_and_how(name: str) -> None:
    message = refused(name)
    assert "could change the weights between two starts" in message
    assert "someone/model@<commit>" in message


def test_single_files_of_other_kinds_are_told_apart(models_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"lora_unet_mid.lora_down.weight": torch.zeros(1)}, path)
    assert "model.loras" in refused(path)
    save_file({"some.weight": torch.zeros(1)}, path)
    assert "no Stable Diffusion checkpoint" in refused(path)
    first = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}
    save_file(first | {"conditioner.embedders.0.x": torch.zeros(1)}, path)
    assert "SDXL" in refused(path)
    save_file(first, path)
    assert "no text encoder" in refused(path)
    save_file({}, path)
    assert "holds no tensors" in refused(path)


def test_a_single_file_with_a_gap_is_not_filled_with_noise(models_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    state = save_single_file(path, save_model(models_folder / "sd15-lcm" / "base"))
    for part in ("model.diffusion_model.middle_block.1.norm", "first_stage_model.decoder.mid", "cond_stage_model"):
        gone = [name for name in state if name.startswith(part)][-1]
        save_file({name: tensor for name, tensor in state.items() if name != gone}, path)
        assert str(path) in refused(path), gone


@pytest.mark.parametrize("wanted", ["tiny", "no/such/folder"])
def test_an_autoencoder_that_is_not_there_is_named(models_folder: Path, model: Path, wanted: str) -> None:
    message = refused(model, autoencoder=wanted)
    assert "download" in message if wanted == "tiny" else "no/such/folder" in message


def test_a_preset_that_is_not_downloaded_names_the_command(models_folder: Path) -> None:
    message = refused("sd15-lcm")
    assert "run: streamv2v-obs download sd15-lcm" in message
    assert str(models_folder) in message


def test_a_full_device_proposes_what_helps() -> None:
    with pytest.raises(OutOfDeviceMemory, match=re.escape("model.dtype")), reading("model", Path("x")):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_an_unknown_style_is_refused_at_load_and_later(model: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not among model\.styles: none"):
        load_model(ModelSettings(name=str(model), dtype="float32", device="cpu")).set_style("neon")
