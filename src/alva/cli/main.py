"""The command line's entry and its error boundary: the only place that ends the process."""

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
"""What the script of `./alva completion` sets when it asks for completions."""


class _Verbs(click.Group):
    """Imports a verb's module when the verb is asked for, so that `./alva --help` stays quick."""

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
    epilog="Each verb explains itself: ./alva VERB --help. Without --target aws (or ALVA_TARGET=aws), a verb means "
    "the local region on this machine.",
)
@click.version_option(package_name="alva", message="alva %(version)s")
def application() -> None:
    """Alva's staging environment: release it, look at it, and rehearse it on this machine."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code: results on standard output, all else on standard error."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json = "--json" in own
    verbose = "--verbose" in own
    try:
        outcome = application.main(
            args=list(arguments),
            prog_name="./alva",
            complete_var=COMPLETION_VARIABLE,
            standalone_mode=False,
            # None: colours on a terminal, none elsewhere.
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
        # Somebody closed our standard output (`| head`): nothing is wrong, and nothing more can be printed.
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
        f"cannot go on: {type(error).__name__}: {error}",
        next_step="this is unexpected; the same command with --verbose shows where it comes from",
    )


def _print_error(error: AlvaError, as_json: bool) -> None:
    _tell_pipeline(error)
    if as_json:
        click.echo(json.dumps(error.as_json()), err=True)
        return
    first, *rest = str(error).splitlines()
    click.echo(click.style(first, fg="red", bold=True) if _is_coloured() else first, err=True)
    for line in rest:
        click.echo(line, err=True)


def _tell_pipeline(error: AlvaError) -> None:
    """Put the error on the page of a run of GitHub Actions: what is refused early leaves no other trace there.

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
    """https://no-color.org: the variable is there and not empty."""
    return bool(os.environ.get("NO_COLOR"))


def main() -> None:
    """The console script and `python -m alva`."""
    # A pipeline that is cancelled sends SIGTERM: it is Ctrl-C, so that what was begun is told and the lock is let go.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(sys.argv[1:]))
