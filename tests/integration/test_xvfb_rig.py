"""The display rig gives what it promises."""

from __future__ import annotations

import pytest

from tests.conftest import Require
from tests.rigs.xvfb import xvfb, xvfb_installed


@pytest.mark.display
def test_two_displays_stand_beside_each_other_and_are_gone_after(require: Require) -> None:
    require("display", xvfb_installed(), "apt-get install xvfb")
    with xvfb(320, 240) as one, xvfb(400, 300) as other:
        assert one.name != other.name
        assert one.environment()["DISPLAY"] == one.name
        one.kill()
        assert other.process.poll() is None
    assert other.process.poll() is not None


@pytest.mark.display
def test_a_server_that_does_not_start_is_told_with_its_own_words(require: Require) -> None:
    require("display", xvfb_installed(), "apt-get install xvfb")
    with pytest.raises(RuntimeError, match="nonsense"), xvfb(320, 240, "-nonsense"):
        pass
