"""The command line as a user runs it who has nothing yet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class Cli:
    """Runs commands with every folder of the user's below ``home``; of the ``program`` installed, or of this tree."""

    def __init__(self, home: Path, program: Path | None = None) -> None:
        self.home = home
        self._command = [sys.executable, "-m", "streamv2v_obs"] if program is None else [str(program)]
        folders = {"XDG_CONFIG_HOME": "config", "XDG_STATE_HOME": "state", "STREAMV2V_RUNTIME_DIR": "run"}
        folders |= {"STREAMV2V_MODELS": "models", "HOME": "."}
        self.environment = {**os.environ, **{name: str(home / folder) for name, folder in folders.items()}}
        self.environment.pop("DISPLAY", None)
        self.environment |= {"COLUMNS": "200", "PYTHONUTF8": "1"}

    def __call__(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run one command to its end, which must be ``code``."""
        done = subprocess.run(
            [*self._command, *arguments],
            capture_output=True,
            encoding="utf-8",
            env=self.environment,
            cwd=self.home,
            timeout=120,
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What the command says with --json, on its last line."""
        return json.loads(self(*arguments, "--json", code=code).stdout.splitlines()[-1])
