"""`./alva open`: the environment in a browser."""

from __future__ import annotations

import json
import webbrowser

import click

from alva.aws import explained
from alva.cli.invocation import ROOT, Invocation, verb
from alva.errors import UsageError

SECONDS_BETWEEN_READINGS = {"local": 1.0, "aws": 5.0}
"""AWS throttles calls to its API, and each reading makes about 40."""


@verb(
    summary="Show the environment in a browser: architecture, releases as they happen, logs, metrics, causes, cost.\n\n"
    "It serves a page on 127.0.0.1 until Ctrl-C. The page reads with your credentials and changes nothing."
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The page's port.  [default: a free one]")
@click.option("--no-browser", is_flag=True, help="Print the address only.")
def command(invocation: Invocation, port: int, no_browser: bool) -> None:
    """Serve the page until Ctrl-C."""
    from alva.cli.cost import read_savings
    from alva.cli.synth import synthesise
    from alva.console.server import Console
    from alva.console.session import Session

    if not invocation.is_local:
        with explained("show the environment on AWS"):
            # Missing or expired credentials are an error in the terminal, not on the page.
            invocation.aws.sts.get_caller_identity()
    manifest = invocation.manifest
    values = json.loads((invocation.assembly_folder / "alva.json").read_text())
    extra = {"target": invocation.target_name}
    if invocation.is_local:
        config = invocation.region_config
        extra |= {"endpoint": config.endpoint_url, "inbox": f"http://127.0.0.1:{config.inbox_port}/"}

    def read_savings_of_the_checkout() -> dict[str, object]:
        synthesise(invocation.environment, invocation.assembly_folder)
        return {"savings": read_savings(invocation.environment, invocation.assembly_folder)}

    session = Session(
        invocation.aws,
        manifest,
        values,
        seconds_between_readings=SECONDS_BETWEEN_READINGS[invocation.target_name],
        chart_library=ROOT / "node_modules" / "uplot" / "dist",
        extra=extra,
        read_savings=read_savings_of_the_checkout,
    )
    try:
        console = Console(session, port)
    except OSError as error:
        raise UsageError(
            f"cannot serve the page on port {port}: {error.strerror}", next_step="omit --port, or give another port"
        ) from error

    def announce() -> None:
        if invocation.as_json:
            click.echo(json.dumps({"address": console.address}))
        else:
            click.echo(f"{manifest.environment}: {console.address}\nCtrl-C ends it.")
        if not no_browser:
            webbrowser.open(console.address)

    console.serve(announce)
