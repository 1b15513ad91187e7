"""The arguments and settings that all verbs share: folders, target, environment, output."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alva.errors import RegionNotRunning, UsageError
from alva.region.config import RegionConfig

if TYPE_CHECKING:
    from alva.aws import Aws
    from alva.cli.progress import Progress
    from alva.release.manifest import Manifest

ROOT = Path(__file__).resolve().parents[3]
"""The repository's root."""


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """One call of a verb."""

    target_name: str
    environment: str
    as_json: bool
    yes: bool
    verbose: bool

    @functools.cached_property
    def region_config(self) -> RegionConfig:
        """The local region of this repository (or ALVA_HOME). A running region reports its own ports."""
        import json

        config = RegionConfig.from_environment(ROOT / ".alva")
        try:
            running = json.loads(config.running_file.read_text())
        except (OSError, ValueError):
            return config
        return replace(
            config,
            api_port=int(running["api_port"]),
            edge_port=int(running["edge_port"]),
            edge_tls_port=int(running["edge_tls_port"]),
            inbox_port=int(running["inbox_port"]),
            loopback_octet=int(running["loopback_octet"]),
        )

    @property
    def is_local(self) -> bool:
        """Whether the target is the local region. Only verbs about the region itself should read it."""
        return self.target_name == "local"

    @property
    def assembly_folder(self) -> Path:
        """The folder of this environment's synthesised templates."""
        return self.region_config.home / "cdk.out" / self.environment

    @functools.cached_property
    def manifest(self) -> Manifest:
        """The manifest of the last synthesis; raises AlvaError without one."""
        from alva.release.manifest import Manifest

        return Manifest.read(self.assembly_folder)

    @functools.cached_property
    def aws(self) -> Aws:
        """The clients of the target; raises RegionNotRunning without a local region."""
        from alva.aws import Aws, Target
        from alva.region import daemon

        if not self.is_local:
            return Aws(Target.aws(), report=self.progress.note)
        if not daemon.status(self.region_config).is_running:
            raise RegionNotRunning("cannot reach the local region: it does not run", next_step="./alva up")
        config = self.region_config
        return Aws(
            Target.local(config.endpoint_url, config.region, ca_bundle=config.trust_bundle_file),
            report=self.progress.note,
        )

    @functools.cached_property
    def progress(self) -> Progress:
        """The progress display: live on a terminal, plain lines elsewhere, JSON lines with --json."""
        from alva.cli.progress import choose_progress

        return choose_progress(sys.stderr, as_json=self.as_json, verbose=self.verbose)

    def confirm(self, question: str) -> None:
        """Ask, unless --yes is given; raises UsageError if nobody can answer."""
        if self.yes:
            return
        if not sys.stdin.isatty():
            raise UsageError(
                f'cannot ask "{question}": standard input is not a terminal', next_step="--yes answers yes"
            )
        click.confirm(question, abort=True, err=True)

    def print(self, text: str) -> None:
        """Print a line of the result to standard output."""
        click.echo(text)

    def print_json(self, value: object) -> None:
        """Print the result as JSON to standard output."""
        import json

        click.echo(json.dumps(value, indent=2, default=str))


Body = Callable[..., Any]


def verb(
    *, summary: str, targets: bool = True, asks: bool = False, **command_options: Any
) -> Callable[[Body], click.Command]:
    """Turn a function whose first argument is the `Invocation` into a command with the common options.

    `targets` adds --target and --env, `asks` adds --yes.
    """

    def decorate(body: Body) -> click.Command:
        @functools.wraps(body)
        def call(
            *,
            target: str = "local",
            environment: str = "staging",
            as_json: bool = False,
            yes: bool = False,
            verbose: bool = False,
            **rest: Any,
        ) -> Any:
            invocation = Invocation(
                target_name=target, environment=environment, as_json=as_json, yes=yes, verbose=verbose
            )
            return body(invocation, **rest)

        decorated: Body = call
        decorated = click.option("--verbose", is_flag=True, help="Show details, and tracebacks of errors.")(decorated)
        decorated = click.option("--json", "as_json", is_flag=True, help="Print results as JSON to standard output.")(
            decorated
        )
        if asks:
            decorated = click.option("--yes", is_flag=True, help="Answer yes to all questions.")(decorated)
        if targets:
            decorated = click.option(
                "--env",
                "environment",
                default=lambda: os.environ.get("ALVA_ENV", "staging"),
                show_default="staging",
                help="The environment (also ALVA_ENV).",
            )(decorated)
            decorated = click.option(
                "--target",
                type=click.Choice(["local", "aws"]),
                default=lambda: os.environ.get("ALVA_TARGET", "local"),
                show_default="local",
                help="The target: the local region or AWS (also ALVA_TARGET).",
            )(decorated)
        make: Callable[[Body], click.Command] = click.command(cls=click.Command, help=summary, **command_options)
        return make(decorated)

    return decorate


def only_local(invocation: Invocation, verb_name: str) -> None:
    """Raise UsageError for a verb about the local region with the target AWS."""
    if not invocation.is_local:
        raise UsageError(
            f"cannot {verb_name} on AWS: it works with the local region only", next_step="leave --target aws out"
        )
