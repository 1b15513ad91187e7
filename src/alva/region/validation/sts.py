"""STS's rules that are not in its model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from alva.region.aws_error import AwsError

# A partition, a service and a resource are required. Recorded from AWS in LocalStack's snapshots of STS.
_ARN = re.compile(r"arn:[^:]+:[^:]+:[^:]*:[^:]*:.+")


def check_role_arn(request: dict[str, Any]) -> None:
    """AssumeRole needs an ARN: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html"""
    if not _ARN.fullmatch(request["RoleArn"]):
        raise AwsError("ValidationError", f"{request['RoleArn']} is invalid")


CHECKS: Mapping[str, Callable[[dict[str, Any]], None]] = {"AssumeRole": check_role_arn}
