"""What OBS said -> what we do, as a pure function: no clock, no socket, no thread.

The scene that is in force, and with it everything a rule sets, changes only here. OBS promises neither order nor
completeness of its events, so each is taken for "the scene may be another one now": the scene in force again does
nothing, wherever it comes from.

Bypass is the one thing that does not stay as it is: pictures that show the room as it is go out only in a scene whose
rule asks for them, so what ``bypass: true`` switched on ends with that scene, whichever comes next - one with a rule
that does not mention bypass, or one without any rule. A bypass that somebody switched on by hand is theirs: only a
rule with ``bypass: false`` ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TypeAlias

from streamv2v_obs.commands import Bypass, Change
from streamv2v_obs.obs.events import (
    CollectionChanged,
    CollectionChanging,
    Connected,
    Disconnected,
    Event,
    ProgramSceneChanged,
    ProgramSceneSeen,
    SceneRenamed,
    TransitionEnded,
    TransitionStarted,
)
from streamv2v_obs.settings import SceneRule


@dataclass(frozen=True)
class State:
    """What is in force. It outlives the link: after a reconnect to the same scene there is nothing to do."""

    scene: str | None = None
    rule: SceneRule | None = None
    """The rule of ``scene``; None if it has none, or no scene was seen yet."""
    bypassed: bool = False
    """A rule switched bypass on, and no scene without it came since."""
    in_transition: bool = False
    changing_collection: bool = False


Decision: TypeAlias = tuple[State, tuple[Change | Bypass, ...]]


def match_rule(rules: Sequence[SceneRule], scene: str) -> SceneRule | None:
    """The rule for ``scene``: the one with exactly its name, else the first whose glob fits, else None."""
    exact = (rule for rule in rules if rule.scene == scene)
    globs = (rule for rule in rules if fnmatchcase(scene, rule.scene))
    return next(exact, None) or next(globs, None)


def decide(rules: Sequence[SceneRule], state: State, event: Event) -> Decision:
    """The state after ``event``, and what has to be done for it, in this order."""
    match event:
        case Connected(scene):
            return _enter(rules, replace(state, in_transition=False, changing_collection=False), scene)
        case Disconnected():
            return replace(state, in_transition=False, changing_collection=False), ()
        case TransitionStarted():
            return replace(state, in_transition=True), ()
        case TransitionEnded():
            return replace(state, in_transition=False), ()
        case CollectionChanging():
            return replace(state, changing_collection=True), ()
        case CollectionChanged():
            return replace(state, changing_collection=False), ()
        case ProgramSceneChanged(scene) if not state.changing_collection:
            return _enter(rules, replace(state, in_transition=False), scene)
        case ProgramSceneSeen(scene) if not state.in_transition or _starts_early(match_rule(rules, scene)):
            return _enter(rules, state, scene)
        case SceneRenamed(old, new) if old == state.scene:
            if match_rule(rules, new) == state.rule:
                return replace(state, scene=new), ()
            return _enter(rules, state, new)
    return state, ()


def _starts_early(rule: SceneRule | None) -> bool:
    return rule is not None and rule.when == "start"


def _enter(rules: Sequence[SceneRule], state: State, scene: str) -> Decision:
    if scene == state.scene:
        return state, ()
    rule = match_rule(rules, scene)
    commands: list[Change | Bypass] = []

    bypass = rule.bypass if rule else None
    if bypass is None and state.bypassed:
        bypass = False
    if bypass is False:
        commands.append(Bypass(False))

    save_as = state.scene if state.rule and state.rule.bank == "restore" else None
    if rule:
        commands.append(
            Change(
                prompt=rule.prompt,
                strength=rule.strength,
                seed=rule.seed,
                style=rule.style,
                source=rule.source,
                bank=rule.bank,
                scene=scene,
                save_as=save_as,
                preset=rule.preset,
            )
        )
    elif save_as:  # a scene without a rule keeps everything, but the bank must be saved before it sees that scene
        commands.append(Change(scene=scene, save_as=save_as))
    if bypass:
        # Last: until the change is applied, the source may still be that of a scene nobody is to see as it is.
        commands.append(Bypass(True))
    return replace(state, scene=scene, rule=rule, bypassed=bypass is True), tuple(commands)
