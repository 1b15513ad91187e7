"""The roles of `cdk bootstrap` that a release assumes.

A release has no rights on resources itself. It changes stacks with the deploy role, which passes the execution role to
CloudFormation, and uploads large templates to the bucket with the file publishing role. The CDK CLI does the same; both
tools can be used on one environment. In an account without a bootstrap, the release uses the caller's own rights. See
docs/decisions/roles-of-the-bootstrap.md.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from alva.aws import Aws, error_code, explained

STACK = "CDKToolkit"
QUALIFIER = "hnb659fds"
"""CDK's default."""

VERSION_PARAMETER = f"/cdk-bootstrap/{QUALIFIER}/version"


class BootstrapRoles:
    """The bootstrap of one account and region, if it exists. A role is assumed when it is first needed."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    @functools.cached_property
    def version(self) -> int | None:
        """The version of the bootstrap; None without a bootstrap. Raises AlvaError."""
        return version(self._aws)

    @functools.cached_property
    def deployer(self) -> Aws:
        """Clients with the deploy role, which changes stacks. Raises PreflightRefused where it cannot be assumed."""
        return self._assuming("deploy")

    @functools.cached_property
    def publisher(self) -> Aws:
        """Clients with the file publishing role. Raises PreflightRefused where it cannot be assumed."""
        return self._assuming("file-publishing")

    @functools.cached_property
    def handed(self) -> dict[str, Any]:
        """The argument that passes the execution role to CloudFormation; empty without a bootstrap."""
        return {"RoleARN": self._role_arn("cfn-exec")} if self.version is not None else {}

    @functools.cached_property
    def bucket(self) -> str:
        """The bucket for templates that are too large to send inline."""
        return f"cdk-{QUALIFIER}-assets-{self._identity[1]}-{self._aws.target.region}"

    @functools.cached_property
    def _identity(self) -> tuple[str, str, str]:
        """Partition, account, and the name of the role's session."""
        with explained("find out which AWS account this is"):
            identity = self._aws.sts.get_caller_identity()
        name = re.sub(r"[^\w+=,.@-]", "-", identity["Arn"].rpartition(":")[2].rpartition("/")[2])
        return identity["Arn"].split(":")[1], identity["Account"], f"alva-{name}"[:64]

    def _role_arn(self, kind: str) -> str:
        partition, account, _ = self._identity
        return f"arn:{partition}:iam::{account}:role/cdk-{QUALIFIER}-{kind}-role-{account}-{self._aws.target.region}"

    def _assuming(self, kind: str) -> Aws:
        return self._aws if self.version is None else self._aws.assuming(self._role_arn(kind), self._identity[2])


def version(aws: Aws) -> int | None:
    """Read the version of the bootstrap now; None without a bootstrap. Raises AlvaError."""
    with explained("read the version of the account's bootstrap"):
        try:
            return int(aws.ssm.get_parameter(Name=VERSION_PARAMETER)["Parameter"]["Value"])
        except Exception as error:
            if error_code(error) == "ParameterNotFound":
                return None
            raise


def bootstrap_roles_of(aws: Aws) -> BootstrapRoles:
    """Return the bootstrap roles of `aws`'s account, cached."""
    return aws.once(BootstrapRoles)
