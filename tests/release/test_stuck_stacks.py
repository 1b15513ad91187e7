"""Stuck stacks, which no emulator produces: stubbed responses in AWS's order, validated by botocore."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.stub import Stubber

from alva.aws import Aws, Poll, Target
from alva.errors import RollbackFailed, TimedOut
from alva.release.bootstrap_roles import bootstrap_roles_of
from alva.release.stacks import Stacks

NAME = "alva-staging-services"
ARN = f"arn:aws:cloudformation:us-east-1:123456789012:stack/{NAME}/0a1b2c3d"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def stack(status: str) -> dict[str, Any]:
    return {"Stacks": [{"StackName": NAME, "StackId": ARN, "CreationTime": NOW, "StackStatus": status}]}


def events(*found: tuple[str, str, str, str]) -> dict[str, Any]:
    """Events in AWS's order, newest first: (id, logical id, status, reason)."""
    return {
        "StackEvents": [
            {
                "StackId": ARN,
                "EventId": event_id,
                "StackName": NAME,
                "Timestamp": NOW,
                "LogicalResourceId": logical_id,
                "PhysicalResourceId": logical_id,
                "ResourceType": "AWS::ECS::Service",
                "ResourceStatus": status,
                "ResourceStatusReason": reason,
            }
            for event_id, logical_id, status, reason in found
        ]
    }


@pytest.fixture
def aws() -> Aws:
    aws = Aws(Target.local("http://127.0.0.1:9"), Poll(shortest_seconds=0.01, longest_seconds=0.01))
    bootstrap_roles_of(aws).version = None  # no server listens there: changes are made with the caller's permissions
    return aws


def ignore(_line: str) -> None:
    return None


def test_stuck_rollback_is_continued(aws: Aws) -> None:
    with Stubber(aws.cloudformation) as answers:
        answers.add_response("describe_stacks", stack("UPDATE_ROLLBACK_FAILED"))
        answers.add_response("describe_stack_events", events(("1", "Api", "UPDATE_FAILED", "no capacity")))
        answers.add_response("continue_update_rollback", {}, {"StackName": NAME})
        answers.add_response("describe_stacks", stack("UPDATE_ROLLBACK_COMPLETE"))
        answers.add_response("describe_stack_events", events(("1", "Api", "UPDATE_FAILED", "no capacity")))
        answers.add_response("describe_stacks", stack("UPDATE_ROLLBACK_COMPLETE"))
        answers.add_response("get_template", {"TemplateBody": "{}"})
        ready = Stacks(aws).wait_until_ready(NAME, ignore)
        answers.assert_no_pending_responses()
    assert ready is not None
    assert ready.status == "UPDATE_ROLLBACK_COMPLETE"


def test_rollback_that_cannot_be_continued_has_its_cause_and_a_next_step(aws: Aws) -> None:
    before = ("1", "Api", "UPDATE_FAILED", "the first time")
    with Stubber(aws.cloudformation) as answers:
        answers.add_response("describe_stacks", stack("UPDATE_ROLLBACK_FAILED"))
        answers.add_response("describe_stack_events", events(before))
        answers.add_response("continue_update_rollback", {})
        answers.add_response("describe_stacks", stack("UPDATE_ROLLBACK_FAILED"))
        answers.add_response(
            "describe_stack_events", events(("2", "Api", "UPDATE_FAILED", "the target group is gone"), before)
        )
        with pytest.raises(RollbackFailed) as caught:
            Stacks(aws).wait_until_ready(NAME, ignore)
    assert caught.value.exit_code == 9
    assert "Api (AWS::ECS::Service): the target group is gone" in str(caught.value)
    assert "the first time" not in str(caught.value)
    assert "--resources-to-skip" in str(caught.value)


@pytest.mark.parametrize(
    ("step_seconds", "release_seconds"), [(1e-9, 600), (600, 1e-9)], ids=["the step's time", "the release's time"]
)
def test_foreign_operation_that_does_not_end_is_cancelled_with_its_pending_resources(
    aws: Aws, step_seconds: float, release_seconds: float
) -> None:
    """The cancellation has its own time limit, which the deadline does not shorten."""
    waiting = events(("1", "Api", "UPDATE_IN_PROGRESS", ""))
    with Stubber(aws.cloudformation) as answers:
        answers.add_response("describe_stacks", stack("UPDATE_IN_PROGRESS"))  # observe
        answers.add_response("describe_stacks", stack("UPDATE_IN_PROGRESS"))  # wait: already past the deadline
        answers.add_response("describe_stack_events", waiting)
        answers.add_response("describe_stack_events", waiting)  # the unfinished resources
        answers.add_response("cancel_update_stack", {}, {"StackName": ARN})
        answers.add_response("describe_stacks", stack("UPDATE_ROLLBACK_IN_PROGRESS"))
        answers.add_response("describe_stack_events", waiting)
        answers.add_response("describe_stacks", stack("UPDATE_ROLLBACK_COMPLETE"))
        answers.add_response("describe_stack_events", waiting)
        with pytest.raises(TimedOut) as caught, aws.poll.limited(release_seconds):
            Stacks(aws, timeout_seconds=step_seconds).wait_until_ready(NAME, ignore)
        answers.assert_no_pending_responses()
    assert caught.value.exit_code == 6
    assert "Api is UPDATE_IN_PROGRESS" in str(caught.value)
    assert "the update was cancelled: the stack is UPDATE_ROLLBACK_COMPLETE" in str(caught.value)
