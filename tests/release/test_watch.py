"""How long a release watches a health check that it changed. tests/faults covers the rollback."""

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


def test_release_without_a_changed_health_check_is_not_delayed() -> None:
    assert judging_seconds([(template(), template())]) == 0
    assert judging_seconds([(template(), template(Name="another"))]) == 0
    assert judging_seconds([]) == 0


def test_new_target_group_causes_no_delay() -> None:
    assert judging_seconds([({"Resources": {}}, template())]) == 0


def test_changed_check_gets_its_thresholds_and_the_check_in_progress() -> None:
    assert judging_seconds([(template(), template(HealthCheckPath="/helth"))]) == 3 * 5 + 4
    assert judging_seconds([(template(), template(HealthyThresholdCount=5))]) == 6 * 5 + 4
    assert judging_seconds([(template(), template(Matcher={"HttpCode": "204"}, HealthCheckIntervalSeconds=30))]) == 94


def test_longest_of_several_stacks_counts_with_awss_defaults() -> None:
    bare = {"Resources": {"Group": {"Type": "AWS::ElasticLoadBalancingV2::TargetGroup", "Properties": {}}}}
    path = {"Resources": {"Group": {**bare["Resources"]["Group"], "Properties": {"HealthCheckPath": "/x"}}}}
    quick = (template(), template(HealthCheckPath="/x"))
    assert judging_seconds([quick, (bare, path)]) == 6 * 30 + 5
