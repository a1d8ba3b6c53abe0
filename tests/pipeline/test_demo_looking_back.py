"""How the demo model learns to use the bank: pairs of crops as of two frames of a film, attention to the former."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from streamv2v_obs.demo.architecture import TEXT_WIDTH, new_unet
from streamv2v_obs.demo.export import adopt
from streamv2v_obs.demo.latents import REACH, LatentPool, draw_moved
from streamv2v_obs.demo.looking_back import LookingBack
from streamv2v_obs.demo.pool import NONE, target_noise
from streamv2v_obs.demo.train_autoencoder import CHECKPOINT as AUTOENCODER
from streamv2v_obs.demo.train_unet import CHECKPOINT as UNET
from streamv2v_obs.demo.training import load_checkpoint
from streamv2v_obs.settings import FusionSettings
from streamv2v_obs.translator.attention import ExtendedAttention, attend_sdpa, find_layers
from streamv2v_obs.translator.bank import FeatureBank
from streamv2v_obs.translator.presets import demo_folder

CPU = torch.device("cpu")
SIDE = 16


@pytest.fixture
def pool() -> LatentPool:
    generator = np.random.default_rng(0)
    pictures = generator.standard_normal((6, 16, 32, 32)).astype(np.float16)
    labels = np.array([(style, NONE, NONE) for style in range(6)], np.int16)
    return LatentPool(pictures, pictures + np.float16(1), labels, np.arange(6), np.arange(6), 1.0)


def place(square: Tensor, picture: Tensor) -> tuple[int, int]:
    """Where the upper left of ``square`` lies in ``picture``."""
    _, side, _ = square.shape
    for y in range(32 - side + 1):
        for x in range(32 - side + 1):
            if torch.equal(picture[:, y : y + side, x : x + side], square):
                return y, x
    raise AssertionError("nowhere")


def test_the_picture_moves_and_its_noise_stands_but_where_something_comes_in(pool: LatentPool) -> None:
    past, present, places = draw_moved(np.random.default_rng(1), pool, 24, SIDE, CPU)
    assert np.array_equal(past.labels, present.labels)
    shifts = set()
    for number, label in enumerate(present.labels[:, 0]):
        picture = torch.from_numpy(pool.targets[label].astype(np.float32))
        noise = torch.from_numpy(target_noise(int(pool.seeds[label])))
        before, now = (place(batch.target[number], picture) for batch in (past, present))
        assert now[0] % 4 == now[1] % 4 == 0
        assert place(past.noise[number], noise) == before
        own = noise[:, now[0] : now[0] + SIDE, now[1] : now[1] + SIDE]
        shifts.add((before[0] - now[0], before[1] - now[1]))
        for row in range(SIDE):
            for column in range(SIDE):
                was_at = now[0] + row - before[0], now[1] + column - before[1]
                seen = all(0 <= at < SIDE for at in was_at)
                wanted = past.noise[number] if seen else own
                assert torch.equal(present.noise[number][:, row, column], wanted[:, row, column])
                assert places[number, row * SIDE + column] == (was_at[0] * SIDE + was_at[1] if seen else -1)
    assert (0, 0) in shifts
    assert len(shifts) > 8
    assert max(abs(step) for shift in shifts for step in shift) == REACH


def test_it_is_the_attention_that_the_translator_extends() -> None:
    torch.manual_seed(0)
    unet = new_unet((32, 32, 32)).eval()
    first, second = torch.randn((2, 1, 16, 8, 8)).unbind()
    times, prompt = torch.tensor([399]), torch.randn((1, 24, TEXT_WIDTH))

    def call(picture: Tensor) -> Tensor:
        with torch.no_grad():
            made: Tensor = unet(picture, times, prompt, return_dict=False)[0]
        return made

    fusion = FusionSettings(strength=0.0)
    layers = find_layers(unet, (16, 8, 8), fusion)
    bank = FeatureBank(layers, 1, kind="dyme", length=1, attended=True, device=CPU, dtype=torch.float32)
    extension = ExtendedAttention(unet, layers, bank, fusion, attend_sdpa)
    extension.install()
    alone = call(first)
    bank.update()
    wanted = call(second)
    extension.remove()

    back = LookingBack(unet)
    with back.noting():
        assert torch.allclose(call(first), alone, atol=1e-5)
    with back.looking(torch.full((1, 64), -1)):
        made = call(second)
    assert torch.allclose(made, wanted, atol=1e-5)
    assert not torch.allclose(made, call(second), atol=1e-3)


def test_both_frames_keys_and_values_are_learned_and_where_to_look() -> None:
    torch.manual_seed(0)
    unet = new_unet((32, 32, 32))
    back, times, prompt = LookingBack(unet), torch.tensor([399]), torch.randn((1, 24, TEXT_WIDTH))
    picture = torch.randn((1, 16, 8, 8))
    with back.noting():
        noted = unet(picture, times, prompt, return_dict=False)[0]
    assert not noted.requires_grad
    attention = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    keys, found, places = attention.to_k.weight, [], torch.arange(64)[None]
    with back.looking(places):
        found.append(torch.autograd.grad(unet(picture, times, prompt, return_dict=False)[0].square().sum(), keys)[0])
    found.append(torch.autograd.grad(unet(picture, times, prompt, return_dict=False)[0].square().sum(), keys)[0])
    assert all(gradient.abs().sum() > 0 for gradient in found)
    assert not torch.allclose(*found)

    optimizer = torch.optim.Adam(attention.parameters(), 0.01)
    missed = []
    for _ in range(40):
        with back.looking(places):
            unet(picture, times, prompt)
        missed.append(back.missed.item())
        optimizer.zero_grad()
        torch.autograd.backward(back.missed)
        optimizer.step()
    assert missed[-1] < 0.5 * missed[0]


def test_a_run_adopts_a_model_without_attention_at_the_top(tmp_path: Path) -> None:
    shipped, older, run = demo_folder(), tmp_path / "older", tmp_path / "run"
    for path in shipped.rglob("*.safetensors"):
        kept = load_file(path)
        target = older / path.relative_to(shipped)
        target.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: tensor for key, tensor in kept.items() if "down_blocks.0.attentions" not in key}, target)
    (older / "vae" / "config.json").write_bytes((shipped / "vae" / "config.json").read_bytes())
    adopt(older, run)
    unet = new_unet()
    weights = load_checkpoint(run / UNET, "average")
    unet.load_state_dict({key.removeprefix("unet."): tensor for key, tensor in weights.items() if key[:5] == "unet."})
    assert (run / AUTOENCODER).is_file()
    adds = unet.down_blocks[0].attentions[0]
    picture = torch.randn((1, 96, 8, 8))
    with torch.no_grad():
        after = adds(picture, encoder_hidden_states=torch.randn((1, 24, TEXT_WIDTH)), return_dict=False)[0]
    assert torch.equal(after, picture)
