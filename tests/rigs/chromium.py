"""A headless Chromium, the system's own, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DESK = (1280, 900)
PHONE = (390, 844)
PATIENCE_MS = 30_000
"""A slow, busy machine is no failure."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser, ended with the block. Playwright's own ones, which it would download, are not used.

    One at a time: Playwright's loop belongs to the thread that began it. It is born in that thread's network.
    """
    assert PROGRAM is not None
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM)
        yield browser
        browser.close()


@contextmanager
def visitor(browser: Browser, size: tuple[int, int] = DESK, dark: bool = False) -> Iterator[BrowserContext]:
    """Somebody with cookies and a store of their own, and a window of ``size``."""
    width, height = size
    visitor = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
    )
    visitor.set_default_timeout(PATIENCE_MS)
    yield visitor
    visitor.close()


def complaints_of(page: Page) -> list[str]:
    """What it logs from now on: errors of scripts, and what the security policy kept out."""
    found: list[str] = []
    page.on("console", lambda said: found.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found
