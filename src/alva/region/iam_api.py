"""IAM's answers where MiniStack's differ from AWS's: service-linked roles, and the type of a permissions boundary."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

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

    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> Response:
        form = query_protocol.read_form(body, query_params)
        if form.get("Action") == "CreateServiceLinkedRole":
            return await create_service_linked_role(form)
        status, answer_headers, answer = await theirs(method, path, headers, body, query_params)
        # AWS CLI's examples of get-user and get-role show the type Policy.
        return (
            status,
            answer_headers,
            answer.replace(_BOUNDARY_TYPE % b"PermissionsBoundaryPolicy", _BOUNDARY_TYPE % b"Policy"),
        )

    async def create_service_linked_role(form: dict[str, str]) -> Response:
        """Create the role with CreateRole: MiniStack's CreateServiceLinkedRole gives it another name."""
        service, name = form["AWSServiceName"], role_name(form["AWSServiceName"], form.get("CustomSuffix"))
        trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        request = {
            "Action": "CreateRole",
            "RoleName": name,
            "Path": f"/aws-service-role/{service}/",
            "AssumeRolePolicyDocument": json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
            "Description": form.get("Description", f"Service-linked role for {service}"),
        }
        status, headers, answer = await theirs("POST", "/", {}, urlencode(request).encode(), {})
        if status == 409:
            # https://github.com/Rayraegah/terraform-aws-hasura/issues/17
            message = f"Service role name {name} has been taken in this account, please try a different suffix."
            return query_protocol.refuse(query_protocol.service_model("iam"), AwsError("InvalidInput", message))
        return status, headers, re.sub(rb"(</?)CreateRole(Response|Result)", rb"\1CreateServiceLinkedRole\2", answer)

    handlers["iam"] = handle


def role_name(service: str, suffix: str | None = None) -> str:
    """The name of a service's service-linked role."""
    of = service.removesuffix(".amazonaws.com")
    return f"AWSServiceRoleFor{_ROLES.get(of, of.partition('.')[0].capitalize())}{f'_{suffix}' if suffix else ''}"
