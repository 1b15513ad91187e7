"""Faults to inject; each is repaired at the end of the block."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import psycopg

from tests.aws_cli import aws_cli
from tests.region.processes.found import engines, region_process, running
from tests.waiting import until

from .conftest import CLUSTER, Environment

Breaking = Callable[[Environment], AbstractContextManager[None]]

SERVE_WEB = """
from common import serve
from web.app import WebSettings, create_app
serve.run(WebSettings, create_app)
"""


def page_answers(status: int) -> str:
    """A web whose health check passes and whose home page answers `status`."""
    return f"""
from starlette.responses import Response
from starlette.routing import Route
from common import serve
from web.app import WebSettings, create_app

def broken(settings):
    app = create_app(settings)
    app.router.routes.insert(0, Route("/", lambda request: Response(status_code={status})))
    return app

serve.run(WebSettings, broken)
"""


def both(*breakings: Breaking) -> Breaking:
    """Several faults at once."""

    @contextmanager
    def broken(environment: Environment) -> Iterator[None]:
        with ExitStack() as stack:
            for breaking in breakings:
                stack.enter_context(breaking(environment))
            yield

    return broken


def file(name: str, content: str) -> Breaking:
    """Change a file of the project."""
    return lambda environment: environment.edited(name, content)


def place(name: str, old: str, new: str) -> Breaking:
    """Change one place in a file of the project."""
    return lambda environment: environment.replaced(name, old, new)


def new_version(service: str) -> Breaking:
    """A release that works."""
    return lambda environment: environment.edited(f"apps/{service}/app.py", "\n# another version\n", append=True)


def web_main(code: str) -> Breaking:
    """Change the program of web's image."""
    return file("apps/web/__main__.py", code)


def migration_main(code: str) -> Breaking:
    """Change the migration's command."""
    return file("apps/migrations/__main__.py", code)


@contextmanager
def placeholder_secret(environment: Environment) -> Iterator[None]:
    """Reset a secret to the placeholder."""
    secrets, name = environment.client("secretsmanager"), "alva-staging-openai-api-key"
    before = secrets.get_secret_value(SecretId=name)["SecretString"]
    secrets.put_secret_value(SecretId=name, SecretString="alva:unset")
    try:
        yield
    finally:
        secrets.put_secret_value(SecretId=name, SecretString=before)


@contextmanager
def deleted_secret(environment: Environment) -> Iterator[None]:
    """Delete a secret; it can be restored for a week."""
    secrets, name = environment.client("secretsmanager"), "alva-staging-cookie-secret"
    secrets.delete_secret(SecretId=name, RecoveryWindowInDays=7)
    try:
        yield
    finally:
        secrets.restore_secret(SecretId=name)


@contextmanager
def unreadable_secret(environment: Environment) -> Iterator[None]:
    """Deny auth's execution role to read secrets."""
    iam, ecs = environment.client("iam"), environment.client("ecs")
    (service,) = ecs.describe_services(cluster=CLUSTER, services=["alva-auth"])["services"]
    definition = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
    role = definition["executionRoleArn"].rpartition("/")[2]
    (name,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    statements = [s for s in document["Statement"] if s["Action"] != ["secretsmanager:GetSecretValue"]]
    assert len(statements) == len(document["Statement"]) - 1
    less = json.dumps({**document, "Statement": statements})
    iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=less)
    try:
        yield
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))


ABSENT_IMAGE = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:" + "1" * 64, "size": 2},
        "layers": [],
    }
)


@contextmanager
def image_without_content(environment: Environment) -> Iterator[None]:
    """Remove an image's content while the repository lists it."""
    ecr = environment.client("ecr")
    ecr.put_image(
        repositoryName="alva-web",
        imageManifest=ABSENT_IMAGE,
        imageManifestMediaType="application/vnd.oci.image.manifest.v1+json",
        imageDigest=ABSENT_DIGEST,
    )
    try:
        yield
    finally:
        ecr.batch_delete_image(repositoryName="alva-web", imageIds=[{"imageDigest": ABSENT_DIGEST}])


ABSENT_DIGEST = "sha256:" + "2" * 64


@contextmanager
def migration_killed(environment: Environment) -> Iterator[None]:
    """Kill the migration's process as soon as it runs."""
    ended = threading.Event()

    def kill() -> None:
        while not ended.wait(0.1):
            for pid in running(region_process(environment.home), "-m", "migrations"):
                os.kill(pid, signal.SIGKILL)
                return

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        ended.set()
        killer.join()


@contextmanager
def database_down(environment: Environment) -> Iterator[None]:
    """Stop the database."""
    rds, name = environment.client("rds"), "alva-staging-database"
    rds.stop_db_instance(DBInstanceIdentifier=name)
    _until_database(environment, "stopped")
    try:
        yield
    finally:
        rds.start_db_instance(DBInstanceIdentifier=name)
        _until_database(environment, "available")


def _until_database(environment: Environment, status: str) -> None:
    rds, name = environment.client("rds"), "alva-staging-database"
    until(
        lambda: rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]["DBInstanceStatus"] == status,
        f"the database to be {status}",
    )


@contextmanager
def connections_taken(environment: Environment) -> Iterator[None]:
    """Open all connections that the database has for applications."""
    with ExitStack() as held:
        refusal = ""
        while not refusal:
            try:
                held.enter_context(environment.database())
            except psycopg.OperationalError as error:
                refusal = str(error)
        assert "remaining connection slots are reserved" in refusal
        yield


@contextmanager
def rule_removed(environment: Environment) -> Iterator[None]:
    """Delete admin's listener rule; restore it at the end with the command that `./alva diff` names."""
    elb = environment.client("elbv2")
    (balancer,) = elb.describe_load_balancers()["LoadBalancers"]
    (listener,) = elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    rules = elb.describe_rules(ListenerArn=listener["ListenerArn"])["Rules"]
    (rule,) = (rule for rule in rules if rule["Priority"] == "300")
    elb.delete_rule(RuleArn=rule["RuleArn"])
    try:
        yield
    finally:
        revert_drift(environment, "alva-staging-services")


def revert_drift(environment: Environment, stack: str) -> None:
    """Run the commands that `./alva diff` names, with the AWS CLI."""
    shown = environment.alva("diff").stdout
    commands = re.findall(rf"aws (cloudformation \S+ --stack-name {stack} .*?)(?=, then |;|$)", shown, re.MULTILINE)
    assert [command.split()[1] for command in commands[:2]] == ["create-change-set", "execute-change-set"], shown
    for command in commands[:2]:
        aws_cli(environment.endpoint, *command.split())
        name = "change-set-create-complete" if "create" in command else "stack-update-complete"
        named = ["--change-set-name", "revert-drift"] if "create" in command else []
        aws_cli(environment.endpoint, "cloudformation", "wait", name, "--stack-name", stack, *named)


@contextmanager
def cache_down(environment: Environment) -> Iterator[None]:
    """Make the cache accept connections without answering."""
    (cache,) = engines(environment.home, "valkey-server")
    os.kill(cache, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(cache, signal.SIGCONT)
