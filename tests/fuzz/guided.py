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
        limits = [f"-runs={inputs}", f"-timeout={int(target.longest_s) + 20}", "-max_len=65536", "-rss_limit_mb=4096"]
        atheris.Setup(["guided", folder, *limits], target.feed)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
