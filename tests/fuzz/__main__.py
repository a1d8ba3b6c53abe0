"""``python -m tests.fuzz 10000 [TARGET ..]``: so many inputs for each; ``--guided``: atheris looks for paths."""

from __future__ import annotations

import subprocess
import sys
import time

from tests.fuzz.drive import feed
from tests.fuzz.targets import TARGETS


def main() -> None:
    """The command."""
    words = [word for word in sys.argv[1:] if word != "--guided"]
    inputs = int(words[0]) if words else 10_000
    for name in words[1:] or TARGETS:
        if name not in TARGETS:
            sys.exit(f"no target {name}; there are: {', '.join(TARGETS)}")
        if "--guided" in sys.argv:
            # It never gives the process back, so each has one of its own.
            subprocess.run([sys.executable, "-m", "tests.fuzz.guided", name, str(inputs)], check=True)
            continue
        began_at = time.monotonic()
        found = feed(TARGETS[name], inputs)
        print(
            f"{name}: {found.inputs} inputs in {time.monotonic() - began_at:.0f} s, 0 crashes, 0 hangs (longest "
            f"{found.longest_s:.2f} s), {100 * found.coverage(TARGETS[name]):.0f} % of the lines of "
            f"{', '.join(TARGETS[name].parsers)} in the first of them",
            flush=True,
        )


if __name__ == "__main__":
    main()
