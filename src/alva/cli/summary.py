"""`./alva summary`: prints a release as Markdown, for the summary of a GitHub Actions run."""

from __future__ import annotations

from dataclasses import asdict

from alva.cli.invocation import Invocation, verb
from alva.cli.synth import synthesise


@verb(
    summary="Print the release that this GitHub Actions run recorded, as Markdown: outcome, digests, duration of each "
    "step, and the cause of a failure. Outside of GitHub Actions, print the last release."
)
def command(invocation: Invocation) -> None:
    """Print the summary."""
    from alva.release.ledger import Ledger
    from alva.release.recording import run_address
    from alva.release.stacks import Stacks
    from alva.release.summary import markdown, shown

    synthesise(invocation.environment, invocation.assembly_folder)
    manifest = invocation.manifest
    run = run_address()
    release = shown(Ledger(invocation.aws, manifest), run)
    if invocation.as_json:
        invocation.print_json(asdict(release) if release is not None else None)
        return
    alb = Stacks(invocation.aws).observe(manifest.stack("alb").name, with_template=False)
    url = alb.outputs.get("Url", "") if alb is not None else ""
    invocation.print(markdown(manifest.environment, release, url=url, run=run))
