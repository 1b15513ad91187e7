"""Synthesis in the processes of the tests. They import aws_cdk here first."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lib.node import prepare_node

if TYPE_CHECKING:
    from lib.config.environments import Environment


@functools.cache
def start_cdk() -> None:
    """Import aws_cdk, which starts Node.js, with CDK's validation of every property.

    Node.js reads the variable once. Child processes do not inherit it: the validation takes them three seconds.
    """
    assert "aws_cdk" not in sys.modules, "aws_cdk was imported without the validation"
    prepare_node()
    os.environ["CDK_VALIDATION"] = "true"
    import aws_cdk  # noqa: F401

    os.environ["CDK_VALIDATION"] = "false"


def folder_of_the_run(factory: pytest.TempPathFactory) -> Path:
    """The folder for files of all processes of a run of the tests."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def synthesised(environment: Environment, run: Path) -> Path:
    """The folder of an environment's templates in `run`, which one process synthesises for all.

    Raises an exception at a finding of CDK's validation or of cdk-nag.
    """
    start_cdk()
    folder = run / f"templates-{hashlib.sha256(repr(environment).encode()).hexdigest()[:16]}"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            import aws_cdk as cdk
            import cdk_nag
            from lib.composition import compose

            new = folder.with_suffix(".new")
            app = compose(environment, new)
            cdk.Validations.of(app).add_plugins(cdk_nag.AwsSolutionsChecks(app))
            app.synth()
            new.rename(folder)
    return folder
