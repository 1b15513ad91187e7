"""Whether the roles that start the tasks may do what that takes: asked of IAM before a task fails for lack of it.

A task stops with `ResourceInitializationError: unable to pull secrets or registry auth` or `CannotPullContainerError`
when its execution role may not; SimulatePrincipalPolicy tells beforehand, of the role as it is deployed.
https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alva.aws import Aws, explained, pages
from alva.release import rollout
from alva.release.manifest import Manifest
from alva.release.stacks import Stacks

PULL = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
LOG = ("logs:CreateLogStream", "logs:PutLogEvents")


@dataclass(frozen=True, kw_only=True)
class Need:
    """Actions that a role must be allowed on each of some resources."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]


def needs(definition: Mapping[str, Any]) -> list[Need]:
    """What the execution role of a task definition (as ECS describes it) must be allowed."""
    arn = definition["taskDefinitionArn"].split(":")
    partition, region, account = arn[1], arn[3], arn[4]
    secrets: set[str] = set()
    parameters: set[str] = set()
    repositories: set[str] = set()
    streams: set[str] = set()
    for container in definition["containerDefinitions"]:
        for secret in container.get("secrets", []):
            parts = secret["valueFrom"].split(":")
            # arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME, and behind it a key, a stage and a version.
            (secrets if parts[2:3] == ["secretsmanager"] else parameters).add(":".join(parts[:7]))
        registry, _, path = container["image"].partition("/")
        if registry.endswith(".amazonaws.com") or ".dkr.ecr." in registry:
            repository = path.partition("@")[0].partition(":")[0]
            repositories.add(f"arn:{partition}:ecr:{region}:{registry.partition('.')[0]}:repository/{repository}")
        log = container.get("logConfiguration", {})
        if log.get("logDriver") == "awslogs":
            stream = f"{log['options'].get('awslogs-stream-prefix', 'ecs')}/{container['name']}/any"
            group = log["options"]["awslogs-group"]
            streams.add(f"arn:{partition}:logs:{region}:{account}:log-group:{group}:log-stream:{stream}")
    found = [
        Need(actions=("secretsmanager:GetSecretValue",), resources=tuple(sorted(secrets))),
        Need(actions=("ssm:GetParameters",), resources=tuple(sorted(parameters))),
        Need(actions=("ecr:GetAuthorizationToken",), resources=("*",) if repositories else ()),
        Need(actions=PULL, resources=tuple(sorted(repositories))),
        Need(actions=LOG, resources=tuple(sorted(streams))),
    ]
    return [need for need in found if need.resources]


def refused(aws: Aws, manifest: Manifest) -> tuple[int, list[str]]:
    """How many roles were asked about, and what they may not, in words. Raises AlvaError."""
    wrong: list[str] = []
    definitions = list(_definitions(aws, manifest))
    for name, definition in definitions:
        role = definition.get("executionRoleArn")
        if role is None:
            wrong.append(f"{name} has no execution role")
            continue
        for need in needs(definition):
            for action, resource, decision in _decisions(aws, role, need):
                if decision != "allowed":
                    wrong.append(f"{role.rpartition('/')[2]} ({name}) may not {action} on {resource}: {decision}")
    return len(definitions), wrong


def _definitions(aws: Aws, manifest: Manifest) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """What the services run, and the migration, as far as they are there."""
    running = {name: service["taskDefinition"] for name, service in rollout.describe_services(aws, manifest).items()}
    ecs = Stacks(aws).observe(manifest.migration.stack, with_template=False)
    if ecs is not None and (arn := ecs.outputs.get("MigrationTaskDefinitionArn")):
        running[manifest.migration.family] = arn
    for name, arn in running.items():
        with explained(f"read task definition {arn}"):
            yield name, aws.ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]


def _decisions(aws: Aws, role: str, need: Need) -> Iterable[tuple[str, str, str]]:
    """(action, resource, allowed | explicitDeny | implicitDeny), for each of both."""
    with explained(f"ask IAM what {role.rpartition('/')[2]} may"):
        found: Sequence[Mapping[str, Any]] = list(
            pages(
                aws.client("iam"),
                "simulate_principal_policy",
                "EvaluationResults",
                PolicySourceArn=role,
                ActionNames=list(need.actions),
                ResourceArns=list(need.resources),
            )
        )
    for each in found:
        # Of several resources IAM tells each apart, beside what it decides for all of them.
        for one in each.get("ResourceSpecificResults") or [each]:
            yield (
                each["EvalActionName"],
                one.get("EvalResourceName", each.get("EvalResourceName", "*")),
                one.get("EvalResourceDecision", each["EvalDecision"]),
            )
