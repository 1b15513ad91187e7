"""AWS::EC2::SecurityGroupIngress and AWS::EC2::SecurityGroupEgress: a rule that is a resource of its own."""

from __future__ import annotations

from typing import Any

from alva.region.cloudformation.drift_readers import identity, rules_of
from alva.region.cloudformation.handler_failure import HandlerFailed, call
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, Registry

HONOURED = frozenset({
    "CidrIp", "Description", "DestinationSecurityGroupId", "FromPort", "GroupId", "IpProtocol", "SourceSecurityGroupId",
    "ToPort",
})  # fmt: skip
WITHOUT_EFFECT = frozenset({"CidrIpv6", "SourceSecurityGroupName", "SourceSecurityGroupOwnerId"})


def _register_direction(registry: Registry, direction: str, side: str, permissions_key: str) -> None:
    async def change(verb: str, properties: Properties) -> dict[str, Any]:
        request = {"GroupId": properties["GroupId"], "IpPermissions": [_permission(properties, side)]}
        return await call("ec2", f"{verb}SecurityGroup{direction}", request)

    async def create(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
        if unknown := set(properties) - HONOURED - WITHOUT_EFFECT:
            raise HandlerFailed(
                f"the local region does not honour {', '.join(sorted(unknown))} of AWS::EC2::SecurityGroup{direction}",
                "InvalidRequest",
            )
        request = {"GroupIds": [properties["GroupId"]]}
        (group,) = (await call("ec2", "DescribeSecurityGroups", request))["SecurityGroups"]
        if identity(properties, side) in [identity(rule, side) for rule in rules_of(group[permissions_key], side)]:
            # MiniStack accepts a rule twice.
            peer = next((properties[key] for key in _peers(side) if key in properties), "")
            raise HandlerFailed(
                f'the specified rule "peer: {peer}, {str(properties["IpProtocol"]).upper()}, from port: '
                f'{properties.get("FromPort", -1)}, to port: {properties.get("ToPort", -1)}, ALLOW" already exists '
                "(Service: Ec2, Status Code: 400, Error Code: InvalidPermission.Duplicate)",
                "AlreadyExists",
            )
        (rule,) = (await change("Authorize", properties))["SecurityGroupRules"]
        return rule["SecurityGroupRuleId"], {"Id": rule["SecurityGroupRuleId"]}

    async def delete(physical_id: str, properties: Properties) -> None:  # noqa: ARG001
        try:
            await change("Revoke", properties)
        except HandlerFailed as error:
            if error.code != "NotFound":
                raise

    async def update(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:
        # Only the description changes in place; any other change replaces the rule.
        if {**old, "Description": ""} != {**new, "Description": ""}:
            return await create("", new, stack_name)
        await change("Revoke", old)
        await change("Authorize", new)
        return physical_id, {"Id": physical_id}

    registry.register(f"AWS::EC2::SecurityGroup{direction}", Handlers(create=create, update=update, delete=delete))


def _peers(side: str) -> tuple[str, ...]:
    return ("CidrIp", "CidrIpv6", f"{side}SecurityGroupId", f"{side}SecurityGroupName")


def _permission(rule: Properties, side: str) -> Properties:
    """A rule of a template as an IpPermission of EC2's API."""
    described = {"Description": rule["Description"]} if rule.get("Description") else {}
    pair = {
        member: rule[f"{side}SecurityGroup{name}"]
        for member, name in (("GroupId", "Id"), ("GroupName", "Name"), ("UserId", "OwnerId"))
        if f"{side}SecurityGroup{name}" in rule
    }
    return {
        "IpProtocol": str(rule["IpProtocol"]),
        **{key: int(rule[key]) for key in ("FromPort", "ToPort") if key in rule},
        "IpRanges": [{"CidrIp": rule["CidrIp"], **described}] if "CidrIp" in rule else [],
        "Ipv6Ranges": [{"CidrIpv6": rule["CidrIpv6"], **described}] if "CidrIpv6" in rule else [],
        "UserIdGroupPairs": [{**pair, **described}] if pair else [],
    }


def register(registry: Registry) -> None:
    _register_direction(registry, "Ingress", "Source", "IpPermissions")
    _register_direction(registry, "Egress", "Destination", "IpPermissionsEgress")
