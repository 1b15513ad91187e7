"""Which changes replace a resource, and which replacements are refused."""

from __future__ import annotations

import pytest

from alva.region.cloudformation.replacement import is_replacement, recreation, refusal

INSTANCE = "AWS::RDS::DBInstance"


@pytest.mark.parametrize(
    ("before", "after"),
    [({"DBSnapshotIdentifier": "one"}, {}), ({"DBSnapshotIdentifier": "one"}, {"DBSnapshotIdentifier": "two"})],
)
def test_an_instance_with_another_snapshot_is_replaced(before: dict[str, str], after: dict[str, str]) -> None:
    assert recreation(INSTANCE, "DBSnapshotIdentifier") == "Conditionally"
    assert is_replacement(INSTANCE, before, after)
    assert refusal(INSTANCE, "generated-name", before, after) is None
    named = {"DBInstanceIdentifier": "db"}
    refused = refusal(INSTANCE, "db", before | named, after | named)
    assert refused is not None
    assert "cannot update a stack when a custom-named resource requires replacing. Rename db" in refused


def test_an_instance_of_another_class_is_changed_in_place() -> None:
    before, after = {"DBInstanceClass": "db.t3.micro"}, {"DBInstanceClass": "db.t3.small"}
    assert recreation(INSTANCE, "DBInstanceClass") == "Never"
    assert not is_replacement(INSTANCE, before, after)
