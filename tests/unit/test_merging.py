"""Dynamic merging against a loop, and its laws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamv2v_obs.translator.merging import draw_partitions, merge, partitions


def _partition(rows: int, doubled: int, seed: int) -> torch.Tensor:
    (partition,) = draw_partitions(seed, 0, rows, [doubled // 2])
    return partition


@given(rows=st.integers(1, 3), tokens=st.integers(1, 9), channels=st.integers(1, 6), seed=st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_merge_is_the_plain_mean_of_each_destination_and_what_it_received(
    rows: int, tokens: int, channels: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn((2, rows, 2 * tokens, channels), generator=generator)
    partition = _partition(rows, 2 * tokens, seed)
    merged = merge(keys, [values], partition)
    for row in range(rows):
        sources, destinations = partition[row].chunk(2)
        # The assignment is the core's own: with one channel all cosines are 1 or -1, and ties are anybody's.
        unit = torch.nn.functional.normalize(keys, dim=-1)[row]
        nearest = (unit[sources] @ unit[destinations].T).argmax(-1)
        for place, destination in enumerate(destinations):
            group = [int(destination), *(int(s) for s, n in zip(sources, nearest, strict=True) if n == place)]
            for feature, result in zip((keys, values), merged, strict=True):
                assert torch.allclose(result[row, place], feature[row, group].mean(0), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@given(value=st.floats(-100, 100, width=32), tokens=st.integers(1, 40), seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_merging_constants_gives_constants_exactly(dtype: torch.dtype, value: float, tokens: int, seed: int) -> None:
    constant = torch.full((2, 2 * tokens, 3), value, dtype=dtype)
    for result in merge(constant, [constant + 1], _partition(2, 2 * tokens, seed)):
        assert result.shape == (2, tokens, 3)
        assert result.dtype == dtype
        assert torch.equal(result, result[:1, :1].expand_as(result))
    assert torch.equal(merge(constant, [], _partition(2, 2 * tokens, seed))[0], constant[:, :tokens])


def test_half_types_are_summed_in_float32() -> None:
    """300 equal sources and a destination of 0: bfloat16 alone would stop counting at 256."""
    keys = torch.ones((1, 600, 2), dtype=torch.bfloat16)
    values = torch.cat([torch.ones((1, 300, 1)), torch.zeros((1, 300, 1))], dim=1).to(torch.bfloat16)
    _, merged = merge(keys, [values], torch.arange(600).unsqueeze(0))
    assert merged.max() == torch.tensor(300 / 301).to(torch.bfloat16)


def test_one_assignment_by_keys_serves_all_features() -> None:
    keys = torch.tensor([[[1.0, 0], [0, 1], [2, 0.1], [0.1, 2]]])
    values = torch.tensor([[[10.0], [20], [30], [40]]])
    merged_keys, merged_values = merge(keys, [values], torch.tensor([[0, 1, 3, 2]]))
    assert merged_values.tolist() == [[[30.0], [20.0]]]
    assert torch.allclose(merged_keys, torch.tensor([[[0.05, 1.5], [1.5, 0.05]]]))


def test_by_age_the_bank_goes_into_the_frame_whatever_the_seed() -> None:
    first = partitions("by_age", 5, 1, 2, [3, 1])
    assert [one.tolist() for one in first] == [[[0, 1, 2, 3, 4, 5]] * 2, [[0, 1]] * 2]
    assert all(torch.equal(a, b) for a, b in zip(first, partitions("by_age", 6, 2, 2, [3, 1]), strict=True))
    random = partitions("random", 5, 1, 2, [3, 1])
    assert all(torch.equal(a, b) for a, b in zip(random, draw_partitions(5, 1, 2, [3, 1]), strict=True))


def test_by_age_equal_tokens_stay_where_they_are() -> None:
    frame = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))
    shuffled = frame[:, torch.randperm(8, generator=torch.Generator().manual_seed(1))]
    (where,) = partitions("by_age", 0, 1, 2, [8])
    (merged,) = merge(torch.cat([shuffled, frame], 1), [], where)
    assert torch.equal(merged, frame)


def test_partitions_are_permutations_and_a_function_of_seed_and_update() -> None:
    tokens = [8, 8, 3]
    first = draw_partitions(5, 1, 4, tokens)
    assert [tuple(p.shape) for p in first] == [(4, 16), (4, 16), (4, 6)]
    for partition, n in zip(first, tokens, strict=True):
        assert torch.equal(partition.sort(-1).values, torch.arange(2 * n).expand(4, -1))
    assert all(torch.equal(a, b) for a, b in zip(first, draw_partitions(5, 1, 4, tokens), strict=True))
    others = [draw_partitions(5, 2, 4, tokens)[0], draw_partitions(6, 1, 4, tokens)[0], first[1]]
    assert not any(torch.equal(first[0], other) for other in others)
    assert not torch.equal(first[0][0], first[0][1])
    draw_partitions(2**63 - 1, 10**6, 1, [1])
