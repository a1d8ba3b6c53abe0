"""The command line: every command by name, and what becomes of an error.

Exit codes: 0 done, 2 usage or configuration, 3 source, 4 model, 5 output, 6 OBS where it is required, 70 our bug;
130 and 143 if Ctrl-C or SIGTERM ended a command before it was done (for ``run`` they are its normal end: 0).
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated, Any, NoReturn

import typer

from streamv2v_obs import __version__, cli_autostart, cli_bench, cli_files, cli_listing, cli_service, cli_steer
from streamv2v_obs.cli_log import crash_log
from streamv2v_obs.cli_output import errors, print_json
from streamv2v_obs.errors import OUR_BUG, StreamV2VError

if sys.platform == "win32":
    from streamv2v_obs.cli_daemon_windows import on_end_signals
else:
    from streamv2v_obs.cli_daemon_posix import on_end_signals

# Wherever this version of typer keeps it: in click, or in a copy of click of its own.
_UsageError: Any = typer.BadParameter.__base__

log = logging.getLogger(__name__)

app = typer.Typer(
    name="streamv2v-obs",
    help="A live picture, redrawn from a prompt without flicker, as a virtual camera steered by OBS.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (cli_service, cli_steer, cli_files, cli_listing, cli_bench, cli_autostart):
    commands.register(app)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"streamv2v-obs {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None: ...


def main() -> NoReturn:
    """Run the command that ``sys.argv`` names and exit."""
    on_end_signals(_end)
    try:
        sys.exit(app(prog_name="streamv2v-obs", standalone_mode=False))
    except _Asked as asked:
        # All that must be closed is closed by now; taking torch apart in order would take seconds more.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(int(str(asked.code)))
    except _UsageError as error:
        text = error.format_message().rstrip(". ")
        if not text:  # without arguments; the help has been printed instead
            sys.exit(error.exit_code)
        usage = f"; {error.ctx.get_usage()}; more: {error.ctx.command_path} --help" if error.ctx else ""
        _fail(" ".join((text + usage).split()), error.exit_code)
    except StreamV2VError as error:
        _fail(" ".join(str(error).split()), error.exit_code)
    except Exception as error:
        where = crash_log()
        log.exception("our bug")
        text = " ".join(f"{type(error).__name__}: {error}".split())
        _fail(f"{text} - this is our bug, please report it with the traceback in {where}", OUR_BUG)


class _Asked(SystemExit):
    """A signal asks for the end. An exception, so that every half-written file and child process meets its finally."""


def _end(number: int) -> NoReturn:
    raise _Asked(128 + number)


def _fail(text: str, code: int) -> NoReturn:
    errors.print(f"error: {text}", markup=False, highlight=False, soft_wrap=True)
    if "--json" in sys.argv:
        print_json({"error": text, "exit_code": code})
    sys.exit(code)
