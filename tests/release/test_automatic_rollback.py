"""The choice of the stacks around the services that a failed release rolls back."""

from __future__ import annotations

from typing import Any

import pytest

from alva.release.automatic_rollback import former_manifest, is_rolled_back
from alva.release.manifest import Manifest
from alva.release.stack_state import ObservedStack

RULE = {"Type": "AWS::EC2::SecurityGroupIngress", "Properties": {"FromPort": 5432}}
DATABASE = {"Type": "AWS::RDS::DBInstance", "Properties": {"DBInstanceClass": "db.t3.micro"}}
LARGER = {"Type": "AWS::RDS::DBInstance", "Properties": {"DBInstanceClass": "db.t3.small"}}


@pytest.mark.parametrize(
    ("former", "released", "expected"),
    [
        ({"Rule": RULE}, {}, True),
        ({}, {"Rule": RULE}, True),
        ({"Rule": RULE, "Database": DATABASE}, {"Database": DATABASE}, True),
        ({"Rule": RULE}, {"Rule": RULE}, False),
        ({"Rule": RULE, "Database": DATABASE}, {"Database": LARGER}, False),
        ({}, {"Database": DATABASE}, False),
    ],
    ids=["rule dropped", "rule added", "rule dropped beside data", "unchanged", "data changed", "data made"],
)
def test_stack_is_rolled_back_unless_its_data_changed(
    former: dict[str, Any], released: dict[str, Any], expected: bool
) -> None:
    assert is_rolled_back({"Resources": former}, {"Resources": released}) is expected


def test_service_added_by_the_failed_release_is_not_checked_afterwards(manifest: Manifest) -> None:
    """The rollback deleted the service with its stack: its absence is no failure."""
    first, second = manifest.services
    stack = ObservedStack(
        name="services",
        status="UPDATE_ROLLBACK_COMPLETE",
        template={"Parameters": {first.image_parameter: {"Type": "String"}}},
        parameters={},
        tags={},
        outputs={},
    )
    assert former_manifest(manifest, [stack]).services == (first,)
    assert second in manifest.services
