"""How long a release is held to a health check that it changed. That it then goes back: tests/faults."""

from __future__ import annotations

from typing import Any

from alva.release.watch import judging_seconds


def template(**properties: Any) -> dict[str, Any]:
    group = {
        "Name": "alva-staging-web-3000",
        "HealthCheckPath": "/health",
        "HealthCheckIntervalSeconds": 5,
        "HealthCheckTimeoutSeconds": 4,
        "HealthyThresholdCount": 2,
        "UnhealthyThresholdCount": 2,
    }
    return {
        "Resources": {
            "Group": {"Type": "AWS::ElasticLoadBalancingV2::TargetGroup", "Properties": {**group, **properties}},
            "Service": {"Type": "AWS::ECS::Service", "Properties": {"HealthCheckGracePeriodSeconds": 30}},
        }
    }


def test_release_that_changes_no_health_check_is_not_held_up() -> None:
    assert judging_seconds([(template(), template())]) == 0
    assert judging_seconds([(template(), template(Name="another"))]) == 0
    assert judging_seconds([]) == 0


def test_target_group_that_is_new_holds_nothing_up_since_its_deployment_waits_for_it() -> None:
    assert judging_seconds([({"Resources": {}}, template())]) == 0


def test_changed_check_may_use_its_thresholds_and_the_check_that_is_under_way() -> None:
    assert judging_seconds([(template(), template(HealthCheckPath="/helth"))]) == 3 * 5 + 4
    assert judging_seconds([(template(), template(HealthyThresholdCount=5))]) == 6 * 5 + 4
    assert judging_seconds([(template(), template(Matcher={"HttpCode": "204"}, HealthCheckIntervalSeconds=30))]) == 94


def test_longest_of_several_stacks_counts_and_what_a_template_leaves_out_is_what_aws_takes() -> None:
    bare = {"Resources": {"Group": {"Type": "AWS::ElasticLoadBalancingV2::TargetGroup", "Properties": {}}}}
    path = {"Resources": {"Group": {**bare["Resources"]["Group"], "Properties": {"HealthCheckPath": "/x"}}}}
    quick = (template(), template(HealthCheckPath="/x"))
    assert judging_seconds([quick, (bare, path)]) == 6 * 30 + 5
