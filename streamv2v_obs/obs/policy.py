"""What OBS said -> what we do, as a pure function: no clock, no socket, no thread.

The scene that is in force, and with it everything a rule sets, changes only here. OBS promises neither order nor
completeness of its events, so each is taken for "the scene may be another one now": the scene in force again does
nothing, wherever it comes from.

What the output shows is the one thing that does not stay as it is: pictures that show the room as it is go out only in
a scene whose rule asks for them, so what ``output: bypass`` switched on ends with that scene, whichever comes next,
one with a rule that does not mention it, or one without any rule. So does the slate of ``output: slate``. A bypass
that somebody switched on by hand is theirs: only a rule with ``output: translated`` ends it, and a panic no rule does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TypeAlias

from streamv2v_obs.commands import Bypass, Change, Prepare
from streamv2v_obs.obs.events import (
    CollectionChanged,
    CollectionChanging,
    Connected,
    Disconnected,
    Event,
    PreviewSceneChanged,
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
    slated: bool = False
    """Likewise the slate."""
    in_transition: bool = False
    changing_collection: bool = False


@dataclass(frozen=True)
class Slate:
    """Show the slate for as long as a scene wants it; a panic is another thing, and people's."""

    on: bool


Decision: TypeAlias = tuple[State, tuple[Change | Prepare | Bypass | Slate, ...]]


def match_rule(rules: Sequence[SceneRule], scene: str, uuid: str = "") -> SceneRule | None:
    """The rule for ``scene``: the one with exactly its name or UUID, else the first whose glob fits, else None."""
    exact = (rule for rule in rules if rule.scene in (scene, uuid))
    globs = (rule for rule in rules if fnmatchcase(scene, rule.scene))
    return next(exact, None) or next(globs, None)


def carried_over(state: State, rules: Sequence[SceneRule]) -> State:
    """``state`` for a new link with other ``rules``: where the scene's own rule is another one, it is entered anew."""
    scene, rule = state.scene, state.rule
    # A rule that fits its scene by no name was found by the UUID that it names.
    uuid = rule.scene if scene is not None and rule is not None and not fnmatchcase(scene, rule.scene) else ""
    same = scene is not None and match_rule(rules, scene, uuid) == rule
    return State(scene if same else None, rule, state.bypassed, state.slated)


def decide(rules: Sequence[SceneRule], state: State, event: Event) -> Decision:
    """The state after ``event``, and what has to be done for it, in this order."""
    match event:
        case Connected(scene, _, uuid):
            return _enter(rules, replace(state, in_transition=False, changing_collection=False), scene, uuid)
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
        case ProgramSceneChanged(scene, uuid) if not state.changing_collection:
            return _enter(rules, replace(state, in_transition=False), scene, uuid)
        case ProgramSceneSeen(scene, uuid) if not state.in_transition or _starts_early(match_rule(rules, scene, uuid)):
            return _enter(rules, state, scene, uuid)
        case PreviewSceneChanged(scene, uuid) if scene != state.scene and not state.changing_collection:
            rule = match_rule(rules, scene, uuid)
            return state, (Prepare(rule.prompt),) if rule and rule.prompt else ()
        case SceneRenamed(old, new, uuid) if old == state.scene:
            if match_rule(rules, new, uuid) == state.rule:
                return replace(state, scene=new), ()
            return _enter(rules, state, new, uuid)
    return state, ()


def _starts_early(rule: SceneRule | None) -> bool:
    return rule is not None and rule.when == "start"


def _enter(rules: Sequence[SceneRule], state: State, scene: str, uuid: str) -> Decision:
    if scene == state.scene:
        return state, ()
    rule = match_rule(rules, scene, uuid)
    commands: list[Change | Prepare | Bypass | Slate] = []
    output = rule.output if rule else None

    # What hides pictures comes first, what shows them last: until the change is applied, the source may still be that
    # of a scene nobody is to see as it is.
    if output == "slate":  # told at every scene: a panic's release may have ended the slate of the one before
        commands.append(Slate(True))
    if output == "translated" or (state.bypassed and output != "bypass"):
        commands.append(Bypass(False))

    save_as = state.scene if state.rule and state.rule.bank == "restore" else None
    if rule:
        commands.append(
            Change(
                prompt=rule.prompt,
                strength=rule.strength,
                steps=rule.steps,
                seed=rule.seed,
                style=rule.style,
                source=rule.source,
                bank=rule.bank,
                blend_s=rule.blend_s,
                scene=scene,
                save_as=save_as,
                preset=rule.preset,
            )
        )
    elif save_as:  # a scene without a rule keeps everything, but the bank must be saved before it sees that scene
        commands.append(Change(scene=scene, save_as=save_as))

    if output == "bypass":
        commands.append(Bypass(True))
    if state.slated and output != "slate":
        commands.append(Slate(False))
    after = replace(state, scene=scene, rule=rule, bypassed=output == "bypass", slated=output == "slate")
    return after, tuple(commands)
