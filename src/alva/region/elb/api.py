"""The elbv2 API: its actions, for HTTP and for our own code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from alva.region import query_protocol
from alva.region.control_plane import ControlPlane
from alva.region.elb.calls import listeners, load_balancers, rules, tags, target_groups
from alva.region.elb.calls.listeners import CertificateNames
from alva.region.elb.calls.support import Json
from alva.region.elb.calls.target_groups import Targets
from alva.region.elb.refusals import NotHonoured
from alva.region.elb.store import Store
from alva.region.network.records import VpcRecords, read_records
from alva.region.query_api import Call, QueryApi

STORE_CALLS: dict[str, Callable[[Store, Json], Json]] = {
    "AddTags": tags.add_tags,
    "CreateRule": rules.create_rule,
    "DeleteListener": listeners.delete_listener,
    "DeleteLoadBalancer": load_balancers.delete_load_balancer,
    "DeleteRule": rules.delete_rule,
    "DeleteTargetGroup": target_groups.delete_target_group,
    "DescribeListenerAttributes": listeners.describe_listener_attributes,
    "DescribeListeners": listeners.describe_listeners,
    "DescribeLoadBalancerAttributes": load_balancers.describe_load_balancer_attributes,
    "DescribeLoadBalancers": load_balancers.describe_load_balancers,
    "DescribeRules": rules.describe_rules,
    "DescribeTags": tags.describe_tags,
    "DescribeTargetGroupAttributes": target_groups.describe_target_group_attributes,
    "DescribeTargetGroups": target_groups.describe_target_groups,
    "ModifyListenerAttributes": listeners.modify_listener_attributes,
    "ModifyLoadBalancerAttributes": load_balancers.modify_load_balancer_attributes,
    "ModifyRule": rules.modify_rule,
    "ModifyTargetGroup": target_groups.modify_target_group,
    "ModifyTargetGroupAttributes": target_groups.modify_target_group_attributes,
    "RemoveTags": tags.remove_tags,
    "SetIpAddressType": load_balancers.set_ip_address_type,
    "SetRulePriorities": rules.set_rule_priorities,
}
VPC_CALLS: dict[str, Callable[[Store, VpcRecords, Json], Json]] = {
    "CreateTargetGroup": target_groups.create_target_group,
    "SetSecurityGroups": load_balancers.set_security_groups,
    "SetSubnets": load_balancers.set_subnets,
}
TARGET_CALLS: dict[str, Callable[[Store, Targets, Json], Json]] = {
    "DeregisterTargets": target_groups.deregister_targets,
    "DescribeTargetHealth": target_groups.describe_target_health,
}
LISTENER_CALLS: dict[str, Callable[[Store, CertificateNames, Json], Awaitable[Json]]] = {
    "CreateListener": listeners.create_listener,
    "ModifyListener": listeners.modify_listener,
}
ACTIONS = frozenset({"CreateLoadBalancer", "RegisterTargets", *STORE_CALLS, *VPC_CALLS, *TARGET_CALLS, *LISTENER_CALLS})
"""All other actions are refused, with their name in the error."""


class Api(QueryApi):
    """The actions of elbv2."""

    def __init__(
        self,
        store: Store,
        targets: Targets,
        certificate_names: CertificateNames,
        free_dns_name: Callable[[], str],
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called after every call that is not a Describe call."""
        home = (store.account_id, store.region)

        async def with_records(call: Callable[[VpcRecords, Json], Json], request: Json) -> Json:
            return call(await read_records(ControlPlane(*home)), request)

        of_vpcs: dict[str, Callable[[VpcRecords, Json], Json]] = {
            "CreateLoadBalancer": partial(load_balancers.create_load_balancer, store, free_dns_name),
            "RegisterTargets": partial(target_groups.register_targets, store, targets),
            **{name: partial(function, store) for name, function in VPC_CALLS.items()},
        }
        calls: dict[str, Call] = {
            **{name: partial(with_records, function) for name, function in of_vpcs.items()},
            **{name: partial(function, store) for name, function in STORE_CALLS.items()},
            **{name: partial(function, store, targets) for name, function in TARGET_CALLS.items()},
            **{name: partial(function, store, certificate_names) for name, function in LISTENER_CALLS.items()},
        }
        # An empty store serves requests for another account or region.
        elsewhere = _descriptions(Store("", ""), targets)
        super().__init__("elbv2", home, calls, elsewhere, _not_offered, changed)

    async def call(self, action: str, request: Mapping[str, Any]) -> Json:
        """Carry out an action, for our own code.

        `request` is the action's input; its scalars may be strings, as CloudFormation's properties are. Raises
        AwsError.
        """
        return await self._perform(action, query_protocol.flatten(request))


def _not_offered(action: str, where: str) -> NotHonoured:
    return NotHonoured(f"the action {action}{where}")


def _descriptions(store: Store, targets: Targets) -> dict[str, Call]:
    return {
        **{name: partial(call, store) for name, call in STORE_CALLS.items() if name.startswith("Describe")},
        "DescribeTargetHealth": partial(target_groups.describe_target_health, store, targets),
    }
