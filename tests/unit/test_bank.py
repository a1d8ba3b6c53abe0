"""The feature bank by itself: what it stores, in which order, in memory that never changes."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from streamv2v_obs.translator.bank import BankLayer, FeatureBank
from streamv2v_obs.translator.merging import draw_partitions

LAYERS = (BankLayer("down.attn1", 6, 4, False), BankLayer("mid.attn1", 2, 8, True))


def bank(kind: Literal["dyme", "queue"], length: int = 1, **options: bool) -> FeatureBank:
    return FeatureBank(LAYERS, 3, kind=kind, length=length, device=torch.device("cpu"), dtype=torch.float32, **options)


def fill(into: FeatureBank, frame: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Write one frame's features as the layers would; give them."""
    generator = torch.Generator().manual_seed(frame)
    features = []
    for number, layer in enumerate(LAYERS):
        k, v, o = torch.randn((3, 3, layer.tokens, layer.channels), generator=generator)
        into.extend(number, slice(0, 3), k, v)
        into.put_output(number, slice(0, 3), o)
        features.append((k, v, o))
    return features


@pytest.mark.parametrize("length", [1, 2, 4])
def test_a_queue_is_the_last_stored_frames_oldest_first(length: int) -> None:
    queue = bank("queue", length, keep_all_outputs=True)
    frames: list[list[tuple[Tensor, Tensor, Tensor]]] = []
    for n in range(7):
        frames.append(fill(queue, n))
        assert not queue.next_update_merges
        queue.update()
        for number in range(len(LAYERS)):
            for part, what in enumerate(queue.remembered(number)):
                expected = torch.cat([frame[number][part] for frame in frames[-length:]], dim=1)
                assert torch.equal(what, expected)
    assert queue.updates == 7


def test_an_empty_bank_extends_nothing_and_remembers_nothing() -> None:
    empty = bank("dyme")
    keys = torch.randn((3, 6, 4))
    all_keys, all_values = empty.extend(0, slice(0, 3), keys, keys + 1)
    assert torch.equal(all_keys, keys)
    assert torch.equal(all_values, keys + 1)
    assert empty.remembered_output(1, slice(0, 3)) is None
    assert empty.remembered(0)[0].shape == (3, 0, 4)


def test_extended_keys_are_the_frame_s_then_the_bank_s_in_the_same_memory() -> None:
    dyme = bank("dyme")
    first = fill(dyme, 0)
    dyme.update()
    keys = torch.randn((1, 6, 4))
    for row in range(3):
        rows = slice(row, row + 1)
        all_keys, all_values = dyme.extend(0, rows, keys, keys)
        assert torch.equal(all_keys, torch.cat([keys, first[0][0][rows]], dim=1))
        assert torch.equal(all_values, torch.cat([keys, first[0][1][rows]], dim=1))
        again, _ = dyme.extend(0, rows, keys, keys)
        assert again.data_ptr() == all_keys.data_ptr()


def test_merging_takes_partitions_over_bank_then_frame() -> None:
    dyme = bank("dyme")
    first = fill(dyme, 0)
    dyme.update()
    second = fill(dyme, 1)
    assert dyme.next_update_merges
    with pytest.raises(ValueError, match="partitions"):
        dyme.update()
    # The mid layer's second half: its two bank tokens; each source (the frame's) goes to one of them.
    partitions = [torch.arange(12).expand(3, -1), torch.tensor([[2, 3, 0, 1]]).expand(3, -1)]
    dyme.update(partitions)
    keys, values, outputs = dyme.remembered(1)
    for row in range(3):
        (old_k, old_v, old_o), (new_k, new_v, new_o) = ([f[row] for f in frame[1]] for frame in (first, second))
        nearest = torch.nn.functional.normalize(new_k, dim=-1) @ torch.nn.functional.normalize(old_k, dim=-1).T
        goes_to = nearest.argmax(-1).tolist()
        for old, new, merged in ((old_k, new_k, keys), (old_v, new_v, values), (old_o, new_o, outputs)):
            for place in range(2):
                group = [old[place], *(new[n] for n in range(2) if goes_to[n] == place)]
                assert torch.allclose(merged[row, place], torch.stack(group).mean(0), atol=1e-6)


@pytest.mark.parametrize("kind", ["dyme", "queue"])
def test_memory_is_constant_and_counted_right(kind: Literal["dyme", "queue"]) -> None:
    held = bank(kind, 2)
    frames = 3 if kind == "queue" else 2
    assert held.bytes == 3 * frames * (2 * 6 * 4 + 3 * 2 * 8) * 4
    places = []
    for n in range(6):
        fill(held, n)
        held.update(draw_partitions(0, n, 3, [6, 2]))
        places.append([part.data_ptr() for number in range(2) for part in held.remembered(number)])
    assert places == places[:1] * 6
    held.clear()
    assert held.stored == held.updates == 0


@pytest.mark.parametrize("kind", ["dyme", "queue"])
@pytest.mark.parametrize("updates", [0, 1, 2, 3])
def test_a_snapshot_brings_back_what_was_held(kind: Literal["dyme", "queue"], updates: int) -> None:
    held = bank(kind, 2)
    for n in range(updates):
        fill(held, n)
        held.update(draw_partitions(0, n, 3, [6, 2]))
    saved = held.snapshot()
    before = [[part.clone() for part in held.remembered(number)] for number in range(2)]
    fill(held, 50)
    held.update(draw_partitions(0, 50, 3, [6, 2]))
    held.restore(saved)
    assert held.updates == updates
    for number in range(2):
        assert all(torch.equal(a, b) for a, b in zip(held.remembered(number), before[number], strict=True))
