"""The entry point of the command line, and the only place that turns errors into exit codes."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from alva.cli.examples import epilog
from alva.cli.verbs import GROUPS, VERBS
from alva.errors import AlvaError, UsageError

INTERRUPTED_EXIT_CODE = 130
UNEXPECTED_EXIT_CODE = 1
COMPLETION_VARIABLE = "_ALVA_COMPLETE"
"""The variable that the script of `./alva completion` sets."""


class _Verbs(click.Group):
    """Imports a verb's module only when it is used, so that `./alva --help` is fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        command = importlib.import_module(verb.module).command
        assert isinstance(command, click.Command)  # noqa: S101
        command.epilog = epilog(cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        width = max(len(name) for name in VERBS)
        for title, verbs in GROUPS:
            with formatter.section(title):
                formatter.write_dl([(verb.name.ljust(width), verb.summary) for verb in verbs])


@click.command(
    cls=_Verbs,
    name="alva",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Help for a verb: ./alva VERB --help. Without --target aws (or ALVA_TARGET=aws), a verb uses the local "
    "region on this machine.",
)
@click.version_option(package_name="alva", message="alva %(version)s")
def application() -> None:
    """Deploy and operate Alva's environments on AWS, and rehearse releases on this machine."""


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code: results go to standard output, everything else to standard error."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json = "--json" in own
    verbose = "--verbose" in own
    try:
        outcome = application.main(
            args=list(arguments),
            prog_name="./alva",
            complete_var=COMPLETION_VARIABLE,
            standalone_mode=False,
            # None: colours on a terminal only.
            color=False if _wants_no_colour() else None,
        )
    except AlvaError as error:
        if verbose:
            _print_traceback()
        _print_error(error, as_json)
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        if as_json:
            _print_error(UsageError(f"cannot understand the command line: {error.format_message()}"), as_json)
        else:
            error.show(file=sys.stderr)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted: run the same command again to continue", err=True)
        return INTERRUPTED_EXIT_CODE
    except BrokenPipeError:
        # The reader closed our standard output (`| head`): not an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if verbose:
            _print_traceback()
        _print_error(_explain(error), as_json)
        return UNEXPECTED_EXIT_CODE
    return outcome if isinstance(outcome, int) else 0


def _explain(error: Exception) -> AlvaError:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return AlvaError(
            "cannot write: the disk is full",
            evidence=[f"{error.filename or 'a file'}: {error.strerror}"],
            next_step="free some space, then run the same command again",
        )
    return AlvaError(
        f"cannot continue: {type(error).__name__}: {error}",
        next_step="run the same command with --verbose for a traceback, and report this error",
    )


def _print_error(error: AlvaError, as_json: bool) -> None:
    _report_to_pipeline(error)
    if as_json:
        click.echo(json.dumps(error.as_json()), err=True)
        return
    first, *rest = str(error).splitlines()
    click.echo(click.style(first, fg="red", bold=True) if _is_coloured() else first, err=True)
    for line in rest:
        click.echo(line, err=True)


def _report_to_pipeline(error: AlvaError) -> None:
    """Write the error to the summary of a GitHub Actions run: an early refusal leaves no other trace there.

    https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands#adding-a-job-summary
    """
    page = os.environ.get("GITHUB_STEP_SUMMARY")
    if not page:
        return
    command = " ".join(["./alva", *sys.argv[1:2]])
    said = str(error).replace("```", "'''")
    with contextlib.suppress(OSError), Path(page).open("a", encoding="utf-8") as file:
        file.write(f"### ❌ `{command}`\n\n```\n{said}\n```\n")


def _print_traceback() -> None:
    import traceback

    traceback.print_exc()


def _is_coloured() -> bool:
    return sys.stderr.isatty() and not _wants_no_colour()


def _wants_no_colour() -> bool:
    """https://no-color.org: whether the variable is set and not empty."""
    return bool(os.environ.get("NO_COLOR"))


def main() -> None:
    """The entry point of the console script and of `python -m alva`."""
    # A cancelled pipeline sends SIGTERM: handle it like Ctrl-C, to report the open steps and free the lock.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(sys.argv[1:]))
