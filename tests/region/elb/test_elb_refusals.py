"""The region refuses the requests that AWS refuses, with the same code; every response is readable and not a 5xx."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
from botocore.model import ListShape, StructureShape
from ministack.core.responses import request_scope

from alva.region.elb.api import ACTIONS, Api
from alva.region.elb.store import Store
from alva.region.elb.target_health import NOT_REGISTERED
from alva.region.query_protocol import flatten, service_model

from .conftest import make_network

FACTS = json.loads((Path(__file__).parents[1] / "aws_facts" / "elbv2_refusals.json").read_text())
FIXED = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}
HOME = ("000000000000", "us-east-1")


class Elbv2:
    """The API without a data plane, with one of each resource; `names` are the placeholders of the facts."""

    def __init__(self) -> None:
        self.changes = 0
        self.store = Store(*HOME)
        targets = SimpleNamespace(
            register=lambda *_: None, deregister=lambda *_: None, health=lambda *_: NOT_REGISTERED, targets=lambda _: []
        )
        self.api = Api(self.store, targets, self.no_certificate, lambda: "127.0.0.1:8080", self.changed)
        self.names: dict[str, Any] = {}

    async def no_certificate(self, _arn: str) -> None:
        return None

    def changed(self) -> None:
        self.changes += 1

    async def fill(self) -> None:
        network = await make_network()
        self.names = {
            "vpc": network.vpc,
            "subnet_a": network.subnets[0],
            "subnet_b": network.subnets[1],
            "subnet_a2": network.subnets[2],
            "fixed": FIXED,
        }
        made = await self.make("CreateLoadBalancer", Name="there", Subnets=network.subnets[:2])
        self.names["load_balancer"] = made["LoadBalancers"][0]["LoadBalancerArn"]
        group = {"Name": "there", "Protocol": "HTTP", "Port": 80, "TargetType": "ip", "VpcId": network.vpc}
        self.names["target_group"] = (await self.make("CreateTargetGroup", **group))["TargetGroups"][0][
            "TargetGroupArn"
        ]
        listener = {"LoadBalancerArn": self.names["load_balancer"], "Port": 80, "Protocol": "HTTP"}
        made = await self.make("CreateListener", DefaultActions=[FIXED], **listener)
        self.names["listener"] = made["Listeners"][0]["ListenerArn"]
        forward = {"Type": "forward", "TargetGroupArn": self.names["target_group"]}
        rule = {"ListenerArn": self.names["listener"], "Priority": 5, "Actions": [forward]}
        made = await self.make("CreateRule", Conditions=[{"Field": "path-pattern", "Values": ["/a"]}], **rule)
        self.names["rule"] = made["Rules"][0]["RuleArn"]
        self.names["default_rule"] = self.store.listener(self.names["listener"]).rules[-1].arn

    async def make(self, action: str, **request: Any) -> Any:
        return await self.api.call(action, request)

    async def perform(
        self, action: str, request: Any, scope: tuple[str, str] = HOME
    ) -> tuple[int, ElementTree.Element]:
        return await self.send({"Action": action} | flatten(request), scope)

    async def send(self, form: dict[str, str], scope: tuple[str, str] = HOME) -> tuple[int, ElementTree.Element]:
        with request_scope(*scope):
            status, _, body = await self.api.handle_request("POST", "/", {}, urlencode(form).encode(), {})
        root = ElementTree.fromstring(body)  # noqa: S314 - our own answer
        for node in root.iter():
            node.tag = node.tag.rpartition("}")[2]
        return status, root

    def filled_in(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self.filled_in(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.filled_in(item) for item in value]
        if isinstance(value, str) and value in {f"${name}" for name in self.names}:
            return self.names[value[1:]]
        if isinstance(value, str):
            for name in ("target_group", "load_balancer", "listener", "rule"):
                value = value.replace(f"${name}", self.names[name])
        return value


@pytest.mark.aws_fact
@pytest.mark.parametrize("fact", FACTS, ids=[fact["claim"] for fact in FACTS])
def test_request_that_aws_refuses_is_refused_with_its_code_and_changes_nothing(fact):
    async def test():
        elbv2 = Elbv2()
        await elbv2.fill()
        before, changes = elbv2.store.as_json(), elbv2.changes
        status, answer = await elbv2.perform(fact["action"], elbv2.filled_in(fact["request"]))
        assert (status, answer.findtext(".//Code")) == (400, fact["code"]), answer.findtext(".//Message")
        if "message" in fact:
            assert answer.findtext(".//Message") == elbv2.filled_in(fact["message"])
        assert (elbv2.store.as_json(), elbv2.changes) == (before, changes)

    asyncio.run(test())


def test_repeated_request_returns_the_existing_resource():
    async def test():
        elbv2 = Elbv2()
        await elbv2.fill()
        names, subnets = elbv2.names, [elbv2.names["subnet_a"], elbv2.names["subnet_b"]]
        again = await elbv2.make("CreateLoadBalancer", Name="there", Subnets=subnets)
        assert again["LoadBalancers"][0]["LoadBalancerArn"] == names["load_balancer"]
        group = {"Name": "there", "Protocol": "HTTP", "Port": 80, "TargetType": "ip", "VpcId": names["vpc"]}
        again = await elbv2.make("CreateTargetGroup", **group)
        assert again["TargetGroups"][0]["TargetGroupArn"] == names["target_group"]
        listener = {"LoadBalancerArn": names["load_balancer"], "Port": 80, "Protocol": "HTTP"}
        again = await elbv2.make("CreateListener", DefaultActions=[FIXED], **listener)
        assert again["Listeners"][0]["ListenerArn"] == names["listener"]
        assert (
            len(elbv2.store.load_balancers) == len(elbv2.store.target_groups) == len(list(elbv2.store.listeners())) == 1
        )

    asyncio.run(test())


def test_pages_contain_everything_once():
    async def test():
        elbv2 = Elbv2()
        await elbv2.fill()
        for priority in range(10, 17):
            condition = {"Field": "path-pattern", "Values": [f"/{priority}"]}
            rule = {"ListenerArn": elbv2.names["listener"], "Priority": priority, "Actions": [FIXED]}
            await elbv2.make("CreateRule", Conditions=[condition], **rule)
        seen, marker = [], {}
        while True:
            _, page = await elbv2.perform(
                "DescribeRules", {"ListenerArn": elbv2.names["listener"], "PageSize": 4, **marker}
            )
            seen.append([node.text for node in page.findall(".//Rules/member/Priority")])
            if page.findtext(".//NextMarker") is None:
                break
            marker = {"Marker": page.findtext(".//NextMarker")}
        assert seen == [["5", "10", "11", "12"], ["13", "14", "15", "16"], ["default"]]

    asyncio.run(test())


def test_another_account_or_region_has_no_load_balancers_and_gets_none():
    async def test():
        elbv2 = Elbv2()
        await elbv2.fill()
        for scope in (("000000000000", "eu-west-1"), ("222222222222", "us-east-1")):
            status, answer = await elbv2.perform("DescribeLoadBalancers", {}, scope)
            assert (status, answer.findall(".//LoadBalancers/member")) == (200, [])
            status, answer = await elbv2.perform(
                "DeleteLoadBalancer", {"LoadBalancerArn": elbv2.names["load_balancer"]}, scope
            )
            assert (status, answer.findtext(".//Code")) == (400, "UnsupportedOperation")
        assert elbv2.names["load_balancer"] in elbv2.store.load_balancers

    asyncio.run(test())


def test_an_internet_facing_load_balancer_needs_an_internet_gateway():
    async def test():
        elbv2 = Elbv2()
        await elbv2.fill()
        network = await make_network(has_gateway=False)
        request = {"Name": "inside", "Subnets": network.subnets[:2]}
        _, answer = await elbv2.perform("CreateLoadBalancer", request)
        assert answer.findtext(".//Message") == f"VPC {network.vpc} has no internet gateway"
        status, _ = await elbv2.perform("CreateLoadBalancer", {**request, "Scheme": "internal"})
        assert status == 200

    asyncio.run(test())


WORDS = ("", "x", "\x00", "-1", "0", "99999999999999999999", "true", "<&>", "\ud7ff\uffff", "a" * 5000, "🦆", "../..")


def anything(shape: Any, chance: random.Random, elbv2: Elbv2, depth: int = 0) -> Any:
    """A random input, mostly of the shape's form."""
    if chance.random() < 0.08:
        return chance.choice(WORDS)
    if isinstance(shape, StructureShape):
        if depth > 6:
            return {}
        needed = [name for name in shape.members if name in shape.required_members or chance.random() < 0.4]
        return {name: anything(shape.members[name], chance, elbv2, depth + 1) for name in needed}
    if isinstance(shape, ListShape):
        return [anything(shape.member, chance, elbv2, depth + 1) for _ in range(chance.choice((0, 1, 1, 2)))]
    if getattr(shape, "enum", None):
        return chance.choice(shape.enum)
    known = [value for value in elbv2.names.values() if isinstance(value, str)]
    kind = {"integer": [1, 80, 443, 50000], "boolean": [True, False]}.get(shape.type_name, [*known, *known, *WORDS])
    return chance.choice(kind)


def test_no_input_makes_an_answer_that_is_unreadable_or_a_5xx():
    async def test():
        model, chance, elbv2 = service_model("elbv2"), random.Random(7), Elbv2()  # noqa: S311
        await elbv2.fill()
        for action in sorted(ACTIONS - {"DeleteLoadBalancer", "DeleteTargetGroup", "DeleteListener"}):
            for _ in range(40):
                request = anything(model.operation_model(action).input_shape, chance, elbv2)
                status, _ = await elbv2.perform(action, request if isinstance(request, dict) else {})
                assert status in (200, 400), (action, request)
        # The stored resources can still be described and restored.
        for name in ("LoadBalancers", "TargetGroups"):
            assert (await elbv2.perform(f"Describe{name}", {}))[0] == 200
        restored = Store(*HOME)
        restored.restore(json.loads(json.dumps(elbv2.store.as_json())))
        assert restored.as_json() == elbv2.store.as_json()

    asyncio.run(test())


def test_the_facts_expect_codes_that_aws_has():
    model = service_model("elbv2")
    codes = {error.metadata["error"]["code"] for each in ACTIONS for error in model.operation_model(each).error_shapes}
    assert {fact["code"] for fact in FACTS} <= {*codes, "ValidationError", "InvalidAction"}
