"""The laws of the translator core, on a small UNet with random weights, float32 on the CPU."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from typing import Any

import psutil
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

from streamv2v_obs.errors import ConfigError, ModelLoadError
from streamv2v_obs.settings import BankSettings, TranslatorSettings
from streamv2v_obs.translator.conformance import stable_diffusion_acp
from streamv2v_obs.translator.latent import LatentTranslator
from streamv2v_obs.translator.stream_batch import Departed, Origin
from tests.rigs.latents import CPU, SHAPE, attentive_unet, clip, equal, furthest, prompt, run, translator

BANKS = [
    pytest.param({"interval": 2}, id="dyme"),
    pytest.param({"kind": "queue", "length": 2, "interval": 2}, id="queue"),
    pytest.param({"kind": "off"}, id="off"),
]


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    return attentive_unet()


# --- the stream batch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_without_bank_a_stream_batch_is_one_frame_after_another_shifted(
    unet: UNet2DConditionModel, steps: int
) -> None:
    latents = clip(7)
    stream = translator(unet, steps=steps, schedule="stream", bank={"kind": "off"})
    late = run(stream, latents) + [out.latent for out in stream.flush()]
    at_once = run(translator(unet, steps=steps, schedule="sequential", bank={"kind": "off"}), latents)
    assert len(late) == len(at_once) + steps - 1
    assert furthest(late[steps - 1 :], at_once) <= 1e-5


@pytest.mark.parametrize("frames", [0, 1, 2, 7])
@pytest.mark.parametrize("schedule", ["stream", "sequential"])
def test_as_many_frames_out_as_in_each_with_its_own_capture_time(
    unet: UNet2DConditionModel, frames: int, schedule: str
) -> None:
    core = translator(unet, steps=3, schedule=schedule)
    out: list[Departed] = [
        core.step(latent[None], prompt(), Origin(captured_at=10.0 + n / 30, index=n))
        for n, latent in enumerate(clip(frames))
    ]
    flushed = core.flush()
    assert not any(departed.origin is None or departed.origin.copy for departed in flushed)
    shown = [departed.origin for departed in [*out, *flushed]]
    real = [origin for origin in shown if origin is not None and not origin.copy]
    assert real == [Origin(captured_at=10.0 + n / 30, index=n) for n in range(frames)]
    assert core.flush() == []


def test_warm_start_answers_the_first_call_with_the_first_frame(unet: UNet2DConditionModel) -> None:
    core = translator(unet, steps=3)
    out = [core.step(latent[None], prompt(), Origin(float(n), n)) for n, latent in enumerate(clip(4))]
    origins = [departed.origin for departed in out]
    assert origins == [Origin(0.0, 0, copy=True), Origin(0.0, 0, copy=True), Origin(0.0, 0), Origin(1.0, 1)]


@pytest.mark.parametrize("steps", [2, 4])
def test_the_warm_start_shows_the_first_frame_as_it_comes_out_later(unet: UNet2DConditionModel, steps: int) -> None:
    still = clip(1).expand(2 * steps, -1, -1, -1)
    streamed = run(translator(unet, steps=steps, bank={"kind": "off"}), still)
    (alone,) = run(translator(unet, steps=steps, bank={"kind": "off"}, schedule="sequential"), still[:1])
    assert furthest(streamed, [alone] * len(still)) < 1e-5


def test_coming_back_to_a_bank_shows_no_picture_of_fewer_steps(unet: UNet2DConditionModel) -> None:
    core = translator(unet, steps=3)
    still = clip(1).expand(12, -1, -1, -1)
    left = run(core, still)
    scene = core.snapshot()
    run(core, clip(8, seed=9))
    core.restore(scene, in_flight=False)
    back = run(core, still[:3])
    # As near to the picture that was left as the next ones are: the bank alone, which goes on, moves them.
    assert furthest(back[:1], left[-1:]) < 1.5 * furthest(back[2:], left[-1:])
    core.restore(scene, in_flight=False)
    with torch.inference_mode():
        core.rows.fill(still[:1])  # the rows noised, and nothing else
        core.rows.admit(prompt(), None)
    noised_only = run(core, still[:1])
    assert furthest(noised_only, left[-1:]) > 3 * furthest(back[:1], left[-1:])


def test_after_a_flush_the_next_frame_starts_warm(unet: UNet2DConditionModel) -> None:
    core, fresh = (translator(unet, steps=3, bank={"kind": "off"}) for _ in range(2))
    run(core, clip(4))
    core.flush()
    latents = clip(4, seed=3)
    assert equal(run(core, latents), run(fresh, latents))


def test_no_picture_mixes_two_prompts(unet: UNet2DConditionModel) -> None:
    latents, steps, change_at = clip(9), 3, 4
    arms = {}
    for name, words in {
        "old": [prompt(2)] * 9,
        "new": [prompt(3)] * 9,
        "both": [prompt(2)] * 4 + [prompt(3)] * 5,
    }.items():
        core = translator(unet, steps=steps, bank={"kind": "off"})
        out = [core.step(latent[None], w, Origin(0.0, 0)) for latent, w in zip(latents, words, strict=True)]
        arms[name] = [departed.latent for departed in [*out, *core.flush()]][steps - 1 :]
    assert equal(arms["both"][:change_at], arms["old"][:change_at])
    assert equal(arms["both"][change_at:], arms["new"][change_at:])
    assert furthest(arms["old"], arms["new"]) > 1e-3


@pytest.mark.parametrize("schedule", ["stream", "sequential"])
def test_strength_and_seed_changed_live_are_those_of_a_new_translator(
    unet: UNet2DConditionModel, schedule: str
) -> None:
    latents, steps = clip(8), 2
    live = translator(unet, steps=steps, schedule=schedule, seed=0, strength=0.4, bank={"kind": "off"})
    run(live, latents[:3])
    live.set_seed(5)
    live.set_strength(0.7)
    changed = run(live, latents[3:])
    fresh = run(
        translator(unet, steps=steps, schedule=schedule, seed=5, strength=0.7, bank={"kind": "off"}), latents[3:]
    )
    # From the first frame on that entered after the change.
    assert furthest(changed[steps - 1 :], fresh[steps - 1 :]) <= 1e-5
    with pytest.raises(ConfigError, match=r"translator\.strength"):
        live.set_strength(0.01)


def test_auto_is_stream_where_it_makes_a_difference(unet: UNet2DConditionModel) -> None:
    assert translator(unet, steps=2).schedule == "stream"
    assert translator(unet, steps=1).schedule == "sequential"
    assert translator(unet, steps=2, schedule="sequential").schedule == "sequential"


# --- the bank -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["attention", "block"])
@pytest.mark.parametrize("strength", [0.0, 0.8], ids=["extended attention", "and fusion"])
def test_a_bank_of_exactly_the_current_frame_changes_nothing(
    unet: UNet2DConditionModel, strength: float, site: str
) -> None:
    frame = clip(1)
    fusion = {"strength": strength, "threshold": -1, "site": site}
    core = translator(unet, steps=2, schedule="sequential", fusion=fusion)
    first, second = run(core, frame), run(core, frame)
    without = run(translator(unet, steps=2, schedule="sequential", bank={"kind": "off"}), frame)
    assert core.bank is not None
    assert core.bank.updates == 1
    assert equal(first, without), "an empty bank was attended to"
    assert furthest(second, without) <= 1e-5


@pytest.mark.parametrize("site", ["attention", "block"])
def test_the_bank_matters_and_so_does_each_half_of_the_method(unet: UNet2DConditionModel, site: str) -> None:
    latents = clip(6)
    off = run(translator(unet, bank={"kind": "off"}), latents)
    attention_only = run(translator(unet, fusion={"strength": 0}), latents)
    both = run(translator(unet, fusion={"site": site}), latents)
    assert furthest(off, attention_only) > 1e-3
    assert furthest(attention_only, both) > 1e-3


def test_a_bank_that_is_neither_attended_nor_fused_is_none(unet: UNet2DConditionModel) -> None:
    def made(**bank: Any) -> list[Tensor]:
        return run(translator(unet, bank=bank, fusion={"strength": 0}), clip(8))

    assert equal(made(attend=False), made(kind="off"))
    assert not equal(made(attend=True), made(kind="off"))


def test_the_two_sites_of_fusion_differ(unet: UNet2DConditionModel) -> None:
    arms = [run(translator(unet, fusion={"site": site}), clip(6)) for site in ("attention", "block")]
    assert furthest(*arms) > 1e-3


@pytest.mark.parametrize(("layers", "fusing"), [("low", 5), ("all", 7)])
def test_fusion_sits_where_it_is_set(unet: UNet2DConditionModel, layers: str, fusing: int) -> None:
    seen: set[int] = set()

    def observe(number: int, what: str, tensor: Tensor) -> None:
        if what == "ff_idx":
            seen.add(number)

    fused = run(translator(unet, {"observer": observe}, bank={"interval": 1}, fusion={"layers": layers}), clip(3))
    assert len(seen) == fusing
    assert furthest(fused, run(translator(unet, bank={"interval": 1}, fusion={"strength": 0}), clip(3))) > 1e-3


@pytest.mark.parametrize("site", ["attention", "block"])
def test_a_threshold_above_1_is_no_fusion(unet: UNet2DConditionModel, site: str) -> None:
    never = run(translator(unet, fusion={"threshold": 1.01, "site": site}), clip(6))
    without = run(translator(unet, fusion={"strength": 0, "site": site}), clip(6))
    assert equal(never, without)


@pytest.mark.parametrize("schedule", ["stream", "sequential"])
def test_nobody_attends_to_more_than_has_been_stored(unet: UNet2DConditionModel, schedule: str) -> None:
    core = translator(unet, steps=2, schedule=schedule, bank={"kind": "queue", "length": 3, "interval": 1})
    bank = core.bank
    assert bank is not None
    lengths: list[int] = []
    extend = bank.extend_joined

    def spy(number: int, rows: slice, both: Tensor) -> tuple[Tensor, Tensor]:
        all_keys, all_values = extend(number, rows, both)
        assert all_keys.abs().amin(dim=1).amax() > 0
        if number == 0:
            lengths.append(all_keys.shape[1] // both.shape[1])
        return all_keys, all_values

    bank.extend_joined = spy  # type: ignore[method-assign]
    run(core, clip(6))
    # The stream's first frame is gone through once more by the warm start.
    calls = [2, 1, 1, 1, 1, 1] if schedule == "stream" else [2] * 6
    assert lengths == [n for n, times in zip((1, 2, 3, 4, 4, 4), calls, strict=True) for _ in range(times)]


def test_settling_early_or_late_is_the_same(unet: UNet2DConditionModel) -> None:
    latents = clip(7)
    lazy_core = translator(unet, bank={"interval": 2})
    lazy = run(lazy_core, latents[:3])
    lazy_core.set_seed(5)  # the frame before it is still to be merged, by the seed of its own time
    lazy += run(lazy_core, latents[3:])
    core = translator(unet, bank={"interval": 2})
    eager = []
    for n in range(7):
        if n == 3:
            core.set_seed(5)
        eager += run(core, latents[n : n + 1])
        core.settle()
        core.settle()
    assert equal(lazy, eager)


# --- repeatability ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["stream", "sequential"])
@pytest.mark.parametrize("bank", BANKS)
def test_same_seed_same_pictures_and_reset_is_a_new_translator(
    unet: UNet2DConditionModel, bank: dict[str, Any], schedule: str
) -> None:
    latents = clip(8)
    core = translator(unet, bank=bank, schedule=schedule)
    once = run(core, latents)
    again = run(translator(unet, bank=bank, schedule=schedule), latents)
    run(core, clip(3, seed=9))
    core.reset_bank()
    after_reset = run(core, latents)
    other_seed = run(translator(unet, bank=bank, schedule=schedule, seed=1), latents)
    assert equal(once, again)
    assert equal(once, after_reset)
    assert furthest(once, other_seed) > 1e-3


def test_another_seed_merges_by_other_partitions(unet: UNet2DConditionModel) -> None:
    latents = clip(6)
    cores = [translator(unet, bank={"interval": 2, "partition": "random"}, seed=seed) for seed in (0, 0, 1)]
    for core in cores[1:]:
        with torch.inference_mode():
            core.rows.noise.copy_(cores[0].rows.noise)
    first, same, other = (run(core, latents) for core in cores)
    assert equal(first, same)
    assert equal(first[:3], other[:3])  # the first store is a copy, and the first merge comes after the third frame
    assert furthest(first[3:], other[3:]) > 1e-4


def test_where_nothing_moves_the_pictures_stand_still_unless_halves_are_random(unet: UNet2DConditionModel) -> None:
    moved = {}
    for how in ("by_age", "random"):
        made = run(translator(unet, bank={"interval": 1, "partition": how}), clip(1).expand(8, -1, -1, -1))
        moved[how] = furthest(made[1:], made[:-1])
    assert moved["by_age"] < 1e-5 < 1e-3 < moved["random"]


def test_each_update_merges_by_partitions_of_its_own(unet: UNet2DConditionModel) -> None:
    core = translator(unet, bank={"interval": 1, "partition": "random"})
    bank = core.bank
    assert bank is not None
    drawn: list[Sequence[Tensor]] = []
    prepare = bank.prepare_update

    def spy(partitions: Sequence[Tensor] | None) -> None:
        drawn.append(partitions or [])
        prepare(partitions)

    bank.prepare_update = spy  # type: ignore[method-assign]
    run(core, clip(4))
    core.settle()
    assert [len(partitions) for partitions in drawn] == [7, 7, 7]  # the first store is a copy
    assert not any(torch.equal(a, b) for a, b in zip(drawn[0], drawn[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(drawn[1], drawn[2], strict=True))


@pytest.mark.parametrize("frames_before", [0, 1, 4, 5])
@pytest.mark.parametrize("schedule", ["stream", "sequential"])
@pytest.mark.parametrize("bank", BANKS)
def test_restore_goes_on_exactly_as_if_nothing_had_happened(
    unet: UNet2DConditionModel, bank: dict[str, Any], schedule: str, frames_before: int
) -> None:
    core = translator(unet, steps=3, bank=bank, schedule=schedule)
    run(core, clip(frames_before))
    saved = core.snapshot()
    straight_on = run(core, clip(6, seed=3)) + [out.latent for out in core.flush()]
    for _ in range(2):
        run(core, clip(5, seed=4), words=prompt(5))
        core.restore(saved)
        again = run(core, clip(6, seed=3)) + [out.latent for out in core.flush()]
        assert equal(straight_on, again)
    elsewhere = translator(unet, steps=3, bank=bank, schedule=schedule)
    elsewhere.restore(saved)
    assert equal(straight_on, run(elsewhere, clip(6, seed=3)) + [out.latent for out in elsewhere.flush()])


@pytest.mark.parametrize("change", ["seed", "strength", "both"])
def test_restored_frames_follow_the_seed_and_strength_of_now(unet: UNet2DConditionModel, change: str) -> None:
    def set_others(core: LatentTranslator) -> None:
        if change != "strength":
            core.set_seed(7)
        if change != "seed":
            core.set_strength(0.9)

    core = translator(unet, steps=3, bank={"kind": "off"})
    run(core, clip(5))
    saved = core.snapshot()
    set_others(core)
    straight_on = run(core, clip(6, seed=3))
    run(core, clip(4, seed=9))
    core.restore(saved)
    assert furthest(straight_on, run(core, clip(6, seed=3))) <= 1e-4


def test_a_snapshot_goes_from_one_schedule_to_the_other(unet: UNet2DConditionModel) -> None:
    cores = {name: translator(unet, steps=3, schedule=name, bank={"interval": 2}) for name in ("stream", "sequential")}
    for name, other in (("stream", "sequential"), ("sequential", "stream")):
        run(cores[name], clip(5))
        cores[other].restore(cores[name].snapshot())
        one, two = cores[name].bank, cores[other].bank
        assert one is not None
        assert two is not None
        assert equal(one.remembered(3), two.remembered(3))
        out = [cores[other].step(latent[None], prompt(), Origin(0.0, 200 + n)) for n, latent in enumerate(clip(4))]
        out += cores[other].flush()
        assert [d.origin.index for d in out if d.origin and not d.origin.copy] == [200, 201, 202, 203]


def test_coming_back_to_a_scene_shows_no_frame_of_when_it_was_left(unet: UNet2DConditionModel) -> None:
    core = translator(unet, steps=3, bank={"interval": 2})
    run(core, clip(5))
    saved = core.snapshot()
    run(core, clip(4, seed=8), first=100)
    core.restore(saved, in_flight=False)
    out = [core.step(latent[None], prompt(), Origin(0.0, 200 + n)) for n, latent in enumerate(clip(3, seed=3))]
    assert [departed.origin.index for departed in out if departed.origin] == [200, 200, 200]
    bank, other = core.bank, translator(unet, steps=3, bank={"interval": 2})
    other.restore(saved, in_flight=False)
    run(other, clip(3, seed=3))
    assert bank is not None
    assert other.bank is not None
    for number in range(len(core.layers)):
        assert equal(bank.remembered(number), other.bank.remembered(number))


@pytest.mark.parametrize(
    "other", [{"steps": 3}, {"bank": {"kind": "off"}}, {"bank": {"kind": "queue"}}, {"fusion": {"strength": 0}}]
)
def test_a_snapshot_of_another_shape_is_refused_and_changes_nothing(
    unet: UNet2DConditionModel, other: dict[str, Any]
) -> None:
    latents = clip(8)
    foreign = translator(unet, **other)
    run(foreign, latents[:3])
    core = translator(unet)
    before = run(core, latents[:4])
    with pytest.raises(ConfigError, match="reset the bank instead"):
        core.restore(foreign.snapshot())
    assert equal(before + run(core, latents[4:]), run(translator(unet), latents))


# --- in and out of the UNet ---------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["attention", "block"])
def test_install_then_remove_leaves_the_unet_bit_identical(site: str) -> None:
    unet = attentive_unet()
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    processors = dict(unet.attn_processors)
    arguments = (clip(2), torch.tensor([399, 99]), prompt().repeat(2, 1, 1))
    plain = unet(*arguments).sample
    core = translator(unet, fusion={"site": site})
    run(core, clip(6))
    assert any(unet.attn_processors[name] is not processors[name] for name in processors)
    core.close()
    core.close()
    after = unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(unet.attn_processors[name] is processors[name] for name in processors)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in unet.modules())
    assert torch.equal(unet(*arguments).sample, plain)
    with pytest.raises(RuntimeError, match="closed"):
        run(core, clip(1))


@pytest.mark.parametrize("site", ["attention", "block"])
def test_two_translators_on_one_unet_do_not_mix(site: str) -> None:
    unet, latents = attentive_unet(), clip(6)
    alone = run(translator(unet, fusion={"site": site}), latents)
    one = translator(unet, fusion={"site": site})
    out = run(one, latents[:2])
    other = translator(unet, fusion={"site": site}, steps=3, seed=4)
    for n in range(2, 6):
        run(other, clip(1, seed=n))
        out += run(one, latents[n : n + 1])
    assert equal(out, alone)
    other.close()
    assert not equal(run(one, latents), run(one, latents))  # still extended: the bank goes on
    one.close()
    assert {type(processor).__name__ for processor in unet.attn_processors.values()} == {"AttnProcessor2_0"}


def test_install_twice_is_once(unet: UNet2DConditionModel) -> None:
    latents = clip(5)
    once = run(translator(unet), latents)
    core = translator(unet)
    core.extension.install()
    core.extension.install()
    assert equal(run(core, latents), once)
    core.extension.remove()
    assert not core.extension.installed
    assert not any(module._forward_hooks for module in unet.modules())


def test_a_unet_that_nobody_holds_is_freed_with_its_bank() -> None:
    own = attentive_unet()
    core = translator(own)
    run(core, clip(2))
    gone = weakref.ref(own)
    del own, core
    gc.collect()
    assert gone() is None


def test_another_s_processors_are_left_alone() -> None:
    unet = attentive_unet()
    core = translator(unet)
    run(core, clip(1))
    unet.set_attn_processor(AttnProcessor())
    core.close()
    assert {type(processor).__name__ for processor in unet.attn_processors.values()} == {"AttnProcessor"}


@pytest.mark.parametrize(
    ("said", "name", "value"),
    [
        ("a residual of its own", "residual_connection", True),
        ("a rescaled output", "rescale_output_factor", 2.0),
        ("another scale of its logits", "scale_qk", False),
        ("a group norm", "group_norm", torch.nn.GroupNorm(4, 64)),
        ("normalised queries or keys", "norm_k", torch.nn.LayerNorm(16)),
        ("fewer heads of keys", "inner_kv_dim", 32),
    ],
)
def test_attention_that_equation_1_would_compute_otherwise_is_refused(said: str, name: str, value: Any) -> None:
    own = attentive_unet()
    setattr(own.mid_block.attentions[0].transformer_blocks[0].attn1, name, value)
    with pytest.raises(ModelLoadError, match=rf"mid_block\..*attn1 has {said}"):
        translator(own)


def test_xformers_is_refused_on_the_cpu_and_auto_says_its_pick(unet: UNet2DConditionModel) -> None:
    assert translator(unet).attention == "sdpa"
    with pytest.raises(ConfigError, match="needs a CUDA device"):
        translator(unet, attention="xformers")


# --- memory and precision -----------------------------------------------------------------------------------


@pytest.mark.timeout(400)
def test_memory_does_not_grow_over_10_000_frames() -> None:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=0,
        block_out_channels=(8,),
        norm_num_groups=4,
        down_block_types=("DownBlock2D",),
        mid_block_type=None,
        up_block_types=("CrossAttnUpBlock2D",),
        cross_attention_dim=8,
        attention_head_dim=2,
    ).eval()
    settings = TranslatorSettings(steps=2, bank=BankSettings(interval=4))
    core = LatentTranslator(unet, stable_diffusion_acp(), "epsilon", settings, (4, 8, 8), CPU, torch.float32)
    latents, words = clip(16), torch.randn((1, 4, 8))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    process = psutil.Process()
    try:
        assert core.bank is not None
        expected, resident = core.bank.bytes, 0
        for n in range(10_000):
            core.step(latents[n % 16][None], words, Origin(float(n), n))
            if n == 500:
                gc.collect()
                resident = process.memory_info().rss
        gc.collect()
        grown = process.memory_info().rss - resident
    finally:
        torch.set_num_threads(threads)
    # One layer of 64 tokens and 8 channels, two rows, current frame and bank, K, V and O, 4 bytes each.
    assert core.bank.bytes == expected == (64 * 8) * 2 * 2 * 3 * 4
    assert core.bank.updates == 2500
    assert grown <= 16 * 2**20, f"{grown / 2**20:.1f} MiB"


@pytest.mark.parametrize("bank", BANKS)
def test_bfloat16_is_near_float32(bank: dict[str, Any]) -> None:
    """Statistically: 8 bits of mantissa through a random network leave less than 5% of RMS error on the latents.

    Single tokens may well differ more, where a threshold or a nearest neighbour falls the other way.
    """
    exact = torch.cat(run(translator(attentive_unet(), bank=bank), clip(10)))
    unet = attentive_unet().to(torch.bfloat16).to(memory_format=torch.channels_last)
    core = LatentTranslator(
        unet, stable_diffusion_acp(), "epsilon", translator(attentive_unet(), bank=bank).settings,
        SHAPE, CPU, torch.bfloat16,
    )  # fmt: skip
    rough = torch.cat(run(core, clip(10).to(torch.bfloat16), words=prompt().to(torch.bfloat16)))
    error = ((rough - exact).square().mean() / exact.square().mean()).sqrt().item()
    assert 1e-5 < error < 0.05
