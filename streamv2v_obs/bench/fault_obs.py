"""Faults of a real OBS that steers the service: killed and back, frozen and awake again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from streamv2v_obs.bench.fault_stage import Row, Stage, base, stage

if TYPE_CHECKING:
    from tests.rigs.obs import RealObs

LINK_S = 10.0
_OTHER = "another-password-that-no-log-may-show"
Also = Callable[[Stage], str]
"""What else is wrong, when the link is back."""


def _rule_in_force(stage: Stage) -> str:
    now = stage.status
    wanted = f"a pencil sketch of {now['obs']['scene']}"
    return "" if (now["engine"] or {}).get("prompt") == wanted else "the present scene's rule is not in force"


def killed(stage: Stage, obs: RealObs, also: Also = _rule_in_force) -> Row:
    """As in a crash; it is started again once the service has noticed."""

    def blow() -> None:
        obs.kill()
        stage.wait(lambda: _link(stage) != "connected")
        obs.restart()

    return _strike(stage, "OBS killed, and started again", blow, also)


def frozen(stage: Stage, obs: RealObs, also: Also = _rule_in_force) -> Row:
    """All its threads stand, its connections stay open; it goes on once the service has noticed."""

    def blow() -> None:
        obs.freeze()
        stage.wait(lambda: _link(stage) != "connected")
        obs.thaw()

    return _strike(stage, "OBS frozen (SIGSTOP), and awake again", blow, also)


def other_password(stage: Stage, obs: RealObs) -> Row:
    """OBS comes back with another password; the right one is put into the settings file once the link is refused."""

    def blow() -> None:
        obs.kill()
        stage.wait(lambda: _link(stage) != "connected")
        obs.change_password(_OTHER)
        obs.restart()
        stage.wait(lambda: _link(stage) == "refused")
        stage.set("obs.password", _OTHER)

    return _strike(stage, "OBS has another password, then the settings have it too", blow, _rule_in_force, anew=True)


CASES: dict[str, Callable[[Stage, RealObs], Row]] = {
    "obs-killed": killed,
    "obs-frozen": frozen,
    "obs-password": other_password,
}


def rows(names: Sequence[str], say: Callable[[str], None]) -> Iterator[tuple[str, Row]]:
    """Those asked for, on one service beside one OBS; none where no OBS can be run."""
    try:
        from tests.rigs.obs import SCENES, obs_obstacle, real_obs
    except ImportError as error:
        say(f"NOT MEASURED, needs a checkout: {error}")
        return
    if obstacle := obs_obstacle():
        say(f"NOT MEASURED, needs a real OBS: {obstacle}")
        return
    rules = [{"scene": scene, "prompt": f"a pencil sketch of {scene}"} for scene in SCENES]
    with real_obs() as obs:
        link = {"enabled": True, "port": obs.port, "password": obs.password, "rules": rules}
        with stage(base(obs=link)) as opened:
            opened.wait(lambda: _link(opened) == "connected")
            for name in names:
                row = CASES[name](opened, obs)
                say(str(row))
                yield name, row


def _link(stage: Stage) -> str:
    return str(stage.status["obs"]["state"])


def _strike(stage: Stage, fault: str, blow: Callable[[], None], also: Also, *, anew: bool = False) -> Row:
    """``anew``: with other settings the link begins to count at none."""
    connects = 0 if anew else stage.status["obs"]["connects"]
    back_at: list[float] = []
    linked_at: list[float] = []

    def both() -> None:
        blow()
        back_at.append(time.monotonic())

    def well() -> bool:
        now = stage.status["obs"]
        if now["state"] != "connected" or now["connects"] <= connects:
            return False
        linked_at.append(time.monotonic())
        return True

    return stage.strike(
        fault,
        both,
        well,
        lost="scene changes while it was away; the present one is applied",
        # Before OBS answered to whoever started it, it may have answered to the service.
        recovered=lambda: max(linked_at[0], back_at[0]) if linked_at else None,
        since=lambda: back_at[0],
        recovered_within_s=LINK_S,
        and_also=lambda: also(stage),
    )
