"""The demo model's fourth stage: scenes in motion, answers carried along it, and a bank for gradients."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from streamv2v_obs.demo.correcting import Correction
from streamv2v_obs.demo.export import adopt, read_scale
from streamv2v_obs.demo.looking_back import LookingBack, Scenes, draw_scenes
from streamv2v_obs.demo.moving import MOMENTS, SIDE, draw_moving_pool, open_moving
from streamv2v_obs.demo.past_features import JudgedAttention, Kind, PastFeatures, matches
from streamv2v_obs.demo.train_autoencoder import load_autoencoder
from streamv2v_obs.demo.train_memory import MemoryPlan, MemoryTask, draw_memory_task, memory_loss, train_memory
from streamv2v_obs.demo.train_unet import CHECKPOINT as UNET
from streamv2v_obs.demo.train_unet import Students, load_students
from streamv2v_obs.demo.training import checkpoint_step, load_checkpoint
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.settings import FusionSettings
from streamv2v_obs.translator.attention import ExtendedAttention, attend_sdpa, find_layers
from streamv2v_obs.translator.bank import FeatureBank
from streamv2v_obs.translator.merging import draw_partitions
from streamv2v_obs.translator.rows_in_call import RowsOfAll

WEIGHTS = Path(str(files("streamv2v_obs.demo") / "weights"))
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moving")
    draw_moving_pool(folder, shards=1, clips=4)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    adopt(WEIGHTS, folder)
    return folder


@pytest.fixture(scope="module")
def task(run: Path) -> LookingBack:
    return LookingBack(Correction.begin("memory", run, CPU, 1e-4).before, load_autoencoder(run), read_scale(run))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_moving_scenes_know_where_their_pixels_were_at_the_first_moment(moving: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in moving.iterdir()}
    draw_moving_pool(moving, shards=1, clips=4)
    assert before == {path.name: path.stat().st_mtime_ns for path in moving.iterdir()}, "drawn once"
    shards = open_moving(moving)
    scenes = draw_scenes(np.random.default_rng(0), shards, 4, CPU)
    assert scenes.pictures.shape == (4, MOMENTS, 3, SIDE, SIDE)
    first = scenes.pictures[:, :1].expand(-1, MOMENTS - 1, -1, -1, -1).flatten(0, 1)

    def apart(places: Tensor) -> float:
        fetched = torch.nn.functional.grid_sample(
            first, places.flatten(0, 1), padding_mode="border", align_corners=False
        )
        difference = (fetched.view_as(scenes.pictures[:, 1:]) - scenes.pictures[:, 1:]).abs()
        return float((difference * scenes.seen).sum() / scenes.seen.sum())

    assert scenes.seen.mean() > 0.4
    assert apart(scenes.places) < 0.8 * apart(scenes.places + 2 * 3 / SIDE), "three pixels beside it is worse"


def test_no_moving_scenes_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no moving scenes; run: python -m streamv2v_obs\.demo moving"):
        open_moving(tmp_path)


@torch.inference_mode()
def test_what_was_seen_is_carried_on_and_what_was_not_is_the_models_own(moving: Path, task: LookingBack) -> None:
    drawn = draw_scenes(np.random.default_rng(0), open_moving(moving), MOMENTS, CPU)
    # Four scenes stand for four moments, so that no two are alike.
    answers = task.encode(drawn.pictures[:, :1]).transpose(0, 1)
    y, x = torch.meshgrid(*[(torch.arange(SIDE) + 0.5) * (2 / SIDE) - 1] * 2, indexing="ij")
    still = torch.stack([x, y], -1).expand(1, MOMENTS - 1, -1, -1, -1)
    seen = torch.zeros(1, MOMENTS - 1, 1, SIDE, SIDE)
    assert torch.allclose(task.carried(answers, Scenes(drawn.pictures, still, seen)), answers, atol=1e-4)
    seen[..., : SIDE // 2] = 1
    wanted = task.carried(answers, Scenes(drawn.pictures, still, seen))
    assert torch.equal(wanted[:, 0], answers[:, 0])
    assert torch.allclose(wanted[:, 1:, ..., -4:], answers[:, 1:, ..., -4:], atol=0.05)
    first, own, left = (latents[..., :8] for latents in (answers[:, :1], answers[:, 1:], wanted[:, 1:]))
    assert (left - first).abs().mean() < 0.3 * (own - first).abs().mean()


@pytest.mark.parametrize("kind", ["last", "all", "merged"])
@torch.inference_mode()
def test_gradients_flow_through_the_very_bank_that_the_translator_has(run: Path, kind: Kind) -> None:
    students, fusion, rows = load_students(run), FusionSettings(threshold=0.7), 2
    layers = find_layers(students.unet, (16, 16, 16), fusion)
    frames, prompts = 0.5 * random(MOMENTS, rows, 16, 16, 16), random(rows, 24, 128, seed=1)
    timesteps = torch.tensor([399, 199])
    real = FeatureBank(
        layers,
        rows,
        kind="dyme" if kind == "merged" else "queue",
        length=MOMENTS if kind == "all" else 1,
        device=CPU,
        dtype=torch.float32,
    )
    ours = PastFeatures(layers)
    made: list[list[Tensor]] = [[], []]
    banks: tuple[FeatureBank | PastFeatures, ...] = (real, ours)
    for answers, bank in zip(made, banks, strict=True):
        every_row = RowsOfAll()
        every_row.rows = slice(0, rows)
        attention = ExtendedAttention(students.unet, layers, bank, fusion, attend_sdpa, in_call=every_row)
        attention.install()
        for number, frame in enumerate(frames):
            answers.append(students.unet(frame, timesteps, prompts, return_dict=False)[0])
            if isinstance(bank, PastFeatures):
                bank.update(kind, 5, number)
            else:
                tokens = [layer.tokens for layer in layers]
                bank.update(draw_partitions(5, number, rows, tokens) if bank.next_update_merges else None)
        attention.remove()
    alone = students.unet(frames[-1], timesteps, prompts, return_dict=False)[0]
    for number, (first, second) in enumerate(zip(*made, strict=True)):
        assert torch.allclose(first, second, atol=1e-4), number
    assert not torch.allclose(made[0][-1], alone, atol=1e-2), "the bank says something"


def test_a_token_is_matched_with_where_its_pixels_were() -> None:
    y, x = torch.meshgrid(*[(torch.arange(32) + 0.5) * (2 / 32) - 1] * 2, indexing="ij")
    still = torch.stack([x, y], -1).unsqueeze(0)
    assert matches(still, 8).shape == (1, 64, 64)
    assert torch.equal(matches(still, 8).argmax(-1)[0], torch.arange(64))
    moved = still + torch.tensor([2 / 8, 0.0])  # a token to the right
    found = matches(moved, 8)[0]
    assert torch.equal(found.argmax(-1).view(8, 8)[:, :-1], torch.arange(64).view(8, 8)[:, 1:])
    assert torch.allclose(found.sum(-1), torch.ones(64))


def test_attention_is_judged_by_whom_it_attends_to() -> None:
    judged, edge = JudgedAttention(), 4
    y, x = torch.meshgrid(*[(torch.arange(32) + 0.5) * (2 / 32) - 1] * 2, indexing="ij")
    judged.places, judged.seen = torch.stack([x, y], -1).unsqueeze(0), torch.ones(1, 1, 32, 32)
    own = torch.eye(edge**2).view(1, edge**2, 1, edge**2)

    def told(q: Tensor, bank: Tensor) -> tuple[float, float]:
        keys = torch.cat([own, bank], 1)
        made = judged(q, keys, keys)
        assert torch.equal(made, attend_sdpa(q, keys, keys))
        missed, strayed = judged.verdict()
        return float(missed), float(strayed)

    sharp, blunt, astray = told(16 * own, own), told(0 * own, own), told(16 * own, own.roll(1, 1))
    assert sharp[0] < blunt[0] < astray[0]
    assert {sharp[1], blunt[1], astray[1]} == {0.0}
    judged.foreign = True
    alike, strange = told(60 * own, own), told(60 * own, 0 * own)
    assert alike == pytest.approx((0.0, np.log(2)), abs=1e-4), "as much for the bank as for itself"
    assert strange[1] < 0.01
    assert told(own, own)[0] == 0


def _attending(students: Students, side: int) -> tuple[PastFeatures, JudgedAttention]:
    layers = find_layers(students.unet, (16, side, side), FusionSettings())
    bank, judged = PastFeatures(layers), JudgedAttention()
    ExtendedAttention(students.unet, layers, bank, FusionSettings(), judged).install()
    return bank, judged


def _task(frames: Tensor, wanted: Tensor, kind: Kind, *, foreign: bool = False) -> MemoryTask:
    count, side = len(frames), 8 * frames.shape[-1]
    prompts, timesteps = random(1, 24, 128, seed=2).expand(count, -1, -1), torch.full((count,), 399)
    line = (torch.arange(side) + 0.5) * (2 / side) - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    still = torch.stack([x, y], -1).expand(count, MOMENTS - 1, -1, -1, -1)
    seen = torch.ones(count, MOMENTS - 1, 1, side, side)
    scenes = Scenes(torch.zeros(count, MOMENTS, 3, side, side), still, seen)
    return MemoryTask(frames, timesteps, prompts, wanted, scenes, kind, foreign)


@pytest.mark.parametrize("kind", ["last", "all", "merged"])
def test_keys_of_the_past_are_learned(run: Path, kind: Kind) -> None:
    students = load_students(run)
    bank, judged = _attending(students, 8)
    students.unet.requires_grad_(True)
    frames, wanted = random(1, MOMENTS, 16, 8, 8), random(1, MOMENTS, 16, 8, 8, seed=1)
    alone, with_bank = memory_loss(students.unet, bank, judged, _task(frames, wanted, kind), 0)
    assert alone.item() > 0.1
    assert len(judged.missed) == len(bank.layers) * (MOMENTS - 1 if kind == "all" else 1)
    assert not judged.strayed
    torch.autograd.backward(with_bank)
    keys = [weight for name, weight in students.unet.named_parameters() if "attn1.to_k" in name]
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in keys)


@torch.inference_mode()
def test_a_foreign_bank_is_the_neighbours(run: Path) -> None:
    students = load_students(run)
    bank, judged = _attending(students, 8)
    frames = random(2, MOMENTS, 16, 8, 8)

    def off(foreign: bool, given: Tensor) -> float:
        task = _task(given, torch.zeros_like(given), "last", foreign=foreign)
        return float(memory_loss(students.unet, bank, judged, task, 0)[1])

    assert off(True, frames) != pytest.approx(off(False, frames), rel=1e-4)
    alike = frames[:1].expand(2, -1, -1, -1, -1)
    assert off(True, alike) == pytest.approx(off(False, alike), rel=1e-5)
    assert judged.strayed


def test_by_a_foreign_bank_the_answer_wanted_is_the_one_without(moving: Path, run: Path, task: LookingBack) -> None:
    students = load_students(run)
    scenes = draw_scenes(np.random.default_rng(0), open_moving(moving), 2, CPU)
    tasks = [draw_memory_task(np.random.default_rng(seed), task, students, scenes) for seed in range(6)]
    assert {one.foreign for one in tasks} == {True, False}
    for one in tasks:
        alone = task.answers(one.noised, one.timesteps, one.prompts)
        same = torch.allclose(alone, one.wanted, atol=1e-4)
        assert same == one.foreign
        assert torch.allclose(alone[:, 0], one.wanted[:, 0], atol=1e-4)


def test_a_finished_model_is_taught_to_look_back_and_an_interrupted_run_goes_on(moving: Path, tmp_path: Path) -> None:
    run, straight = tmp_path / "run", tmp_path / "straight"
    with pytest.raises(ConfigError, match=r"unet\.safetensors is missing"):
        train_memory(moving, run, MemoryPlan(steps=1, device="cpu"))
    for folder, parts in ((run, (2, 3)), (straight, (3,))):
        adopt(WEIGHTS, folder)
        for steps in parts:
            train_memory(moving, folder, MemoryPlan(steps=steps, batch=2, device="cpu"))
        assert checkpoint_step(folder / UNET) == 3
    before, after = load_checkpoint(straight / UNET, "average"), load_checkpoint(run / UNET, "weights")
    again = load_checkpoint(straight / UNET, "weights")
    assert all(torch.allclose(again[name], tensor, atol=1e-3) for name, tensor in after.items()), "resumed is the same"
    changed = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    assert changed
    assert all(name.startswith("unet.") for name in changed), "the text encoder stays"
