"""The demo model's fourth stage: scenes in motion, and attention that tells its own bank from another scene's."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from streamv2v_obs.demo.correcting import Correction
from streamv2v_obs.demo.export import adopt, read_scale
from streamv2v_obs.demo.moving import MOMENTS, SIDE, draw_moving_pool, open_moving
from streamv2v_obs.demo.train_autoencoder import load_autoencoder
from streamv2v_obs.demo.train_memory import MemoryPlan, Teacher, run, train_memory
from streamv2v_obs.demo.train_unet import CHECKPOINT as UNET
from streamv2v_obs.demo.training import checkpoint_step, load_checkpoint
from streamv2v_obs.demo.whose_bank import NotingAttention, Verdict, judge
from streamv2v_obs.errors import ConfigError
from streamv2v_obs.translator.attention import attend_sdpa

WEIGHTS = Path(str(files("streamv2v_obs.demo") / "weights"))
CPU = torch.device("cpu")
SCENES, TOKENS, WIDTH = 3, 16, 8


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moving")
    draw_moving_pool(folder, shards=1, scenes=4)
    return folder


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_scenes_move_and_are_drawn_once(moving: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in moving.iterdir()}
    draw_moving_pool(moving, shards=1, scenes=4)
    assert before == {path.name: path.stat().st_mtime_ns for path in moving.iterdir()}
    (shard,) = open_moving(moving)
    assert shard.shape == (4, MOMENTS, SIDE, SIDE, 3)
    apart = np.abs(shard[:, 1:].astype(int) - shard[:, :1]).mean((1, 2, 3, 4))
    other = np.abs(shard.astype(int) - np.roll(shard, 1, 0)).mean((1, 2, 3, 4))
    assert (apart > 0).all()
    assert apart.mean() < 0.8 * other.mean(), "moments are of one scene"


def test_no_moving_scenes_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "00000.partial.npy").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"holds no moving scenes; run: python -m streamv2v_obs\.demo moving"):
        open_moving(tmp_path)


def test_attention_is_noted_and_stays_plain() -> None:
    noting = NotingAttention()
    q, k, v = (random(2, TOKENS, 1, WIDTH, seed=number) for number in range(3))
    assert torch.equal(noting(q, k, v), attend_sdpa(q, k, v))
    assert noting.asked[0][0] is q
    assert noting.asked[0][1] is k


def _asked(signed: float) -> tuple[Tensor, Tensor]:
    """Random queries and keys; ``signed``: how clearly each scene signs them, in dimensions of its own."""
    signs = torch.eye(SCENES).repeat_interleave(2, 0).view(2 * SCENES, 1, 1, SCENES).expand(-1, TOKENS, 2, -1)
    parts = [random(2 * SCENES, TOKENS, 2, WIDTH, seed=number) for number in range(2)]
    queries, keys = (torch.cat([part, signed * signs], -1) for part in parts)
    return queries, keys


def _judge(before: float, now: float) -> Verdict:
    return judge(_asked(before), _asked(now), torch.arange(0, TOKENS, 2))


def test_who_tells_scenes_apart_strays_less_and_keeps_its_own_bank() -> None:
    blind, seeing = _judge(0.0, 0.0), _judge(0.0, 5.0)
    assert blind.foreign == pytest.approx(0.5, abs=0.1)
    assert seeing.foreign < 0.01
    assert seeing.own == pytest.approx(blind.own, abs=1e-3), "its own is signed alike"
    assert seeing.strayed < 0.05 < blind.strayed
    assert blind.moved == pytest.approx(0.0, abs=1e-6)
    assert seeing.moved == pytest.approx(0.0, abs=1e-4), "a signature alone changes nothing within the scene"


def test_attention_that_asks_others_of_its_own_scene_has_moved() -> None:
    queries, keys = _asked(0.0)
    assert judge((queries, keys), (2 * queries, keys), torch.arange(TOKENS)).moved > 0.1


def test_the_verdict_teaches_queries_and_keys() -> None:
    queries, keys = (part.requires_grad_() for part in _asked(0.1))
    verdict = judge(_asked(0.0), (queries, keys), torch.arange(TOKENS))
    torch.autograd.backward(verdict.strayed + verdict.moved)
    assert all(part.grad is not None and part.grad.abs().sum() > 0 for part in (queries, keys))


def test_a_task_is_of_one_prompt_and_noise_and_its_pictures_go_in_pairs(moving: Path, tmp_path: Path) -> None:
    adopt(WEIGHTS, tmp_path)
    correction = Correction.begin("memory", tmp_path, CPU, 1e-4)
    teacher = Teacher(correction.before, load_autoencoder(tmp_path), read_scale(tmp_path))
    for seed in range(6):
        task = teacher.draw(np.random.default_rng(seed), open_moving(moving), correction.students, 3)
        assert len(task.noised) == len(task.timesteps) == len(task.prompts) == 6
        assert torch.equal(task.prompts, task.prompts[:1].expand_as(task.prompts))
        assert torch.equal(task.timesteps, task.timesteps[:1].expand(6))
        within = (task.noised[0::2] - task.noised[1::2]).abs().mean()
        across = (task.noised[0::2] - task.noised[0::2].roll(1, 0)).abs().mean()
        assert within < across
        assert torch.allclose(teacher.answer(task), run(correction.students.unet, task), atol=1e-3)


def test_a_finished_model_learns_whose_bank_it_is_and_an_interrupted_run_goes_on(moving: Path, tmp_path: Path) -> None:
    folder, straight = tmp_path / "run", tmp_path / "straight"
    with pytest.raises(ConfigError, match=r"unet\.safetensors is missing"):
        train_memory(moving, folder, MemoryPlan(steps=1, device="cpu"))
    for path, parts in ((folder, (2, 3)), (straight, (3,))):
        adopt(WEIGHTS, path)
        for steps in parts:
            train_memory(moving, path, MemoryPlan(steps=steps, batch=2, device="cpu"))
        assert checkpoint_step(path / UNET) == 3
    before = load_checkpoint(folder / "before-memory-unet.safetensors", "average")
    after = load_checkpoint(folder / UNET, "weights")
    again = load_checkpoint(straight / UNET, "weights")
    assert all(torch.allclose(again[name], tensor, atol=1e-3) for name, tensor in after.items()), "resumed is the same"
    changed = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    assert changed
    assert all(name.startswith("unet.") for name in changed), "the text encoder stays"
