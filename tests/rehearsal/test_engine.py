"""Rollbacks, causes, approvals, and cancelled steps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from alva.checks.revisions import read_revisions

from .environment import Rehearsal

STACK = "alva-staging-services"


def last_release(rehearsal: Rehearsal) -> dict[str, Any]:
    release: dict[str, Any] = json.loads(rehearsal.alva("releases", "--json", "--last", "1").stdout)[0]
    return release


def causes(rehearsal: Rehearsal, release: int) -> list[dict[str, Any]]:
    """The causes of a release that `./alva why` has stored."""
    why = rehearsal.alva("why", "--release", str(release), "--json")
    assert why.returncode == 0, why.stderr
    account = json.loads(why.stdout)["release"]
    assert account["release"] == release
    found: list[dict[str, Any]] = account["causes"]
    return found


def test_rollback_releases_the_earlier_images_without_a_migration_or_a_failed_request(
    rehearsal: Rehearsal,
) -> None:
    before = rehearsal.digests()
    with rehearsal.edited("apps/web/app.py", "\n# to be rolled back\n", append=True):
        assert rehearsal.alva("up").returncode == 0
    assert rehearsal.digests()["web"] != before["web"]
    asked = rehearsal.alva("rollback")
    assert asked.returncode == 2, "the question got no answer"
    with rehearsal.users() as problems:
        back = rehearsal.alva("rollback", "--yes", "--json")
    assert back.returncode == 0, back.stderr
    assert rehearsal.digests() == before
    assert problems == []
    said = json.loads(back.stdout)
    assert "migration" not in [step["step"] for step in said["steps"]]
    release = last_release(rehearsal)
    assert release["number"] == said["release"]
    assert release["rollback_of"] < release["number"]
    # A version that was rolled back can be released again: the sources are those of the restored release.
    again = rehearsal.alva("up", "--json")
    assert json.loads(again.stdout)["changed"] is False, again.stdout

    unknown = rehearsal.alva("rollback", "99999", "--yes")
    assert unknown.returncode == 2
    assert "these can be restored" in unknown.stderr


def test_version_that_fails_its_checks_is_rolled_back_and_why_names_the_check(rehearsal: Rehearsal) -> None:
    before = rehearsal.digests()
    pretend = 'import os\n\nos.environ["IMAGE_DIGEST"] = "sha256:" + "0" * 64\n'
    main = (rehearsal.project / "apps/web/__main__.py").read_text()
    with rehearsal.edited("apps/web/__main__.py", pretend + main):
        up = rehearsal.alva("up")
    assert up.returncode == 5, up.stderr
    assert "all services run the former version again" in up.stderr
    assert rehearsal.digests() == before
    (cause,) = causes(rehearsal, last_release(rehearsal)["number"])
    assert cause["kind"] == "wrong-answerer"
    assert any("web answers /" in line for line in cause["evidence"])


@pytest.mark.nightly
def test_step_that_does_not_end_is_cancelled_and_the_former_version_runs(rehearsal: Rehearsal) -> None:
    before = rehearsal.digests()
    with rehearsal.edited("apps/web/__main__.py", "import time\n\ntime.sleep(600)\n"), rehearsal.users() as problems:
        deploy = rehearsal.alva("deploy", "--service", "web", "--timeout", "6")
    assert deploy.returncode == 6, deploy.stderr
    assert f"cannot wait longer for stack {STACK}: its time limit of 6 s has passed" in deploy.stderr
    assert "the update was cancelled: the stack is UPDATE_ROLLBACK_COMPLETE" in deploy.stderr
    assert rehearsal.digests() == before
    assert problems == []


@pytest.mark.nightly
def test_contraction_is_refused_unless_allowed(rehearsal: Rehearsal) -> None:
    versions = rehearsal.project / "apps" / "migrations" / "versions"
    head = read_revisions(versions)[-1].revision
    before = rehearsal.tasks()
    file = versions / "9999_tidy.py"
    file.write_text(
        f'"""tidy"""\nfrom alembic import op\nrevision = "9999"\ndown_revision = {head!r}\n'
        'def upgrade() -> None:\n    op.drop_column("plans", "status", schema="api")\n'
        "def downgrade() -> None:\n    pass\n"
    )
    try:
        deploy = rehearsal.alva("deploy", "--service", "api")
        diff = rehearsal.alva("diff", "--service", "api", "--json")
    finally:
        file.unlink()
    assert deploy.returncode == 3, deploy.stderr
    assert "contraction: migration 9999: drops column api.plans.status" in deploy.stderr
    assert "--allow contraction" in deploy.stderr
    said = json.loads(diff.stdout)
    assert [m["revision"] for m in said["migrations"]] == ["9999"]
    assert [risk["kind"] for risk in said["risks"]] == ["contraction"]
    assert rehearsal.tasks() == before


@pytest.mark.nightly
def test_wider_permission_is_refused_without_a_terminal_for_approval(rehearsal: Rehearsal) -> None:
    composition = (rehearsal.project / "infrastructure/lib/composition.py").read_text()
    wider = """from aws_cdk import aws_iam

    statement = aws_iam.PolicyStatement(actions=["s3:*"], resources=["*"])
    aws_iam.ManagedPolicy(network, "Wide", statements=[statement])
    return app
"""
    assert "    return app\n" in composition
    with rehearsal.edited("infrastructure/lib/composition.py", composition.replace("return app\n", wider)):
        diff = rehearsal.alva("diff", "--infra-only", "--json")
        deploy = rehearsal.alva("deploy", "--infra-only")
    said = json.loads(diff.stdout)
    assert [(risk["kind"], risk["message"]) for risk in said["risks"]] == [("iam", "may now s3:* on *")]
    network = next(stack for stack in said["stacks"] if stack["stack"].endswith("-network"))
    assert [(change["action"], change["type"]) for change in network["resources"]] == [
        ("Add", "AWS::IAM::ManagedPolicy")
    ]
    assert deploy.returncode == 3, deploy.stderr
    assert "may now s3:* on *" in deploy.stderr
    assert "--allow iam" in deploy.stderr


@pytest.mark.nightly
def test_preflight_of_a_healthy_environment_passes_and_lists_its_checks(rehearsal: Rehearsal) -> None:
    preflight = rehearsal.alva("preflight", "--json")
    assert preflight.returncode == 0, preflight.stdout
    verdicts = {check["check"]: check["verdict"] for check in json.loads(preflight.stdout)}
    for name in ("credentials", "stacks can be updated", "images exist", "secrets are set", "services run"):
        assert verdicts[name] == "OK", name
    missing = rehearsal.alva("preflight", "--image", f"web=sha256:{'0' * 64}")
    assert missing.returncode == 3
    assert "images exist" in missing.stderr


def test_release_is_refused_while_a_user_holds_the_lock(rehearsal: Rehearsal) -> None:
    assert rehearsal.alva("lock", "looking", "around").returncode == 0
    try:
        refused = rehearsal.alva("deploy", "--infra-only")
        assert refused.returncode == 8
        assert "looking around" in refused.stderr
    finally:
        assert rehearsal.alva("unlock", "--yes").returncode == 0
    assert json.loads(rehearsal.alva("lock", "--json").stdout) is None


def test_deep_verification_checks_dependencies_the_journey_and_logs(rehearsal: Rehearsal) -> None:
    verify = rehearsal.alva("verify", "--deep", "--json")
    checks = {check["check"]: check for check in json.loads(verify.stdout)}
    # Alarms are left out: other tests cause them on purpose.
    failed = [name for name, check in checks.items() if check["verdict"] == "FAIL" and name != "alarms are quiet"]
    assert failed == [], verify.stdout
    assert "with a verified certificate" in checks["inside: database"]["reason"]
    assert "noeviction" in checks["inside: queue"]["reason"]
    # At least a user, a profile and a plan are deleted, and no user of that name is left.
    rows, _, email = checks["inside: customer"]["reason"].removeprefix("deleted ").partition(" rows of ")
    assert int(rows) >= 3
    program = (
        "import os, sys, psycopg; users = psycopg.connect(os.environ['DATABASE_URL']);"
        "print(users.execute('SELECT count(*) FROM auth.users WHERE email = %s', sys.argv[1:]).fetchone()[0])"
    )
    assert rehearsal.alva("run", "api", "--", "python", "-c", program, email).stdout == "0\n"
    for name in ("inside: web by name", "inside: admin by name", "customer's journey", "api writes its log"):
        assert checks[name]["verdict"] == "OK"


def test_port_opened_to_the_internet_by_hand_is_found(rehearsal: Rehearsal) -> None:
    ec2 = rehearsal.client("ec2")
    found = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["alva-staging-rds"]}])
    opened = {
        "GroupId": found["SecurityGroups"][0]["GroupId"],
        "IpPermissions": [
            {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        ],
    }
    ec2.authorize_security_group_ingress(**opened)
    try:
        verify = rehearsal.alva("verify", "--deep", "--json")
    finally:
        ec2.revoke_security_group_ingress(**opened)
    assert verify.returncode == 7
    reasons = {check["check"]: check["reason"] for check in json.loads(verify.stdout) if check["verdict"] == "FAIL"}
    assert reasons["only the load balancer is public"] == "alva-staging-rds admits 0.0.0.0/0 on tcp 5432"
