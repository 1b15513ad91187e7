"""`./alva completion SHELL`: prints the completion script of a shell."""

from __future__ import annotations

import click


@click.command(
    help="Print the completion script of a shell. To use it in the current bash: source <(./alva completion bash)",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script; it works for `alva` on PATH and for ./alva."""
    from click.shell_completion import get_completion_class

    from alva.cli.main import COMPLETION_VARIABLE, application

    completion_class = get_completion_class(shell)
    assert completion_class is not None  # noqa: S101
    completion = completion_class(application, {}, "alva", COMPLETION_VARIABLE)
    # Not click's source(), which starts bash to read its version.
    click.echo(completion.source_template % completion.source_vars())
