"""Cases of the panel's controls: which control each is about, and what it has to do to the service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.rigs.obs import RealObs
from tests.rigs.service import RunningService


@dataclass(frozen=True)
class Panel:
    """The panel in a browser, the service behind it, its settings file and the OBS that it is linked to."""

    page: Page
    service: RunningService
    obs: RealObs
    file: Path

    @property
    def controls(self) -> Locator:
        return self.page.get_by_role("region", name="Controls")

    @property
    def pictures(self) -> Locator:
        return self.page.get_by_role("region", name="Pictures and presets")

    @property
    def rules(self) -> Locator:
        return self.page.get_by_role("region", name="Scene rules")

    def open(self) -> None:
        """Come to it anew, as a reload does; done when it shows what the service says."""
        # "load" would wait for pictures, of which there is no last one.
        self.page.goto(str(self.service.client().base_url), wait_until="domcontentloaded")
        expect(self.page.get_by_role("button", name="Panic")).to_be_enabled()

    def says(self, state: str) -> None:
        """The badge is TRANSLATED, HOLD, SLATE, BYPASS, LOCKED or OFFLINE."""
        expect(self.page.locator("#state")).to_have_text(state)
        expect(self.page.locator("body")).to_have_attribute("data-state", state)

    def until_engine(self, **expected: Any) -> None:
        """The engine says that these are in force."""
        self.until(lambda: expected.items() <= self.service.engine().items(), f"{expected} in the engine")

    def until(self, reached: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
        """Wait for something of the service."""
        self.service.until(reached, what, within_s)

    def told(self, path: str) -> Any:
        """The JSON at a path of the API."""
        return self.service.client().get(f"/v1/{path}").raise_for_status().json()


Find = Callable[[Panel], Locator]
Act = Callable[[Panel, Locator], None]


@dataclass(frozen=True)
class Case:
    """``find`` is all controls of one kind, ``act`` uses one and looks at the service, and again after a reload."""

    find: Find
    act: Act


CASES: dict[str, Case] = {}


def case(find: Find) -> Callable[[Act], Act]:
    """Make the function the case of what ``find`` finds."""

    def kept(act: Act) -> Act:
        CASES[act.__name__] = Case(find, act)
        return act

    return kept
