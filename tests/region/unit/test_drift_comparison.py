"""The differences between expected and actual properties, as CloudFormation reports them."""

from __future__ import annotations

from typing import Any

import pytest

from alva.region.cloudformation.drift_comparison import differences


@pytest.mark.parametrize(
    ("expected", "actual", "found"),
    [
        ({"A": 1, "B": True, "C": None}, {"A": "1", "B": "true", "C": None}, []),
        ({"A": {"B": 1}}, {"A": {"B": 2}}, [("/A/B", "1", "2", "NOT_EQUAL")]),
        ({"A": 1}, {}, [("/A", "1", "null", "REMOVE")]),
        ({"A": {}}, {"A": {"B": [1]}}, [("/A/B", "null", "[1]", "ADD")]),
        ({"A": {"B": 1}}, {"A": "text"}, [("/A", '{"B": 1}', "text", "NOT_EQUAL")]),
        (["a", "b"], ["b", "a"], []),
        (["a", "a"], ["a"], [("/1", "a", "null", "REMOVE")]),
        (["a"], ["b", "a"], [("/0", "null", "b", "ADD")]),
        (["a", "b"], ["a", "c"], [("/1", "b", "c", "NOT_EQUAL")]),
    ],
)
def test_differences_have_the_path_and_the_values(expected: Any, actual: Any, found: list[tuple[str, ...]]) -> None:
    assert [tuple(each.values()) for each in differences(expected, actual)] == found


def test_tags_are_compared_by_their_key() -> None:
    expected = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]
    actual = [{"Key": "b", "Value": "3"}, {"Key": "c", "Value": "4"}]
    assert [(each["PropertyPath"], each["DifferenceType"]) for each in differences(expected, actual)] == [
        ("/0", "REMOVE"),
        ("/1/Value", "NOT_EQUAL"),
        ("/1", "ADD"),
    ]
