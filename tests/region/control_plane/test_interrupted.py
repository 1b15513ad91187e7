"""A region that was killed during a stack operation finishes the operation at its next start."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from alva.region import daemon
from tests.conftest import RunningRegion, running_region
from tests.region.control_plane.test_daemon import wait_until_saved
from tests.region.control_plane.test_databases import NAME, template
from tests.waiting import until

pytestmark = pytest.mark.region

HELD = {
    "Handle": {"Type": "AWS::CloudFormation::WaitConditionHandle"},
    "Held": {
        "Type": "AWS::CloudFormation::WaitCondition",
        "Properties": {"Handle": {"Ref": "Handle"}, "Timeout": "600", "Count": 1},
    },
}
"""Resources that wait for a signal that nobody sends, so that the operation runs until the region is killed."""


def kill(region: RunningRegion) -> None:
    pid = daemon.status(region.config).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: daemon.status(region.config).pid is None, "the end of the region")


def test_interrupted_creation_is_rolled_back(tmp_path: Path) -> None:
    with running_region(tmp_path) as region:
        held = template()
        held["Resources"] |= HELD
        region.client("cloudformation").create_stack(StackName="cut", TemplateBody=json.dumps(held))
        wait_until_saved(region.config, "Resource creation Initiated")
        kill(region)
        daemon.start(region.config)
        stack = region.settled("cut")
        assert stack.status == "ROLLBACK_COMPLETE"
        assert stack.reason("cut", "ROLLBACK_IN_PROGRESS") == "The local region was stopped."
        assert stack.history("Database")[-1] == "DELETE_COMPLETE"
        assert region.client("rds").describe_db_instances()["DBInstances"] == []
        assert region.delete("cut").status == "DELETE_COMPLETE"


def test_interrupted_update_is_rolled_back_and_data_are_kept(tmp_path: Path) -> None:
    with running_region(tmp_path) as region:
        region.create("cut", template())
        changed = template()
        second = json.loads(json.dumps(changed["Resources"]["Database"]))
        second["Properties"]["DBInstanceIdentifier"] = "second"
        changed["Resources"] |= {"Second": second, **HELD}
        region.client("cloudformation").update_stack(StackName="cut", TemplateBody=json.dumps(changed))
        wait_until_saved(region.config, '"PhysicalResourceId":"second"')
        kill(region)
        daemon.start(region.config)
        stack = region.settled("cut")
        assert stack.status == "UPDATE_ROLLBACK_COMPLETE"
        instances = region.client("rds").describe_db_instances()["DBInstances"]
        assert [(each["DBInstanceIdentifier"], each["DBInstanceStatus"]) for each in instances] == [(NAME, "available")]
