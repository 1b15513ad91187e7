"""Templates: refusals before any change, with AWS's messages, and the values of functions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alva.region.cloudformation import intrinsics, parameters, rules, template
from alva.region.cloudformation.intrinsics import NO_VALUE, Scope, TemplateError

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
def test_a_function_stands_for_its_value(value: Any, expected: Any) -> None:
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


def test_a_rule_says_why_its_assertion_does_not_hold() -> None:
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
