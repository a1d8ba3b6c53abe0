"""Where the program begins, as ``streamv2v-obs`` and as ``python -m streamv2v_obs``."""

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line."""
    # Until it has its own answer to Ctrl-C, which takes some imports, the system's is quieter than a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from streamv2v_obs.cli import main as run

    run()


if __name__ == "__main__":
    main()
