"""`./alva completion SHELL`: the script that makes a shell complete verbs and options."""

from __future__ import annotations

import click


@click.command(
    help="Print the script that completes verbs and options. In bash, for this shell: source <(./alva completion bash)",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print it; it works for `alva` on PATH and for ./alva."""
    from click.shell_completion import get_completion_class

    from alva.cli.main import COMPLETION_VARIABLE, application

    completion_class = get_completion_class(shell)
    assert completion_class is not None  # noqa: S101
    completion = completion_class(application, {}, "alva", COMPLETION_VARIABLE)
    # Without click's source(), which starts bash only to ask for its version.
    click.echo(completion.source_template % completion.source_vars())
