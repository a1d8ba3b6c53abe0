"""One target under atheris, which changes inputs by the branches that they reach; ``pip install atheris``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris


def main() -> None:
    """``python -m tests.fuzz.guided TARGET INPUTS``; ends with libFuzzer's report, or with what went wrong."""
    name, inputs = sys.argv[1:]
    with atheris.instrument_imports(include=["streamv2v_obs", "yaml", "obsws_python", "websocket"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(target.seeds()):
            (Path(folder) / str(number)).write_bytes(seed)
        # Watched code is slower by far; what went wrong is kept in the system's temporary folder.
        limits = [f"-runs={inputs}", f"-timeout={int(20 * target.longest_s) + 60}", "-rss_limit_mb=4096"]
        limits += ["-max_len=65536", f"-artifact_prefix={tempfile.gettempdir()}/streamv2v-"]
        atheris.Setup(["guided", folder, *limits], target.feed)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
