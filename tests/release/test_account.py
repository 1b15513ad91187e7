"""Checks of the account before anything costs money; botocore validates the stubbed responses."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber

from alva.aws import Aws, Target
from alva.errors import PreflightRefused
from alva.release import account, refusals
from alva.release.account import AccountChecks
from alva.release.change_sets import ChangeSet, ChangeSets
from alva.release.manifest import Manifest
from alva.release.plan import ApplyStack, Observed, Plan, Wanted
from alva.release.refusals import refuse_account
from alva.release.stack_state import Action
from alva.release.verify import Verdict

from .conftest import manifest_values

DIGEST = "sha256:" + "a" * 64
DATABASE = {
    "DBInstanceClass": "db.t3.micro",
    "Engine": "postgres",
    "EngineVersion": "16",
    "StorageType": "gp2",
    "BackupRetentionPeriod": 7,
}


@pytest.fixture
def aws() -> Aws:
    """Clients whose calls are all stubbed: no server listens there."""
    return Aws(Target.local("http://127.0.0.1:9"))


def templates(tmp_path: Path, **resources: tuple[str, dict[str, Any]]) -> Manifest:
    """A manifest whose stack `database` has these resources; the other stacks are empty."""
    manifest = Manifest.from_values(manifest_values("t"), tmp_path)
    for stack in manifest.stacks:
        own = resources if stack.name == "t-database" else {}
        body = {"Resources": {name: {"Type": kind, "Properties": given} for name, (kind, given) in own.items()}}
        stack.template_file.write_text(json.dumps(body))
    return manifest


def result_of(aws: Aws, manifest: Manifest, name: str) -> tuple[Verdict, str]:
    (look,) = [look for each, look in AccountChecks(aws=aws, manifest=manifest).checks() if each == f"account: {name}"]
    return look()


@contextmanager
def answering(aws: Aws, service: str, **answers: Any) -> Iterator[None]:
    """`describe_x=answer`, or `describe_x="ErrorCode"`."""
    with Stubber(aws.client(service)) as stub:
        for operation, answer in answers.items():
            if isinstance(answer, str):
                stub.add_client_error(operation, answer, "in AWS's words")
            else:
                stub.add_response(operation, answer)
        yield


@pytest.mark.parametrize(
    ("plan", "retention", "verdict", "words"),
    [
        ({"accountPlanType": "PAID", "accountPlanStatus": "ACTIVE"}, 7, Verdict.OK, "paid plan"),
        ({"accountPlanType": "FREE", "accountPlanStatus": "ACTIVE"}, 7, Verdict.FAIL, "RDS refuses backups of 7 days"),
        ({"accountPlanType": "FREE", "accountPlanStatus": "ACTIVE"}, 1, Verdict.WARN, "closes the account"),
        ({"accountPlanType": "FREE", "accountPlanStatus": "EXPIRED"}, 1, Verdict.FAIL, "has expired"),
        ("ResourceNotFoundException", 7, Verdict.OK, "older than AWS's plans"),
        ("UnknownOperationException", 7, Verdict.SKIP, "this endpoint does not have the operation"),
    ],
)
def test_account_plan_that_refuses_the_database_is_reported(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: Any, retention: int, verdict: Verdict, words: str
) -> None:
    manifest = templates(tmp_path, D=("AWS::RDS::DBInstance", {**DATABASE, "BackupRetentionPeriod": retention}))
    # The account's plan is read in another Region, with its own clients.
    monkeypatch.setattr(account, "Aws", lambda *_: aws)
    answer = {"accountId": "123456789012", **plan} if isinstance(plan, dict) else plan
    with answering(aws, "freetier", get_account_plan_state=answer):
        found = result_of(aws, manifest, "plan")
    assert (found[0], words in found[1]) == (verdict, True), found


def test_release_that_creates_a_stack_is_refused_before_its_first_change(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = templates(tmp_path, D=("AWS::RDS::DBInstance", DATABASE))
    monkeypatch.setattr(account, "Aws", lambda *_: aws)
    expired = {"accountId": "123456789012", "accountPlanType": "FREE", "accountPlanStatus": "EXPIRED"}
    with answering(aws, "freetier", get_account_plan_state=expired), pytest.raises(PreflightRefused) as refused:
        refuse_account(aws, manifest)  # an operation that the endpoint lacks is no reason to refuse
    assert [line.partition(":")[0] for line in refused.value.evidence] == ["account"]
    assert "has expired" in refused.value.evidence[0]


@pytest.mark.parametrize(
    ("action", "checks", "refuses"), [("CREATE", True, True), ("CREATE", False, False), ("UPDATE", True, False)]
)
def test_account_is_checked_when_a_release_to_aws_creates_a_stack(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, checks: bool, refuses: bool
) -> None:
    class Passed(Exception):
        """The release was not refused."""

    def no_bootstrap(_: Aws) -> None:
        raise Passed

    manifest = templates(tmp_path)
    stack = manifest.stack("database")
    plan = Plan(steps=(ApplyStack(key="database", title="database", stack=stack, action=Action[action]),))
    wanted = Wanted(manifest=manifest, templates={stack.name: {}}, digests={})
    monkeypatch.setattr(refusals, "refuse_asleep", lambda *_: None)
    monkeypatch.setattr(refusals, "bootstrap_roles_of", no_bootstrap)  # the next request
    monkeypatch.setattr(AccountChecks, "checks", lambda _: [("account: plan", lambda: (Verdict.FAIL, "has expired"))])
    builder: Any = None
    with pytest.raises(PreflightRefused if refuses else Passed):
        refusals.refuse(aws, wanted, Observed(stacks={}), plan, builder, makes_secrets=False, checks_account=checks)


def test_account_without_budgets_is_a_warning(aws: Aws, tmp_path: Path) -> None:
    manifest = templates(tmp_path, B=("AWS::Budgets::Budget", {}))
    signed_in = answering(aws, "sts", get_caller_identity={"Account": "123456789012"})
    with signed_in, answering(aws, "budgets", describe_budgets="AccessDeniedException"):
        verdict, words = result_of(aws, manifest, "budgets")
    assert verdict is Verdict.WARN
    assert "in AWS's words" in words
    assert result_of(aws, templates(tmp_path), "budgets")[0] is Verdict.SKIP


def option(zone: str, **changes: Any) -> dict[str, Any]:
    return {
        "Engine": "postgres",
        "EngineVersion": "16.9",
        "DBInstanceClass": "db.t3.micro",
        "StorageType": "gp2",
        "AvailabilityZones": [{"Name": zone}],
        **changes,
    }


@pytest.mark.parametrize(
    ("options", "verdict", "words"),
    [
        ([option("us-east-1a"), option("us-east-1b")], Verdict.OK, "db.t3.micro with postgres 16 on gp2"),
        ([option("us-east-1a"), option("us-east-1b", EngineVersion="15.9")], Verdict.FAIL, "in us-east-1b, but in"),
        ([option("us-east-1a"), option("us-east-1b", StorageType="io1")], Verdict.FAIL, "in us-east-1b, but in"),
        ([], Verdict.FAIL, "cannot be ordered in us-east-1"),
    ],
)
def test_class_that_a_zone_lacks_is_reported(
    aws: Aws, tmp_path: Path, options: list[dict[str, Any]], verdict: Verdict, words: str
) -> None:
    manifest = templates(
        tmp_path,
        D=("AWS::RDS::DBInstance", DATABASE),
        A=("AWS::EC2::Subnet", {"AvailabilityZone": "us-east-1a"}),
        B=("AWS::EC2::Subnet", {"AvailabilityZone": "us-east-1b"}),
        P=("AWS::EC2::Subnet", {"AvailabilityZone": "us-east-1z", "MapPublicIpOnLaunch": True}),
    )
    with answering(aws, "rds", describe_orderable_db_instance_options={"OrderableDBInstanceOptions": options}):
        found = result_of(aws, manifest, "database class")
    assert (found[0], words in found[1]) == (verdict, True), found


@pytest.mark.parametrize(
    ("offers", "verdict"), [([{"CacheNodeType": "cache.t3.micro"}], Verdict.OK), ([], Verdict.FAIL)]
)
def test_node_type_that_the_region_lacks_is_reported(
    aws: Aws, tmp_path: Path, offers: list[dict[str, Any]], verdict: Verdict
) -> None:
    manifest = templates(tmp_path, C=("AWS::ElastiCache::ReplicationGroup", {"CacheNodeType": "cache.t3.micro"}))
    answer = {"ReservedCacheNodesOfferings": offers}
    with answering(aws, "elasticache", describe_reserved_cache_nodes_offerings=answer):
        assert result_of(aws, manifest, "cache node type")[0] is verdict


@pytest.mark.parametrize(("limit", "verdict"), [(100, Verdict.OK), (1, Verdict.FAIL)])
def test_too_many_listener_rules_are_reported(aws: Aws, tmp_path: Path, limit: int, verdict: Verdict) -> None:
    rule: tuple[str, dict[str, Any]] = ("AWS::ElasticLoadBalancingV2::ListenerRule", {})
    manifest = templates(tmp_path, A=rule, B=rule)
    answer = {"Limits": [{"Name": "rules-per-application-load-balancer", "Max": str(limit)}]}
    with answering(aws, "elbv2", describe_account_limits=answer):
        found = result_of(aws, manifest, "load balancers")
    assert found[0] is verdict
    assert f"rules-per-application-load-balancer{':' if limit == 1 else ''} 2 of {limit}" in found[1]


def test_missing_service_linked_role_is_reported(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = templates(tmp_path, D=("AWS::RDS::DBInstance", DATABASE))
    monkeypatch.setattr("alva.release.stacks.Stacks.observe", lambda *_, **__: None)
    with answering(aws, "iam", list_roles={"Roles": []}):
        assert result_of(aws, manifest, "service-linked roles") == (
            Verdict.WARN,
            "missing for rds.amazonaws.com; ./alva bootstrap creates them",
        )


@pytest.fixture
def blob() -> Iterator[str]:
    """The URL of the configuration of an image for ARM."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"architecture": "arm64", "os": "linux"}')

        def log_message(self, *_: object) -> None:
            return None

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/blob"
        server.shutdown()
        thread.join()


def test_image_with_another_architecture_than_its_task_definition_is_reported(
    aws: Aws, tmp_path: Path, blob: str
) -> None:
    manifest = templates(tmp_path)
    image = {
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST},
        "layers": [],
    }

    def judged(architecture: str) -> tuple[Verdict, str]:
        with Stubber(aws.ecr) as ecr:
            ecr.add_response("describe_images", {"imageDetails": [{"imageDigest": DIGEST}]})
            ecr.add_response("batch_get_image", {"images": [{"imageManifest": json.dumps(image)}]})
            ecr.add_response("get_download_url_for_layer", {"downloadUrl": blob, "layerDigest": DIGEST})
            return account.architectures(aws, replace(manifest, architecture=architecture), {"web": DIGEST})

    assert judged("ARM64") == (Verdict.OK, "1 images, ARM64")
    assert judged("X86_64") == (Verdict.FAIL, "web is built for ARM64, its task definition says X86_64")


def test_findings_of_cloudformations_validation_are_quoted(aws: Aws) -> None:
    finding = {
        "EventId": "1",
        "EventType": "VALIDATION_ERROR",
        "LogicalResourceId": "Bucket",
        "ValidationStatus": "FAILED",
        "ValidationName": "NAME_CONFLICT_VALIDATION",
        "ValidationStatusReason": "Resource of this name exists",
        "ValidationPath": "/Resources/Bucket/Properties/BucketName",
    }
    change_set = ChangeSet(arn="arn:aws:cloudformation:us-east-1:123456789012:changeSet/c/1", stack_id="s")
    with Stubber(aws.client("ssm")) as ssm, Stubber(aws.cloudformation) as cloudformation:
        ssm.add_client_error("get_parameter", "ParameterNotFound")
        events = [
            {**finding, "ValidationFailureMode": "FAIL"},
            {**finding, "ValidationFailureMode": "WARN"},
            {"EventId": "2", "EventType": "STACK_EVENT"},
            {**finding, "ValidationStatus": "SKIPPED"},
        ]
        cloudformation.add_response("describe_events", {"OperationEvents": events}, {"ChangeSetName": change_set.arn})
        fatal, warning = ChangeSets(aws).validation_findings(change_set)
    assert (fatal.fails, warning.fails) == (True, False)
    assert fatal.text == (
        "Bucket /Resources/Bucket/Properties/BucketName: Resource of this name exists (NAME_CONFLICT_VALIDATION)"
    )
