"""`./alva up`: starts the local region and releases into it; a repeated call does only what is missing."""

from __future__ import annotations

import functools
import time
from concurrent.futures import ThreadPoolExecutor

import click

from alva.cli.deploy import Builds, asker, current_commit, findings, require_paths, show_result
from alva.cli.invocation import ROOT, Invocation, only_local, verb
from alva.cli.progress import step
from alva.cli.synth import synth_step
from alva.release.risks import Kind

STANDIN_KEY = "alva-local-standin-key"
"""The key for the two external APIs in the local region, whose stand-ins accept it."""

SHOWN_ONLY = frozenset({Kind.IAM, Kind.NETWORK, Kind.RULES, Kind.OUTAGE, Kind.DRIFT})
"""Risks that `up` only shows: they cannot affect users of a region on this machine."""


@verb(summary="Start the local region and release into it. It can be repeated, and does only what is missing.")
@click.option(
    "--allow",
    "allowed",
    multiple=True,
    type=click.Choice([Kind.DATA.value, Kind.CONTRACTION.value]),
    help="Approve risky changes of this kind; repeatable.",
)
def command(invocation: Invocation, allowed: tuple[str, ...]) -> None:
    """Start the region and synthesise in parallel, then build, release, and print the URLs."""
    from alva.region import daemon
    from alva.release.deploy import deploy
    from alva.release.request import Request

    only_local(invocation, "up")
    started = time.monotonic()
    config = invocation.region_config
    with invocation.progress as progress:
        with ThreadPoolExecutor(max_workers=3, thread_name_prefix="up") as pool:

            def start_region() -> None:
                with step(progress, "region", "start the local region") as result:
                    if daemon.status(config).is_running:
                        result.outcome = "unchanged"
                    else:
                        daemon.start(config)
                        result.detail = f"network: {daemon.status(config).network}"

            region = pool.submit(start_region)
            synth_step(invocation)
            builds = Builds(invocation, progress)
            images = pool.submit(builds.build_all)
            try:
                region.result()
                require_paths(invocation)
                account = pool.submit(_bootstrap_account, invocation)
                digests = images.result()
                account.result()
            except BaseException:
                builds.cancel()
                raise
        api_keys = {s.name: STANDIN_KEY for s in invocation.manifest.secrets if s.kind == "api-key"}
        result = deploy(
            invocation.aws,
            invocation.manifest,
            Request(
                digests=digests,
                commit=current_commit(),
                secret_values=api_keys,
                revisions=builds.revisions(digests[invocation.manifest.migration.service]),
                findings=lambda: findings(invocation),
                allowed=SHOWN_ONLY | frozenset(map(Kind, allowed)),
                ask=asker(invocation),
            ),
            builds.builder,
            progress,
        )
    show_result(
        invocation,
        result,
        seconds=time.monotonic() - started,
        more={"inbox": f"http://127.0.0.1:{config.inbox_port}/", "endpoint": config.endpoint_url},
    )


def _bootstrap_account(invocation: Invocation) -> None:
    """Create what `./alva bootstrap` creates once per account: the roles and the bucket of a release."""
    from alva.release.bootstrap import create_bootstrap

    template = (ROOT / "node_modules" / "aws-cdk" / "lib" / "api" / "bootstrap" / "bootstrap-template.yaml").read_text()
    with step(invocation.progress, "bootstrap", "bootstrap the region's account") as result:
        line = functools.partial(invocation.progress.step_line, "bootstrap")
        if not create_bootstrap(invocation.aws, template, line):
            result.outcome = "unchanged"
