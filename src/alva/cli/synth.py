"""`./alva synth`: writes the templates if infrastructure/ has changed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from alva.cli import shared_bytecode
from alva.cli.invocation import ROOT, Invocation, verb
from alva.cli.progress import step
from alva.errors import SynthesisFailed
from alva.release.manifest import FILE_NAME

DIGEST_FILE = "source-digest"
TIMEOUT_SECONDS = 300


def synthesise(environment: str, folder: Path, *, force: bool = False) -> bool:
    """Write the environment's templates to `folder`; False if they are up to date. Makes no AWS call.

    The folder is replaced as a whole after the CDK app has succeeded. Raises SynthesisFailed with the app's last lines.
    """
    digest = source_digest(environment)
    digest_file = folder / DIGEST_FILE
    if not force and (folder / FILE_NAME).exists() and _read(digest_file) == digest:
        return False
    new = folder.with_name(f"{folder.name}.{os.getpid()}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        run_app("app.py", environment, new)
        (new / DIGEST_FILE).write_text(digest)
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return True


def synth_step(invocation: Invocation, *, force: bool = False) -> None:
    """Synthesise the invocation's environment as a step of its progress display; raises SynthesisFailed."""
    with step(invocation.progress, "synth", f"synthesise {invocation.environment}") as result:
        if not synthesise(invocation.environment, invocation.assembly_folder, force=force):
            result.outcome = "unchanged"


def run_app(script: str, environment: str, folder: Path) -> None:
    """Run a CDK app of infrastructure/bin, which writes templates to `folder`.

    Raises SynthesisFailed with the app's last lines.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="alva-synth-") as temporary, shared_bytecode.of_the_cdk():
            # The CDK's Node program runs from here. Without this file, Node would read a package.json of /tmp.
            (Path(temporary) / "package.json").write_text("{}")
            ended = subprocess.run(
                [sys.executable, str(ROOT / "infrastructure" / "bin" / script)],
                env={**os.environ, "ALVA_ENVIRONMENT": environment, "CDK_OUTDIR": str(folder), "TMPDIR": temporary},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise SynthesisFailed(
            f"cannot synthesise {environment}: {script} did not end in {TIMEOUT_SECONDS} s"
        ) from error
    if ended.returncode != 0:
        raise SynthesisFailed(
            f"cannot synthesise {environment}: {script} ended with exit code {ended.returncode}",
            evidence=ended.stdout.strip().splitlines()[-8:],
            next_step="correct infrastructure/ and run ./alva synth",
        )


def source_digest(environment: str) -> str:
    """Return a digest of the templates' inputs: the CDK app's files and version, the services, the environment."""
    digest = hashlib.sha256(f"{environment} {importlib.metadata.version('aws-cdk-lib')} {sys.version}".encode())
    infrastructure = ROOT / "infrastructure"
    for file in sorted(p for p in infrastructure.rglob("*") if p.suffix in (".py", ".json") and p.is_file()):
        digest.update(f"\n{file.relative_to(infrastructure)} ".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    if services := os.environ.get("ALVA_SERVICES"):
        digest.update(f"\n{services} {_read(Path(services))}".encode())
    return digest.hexdigest()


def _read(file: Path) -> str | None:
    try:
        return file.read_text()
    except OSError:
        return None


@verb(summary="Write the CloudFormation templates if infrastructure/ has changed.")
@click.option("--force", is_flag=True, help="Write them even if nothing has changed.")
def command(invocation: Invocation, force: bool) -> None:
    """Synthesise, and print the folder of the templates."""
    folder = invocation.assembly_folder
    with invocation.progress:
        synth_step(invocation, force=force)
    templates = [str(stack.template_file) for stack in invocation.manifest.stacks]
    if invocation.as_json:
        invocation.print_json({"folder": str(folder), "templates": templates})
    else:
        for template in templates:
            invocation.print(template)
