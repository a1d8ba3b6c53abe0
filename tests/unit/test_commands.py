"""State that is overwritten is not queued: two pending changes become one with the effect of both."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamv2v_obs.commands import Bypass, Change, CommandBox, Stop

changes = st.builds(
    Change,
    prompt=st.none() | st.sampled_from(["oil", "ink"]),
    strength=st.none() | st.sampled_from([0.3, 0.5]),
    seed=st.none() | st.integers(0, 3),
    style=st.none() | st.sampled_from(["", "neon"]),
    steps=st.none() | st.integers(1, 3),
    preset=st.none() | st.sampled_from(["A", "B"]),
    bank=st.sampled_from(["keep", "reset", "restore"]),
    scene=st.none() | st.sampled_from(["A", "B"]),
    save_as=st.none() | st.sampled_from(["A", "B"]),
)


@given(st.lists(changes, min_size=1, max_size=5))
def test_merged_changes_end_in_the_same_state_as_single_ones(sequence: list[Change]) -> None:
    box = CommandBox()
    state: dict[str, object] = {}
    for change in sequence:
        box.post(change)
        for key in ("prompt", "strength", "seed", "style", "scene", "steps", "preset"):
            if getattr(change, key) is not None:
                state[key] = getattr(change, key)
    (merged,) = box.drain()
    assert isinstance(merged, Change)
    assert {key: getattr(merged, key) for key in state} == state


def test_a_reset_that_is_still_due_stays_due() -> None:
    assert Change(prompt="ink").over(Change(bank="reset")).bank == "reset"
    assert Change(bank="restore", scene="B").over(Change(bank="reset")).bank == "restore"


def test_the_time_belongs_to_the_prompt_or_bank_that_it_came_with() -> None:
    slow = Change(prompt="ink", blend_s=2)
    assert Change(seed=1).over(slow).blend_s == 2
    assert Change(prompt="oil").over(slow).blend_s == 0
    assert Change(bank="fade", blend_s=3).over(slow).blend_s == 3
    assert slow.over(Change(bank="fade", blend_s=3)) == Change(prompt="ink", bank="fade", blend_s=2)


def test_the_bank_that_is_saved_is_the_one_in_force() -> None:
    to_b = Change(scene="B", save_as="A")
    to_c = Change(scene="C", save_as="B")
    assert to_c.over(to_b).save_as == "A"
    assert to_c.over(Change(scene="B")).save_as is None, "B never came to be, A was not to be saved"
    assert Change(scene="B", save_as="A").over(Change(prompt="ink")).save_as == "A"


def test_a_scene_that_keeps_the_bank_keeps_the_one_that_is_brought_back() -> None:
    to_b = Change(scene="B", bank="restore", save_as="A")
    to_c = Change(scene="C", save_as="B")
    merged = to_c.over(to_b)
    assert (merged.bank, merged.bank_of, merged.scene, merged.save_as) == ("restore", "B", "C", "A")
    assert Change(bank="restore", bank_of="X").over(Change(scene="B")).bank_of == "X"
    back = Change(scene="A", bank="restore").over(merged)
    assert (back.bank, back.bank_of, back.scene) == ("restore", "A", "A")
    assert Change(bank="reset").over(merged).bank_of is None


@given(st.permutations([Change(scene="B", prompt="ink"), Bypass(True), Change(seed=1), Change(seed=2)]))
def test_bypass_opens_last_and_closes_first(sequence: list[Change | Bypass]) -> None:
    box = CommandBox()
    for command in sequence:
        box.post(command)
    first, second = box.drain()
    assert (type(first), second) == (Change, Bypass(True))
    for command in sequence:
        box.post(command)
    box.post(Bypass(False))
    assert box.drain()[0] == Bypass(False)


def test_each_kind_is_held_once_and_taken_out() -> None:
    box = CommandBox()
    for on in (True, False, True):
        box.post(Bypass(on))
    box.post(Stop())
    assert box.drain() == [Bypass(True), Stop()]
    assert box.drain() == []
