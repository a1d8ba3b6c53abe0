"""The demo model's training end to end, tiny: pool, autoencoder, UNet, export, and the translator runs the result."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from streamv2v_obs.bench.demo_quality import flats
from streamv2v_obs.demo.architecture import new_autoencoder, new_scheduler, new_unet
from streamv2v_obs.demo.blend import WEIGHTS, blend
from streamv2v_obs.demo.discriminator import Critic, balance
from streamv2v_obs.demo.evaluate import StyleFigures, decibels, sharpness, unevenness
from streamv2v_obs.demo.export import adopt, export
from streamv2v_obs.demo.muon import Muon, orthogonalized
from streamv2v_obs.demo.pool import NONE, STYLE_NAMES, draw_pool, open_pool, random_crops
from streamv2v_obs.demo.scenes import draw_scene
from streamv2v_obs.demo.sheet import draw_sheet, translate_still, unseen_pictures
from streamv2v_obs.demo.tokenizer import LENGTH, new_tokenizer
from streamv2v_obs.demo.train_autoencoder import (
    CHECKPOINT,
    AutoencoderPlan,
    encoder_key,
    fold,
    to_tensor,
    train_autoencoder,
)
from streamv2v_obs.demo.train_flats import CLEAN, FlatsPlan, flatness, flats_loss, train_flats
from streamv2v_obs.demo.train_unet import CHECKPOINT as UNET
from streamv2v_obs.demo.train_unet import UNetPlan, train_unet
from streamv2v_obs.demo.training import checkpoint_step, load_checkpoint
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.settings import ModelSettings
from streamv2v_obs.translator.loading import load_model

WIDTHS = (32, 32, 32)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    draw_pool(folder, shards=1, sources=2, targets_each=3)
    return folder


@pytest.fixture(scope="module")
def run(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train_autoencoder(pool, folder, AutoencoderPlan(steps=6, batch=4, crop=32, device="cpu"))
    plan = UNetPlan(steps=4, batch=4, crop=8, widths=WIDTHS, critic_from=0.5, whole_share=0.25, device="cpu")
    train_unet(pool, folder, plan)
    return folder


def test_a_pool_goes_on_where_it_was_interrupted(pool: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in pool.iterdir()}
    draw_pool(pool, shards=1, sources=2, targets_each=3)
    assert before == {path.name: path.stat().st_mtime_ns for path in pool.iterdir()}
    (shard,) = open_pool(pool)
    assert shard.read("targets").shape == (6, 256, 256, 3)
    crops = random_crops(np.random.default_rng(0), [shard], 5, 32)
    assert crops.shape == (5, 32, 32, 3)


def test_no_pool_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no pictures; run: python -m streamv2v_obs\.demo pool"):
        open_pool(tmp_path)


def test_the_autoencoder_learns_and_an_interrupted_run_ends_as_an_uninterrupted_one(
    pool: Path, tmp_path: Path
) -> None:
    plan = AutoencoderPlan(steps=8, batch=2, crop=32, device="cpu", save_every=4)
    train_autoencoder(pool, tmp_path / "whole", plan)

    class Interrupted(Exception):
        pass

    def die(self: Muon, closure: object = None) -> None:
        if len(calls) == 6:
            raise Interrupted
        calls.append(1)
        step(self)

    calls: list[int] = []
    step = Muon.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Muon, "step", die)
        with pytest.raises(Interrupted):
            train_autoencoder(pool, tmp_path / "broken", plan)
    assert checkpoint_step(tmp_path / "broken" / CHECKPOINT) == 4
    train_autoencoder(pool, tmp_path / "broken", plan)
    whole = load_checkpoint(tmp_path / "whole" / CHECKPOINT, "average")
    broken = load_checkpoint(tmp_path / "broken" / CHECKPOINT, "average")
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    fresh = new_autoencoder().state_dict()
    assert any(not torch.equal(whole[name], fresh[name]) for name in whole)


def test_the_autoencoder_gets_better_in_thirty_steps(pool: Path, tmp_path: Path) -> None:
    (shard,) = open_pool(pool)
    picture = fold(to_tensor(shard.read("targets")[:1, :64, :64].copy(), torch.device("cpu")))

    def error(steps: int) -> float:
        trained = train_autoencoder(pool, tmp_path, AutoencoderPlan(steps=steps, batch=4, crop=32, device="cpu"))
        with torch.no_grad():
            return float((trained.decoder(trained.encoder(picture)) - picture).square().mean())

    first = error(1)
    assert error(31) < 0.6 * first


def test_what_is_exported_is_a_model_that_the_translator_runs(run: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamv2v_obs.demo.train_unet.new_unet", lambda widths: new_unet(WIDTHS))
        size = export(run, tmp_path)
    assert 0 < size < 20e6
    assert json.loads((tmp_path / "vae" / "config.json").read_text(encoding="utf-8"))["scaling_factor"] > 0
    model = load_model(ModelSettings(name=str(tmp_path), device="cpu", dtype="float32"))
    assert (model.prediction_type, model.initial_noise) == ("sample", "blue")
    assert (model.width, model.height) == (256, 256)
    picture = draw_scene(np.random.default_rng(0), 64, 64, "person")
    first = translate_still(model, "an oil painting", picture, steps=2, strength=0.4)
    assert first.shape == picture.shape
    assert np.array_equal(first, translate_still(model, "an oil painting", picture, steps=2, strength=0.4))
    assert not np.array_equal(first, translate_still(model, "an oil painting", picture, steps=2, strength=0.4, seed=1))
    sheet = draw_sheet(model, [picture], ["neon"], steps=1)
    assert sheet.shape == (64 + 22, 128, 3)


def test_a_run_goes_on_from_an_exported_model(tmp_path: Path) -> None:
    folder = Path(str(files("streamv2v_obs.demo") / "weights"))
    adopt(folder, tmp_path / "run")
    export(tmp_path / "run", tmp_path / "again")
    for part in ("vae/diffusion_pytorch_model", "unet/diffusion_pytorch_model", "text_encoder/model"):
        first, second = (load_file(where / f"{part}.safetensors") for where in (folder, tmp_path / "again"))
        assert all(torch.equal(second[name], tensor) for name, tensor in first.items()), part
    configs = [json.loads((where / "vae" / "config.json").read_text()) for where in (folder, tmp_path / "again")]
    assert configs[0]["scaling_factor"] == configs[1]["scaling_factor"]
    with pytest.raises(ConfigError, match="is there already"):
        adopt(folder, tmp_path / "run")
    (tmp_path / "broken" / "vae").mkdir(parents=True)
    (tmp_path / "broken" / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="not weights of today's architecture"):
        adopt(tmp_path / "broken", tmp_path / "other")


def test_flat_is_what_is_like_its_neighbours() -> None:
    picture = torch.zeros(1, 16, 8, 12)
    picture[..., 6:] = 1.0
    flat = flatness(picture)
    assert flat.shape == (1, 1, 8, 12)
    assert torch.all(flat[..., [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]] == 1)
    assert torch.all(flat[..., [5, 6]] < 1e-4), "both sides of an edge"


@pytest.mark.parametrize(
    ("styles", "where"),
    [
        (("photo",), "flat"),
        (("photo", "pixel"), "flat"),
        (("watercolor",), "nowhere"),
        (("photo", "watercolor"), "nowhere"),
        (("glass",), "everywhere"),
        (("glass", "oil"), "everywhere"),
        (("glass", "watercolor"), "nowhere"),
    ],
)
def test_some_styles_follow_the_teacher_where_they_are_flat_some_all_over_and_the_rest_is_as_it_was(
    styles: tuple[str, ...], where: str
) -> None:
    target = torch.zeros(1, 16, 8, 12)
    target[..., 6:] = torch.randn(16, 8, 6, generator=torch.Generator().manual_seed(0))
    before = target + 0.3
    flat = torch.zeros(12, dtype=torch.bool)
    flat[:5] = True  # the edge itself is not
    taught = {"flat": flat, "nowhere": flat & False, "everywhere": flat | True}[where]
    labels = np.array([[*(STYLE_NAMES.index(style) for style in styles), *[NONE] * (3 - len(styles))]], np.int16)
    made = torch.where(taught, target, before)
    assert max(map(float, flats_loss(made, before, target, labels))) < 0.02
    assert float(flats_loss(before, before, target, labels)[0]) > 0.25 or where == "nowhere"
    assert float(flats_loss(target, before, target, labels)[1]) > 0.25 or where == "everywhere"


def test_blotches_count_beyond_being_off() -> None:
    target, labels = torch.zeros(1, 16, 16, 16), np.array([[STYLE_NAMES.index("anime"), NONE, NONE]], np.int16)
    blotched = target.clone()
    blotched[..., ::2] = 0.2
    off = target + blotched.mean()
    assert float(flats_loss(blotched, target, target, labels)[0]) > 2 * float(
        flats_loss(off, target, target, labels)[0]
    )


def test_flats_are_as_uneven_as_they_are() -> None:
    rng = np.random.default_rng(0)
    taught = np.full((128, 128, 3), 120, np.uint8)
    taught[:, 64:] = rng.integers(0, 256, (128, 64, 3))
    made = np.clip(taught + rng.normal(0, 3, taught.shape), 0, 255).astype(np.uint8)
    assert unevenness(taught, taught) == 0
    assert unevenness(made, taught) == pytest.approx(3.0, abs=0.2), "and of the other half nothing is asked"
    assert unevenness(made, made) is None
    plain = StyleFigures(1, 6, 1, 1, 1, edges_kept=1, edges_taught=1, edges_by_chance=0)
    even = {name: replace(plain, uneven=number / 10) for number, name in enumerate(sorted(STYLE_NAMES))}
    found = flats(even)
    assert set(found) == {*CLEAN, "worst"}
    assert found["worst"] == max(even[name].uneven or 0 for name in CLEAN)


def test_flats_are_taught_to_a_finished_model_and_its_text_encoder_stays(pool: Path, tmp_path: Path) -> None:
    folder, run = Path(str(files("streamv2v_obs.demo") / "weights")), tmp_path / "run"
    with pytest.raises(
        ConfigError, match=r"unet\.safetensors is missing; run: python -m streamv2v_obs\.demo unet, or"
    ):
        train_flats(pool, run, FlatsPlan(steps=1, device="cpu"))
    adopt(folder, run)
    before = load_checkpoint(run / UNET, "average")
    train_flats(pool, run, FlatsPlan(steps=2, batch=2, device="cpu"))
    train_flats(pool, run, FlatsPlan(steps=3, batch=2, device="cpu"))
    assert checkpoint_step(run / UNET) == 3
    after = load_checkpoint(run / UNET, "weights")
    changed = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    assert changed
    assert all(name.startswith("unet.") for name in changed)
    straight = tmp_path / "straight"
    adopt(folder, straight)
    train_flats(pool, straight, FlatsPlan(steps=3, batch=2, device="cpu"))
    again = load_checkpoint(straight / UNET, "weights")
    assert all(torch.allclose(again[name], tensor, atol=1e-3) for name, tensor in after.items()), "resumed is the same"


def test_a_blend_moves_the_weights_it_is_told_to(tmp_path: Path) -> None:
    folder, other = Path(str(files("streamv2v_obs.demo") / "weights")), tmp_path / "other"
    shutil.copytree(folder, other)
    for name in WEIGHTS:
        moved = {key: (tensor.float() + 0.5).half() for key, tensor in load_file(folder / name).items()}
        save_file(moved, other / name)
    for share, since, only in ((0.5, None, ""), (-0.5, other, ""), (-0.5, None, r"^unet\.down_blocks|^text_encoder")):
        out = tmp_path / f"{share} {since is None}"
        blend(folder, other, out, share=share, since=since, only=only)
        load_model(ModelSettings(name=str(out)))
        for name in WEIGHTS:
            first, made = load_file(folder / name), load_file(out / name)
            assert first.keys() == made.keys()
            for key, tensor in first.items():
                meant = not only or name.startswith("text") or key.startswith("down_blocks")
                wanted = tensor.float() + (share / 2 if meant and since is None else 0)
                assert made[key].dtype == tensor.dtype
                assert torch.allclose(made[key].float(), wanted, atol=0.01), key


def test_what_cannot_be_blended_is_said(tmp_path: Path) -> None:
    folder, other, out = Path(str(files("streamv2v_obs.demo") / "weights")), tmp_path / "other", tmp_path / "out"
    with pytest.raises(ConfigError, match="is there already"):
        blend(folder, folder, tmp_path, share=0.5)
    with pytest.raises(ConfigError, match="not a regular expression"):
        blend(folder, folder, out, share=0.5, only="(")
    with pytest.raises(ConfigError, match="no weights to blend"):
        blend(folder, other, out, share=0.5)
    shutil.copytree(folder, other)
    save_file({"weight": torch.zeros(2)}, other / WEIGHTS[0])
    with pytest.raises(ConfigError, match="another architecture"):
        blend(folder, other, out, share=0.5)
    assert not out.exists()


def test_the_whole_model_is_small_enough_to_travel() -> None:
    count = sum(p.numel() for module in (new_autoencoder(), new_unet()) for p in module.parameters())
    assert 2 * count < 19e6


def test_the_schedule_leaves_ten_times_the_signal_and_still_ends_in_noise() -> None:
    acp, plain = new_scheduler().alphas_cumprod.double(), new_scheduler(1.0).alphas_cumprod.double()
    ratio = (acp / (1 - acp)) / (plain / (1 - plain))
    assert torch.allclose(ratio, torch.full_like(ratio, 10), rtol=1e-2)
    assert bool((acp.diff() < 0).all())
    assert acp[-1] < 0.1


def test_case_punctuation_and_unknown_words_make_no_other_prompt() -> None:
    tokenizer = new_tokenizer()

    def tokens(prompt: str) -> list[int]:
        ids: list[int] = tokenizer(prompt, padding="max_length", max_length=LENGTH, truncation=True).input_ids
        return ids

    assert tokens("An OIL-painting!") == tokens("an oil painting")
    assert tokens("zxqv neon") == tokens("λέξη neon") != tokens("neon")
    assert len(tokens("")) == len(tokens("oil " * 99)) == LENGTH


def test_muon_updates_are_orthogonal_and_it_descends() -> None:
    matrix = torch.randn(8, 20, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalized(matrix, 8))
    assert bool(((values > 0.6) & (values < 1.3)).all())
    layer = torch.nn.Conv2d(3, 4, 3)
    optimizer = Muon(layer.parameters(), 0.01)
    picture, wanted = torch.randn(2, 3, 8, 8), torch.randn(2, 4, 6, 6)

    def loss() -> torch.Tensor:
        error: torch.Tensor = (layer(picture) - wanted).square().mean()
        return error

    before = loss().item()
    for _ in range(30):
        optimizer.zero_grad()
        torch.autograd.backward(loss())
        optimizer.step()
    assert loss().item() < 0.95 * before


def test_the_critic_weighs_as_much_as_it_is_told() -> None:
    critic = Critic(4, 3, 8)
    last = torch.nn.Conv2d(4, 4, 1)
    source = torch.randn(2, 4, 8, 8)
    made = last(source)
    missed, wanted = -critic(source, made, torch.tensor([0, 2])).mean(), made.square().mean()
    factor = balance(wanted, missed, last.weight, 0.25)
    first, second = (torch.autograd.grad(value, last.weight, retain_graph=True)[0] for value in (wanted, missed))
    expected = min(0.25 * float(first.norm() / second.norm()), 10.0)
    assert float(factor) == pytest.approx(expected, rel=1e-3)


def test_figures_mean_what_they_say() -> None:
    picture = np.full((32, 32, 3), 100, np.uint8)
    assert decibels(picture, picture) == float("inf")
    assert decibels(picture, picture + np.uint8(10)) == pytest.approx(28.13, abs=0.01)
    assert sharpness(picture) == 0
    half = picture.copy()
    half[:, 16:] = 200
    assert sharpness(half) > 1


def test_a_decoder_trained_alone_keeps_the_encoder_and_its_latents(pool: Path, tmp_path: Path) -> None:
    train_autoencoder(pool, tmp_path, AutoencoderPlan(steps=4, batch=2, crop=32, device="cpu"))
    key, before = encoder_key(tmp_path), load_checkpoint(tmp_path / CHECKPOINT, "average")
    train_autoencoder(pool, tmp_path, AutoencoderPlan(steps=8, batch=2, crop=32, device="cpu", decoder_only=True))
    after = load_checkpoint(tmp_path / CHECKPOINT, "average")
    assert encoder_key(tmp_path) == key
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder"}


def test_the_sheet_shows_pictures_that_were_never_trained_on() -> None:
    pictures = unseen_pictures(64)
    assert [picture.shape for picture in pictures] == [(64, 64, 3)] * 4
    assert all(picture.dtype == np.uint8 and picture.std() > 15 for picture in pictures)
