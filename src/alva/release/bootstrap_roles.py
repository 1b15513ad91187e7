"""What `cdk bootstrap` made in the account, and the roles of it that a release assumes.

A release has no right on resources: it changes stacks with the deploy role, which hands CloudFormation the execution
role, and puts what does not fit inline into the bucket with the file publishing role. The CDK CLI does the same, and
one can be used after the other. In an account that was never bootstrapped both are done with one's own rights.
docs/decisions/roles-of-the-bootstrap.md says why.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from alva.aws import Aws, error_code, explained

STACK = "CDKToolkit"
QUALIFIER = "hnb659fds"
"""CDK's own, unless somebody chose another."""

VERSION_PARAMETER = f"/cdk-bootstrap/{QUALIFIER}/version"


class BootstrapRoles:
    """The bootstrap of one account and region, as far as it is there. Roles are assumed when first needed."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    @functools.cached_property
    def version(self) -> int | None:
        """Which version of the bootstrap the account has; None where it never ran. Raises AlvaError."""
        return version(self._aws)

    @functools.cached_property
    def deployer(self) -> Aws:
        """Who changes stacks. Raises PreflightRefused where the role cannot be assumed."""
        return self._assuming("deploy")

    @functools.cached_property
    def publisher(self) -> Aws:
        """Who fills the bucket. Raises PreflightRefused where the role cannot be assumed."""
        return self._assuming("file-publishing")

    @functools.cached_property
    def handed(self) -> dict[str, Any]:
        """The argument of CloudFormation's calls that names the role which it works with; none without a bootstrap."""
        return {"RoleARN": self._role_arn("cfn-exec")} if self.version is not None else {}

    @functools.cached_property
    def bucket(self) -> str:
        """The bucket for templates that are too large to send inline."""
        return f"cdk-{QUALIFIER}-assets-{self._identity[1]}-{self._aws.target.region}"

    @functools.cached_property
    def _identity(self) -> tuple[str, str, str]:
        """Partition, account, and who this is as a role's session may be called."""
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
    """Which version of the bootstrap the account has now; None where it never ran. Raises AlvaError."""
    with explained("look whether the account is bootstrapped"):
        try:
            return int(aws.ssm.get_parameter(Name=VERSION_PARAMETER)["Parameter"]["Value"])
        except Exception as error:
            if error_code(error) == "ParameterNotFound":
                return None
            raise


def bootstrap_roles_of(aws: Aws) -> BootstrapRoles:
    """The roles of the account that `aws` calls; looked up once."""
    return aws.once(BootstrapRoles)
