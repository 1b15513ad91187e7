"""IAM's answers where MiniStack's differ from AWS's: service-linked roles, and the type of a permissions boundary."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ministack.services import iam

from alva.region import query_protocol
from alva.region.aws_error import AwsError

if TYPE_CHECKING:
    from alva.region.unexpected import Handler, Response

# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_aws-services-that-work-with-iam.html, each service's page
_ROLES = {
    "acm": "CertificateManager",
    "autoscaling": "AutoScaling",
    "ecr": "ECRTemplate",
    "ecs": "ECS",
    "ecs.application-autoscaling": "ApplicationAutoScaling_ECSService",
    "elasticache": "ElastiCache",
    "elasticloadbalancing": "ElasticLoadBalancing",
    "es": "AmazonElasticsearchService",
    "pullthroughcache.ecr": "ECRPullThroughCache",
    "rds": "RDS",
    "rds.application-autoscaling": "ApplicationAutoScaling_RDSCluster",
    "replication.ecr": "ECRReplication",
    "spot": "EC2Spot",
    "ssm": "AmazonSSM",
    "wafv2": "WAFV2Logging",
}
_BOUNDARY_TYPE = b"<PermissionsBoundaryType>%s</PermissionsBoundaryType>"


def install(handlers: dict[str, Handler]) -> None:
    """Correct the answers of MiniStack's handler."""
    theirs = handlers["iam"]
    model = query_protocol.service_model("iam")

    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> Response:
        form = query_protocol.read_form(body, query_params)
        is_creation = form.get("Action") == "CreateServiceLinkedRole"
        name = role_name(form.get("AWSServiceName", ""), form.get("CustomSuffix"))
        if is_creation and name in iam._roles:
            # https://github.com/Rayraegah/terraform-aws-hasura/issues/17
            message = f"Service role name {name} has been taken in this account, please try a different suffix."
            return query_protocol.refuse(model, AwsError("InvalidInput", message))
        status, answer_headers, answer = await theirs(method, path, headers, body, query_params)
        if is_creation and status == 200:
            answer = await shown(name, query_protocol.read_xml(answer).findtext(".//RoleName", ""), form)
        # AWS CLI's examples of get-user and get-role show the type Policy.
        return (
            status,
            answer_headers,
            answer.replace(_BOUNDARY_TYPE % b"PermissionsBoundaryPolicy", _BOUNDARY_TYPE % b"Policy"),
        )

    async def shown(name: str, theirs_name: str, form: dict[str, str]) -> bytes:
        """The answer about a new role, after it gets its name in place of MiniStack's."""
        role = iam._roles.pop(theirs_name)
        role |= {"RoleName": name, "Arn": role["Arn"].replace(theirs_name, name)}
        role |= {"Description": form["Description"]} if "Description" in form else {}
        iam._roles[name] = role
        request = urlencode({"Action": "GetRole", "RoleName": name}).encode()
        _, _, answer = await theirs("POST", "/", {}, request, {})
        return re.sub(rb"(</?)GetRole(Response|Result)", rb"\1CreateServiceLinkedRole\2", answer)

    handlers["iam"] = handle


def role_name(service: str, suffix: str | None = None) -> str:
    """The name of a service's service-linked role."""
    of = service.removesuffix(".amazonaws.com")
    return f"AWSServiceRoleFor{_ROLES.get(of, of.partition('.')[0].capitalize())}{f'_{suffix}' if suffix else ''}"
