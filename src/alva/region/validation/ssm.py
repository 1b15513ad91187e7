"""Parameter Store's rules that are not in its model: names, sizes and patterns of parameters.

https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-su-create.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from alva.region.aws_error import AwsError

Json = dict[str, Any]

_NAME = re.compile(r"[A-Za-z0-9_.-]+|(/[A-Za-z0-9_.-]+)+")
_LOOK_UP = re.compile(rf"({_NAME.pattern})(:[A-Za-z0-9_.-]+)?")
# AWS's message for every name with an invalid character: https://github.com/boto/boto3/issues/1499
_NAME_REFUSED = (
    'Parameter name: can\'t be prefixed with "ssm" (case-insensitive). If formed as a path, it can consist of '
    "sub-paths divided by slash symbol; each sub-path can be formed as a mix of letters, numbers and the following 3 "
    "symbols .-_"
)
_PATH_REFUSED = (
    "The parameter doesn't meet the parameter name requirements. The parameter name must begin with a forward slash "
    '"/". It can\'t be prefixed with \\"aws\\" or \\"ssm\\" (case-insensitive). It must use only letters, numbers, or '
    "the following symbols: . (period), - (hyphen), _ (underscore). Special characters are not allowed. All sub-paths, "
    'if specified, must use the forward slash symbol "/". Valid example: /get/parameters2-/by1./path0_.'
)
_MOST_LEVELS = 15
_STANDARD_CHARACTERS = 4096
_ADVANCED_CHARACTERS = 8192
_TOO_LONG = (
    "Standard tier parameters support a maximum parameter value of 4096 characters. To create a larger parameter "
    "value, upgrade the parameter to use the advanced-parameter tier. For more information, see "
    "https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html"
)


def check_parameter(request: Json) -> None:
    """PutParameter: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html"""
    name, value, tier = request["Name"], request["Value"], request.get("Tier", "Standard")
    if "/" in name and not name.startswith("/"):
        raise _invalid("Parameter name must be a fully qualified name.")
    if not _NAME.fullmatch(name):
        raise _invalid(_NAME_REFUSED)
    if name.count("/") > _MOST_LEVELS:
        raise AwsError(
            "HierarchyLevelLimitExceededException",
            f"A hierarchy can have a maximum of {_MOST_LEVELS} levels. The parameter {name} has {name.count('/')}.",
        )
    if not value:
        raise _invalid(
            "1 validation error detected: Value '' at 'value' failed to satisfy constraint: "
            "Member must have length greater than or equal to 1."
        )
    if tier == "Standard" and len(value) > _STANDARD_CHARACTERS:
        raise _invalid(_TOO_LONG)
    if len(value) > _ADVANCED_CHARACTERS:
        raise _invalid(_TOO_LONG.replace("Standard", "Advanced").replace("4096", "8192").partition(" To create")[0])
    pattern = request.get("AllowedPattern")
    if pattern and not re.search(pattern, value):
        raise AwsError(
            "ParameterPatternMismatchException",
            f"Parameter value, cannot be validated against allowedPattern: {pattern}",
        )


def check_look_up(request: Json) -> None:
    """GetParameter and DeleteParameter refuse a name that no parameter can have."""
    name = request["Name"]
    if not name.startswith("arn:") and "/" in name and not _LOOK_UP.fullmatch(name):
        raise _invalid(_NAME_REFUSED)


def check_path(request: Json) -> None:
    """GetParametersByPath: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParametersByPath.html"""
    path = request["Path"]
    if not path.startswith("/") or (path != "/" and not _NAME.fullmatch(path.removesuffix("/"))):
        raise _invalid(_PATH_REFUSED)


def _invalid(message: str) -> AwsError:
    return AwsError("ValidationException", message)


CHECKS: Mapping[str, Callable[[Json], None]] = {
    "DeleteParameter": check_look_up,
    "GetParameter": check_look_up,
    "GetParametersByPath": check_path,
    "PutParameter": check_parameter,
}
