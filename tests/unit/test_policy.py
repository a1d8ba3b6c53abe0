"""What OBS said -> what we do, as a table: every event in every state under every kind of rule."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamv2v_obs.commands import Bypass, Change, Prepare
from streamv2v_obs.obs import events
from streamv2v_obs.obs.events import Connected, Event, ProgramSceneChanged, ProgramSceneSeen
from streamv2v_obs.obs.policy import Slate, State, decide, match_rule
from streamv2v_obs.settings import BankPolicy, ObsSettings, PatternCapture, Rule, SceneRule

KEEP = SceneRule(scene="keep", prompt="k")
RESET = SceneRule(scene="reset", prompt="r", bank="reset", seed=7)
RESTORE = SceneRule(scene="restore", prompt="s", bank="restore", strength=0.5)
EARLY = SceneRule(scene="early", prompt="e", when="start", style="ink", steps=1, blend_s=2)
OPEN = SceneRule(scene="open", output="bypass")
SHUT = SceneRule(scene="shut", output="translated")
SLATE = SceneRule(scene="slate", output="slate", bank="fade")
SOURCE = SceneRule(scene="source", source=PatternCapture(kind="pattern", width=64, height=64))
GLOB = SceneRule(scene="Game *", prompt="g", bank="reset")
RULES = (GLOB, KEEP, RESET, RESTORE, EARLY, OPEN, SHUT, SLATE, SOURCE)
Command = Change | Prepare | Bypass | Slate

INTO = {
    "keep": Change(prompt="k", scene="keep"),
    "reset": Change(prompt="r", seed=7, bank="reset", scene="reset"),
    "restore": Change(prompt="s", strength=0.5, bank="restore", scene="restore"),
    "early": Change(prompt="e", style="ink", scene="early", steps=1, blend_s=2),
    "open": Change(scene="open"),
    "shut": Change(scene="shut"),
    "slate": Change(scene="slate", bank="fade"),
    "source": Change(source=SOURCE.source, scene="source"),
    "Game 1": Change(prompt="g", bank="reset", scene="Game 1"),
    "unknown": None,
}
"""The change that entering each scene makes, without what the scene before adds to it."""

# event -> does it enter its scene: in a quiet state, in a transition, while the collection changes
ENTERS: dict[type, tuple[bool, bool, bool]] = {
    Connected: (True, True, True),
    ProgramSceneChanged: (True, True, False),
    ProgramSceneSeen: (True, False, True),
}
OTHERS: list[Event] = [
    events.Disconnected(),
    events.TransitionStarted("Fade"),
    events.TransitionEnded("Fade"),
    events.PreviewSceneChanged("open"),
    events.PreviewSceneChanged("unknown"),
    events.StudioModeChanged(True),
    events.StudioModeChanged(False),
    events.SceneListChanged(("reset", "keep")),
    events.SceneRenamed("another", "reset"),
    events.CollectionChanging("Test"),
    events.CollectionChanged("Test"),
    events.InputCreated("Cam"),
    events.InputRemoved("Cam"),
    events.InputRenamed("Cam", "C"),
    events.InputSettingsChanged("Cam", {"text": "reset"}),
    events.ItemSwitched("keep", 1, True),
    events.FilterSwitched("Cam", "reset", True),
    events.VirtualCameraSwitched(True),
    events.ExitStarted(),
    events.CustomEvent({"prompt": "x"}),
]


def in_force(scene: str | None, *, bypassed: bool = False, slated: bool = False) -> State:
    """The state after a quiet entry of ``scene``."""
    rule = match_rule(RULES, scene) if scene is not None else None
    return State(scene=scene, rule=rule, bypassed=bypassed, slated=slated)


STATES = [
    in_force(None),
    *(in_force(scene) for scene in INTO),
    in_force("open", bypassed=True),
    in_force("slate", slated=True),
]


def expected(state: State, scene: str) -> tuple[Command, ...]:
    """What entering ``scene`` from ``state`` has to do, said in another way than policy.py says it."""
    change = INTO[scene]
    if state.scene == "restore":
        change = replace(change or Change(scene=scene), save_as="restore")
    ends = Bypass(False) if scene == "shut" or (state.bypassed and scene != "open") else None
    begins = Bypass(True) if scene == "open" else None
    hides = Slate(True) if scene == "slate" else None
    shows = Slate(False) if state.slated and scene != "slate" else None
    # What hides pictures comes first, what shows them last: the old scene's source is nobody's to see.
    return tuple(command for command in (hides, ends, change, begins, shows) if command is not None)


@pytest.mark.parametrize("phase", ["quiet", "transition", "collection"])
@pytest.mark.parametrize("event_type", list(ENTERS))
@pytest.mark.parametrize("scene", list(INTO))
@pytest.mark.parametrize("state", STATES, ids=lambda s: f"{s.scene}{s.bypassed:d}{s.slated:d}")
def test_scene_events(state: State, scene: str, event_type: type, phase: str) -> None:
    state = replace(state, in_transition=phase == "transition", changing_collection=phase == "collection")
    event: Event = event_type(scene, "29") if event_type is Connected else event_type(scene)
    enters = ENTERS[event_type][["quiet", "transition", "collection"].index(phase)]
    enters = enters or (event_type is ProgramSceneSeen and scene == "early")

    after, commands = decide(RULES, state, event)

    if enters and scene != state.scene:
        assert commands == expected(state, scene)
        assert (after.scene, after.rule) == (scene, match_rule(RULES, scene))
        assert (after.bypassed, after.slated) == (scene == "open", scene == "slate")
    else:
        assert commands == ()
        assert replace(after, in_transition=state.in_transition) == state or event_type is Connected
        assert (after.scene, after.rule) == (state.scene, state.rule)
    assert decide(RULES, after, event) == (after, ()), "the same event once more must do nothing"


@pytest.mark.parametrize("event", OTHERS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("state", STATES, ids=lambda s: f"{s.scene}{s.bypassed:d}{s.slated:d}")
def test_other_events_do_nothing(state: State, event: Event) -> None:
    for phase in (state, replace(state, in_transition=True), replace(state, changing_collection=True)):
        after, commands = decide(RULES, phase, event)
        assert commands == ()
        assert (after.scene, after.rule, after.bypassed) == (state.scene, state.rule, state.bypassed)


def run(rules: tuple[SceneRule, ...], *told: Event, state: State | None = None) -> list[Command]:
    """All commands of a sequence of events."""
    state = state or State()
    done: list[Command] = []
    for event in told:
        state, commands = decide(rules, state, event)
        done += commands
    return done


@pytest.mark.parametrize(("policy", "saved"), [("keep", None), ("reset", None), ("restore", "A")])
def test_a_b_a(policy: BankPolicy, saved: str | None) -> None:
    rules = (SceneRule(scene="A", prompt="a", bank=policy), SceneRule(scene="B", prompt="b"))
    done = run(rules, Connected("A", "29"), ProgramSceneChanged("B"), ProgramSceneChanged("A"))
    assert done == [
        Change(prompt="a", bank=policy, scene="A"),
        Change(prompt="b", scene="B", save_as=saved),
        Change(prompt="a", bank=policy, scene="A"),
    ]


def test_a_fade_with_when_start_acts_at_its_start_and_once() -> None:
    rules = (SceneRule(scene="A"), SceneRule(scene="B", when="start", bank="reset"))
    fade = (
        events.TransitionStarted("Fade"),
        ProgramSceneSeen("A"),  # OBS still named the old one
        ProgramSceneSeen("B"),
    )
    state = State(scene="A", rule=rules[0])
    assert run(rules, *fade, state=state) == [Change(bank="reset", scene="B")]
    end = (ProgramSceneChanged("B"), events.TransitionEnded("Fade"), ProgramSceneSeen("B"))
    assert run(rules, *fade, *end, state=state) == [Change(bank="reset", scene="B")]


def test_a_fade_with_when_end_acts_at_its_end() -> None:
    rules = (SceneRule(scene="A"), SceneRule(scene="B", bank="reset"))
    state = State(scene="A", rule=rules[0])
    started = (events.TransitionStarted("Fade"), ProgramSceneSeen("B"))
    assert run(rules, *started, state=state) == []
    assert run(rules, *started, ProgramSceneChanged("B"), state=state) == [Change(bank="reset", scene="B")]


def test_a_transition_that_was_taken_back_ends_where_it_began() -> None:
    rules = (SceneRule(scene="A", prompt="a"), SceneRule(scene="B", prompt="b", when="start"))
    done = run(
        rules,
        Connected("A", "29"),
        events.TransitionStarted("Fade"),
        ProgramSceneSeen("B"),
        events.TransitionStarted("Fade"),
        ProgramSceneSeen("A"),
        ProgramSceneChanged("A"),
    )
    assert done == [Change(prompt="a", scene="A"), Change(prompt="b", scene="B"), Change(prompt="a", scene="A")]


def test_a_lost_event_is_made_up_for_by_the_next_look() -> None:
    rules = (SceneRule(scene="B", prompt="b"),)
    assert run(rules, Connected("A", "29"), ProgramSceneSeen("B")) == [Change(prompt="b", scene="B")]


def test_a_reconnect_to_the_same_scene_leaves_the_bank_alone_and_another_scene_is_applied() -> None:
    rules = (SceneRule(scene="A", bank="reset"), SceneRule(scene="B", bank="reset"))
    gone = events.Disconnected()
    done = run(rules, Connected("A", "29"), gone, Connected("A", "29"), gone, Connected("B", "29"))
    assert done == [Change(bank="reset", scene="A"), Change(bank="reset", scene="B")]


def test_what_is_unfinished_when_the_link_breaks_is_forgotten() -> None:
    rules = (SceneRule(scene="B", prompt="b"),)
    storm = (events.TransitionStarted("Fade"), events.CollectionChanging("T"), events.Disconnected())
    assert run(rules, Connected("A", "29"), *storm, ProgramSceneChanged("B")) == [Change(prompt="b", scene="B")]


def test_scenes_that_pass_while_the_collection_changes_do_not_count() -> None:
    rules = (SceneRule(scene="B", prompt="b"), SceneRule(scene="C", prompt="c"))
    storm = (events.CollectionChanging("T"), ProgramSceneChanged("B"), events.CollectionChanged("T"))
    done = run(rules, Connected("A", "29"), *storm, ProgramSceneSeen("C"))
    assert done == [Change(prompt="c", scene="C")]


@pytest.mark.parametrize(
    ("next_scene", "does"),
    [
        ("plain", [Bypass(False), Change(prompt="p", scene="plain")]),
        ("no rule at all", [Bypass(False)]),
        ("open too", [Change(scene="open too"), Bypass(True)]),
        ("shut", [Bypass(False), Change(scene="shut")]),
    ],
)
def test_bypass_ends_with_the_scene_that_switched_it_on(next_scene: str, does: list[Command]) -> None:
    rules = (
        SceneRule(scene="open", output="bypass"),
        SceneRule(scene="open too", output="bypass"),
        SceneRule(scene="plain", prompt="p"),
        SceneRule(scene="shut", output="translated"),
    )
    entered = [Change(scene="open"), Bypass(True)]
    assert run(rules, Connected("open", "29"), ProgramSceneChanged(next_scene)) == entered + does


def test_each_scene_that_wants_the_slate_says_so() -> None:
    # The release of a panic ends the slate of the scene on air, and the rules are not told.
    rules = (SceneRule(scene="A", output="slate"), SceneRule(scene="B", output="slate"))
    done = run(rules, Connected("A", "29"), ProgramSceneChanged("B"), ProgramSceneChanged("C"))
    assert done == [Slate(True), Change(scene="A"), Slate(True), Change(scene="B"), Slate(False)]


def test_bypass_does_not_outlive_its_scene_across_a_reconnect() -> None:
    rules = (SceneRule(scene="open", output="bypass"),)
    done = run(rules, Connected("open", "29"), events.Disconnected(), Connected("elsewhere", "29"))
    assert done == [Change(scene="open"), Bypass(True), Bypass(False)]


def test_a_bypass_by_hand_is_not_ended_by_rules_that_do_not_mention_it() -> None:
    rules = (SceneRule(scene="A", prompt="a"), SceneRule(scene="B", prompt="b"))
    done = run(rules, Connected("A", "29"), ProgramSceneChanged("B"), ProgramSceneChanged("C"))
    assert not [command for command in done if isinstance(command, Bypass)]


def test_the_bank_is_saved_before_a_scene_without_a_rule_wears_it() -> None:
    rules = (SceneRule(scene="A", bank="restore"),)
    done = run(rules, Connected("A", "29"), ProgramSceneChanged("?"), ProgramSceneChanged("A"))
    assert done == [
        Change(bank="restore", scene="A"),
        Change(scene="?", save_as="A"),
        Change(bank="restore", scene="A"),
    ]


def test_the_scene_in_force_may_get_another_name() -> None:
    rules = (SceneRule(scene="A*", prompt="a", bank="reset"), SceneRule(scene="B", prompt="b"))
    renamed = (Connected("A", "29"), events.SceneRenamed("A", "A2"))
    assert run(rules, *renamed, ProgramSceneSeen("A2")) == [Change(prompt="a", bank="reset", scene="A")]
    assert run(rules, *renamed, events.SceneRenamed("A2", "B"))[1:] == [Change(prompt="b", scene="B")]


@pytest.mark.parametrize(
    ("scene", "rule"),
    [
        ("Game 1", 2),
        ("Game 2", 0),
        ("Gamer", 1),
        ("game 2", None),
        ("[x]", 3),
        ("x", 3),
        ("", None),
        ("Other", None),
    ],
)
def test_the_exact_name_wins_over_globs_and_globs_go_in_order(scene: str, rule: int | None) -> None:
    rules = [SceneRule(scene=name) for name in ("Game *", "G*", "Game 1", "[x]")]
    assert match_rule(rules, scene) is (None if rule is None else rules[rule])


@pytest.mark.parametrize(
    ("scene", "prepared"),
    [("reset", ["r"]), ("Game 7", ["g"]), ("open", []), ("unknown", []), ("keep", [])],
    ids=["rule", "glob", "no prompt", "no rule", "on air already"],
)
def test_the_prompt_of_the_preview_is_prepared_and_nothing_else(scene: str, prepared: list[str]) -> None:
    state = in_force("keep")
    for event in (events.PreviewSceneChanged(scene), events.PreviewSceneChanged(scene, "u-1")):
        assert decide(RULES, state, event) == (state, tuple(map(Prepare, prepared)))
        storm = replace(state, changing_collection=True)
        assert decide(RULES, storm, event) == (storm, ())


UUID = "6f1c9c2e-0000-4000-8000-0123456789ab"


@pytest.mark.parametrize(
    "event", [Connected("S", "30", UUID), ProgramSceneChanged("S", UUID), ProgramSceneSeen("S", UUID)]
)
def test_a_rule_may_name_a_scene_by_its_uuid(event: Event) -> None:
    rules = (SceneRule(scene="*", prompt="any"), SceneRule(scene=UUID, prompt="this"))
    done = run(rules, event, events.SceneRenamed("S", "T", UUID), ProgramSceneSeen("T", UUID))
    assert done == [Change(prompt="this", scene="S")], "another name is no other scene"
    assert match_rule(rules, "S", "another") is rules[0]
    assert match_rule((SceneRule(scene="x"),), "S") is None


def test_the_default_rule_is_for_scenes_without_one() -> None:
    settings = ObsSettings(rules=(GLOB, KEEP), default=Rule(prompt="d", bank="fade", blend_s=1))
    done = run(settings.all_rules, Connected("keep", "29"), ProgramSceneChanged("?"), ProgramSceneChanged("Game 1"))
    assert done == [INTO["keep"], Change(prompt="d", bank="fade", blend_s=1, scene="?"), INTO["Game 1"]]


SCENES = st.sampled_from(list(INTO))
TOLD: st.SearchStrategy[Event] = st.one_of(
    SCENES.map(ProgramSceneChanged),
    SCENES.map(ProgramSceneSeen),
    SCENES.map(lambda scene: Connected(scene, "29")),
    st.sampled_from(OTHERS),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(told=st.lists(TOLD, max_size=40))
def test_after_any_storm_a_reconnect_puts_the_present_scene_in_force(told: list[Event]) -> None:
    state = State()
    bypass = slate = False
    scene = None
    for event in [*told, Connected("reset", "29")]:
        state, commands = decide(RULES, state, event)
        for command in commands:
            if isinstance(command, Bypass):
                bypass = command.on
            elif isinstance(command, Slate):
                assert command.on or slate, "its end is told once"
                slate = command.on
            elif isinstance(command, Change) and command.scene is not None:
                scene = command.scene
        assert bypass == state.bypassed == (state.scene == "open")
        assert slate == state.slated == (state.scene == "slate")
    assert state.scene == scene == "reset"
