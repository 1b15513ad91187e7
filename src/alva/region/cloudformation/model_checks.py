"""Checks a template's properties against AWS's model of the action that creates the resource.

MiniStack provisions these types without calling its own API, so `validation` at the API does not see their properties.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from alva.region import constraints
from alva.region.aws_error import AwsError
from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.validation import RULES, ec2

Properties = Mapping[str, Any]

ACTIONS: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "AWS::IAM::ManagedPolicy": ("iam", "CreatePolicy", {"ManagedPolicyName": "PolicyName"}),
    "AWS::IAM::Role": ("iam", "CreateRole", {}),
    "AWS::Logs::LogGroup": ("logs", "CreateLogGroup", {}),
    "AWS::Logs::MetricFilter": ("logs", "PutMetricFilter", {}),
    "AWS::SNS::Topic": ("sns", "CreateTopic", {"TopicName": "Name"}),
    "AWS::SSM::Parameter": ("ssm", "PutParameter", {}),
}
"""Resource type -> service, action, and the properties that have another name in the action."""


def check(resource_type: str, properties: Properties) -> None:
    """Raise HandlerFailed where the action that creates this resource would refuse its properties."""
    if resource_type == "AWS::EC2::SecurityGroup":
        try:
            ec2.check_group(properties)
        except AwsError as error:
            raise _refused(error, "ec2") from error
    if resource_type not in ACTIONS:
        return
    service, action, renamed = ACTIONS[resource_type]
    shape = constraints.service_model(service).operation_model(action).input_shape
    if not isinstance(shape, StructureShape):
        return
    rules = RULES[service]
    request = _input({renamed.get(name, name): value for name, value in properties.items()}, shape)
    try:
        for name, member in shape.members.items():
            if name in request:
                constraints.check(
                    member, request[name], path=constraints.below("", name), shows_values=rules.shows_values
                )
        # CloudFormation generates the name of a resource that the template does not name.
        named = {name: "drawn" for name in shape.required_members if name.endswith("Name")} | request
        if action in rules.checks and all(name in named for name in shape.required_members):
            rules.checks[action](named)
    except (constraints.ConstraintViolated, constraints.WrongType, AwsError) as error:
        raise _refused(error, service) from error


def _refused(error: Exception, service: str) -> HandlerFailed:
    return HandlerFailed(f"{error} (Service: {service}, Status Code: 400)", "InvalidRequest")


def _input(value: Any, shape: Shape) -> Any:
    """The properties as the action's input, without those that the action lacks or has in another form."""
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        members = {name.lower(): (name, member) for name, member in shape.members.items()}
        known = ((members[key.lower()], item) for key, item in value.items() if key.lower() in members)
        read = {name: _input(item, member) for (name, member), item in known}
        return {name: item for name, item in read.items() if item is not None}
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [_input(item, shape.member) for item in value]
    if isinstance(shape, MapShape):
        return value if isinstance(value, dict) else None
    try:
        match shape.type_name:
            case "integer" | "long":
                return int(value)
            case "float" | "double":
                return float(value)
            case "boolean":
                return value if isinstance(value, bool) else str(value).lower() == "true"
            case "string" if not isinstance(value, str):
                # A policy is an object in a template, and a string in the API.
                return json.dumps(value) if isinstance(value, dict) else str(value)
            case "string":
                return value
    except (TypeError, ValueError):
        return None
    return None
