"""AWS::EC2::SecurityGroupIngress and AWS::EC2::SecurityGroupEgress: a rule that is a resource of its own."""

from __future__ import annotations

import json
import secrets
from typing import Any

from ministack.services import ec2
from ministack.services.cloudformation import provisioners

from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, Registry


def _register_direction(registry: Registry, type_name: str, permissions_key: str) -> None:
    def permissions_of(group_id: str) -> list[dict[str, Any]]:
        group = ec2._security_groups.get(group_id)
        if group is None:
            raise HandlerFailed(f"The security group '{group_id}' does not exist", "NotFound")
        return list(group[permissions_key])

    def create(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
        group_id = properties.get("GroupId", "")
        permissions = permissions_of(group_id)
        (wanted,) = provisioners._ec2_sg_permissions([properties])
        if _key(wanted) in map(_key, permissions):
            raise HandlerFailed(
                f"the specified rule already exists in {group_id} (Error Code: InvalidPermission.Duplicate)",
                "AlreadyExists",
            )
        ec2._security_groups[group_id][permissions_key] = [*permissions, wanted]
        rule_id = f"sgr-{secrets.token_hex(9)[:17]}"
        return rule_id, {"Id": rule_id}

    def delete(physical_id: str, properties: Properties) -> None:  # noqa: ARG001
        group = ec2._security_groups.get(properties.get("GroupId", ""))
        if group is not None:
            (gone,) = provisioners._ec2_sg_permissions([properties])
            group[permissions_key] = [kept for kept in group[permissions_key] if _key(kept) != _key(gone)]

    def update(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:
        # Only the description changes in place; any other change replaces the rule.
        if {**old, "Description": ""} != {**new, "Description": ""}:
            return create("", new, stack_name)
        delete(physical_id, old)
        (changed,) = provisioners._ec2_sg_permissions([new])
        ec2._security_groups[new["GroupId"]][permissions_key].append(changed)
        return physical_id, {"Id": physical_id}

    registry.register(type_name, Handlers(create=create, update=update, delete=delete))


def _key(permission: dict[str, Any]) -> str:
    return json.dumps(ec2._strip_descriptions(permission), sort_keys=True)


def register(registry: Registry) -> None:
    _register_direction(registry, "AWS::EC2::SecurityGroupIngress", "IpPermissions")
    _register_direction(registry, "AWS::EC2::SecurityGroupEgress", "IpPermissionsEgress")
