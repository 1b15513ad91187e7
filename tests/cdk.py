"""The CDK in a process of the tests. A process that imports aws_cdk imports it here first."""

from __future__ import annotations

import functools
import os
import sys

from lib.node import prepare_node


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
