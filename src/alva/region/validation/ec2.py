"""The description of a security group: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSecurityGroup.html

EC2 has no entry in `RULES`: its model is large, and its rules are not in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from alva.region import query_protocol
from alva.region.aws_error import AwsError
from alva.region.unexpected import Handler, Response, error_response

_DESCRIPTION = re.compile(r"[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]{0,255}")


def check_group(group: Mapping[str, Any]) -> None:
    """Raise AwsError where CreateSecurityGroup refuses the description."""
    if not _DESCRIPTION.fullmatch(str(group.get("GroupDescription", ""))):
        raise AwsError(
            "InvalidParameterValue",
            "Invalid security group description. Valid descriptions are strings less than 256 characters from the "
            "following set:  a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*",
        )


def guard(theirs: Handler) -> Handler:
    """Wrap MiniStack's handler with this check."""

    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> Response:
        form = query_protocol.read_form(body, query_params)
        if form.get("Action") == "CreateSecurityGroup":
            try:
                check_group(form)
            except AwsError as error:
                return error_response("ec2", headers, error)
        return await theirs(method, path, headers, body, query_params)

    return handle
