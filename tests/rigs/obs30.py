"""A second real OBS, 30.2 of Debian 13, in a root of its own: made once by mmdebstrap, kept in the user's cache."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Require
from tests.rigs.kept import Kept, run
from tests.rigs.obs import RealObs, obs_obstacle, real_obs

ROOT = Path(__file__).parents[2]
BUILD_S = 900
_SUITE = "trixie"
_PACKAGES = ("obs-studio", "libgl1-mesa-dri", "fonts-dejavu-core", "python3")
# It sees this machine's temporary files, with the X server's socket and its own home among them, and the checkout.
_LAUNCH = """
root=$1
while shift; [ "$1" != -- ]; do mkdir -p "$root$1" && mount --rbind "$1" "$root$1" || exit 1; done
shift
mount -t proc proc "$root/proc" || exit 1
exec chroot "$root" "$@"
"""


def obs30_obstacle() -> str:
    """Why no OBS 30 can be run here, after an attempt to make it; empty if one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a root file system of its own is made by root on Linux only"
    return obs_obstacle() or KEPT.obstacle()


def launcher() -> list[str]:
    """What stands before OBS's command line, so that OBS 30 is run instead; signals reach OBS itself."""
    shared = dict.fromkeys(("/dev", "/sys", "/tmp", tempfile.gettempdir(), str(ROOT)))
    return ["unshare", "--mount", "sh", "-c", _LAUNCH, "launch", str(KEPT.made() / "root"), *shared, "--"]


EITHER = ("obs", pytest.param("obs30", marks=(pytest.mark.obs30, pytest.mark.timeout(BUILD_S))))
"""Parameters of a fixture that gives ``either_obs`` of them."""


@contextmanager
def either_obs(
    which: str,
    require: Require,
    scripts: Sequence[tuple[Path, Mapping[str, Any]]] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[RealObs]:
    """As ``real_obs``: the OBS that is installed ("obs"), or the one of Debian 13 ("obs30")."""
    obstacle = obs30_obstacle() if which == "obs30" else obs_obstacle()
    require(which, not obstacle, obstacle)
    before = launcher() if which == "obs30" else ()
    with real_obs(scripts=scripts, environment=environment, launcher=before) as obs:
        yield obs


def _make(_: Path, folder: Path) -> None:
    including = f"--include={','.join(_PACKAGES)}"
    run("mmdebstrap", "--quiet", "--variant=apt", including, _SUITE, str(folder / "root"), timeout_s=BUILD_S)


KEPT = Kept(
    "obs30",
    " ".join((_SUITE, *_PACKAGES)).encode(),
    _make,
    what=f"a Debian {_SUITE} with OBS 30",
    how="by mmdebstrap, 800 MB in about two minutes",
    programs=("mmdebstrap",),
    patience_s=2 * BUILD_S,
)
"""In its folder ``root``: the root of a Debian with OBS 30."""
