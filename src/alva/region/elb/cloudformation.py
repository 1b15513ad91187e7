"""The resource types AWS::ElasticLoadBalancingV2::*, provisioned through the elbv2 API, as on AWS.

So the checks and error messages are those of the API.
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/AWS_ElasticLoadBalancingV2.html
"""

from __future__ import annotations

import secrets
import string
import uuid
from collections.abc import Awaitable, Callable, Container, Mapping
from typing import Any

from alva.region.aws_error import AwsError
from alva.region.cloudformation import tags
from alva.region.cloudformation.errors import Refused
from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, Registry
from alva.region.elb import describing, reading
from alva.region.elb.api import Api
from alva.region.elb.attributes import LISTENER_DEFAULTS, LOAD_BALANCER_DEFAULTS, TARGET_GROUP_DEFAULTS
from alva.region.elb.records import Rule
from alva.region.elb.refusals import NotHonoured
from alva.region.elb.store import Store

LOAD_BALANCER = frozenset(
    {"Name", "Scheme", "Type", "IpAddressType", "Subnets", "SubnetMappings", "SecurityGroups", "Tags"}
)
TARGET_GROUP = frozenset(
    {
        "Name",
        "Port",
        "Protocol",
        "ProtocolVersion",
        "TargetType",
        "VpcId",
        "IpAddressType",
        "HealthCheckEnabled",
        "HealthCheckProtocol",
        "HealthCheckPort",
        "HealthCheckPath",
        "HealthCheckIntervalSeconds",
        "HealthCheckTimeoutSeconds",
        "HealthyThresholdCount",
        "UnhealthyThresholdCount",
        "Matcher",
        "Tags",
    }
)
LISTENER = frozenset(
    {
        "LoadBalancerArn",
        "Port",
        "Protocol",
        "DefaultActions",
        "Certificates",
        "SslPolicy",
        "AlpnPolicy",
        "MutualAuthentication",
        "Tags",
    }
)
RULE = frozenset({"ListenerArn", "Priority", "Conditions", "Actions", "Transforms", "Tags"})
"""The properties of each type that are members of its Create action."""

COMPARED_IN_TARGET_GROUPS = TARGET_GROUP - {"Name", "IpAddressType", "Tags"}
"""The properties of a target group whose drift is detected."""

_HEALTH_CHECK_DEFAULTS = {
    "HealthCheckProtocol": "HTTP",
    "HealthCheckPort": "traffic-port",
    "HealthCheckPath": "/",
    "HealthCheckIntervalSeconds": 30,
    "HealthCheckTimeoutSeconds": 5,
    "HealthyThresholdCount": 5,
    "UnhealthyThresholdCount": 2,
    "Matcher": {"HttpCode": "200"},
}
_NOT_FOUND = ("LoadBalancerNotFound", "TargetGroupNotFound", "ListenerNotFound", "RuleNotFound")


def install(registry: Registry, api: Api, store: Store) -> None:
    """Register the four types."""
    types = _Types(api, store)
    prefix = "AWS::ElasticLoadBalancingV2::"
    registry.register(
        f"{prefix}LoadBalancer",
        Handlers(
            create=types.create_load_balancer,
            update=types.update_load_balancer,
            delete=types.deleter("DeleteLoadBalancer", "LoadBalancerArn"),
        ),
    )
    registry.register(
        f"{prefix}TargetGroup",
        Handlers(
            create=types.create_target_group,
            update=types.update_target_group,
            delete=types.deleter("DeleteTargetGroup", "TargetGroupArn"),
        ),
    )
    registry.register(
        f"{prefix}Listener",
        Handlers(
            create=types.create_listener,
            update=types.update_listener,
            delete=types.deleter("DeleteListener", "ListenerArn"),
        ),
    )
    registry.register(
        f"{prefix}ListenerRule",
        Handlers(create=types.create_rule, update=types.update_rule, delete=types.deleter("DeleteRule", "RuleArn")),
    )
    registry.detect_drift(f"{prefix}TargetGroup", types.read_target_group, COMPARED_IN_TARGET_GROUPS)
    registry.detect_drift(f"{prefix}Listener", types.read_listener, {"Port", "Protocol", "DefaultActions"})
    registry.detect_drift(f"{prefix}ListenerRule", types.read_rule, {"Priority", "Conditions", "Actions"})


class _Types:
    def __init__(self, api: Api, store: Store) -> None:
        self._api = api
        self._store = store

    async def create_load_balancer(self, logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
        _refuse_unknown(properties, LOAD_BALANCER | {"LoadBalancerAttributes"})
        name = properties.get("Name") or _name(stack_name, logical_id)
        self._refuse_taken(name, {each.name for each in self._store.load_balancers.values()})
        answer = await self._call("CreateLoadBalancer", _only(properties, LOAD_BALANCER) | {"Name": name})
        arn = answer["LoadBalancers"][0]["LoadBalancerArn"]
        await self._complete("LoadBalancer", arn, properties)
        return arn, self._load_balancer_attributes(arn)

    async def update_load_balancer(self, arn: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:
        del stack_name
        _refuse_unknown(new, LOAD_BALANCER | {"LoadBalancerAttributes"})
        if any(old.get(name) != new.get(name) for name in ("Subnets", "SubnetMappings")):
            await self._call("SetSubnets", _only(new, {"Subnets", "SubnetMappings"}) | {"LoadBalancerArn": arn})
        if old.get("SecurityGroups") != new.get("SecurityGroups"):
            groups = new.get("SecurityGroups")
            await self._call("SetSecurityGroups", {"LoadBalancerArn": arn, "SecurityGroups": groups})
        await self._set_attributes("LoadBalancer", arn, new, _dropped(old, new, "LoadBalancer", LOAD_BALANCER_DEFAULTS))
        await self._retag(arn, old, new)
        return arn, self._load_balancer_attributes(arn)

    def _load_balancer_attributes(self, arn: str) -> dict[str, Any]:
        balancer = self._store.load_balancer(arn)
        return {
            "LoadBalancerArn": arn,
            "LoadBalancerName": balancer.name,
            "LoadBalancerFullName": balancer.full_name,
            "DNSName": balancer.dns_name,
            "CanonicalHostedZoneID": describing.HOSTED_ZONE_ID,
            "SecurityGroups": list(balancer.security_groups),
        }

    async def create_target_group(self, logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
        _refuse_unknown(properties, TARGET_GROUP | {"TargetGroupAttributes", "Targets"})
        name = properties.get("Name") or _name(stack_name, logical_id)
        self._refuse_taken(name, {each.name for each in self._store.target_groups.values()})
        answer = await self._call("CreateTargetGroup", _only(properties, TARGET_GROUP) | {"Name": name})
        arn = answer["TargetGroups"][0]["TargetGroupArn"]

        async def register_targets() -> None:
            if targets := properties.get("Targets"):
                await self._call("RegisterTargets", {"TargetGroupArn": arn, "Targets": targets})

        await self._complete("TargetGroup", arn, properties, register_targets)
        return arn, self._target_group_attributes(arn)

    async def update_target_group(self, arn: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:
        del stack_name
        _refuse_unknown(new, TARGET_GROUP | {"TargetGroupAttributes", "Targets"})
        health_check = _HEALTH_CHECK_DEFAULTS | _only(new, {*_HEALTH_CHECK_DEFAULTS, "HealthCheckEnabled"})
        await self._call("ModifyTargetGroup", health_check | {"TargetGroupArn": arn})
        await self._set_attributes("TargetGroup", arn, new, _dropped(old, new, "TargetGroup", TARGET_GROUP_DEFAULTS))
        before, after = old.get("Targets") or [], new.get("Targets") or []
        for action, targets in (
            ("DeregisterTargets", [target for target in before if target not in after]),
            ("RegisterTargets", [target for target in after if target not in before]),
        ):
            if targets:
                await self._call(action, {"TargetGroupArn": arn, "Targets": targets})
        await self._retag(arn, old, new)
        return arn, self._target_group_attributes(arn)

    def _target_group_attributes(self, arn: str) -> dict[str, Any]:
        group = self._store.target_group(arn)
        return {
            "TargetGroupArn": arn,
            "TargetGroupName": group.name,
            "TargetGroupFullName": group.full_name,
            "LoadBalancerArns": self._store.users_of(arn),
        }

    async def create_listener(self, logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
        del logical_id, stack_name
        _refuse_unknown(properties, LISTENER | {"ListenerAttributes"})
        before = {listener.arn for listener in self._store.listeners()}
        answer = await self._call("CreateListener", _only(properties, LISTENER))
        arn = answer["Listeners"][0]["ListenerArn"]
        self._refuse_taken(arn, before)
        await self._complete("Listener", arn, properties)
        return arn, {"ListenerArn": arn}

    async def update_listener(self, arn: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:
        del stack_name
        _refuse_unknown(new, LISTENER | {"ListenerAttributes"})
        await self._call("ModifyListener", _only(new, LISTENER - {"LoadBalancerArn", "Tags"}) | {"ListenerArn": arn})
        await self._set_attributes("Listener", arn, new, _dropped(old, new, "Listener", LISTENER_DEFAULTS))
        await self._retag(arn, old, new)
        return arn, {"ListenerArn": arn}

    async def create_rule(self, logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
        del logical_id, stack_name
        _refuse_unknown(properties, RULE)
        answer = await self._call("CreateRule", _only(properties, RULE))
        arn = answer["Rules"][0]["RuleArn"]
        return arn, {"RuleArn": arn, "IsDefault": False}

    async def update_rule(self, arn: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:
        del stack_name
        _refuse_unknown(new, RULE)
        transforms = {"Transforms": new["Transforms"]} if new.get("Transforms") else {"ResetTransforms": True}
        await self._call("ModifyRule", _only(new, {"Conditions", "Actions"}) | {"RuleArn": arn} | transforms)
        if str(old.get("Priority")) != str(new.get("Priority")):
            priorities = [{"RuleArn": arn, "Priority": new.get("Priority")}]
            await self._call("SetRulePriorities", {"RulePriorities": priorities})
        await self._retag(arn, old, new)
        return arn, {"RuleArn": arn, "IsDefault": False}

    # The readers of drift detection. Actions and conditions have several forms. If the actual ones are equivalent to
    # the template's, a reader returns the template's form.

    def read_target_group(self, arn: str, properties: Properties) -> Properties | None:
        """A target group's current properties."""
        del properties
        group = self._store.target_groups.get(arn)
        return _only(describing.target_group(group, ()), COMPARED_IN_TARGET_GROUPS) if group is not None else None

    def read_listener(self, arn: str, properties: Properties) -> Properties | None:
        """A listener's current properties."""
        listener = next((each for each in self._store.listeners() if each.arn == arn), None)
        if listener is None:
            return None
        (default,) = (each for each in listener.rules if each.priority is None)
        return {
            "Port": listener.port,
            "Protocol": listener.protocol,
            "DefaultActions": _as_written(properties, default, "DefaultActions"),
        }

    def read_rule(self, arn: str, properties: Properties) -> Properties | None:
        """A listener rule's current properties."""
        rule = next((each for listener in self._store.listeners() for each in listener.rules if each.arn == arn), None)
        if rule is None:
            return None
        written: list[Any] = properties.get("Conditions") or []
        same = reading.conditions(written) == rule.conditions
        return {
            "Priority": rule.priority,
            "Conditions": written if same else describing.rule(rule)["Conditions"],
            "Actions": _as_written(properties, rule, "Actions"),
        }

    def deleter(self, action: str, parameter: str) -> Callable[[str, Properties], Awaitable[None]]:
        """The handler that deletes a resource by its ARN; one that does not exist is no error."""

        async def delete(physical_id: str, properties: Properties) -> None:
            del properties
            try:
                await self._api.call(action, {parameter: physical_id})
            except AwsError as error:
                if error.code not in _NOT_FOUND:
                    raise _failed(error) from error

        return delete

    async def _call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await self._api.call(action, request)
        except AwsError as error:
            raise _failed(error) from error

    def _refuse_taken(self, name: str, taken: Container[str]) -> None:
        """Refuse to create a resource that exists already."""
        if name in taken:
            raise HandlerFailed(f"Resource of type '{name}' already exists.", "AlreadyExists")

    async def _complete(
        self,
        kind: str,
        arn: str,
        properties: Properties,
        more: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Finish a creation; if that fails, delete the created resource."""
        try:
            await self._set_attributes(kind, arn, properties, {})
            if more is not None:
                await more()
        except BaseException:
            await self._api.call(f"Delete{kind}", {f"{kind}Arn": arn})
            raise

    async def _set_attributes(self, kind: str, arn: str, properties: Properties, defaults: Mapping[str, str]) -> None:
        declared = {item["Key"]: item.get("Value", "") for item in properties.get(f"{kind}Attributes") or ()}
        if values := dict(defaults) | declared:
            await self._call(f"Modify{kind}Attributes", {f"{kind}Arn": arn, "Attributes": describing.pairs(values)})

    async def _retag(self, arn: str, old: Properties, new: Properties) -> None:
        removed, changed = tags.changes(old, new)
        if removed:
            await self._call("RemoveTags", {"ResourceArns": [arn], "TagKeys": removed})
        if changed:
            await self._call("AddTags", {"ResourceArns": [arn], "Tags": changed})


def _as_written(properties: Properties, rule: Rule, name: str) -> list[Any]:
    written: list[Any] = properties.get(name) or []
    return written if reading.action(written) == rule.action else list(describing.rule(rule)["Actions"])


def _failed(error: AwsError) -> HandlerFailed:
    if isinstance(error, NotHonoured):
        return HandlerFailed(str(error), "InvalidRequest")
    code = "NotFound" if error.code in _NOT_FOUND else "InvalidRequest"
    return HandlerFailed(
        f"{error} (Service: ElasticLoadBalancingV2, Status Code: 400, Request ID: {uuid.uuid4()})", code
    )


def _name(stack_name: str, logical_id: str) -> str:
    """A generated name for a resource that the template does not name: 32 characters at most."""
    suffix = "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(12))
    return f"{f'{stack_name}-{logical_id}'[:19]}-{suffix}"


def _dropped(old: Properties, new: Properties, kind: str, defaults: Mapping[str, str]) -> dict[str, str]:
    """The defaults of attributes that a template no longer sets, so that a rollback restores the former state.

    AWS keeps such values ("attributes that you do not modify retain their current values"). A rollback would then keep
    an attribute that only the failed template had set. Here it does not.
    """
    kept = {item["Key"] for item in new.get(f"{kind}Attributes") or ()}
    gone = [item["Key"] for item in old.get(f"{kind}Attributes") or () if item["Key"] not in kept]
    return {key: defaults[key] for key in gone if key in defaults}


def _only(properties: Properties, names: Container[str]) -> dict[str, Any]:
    return {key: value for key, value in properties.items() if key in names}


def _refuse_unknown(properties: Properties, known: Container[str]) -> None:
    for name in properties:
        if name not in known:
            raise Refused(f"Encountered unsupported property {name}")
