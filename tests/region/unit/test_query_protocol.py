"""AWS's query protocol: reads forms, writes XML, and refuses input that violates the model with AWS's messages."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from alva.region import constraints
from alva.region.query_protocol import (
    ConstraintViolated,
    flatten,
    parse,
    read_form,
    render,
    render_error,
    service_model,
)

ELBV2 = service_model("elbv2")


def test_reading_parameters_is_the_inverse_of_writing_them() -> None:
    request = {
        "ListenerArn": "a",
        "Priority": 7,
        "Actions": [{"Type": "forward", "ForwardConfig": {"TargetGroups": [{"TargetGroupArn": "a", "Weight": 1}]}}],
        "Conditions": [{"Field": "path-pattern", "Values": [str(number) for number in range(12)]}],
    }
    parameters = flatten(request)
    assert parameters["Actions.member.1.ForwardConfig.TargetGroups.member.1.Weight"] == "1"
    assert parse(ELBV2, "CreateRule", dict(sorted(parameters.items()))) == request


def test_blank_lists_are_empty_blank_numbers_absent_and_blank_texts_kept() -> None:
    form = read_form(b"LoadBalancerArns=&PageSize=&Marker=", {})
    assert parse(ELBV2, "DescribeLoadBalancers", form) == {"LoadBalancerArns": [], "Marker": ""}


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({}, "Value null at 'listenerArn' failed to satisfy constraint: Member must not be null"),
        ({"Priority": "x"}, "Value 'x' at 'priority' failed to satisfy constraint: Member must be an integer"),
        (
            {"Priority": "0"},
            "Value '0' at 'priority' failed to satisfy constraint: Member must have value greater than or equal to 1",
        ),
        (
            {"Transforms.member.1.Type": "x"},
            "Value 'x' at 'transforms.1.member.type' failed to satisfy constraint: "
            "Member must satisfy enum value set: [host-header-rewrite, url-rewrite]",
        ),
        (
            {"Actions.member.1.RedirectConfig.Path": "", "Actions.member.1.Type": "redirect"},
            "Value '' at 'actions.1.member.redirectConfig.path' failed to satisfy constraint: "
            "Member must have length greater than or equal to 1",
        ),
        ({"ListenerArn.member.1": "x"}, "at 'listenerArn' failed to satisfy constraint: Member must be a single value"),
    ],
)
def test_input_that_violates_the_model_is_named(form: dict[str, str], message: str) -> None:
    with pytest.raises(ConstraintViolated) as refused:
        parse(ELBV2, "CreateRule", form)
    assert message in str(refused.value)


def test_pattern_has_to_match_the_whole_value() -> None:
    with pytest.raises(ConstraintViolated, match="regular expression pattern"):
        parse(service_model("iam"), "GetRole", {"RoleName": "two words"})


@pytest.mark.parametrize(
    "name",
    [
        "application-autoscaling",
        "cloudformation",
        "cloudwatch",
        "ecr",
        "ecs",
        "elasticache",
        "elbv2",
        "events",
        "iam",
        "logs",
        "rds",
        "secretsmanager",
        "servicediscovery",
        "sns",
        "ssm",
        "sts",
    ],
)
def test_every_pattern_of_a_model_is_understood(name: str) -> None:
    model = service_model(name)
    patterns = {model.shape_for(each).metadata.get("pattern") for each in model.shape_names} - {None}
    for pattern in patterns:
        assert constraints._compiled(pattern)


def test_at_most_ten_problems_are_named() -> None:
    form = {f"Tags.member.{number}.Value": "x" for number in range(1, 30)}
    with pytest.raises(ConstraintViolated, match=r"^10 validation errors detected: "):
        parse(ELBV2, "CreateRule", form)


@pytest.mark.parametrize("name", ["rds", "sns", "iam", "cloudformation", "elasticache", "autoscaling"])
def test_members_of_lists_have_the_services_names(name: str) -> None:
    """An empty form raises no unexpected exception for any operation of other services with this protocol."""
    model = service_model(name)
    for operation in model.operation_names:
        try:
            parse(model, operation, {})
        except ConstraintViolated:
            continue


def test_named_list_members_and_maps_are_read() -> None:
    form = {"Filters.Filter.1.Name": "engine", "Filters.Filter.1.Values.Value.1": "postgres"}
    read = parse(service_model("rds"), "DescribeDBInstances", form)
    assert read == {"Filters": [{"Name": "engine", "Values": ["postgres"]}]}
    form = {"Name": "x", "Attributes.entry.1.key": "DisplayName", "Attributes.entry.1.value": "y"}
    assert parse(service_model("sns"), "CreateTopic", form) == {"Name": "x", "Attributes": {"DisplayName": "y"}}


@pytest.mark.parametrize("text", ["<&>\"'", "a\x00b\x1f", "\ud800", "\ufffe", "🦆\r\n\t"])
def test_every_response_is_readable_xml(text: str) -> None:
    for answer in (
        render(ELBV2, "DescribeTags", {"TagDescriptions": [{"ResourceArn": text, "Tags": [{"Key": text}]}]}),
        render_error(ELBV2, text, text),
    ):
        ElementTree.fromstring(answer)  # noqa: S314 - our own answer
    answer = render(ELBV2, "DescribeTags", {"TagDescriptions": [{"ResourceArn": "<&>\r"}]})
    root = ElementTree.fromstring(answer)  # noqa: S314
    assert root.findtext(".//{*}ResourceArn") == "<&>\r"
