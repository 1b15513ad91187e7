"""Templates: refusals before any change, with AWS's messages, and the values of functions."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from alva.region import query_protocol
from alva.region.cloudformation import intrinsics, parameters, rules, submissions, template
from alva.region.cloudformation.errors import Refused
from alva.region.cloudformation.intrinsics import NO_VALUE, Scope, TemplateError
from alva.region.cloudformation.store import StackRecords
from alva.region.cloudformation.wire import Wire

FACTS = json.loads((Path(__file__).parents[1] / "aws_facts/cloudformation.json").read_text())
TYPES = ["AWS::SSM::Parameter", "AWS::SNS::Topic"]
TOPIC = {"PhysicalResourceId": "arn:topic", "ResourceType": "AWS::SNS::Topic", "Attributes": {"TopicName": "t"}}


def read(body: str, given: dict[str, str] | None = None) -> tuple[dict[str, Any], Scope]:
    """A template, read and checked like a request's."""
    source = template.parse(body)
    template.check(source)
    entries = [{"ParameterKey": key, "ParameterValue": value} for key, value in (given or {}).items()]
    values = parameters.resolved(source, entries, {})
    scope = Scope("stack", "arn:stack", "us-east-1", "000000000000", values, source.get("Mappings") or {})
    scope = Scope(**{**vars(scope), "conditions": intrinsics.conditions_of(source, scope)})
    template.check_in(source, scope, TYPES)
    rules.check(source, scope)
    return source, scope


def refusal(body: str, given: dict[str, str] | None = None) -> str:
    with pytest.raises(TemplateError) as refused:
        read(body, given)
    return str(refused.value)


def resource(value: Any, **sections: Any) -> str:
    properties = {"Type": "String", "Value": value}
    return json.dumps({"Resources": {"A": {"Type": "AWS::SSM::Parameter", "Properties": properties}}, **sections})


@pytest.mark.aws_fact
@pytest.mark.parametrize("fact", FACTS["refusals"], ids=lambda fact: fact["source"].rpartition("/")[2])
def test_template_that_aws_refuses_is_refused_with_its_message(fact: dict[str, Any]) -> None:
    body = fact["body"] if "body" in fact else json.dumps(fact["template"])
    said = refusal(body, fact.get("parameters"))
    # The recording leaves out the position of a YAML error.
    assert said == fact["message"] or said.startswith(f"{fact['message']} (line ")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            resource("v").replace('"Properties"', '"Condition": "Nowhere", "Properties"'),
            "Unresolved condition dependency Nowhere in the Resources block",
        ),
        (resource({"Fn::Select": [2, ["a", "b"]]}), "Fn::Select cannot select nonexistent value at index 2"),
        (
            resource({"Fn::Select": [{"Ref": "N"}, ["a"]]}, Parameters={"N": {"Type": "Number", "Default": 3}}),
            "Fn::Select cannot select nonexistent value at index 3",
        ),
        (resource({"Fn::Joined": ["-", ["a"]]}), "Encountered unsupported function: Fn::Joined"),
        (resource("v", Resource={}), r"Invalid template property or properties \[Resource\]"),
        (resource("v", Parameters={"P": {"Type": "Strng", "Default": "a"}}), "Unrecognized parameter type: Strng"),
        (resource("v", Description="d" * 1025), "'Description' length is greater than 1024"),
        (resource("v", Conditions={"A": {"Condition": "B"}}), r"Unresolved dependencies \[B\]"),
        (resource({"Ref": "A"}).replace('"Ref": "A"', '"Ref": "B"'), r"Unresolved resource dependencies \[B\]"),
        (
            json.dumps({"Resources": {f"R{n}": {"Type": "AWS::SNS::Topic"} for n in range(501)}}),
            "Number of resources, 501, is greater than maximum allowed, 500",
        ),
        (
            json.dumps({
                "Resources": {
                    name: {"Type": "AWS::SNS::Topic", "DependsOn": other} for name, other in (("A", "B"), ("B", "A"))
                }
            }),
            r"Circular dependency between resources: \[A, B\]",
        ),
        (
            json.dumps({"Resources": {"A": {"Type": "AWS::No::Where"}}}),
            r"Unrecognized resource types: \[AWS::No::Where\]",
        ),
    ],
)  # fmt: skip
def test_mistakes_of_a_template_are_found_before_anything_starts(body: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        read(body)


def test_a_parameter_that_the_template_does_not_have_is_refused() -> None:
    assert refusal(resource("v"), {"Typo": "x"}) == "Parameters: [Typo] do not exist in the template"


def test_a_yaml_boolean_or_number_is_the_text_that_a_request_gives() -> None:
    body = """
        Parameters:
          Flag: {Type: String, AllowedValues: [true, false]}
          Count: {Type: String, AllowedValues: [1, 2.5]}
        Resources:
          A: {Type: AWS::SSM::Parameter, Properties: {Type: String, Value: !Sub "${Flag}-${Count}"}}
    """
    source, scope = read(body, {"Flag": "true", "Count": "2.5"})
    assert scope.resolve(source["Resources"]["A"]["Properties"]["Value"]) == "true-2.5"
    assert refusal(body, {"Flag": "True", "Count": "1"}) == "Parameter 'Flag' must be one of AllowedValues"


def test_short_forms_are_the_functions() -> None:
    body = "A: [!Ref B, !GetAtt C.D.E, !GetAtt [C, !Ref F], !If [X, !Sub '${G}', !Ref 'AWS::NoValue']]"
    assert template.parse(body) == {
        "A": [
            {"Ref": "B"},
            {"Fn::GetAtt": ["C", "D.E"]},
            {"Fn::GetAtt": ["C", {"Ref": "F"}]},
            {"Fn::If": ["X", {"Fn::Sub": "${G}"}, {"Ref": "AWS::NoValue"}]},
        ]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"Ref": "List"}, ["a", "b"]),
        ({"Fn::Join": ["+", {"Ref": "List"}]}, "a+b"),
        ({"Fn::Select": ["1", {"Fn::Split": ["-", "x-y"]}]}, "y"),
        ({"Fn::Sub": ["${A}${!B}${AWS::Region}", {"A": True}]}, "true${B}us-east-1"),
        ({"Fn::GetAtt": ["Topic", {"Ref": "Attribute"}]}, "t"),
        ({"Fn::GetAtt": "Topic.DisplayName"}, "shown"),
        ({"Fn::If": ["Yes", 1, 2]}, 1),
        ([{"Ref": "AWS::NoValue"}, "kept"], ["kept"]),
        ({"Dropped": {"Ref": "AWS::NoValue"}}, {}),
        ({"Fn::Base64": "a"}, "YQ=="),
        ({"Fn::Cidr": ["192.168.0.0/16", 2, 8]}, ["192.168.0.0/24", "192.168.1.0/24"]),
        ({"Fn::GetAZs": ""}, ["us-east-1a", "us-east-1b", "us-east-1c"]),
        ({"Fn::GetAZs": "eu-west-1"}, []),
        ({"Fn::FindInMap": ["M", "a", "z", {"DefaultValue": "d"}]}, "d"),
        ({"Condition": {"StringEquals": {}}}, {"Condition": {"StringEquals": {}}}),
    ],
)
def test_a_function_is_replaced_by_its_value(value: Any, expected: Any) -> None:
    values = {
        "List": {"Value": "a, b", "Type": "CommaDelimitedList"},
        "Attribute": {"Value": "TopicName", "Type": "String"},
    }
    scope = Scope(
        "stack", "arn:stack", "us-east-1", "000000000000", values, {"M": {"a": {"b": "c"}}}, {"Yes": True},
        {"Topic": {**TOPIC, "Properties": {"DisplayName": "shown"}}},
    )  # fmt: skip
    assert scope.resolve(value) == expected
    assert scope.resolve({"Ref": "AWS::NoValue"}) is NO_VALUE


def test_a_failed_assertion_of_a_rule_has_its_description_as_error() -> None:
    rule = {
        "Assertions": [
            {"Assert": {"Fn::Contains": [["a", "b"], {"Ref": "P"}]}, "AssertDescription": "only a and b"},
        ]
    }
    body = resource("v", Parameters={"P": {"Type": "String"}}, Rules={"R": rule})
    read(body, {"P": "a"})
    assert refusal(body, {"P": "c"}) == "Template error: rule R failed: only a and b"


def test_unused_branch_can_name_a_missing_resource() -> None:
    conditions = {"Never": {"Fn::Equals": ["a", "b"]}}
    body = json.dumps(
        {
            "Conditions": conditions,
            "Resources": {
                "A": {"Type": "AWS::SNS::Topic", "Condition": "Never"},
                "B": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": {"Fn::If": ["Never", {"Ref": "A"}, "b"]}}},
            },
        }
    )
    read(body)


EVERYTHING = {
    "Description": "d",
    "Parameters": {
        "P": {"Type": "String", "Default": "a", "AllowedValues": ["a", "b"], "MinLength": 1, "AllowedPattern": ".*"},
        "N": {"Type": "Number", "Default": "3", "MinValue": 1, "MaxValue": 9},
        "L": {"Type": "CommaDelimitedList", "Default": "a,b"},
    },
    "Mappings": {"M": {"a": {"b": "c"}}},
    "Conditions": {
        "C": {"Fn::Equals": [{"Ref": "P"}, "a"]},
        "D": {"Fn::And": [{"Condition": "C"}, {"Fn::Not": [{"Condition": "C"}]}]},
    },
    "Rules": {
        "R": {
            "RuleCondition": {"Fn::Equals": [{"Ref": "P"}, "a"]},
            "Assertions": [{"Assert": {"Fn::Contains": [["a", "b"], {"Ref": "P"}]}, "AssertDescription": "x"}],
        }
    },
    "Resources": {
        "A": {
            "Type": "AWS::SSM::Parameter", "Condition": "C", "DependsOn": ["B"], "DeletionPolicy": "Retain",
            "Metadata": {"x": 1},
            "Properties": {
                "Type": "String",
                "Tags": [{"Key": "a", "Value": "b"}],
                "Value": {"Fn::Join": ["-", [
                    {"Ref": "P"}, {"Fn::Sub": ["${x}${P}", {"x": "1"}]}, {"Fn::Select": [0, {"Ref": "L"}]},
                    {"Fn::FindInMap": ["M", "a", "b", {"DefaultValue": "d"}]}, {"Fn::GetAtt": ["B", "TopicName"]},
                    {"Fn::If": ["C", "x", {"Ref": "AWS::NoValue"}]}, {"Fn::Split": ["-", "a-b"]},
                    {"Fn::Cidr": ["10.0.0.0/16", 2, 8]}, {"Fn::Base64": "x"}, {"Fn::ImportValue": "x"},
                    {"Fn::GetAZs": ""}, {"Fn::ToJsonString": {"a": {"Ref": "B"}}},
                ]]},
            },
        },
        "B": {"Type": "AWS::SNS::Topic"},
    },
    "Outputs": {
        "O": {
            "Value": {"Ref": "B"}, "Description": "x", "Condition": "C",
            "Export": {"Name": {"Fn::Sub": "${AWS::StackName}-x"}},
        },
    },
}  # fmt: skip
JUNK = (
    None, 5, -1, True, "", "x", [], {}, ["x"], {"x": "y"}, [[]], {"Ref": "P"}, {"Fn::Select": 5}, 1.5, {"Ref": ["x"]},
    [None], {"Fn::If": [{"a": 1}, 1, 2]}, {"Fn::FindInMap": ["M", "a", "z", {}]}, {"Fn::Split": ["", "a"]},
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def with_junk(path: tuple[Any, ...], junk: Any) -> dict[str, Any]:
    changed = copy.deepcopy(EVERYTHING)
    node: Any = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = copy.deepcopy(junk)
    return changed


@pytest.mark.parametrize("junk", JUNK, ids=json.dumps)
def test_a_template_of_any_shape_is_read_or_refused(junk: Any) -> None:
    """A template with every feature, in which one place after the other gets an unexpected value."""
    for path in places(EVERYTHING):
        body = json.dumps(with_junk(path, junk))
        try:
            source, scope = read(body)
            submissions.get_template_summary(StackRecords(), {"TemplateBody": body})
            deployed = {**vars(scope), "export": lambda _: "exported", "unknown": lambda name: name}
            Scope(**deployed).resolve([source["Resources"], source.get("Outputs") or {}])
        except (TemplateError, Refused):
            continue
        except Exception as error:
            raise AssertionError(f"{'/'.join(map(str, path))} = {junk!r}") from error


@pytest.mark.parametrize(
    ("path", "junk", "message"),
    [
        # https://github.com/cloudtools/troposphere/issues/982 and .../709
        ("Resources/A/DependsOn", [{"Ref": "B"}], "Template format error: Every DependsOn value must be a string."),
        (
            "Resources/A/DependsOn", {"Ref": "B"},
            "Template format error: DependsOn must be a string or list of strings.",
        ),
        # https://repost.aws/knowledge-center/cloudformation-template-validation
        ("Resources/A/Condition", {"Ref": "P"}, "Template format error: Every Condition member must be a string."),
        ("Outputs/O/Condition", ["C"], "Template format error: Every Condition member must be a string."),
        # https://github.com/aws-samples/startup-kit-templates/issues/45
        (
            "Outputs/O/Export", "x",
            "Template format error: Output O is malformed. The Name field of every Export member must be specified and "
            "consist only of alphanumeric characters, colons, or hyphens.",
        ),
        ("Conditions", ["C"], "Template format error: Conditions must be an object."),
    ],
)  # fmt: skip
def test_a_wrong_shape_is_refused_in_awss_words(path: str, junk: Any, message: str) -> None:
    assert refusal(json.dumps(with_junk(tuple(path.split("/")), junk))) == message


def test_a_template_that_is_nested_too_deep_is_refused() -> None:
    body = resource("v").replace('"v"', "[" * 9000 + "]" * 9000)
    form = urlencode({"Action": "ValidateTemplate", "TemplateBody": body}).encode()
    wire = Wire({"ValidateTemplate": partial(submissions.validate_template, StackRecords(), TYPES)})
    try:
        status, _, answer = asyncio.run(wire.handle_request("POST", "/", {}, form, {}))
    except RecursionError:
        pytest.fail("RecursionError", pytrace=False)
    assert (status, *query_protocol.read_error(answer)) == (
        400, "ValidationError", "Template format error: unsupported structure.",
    )  # fmt: skip
