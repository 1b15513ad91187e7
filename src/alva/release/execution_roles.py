"""Checks the permissions of the tasks' execution roles with IAM, before a task fails without them.

A task without them stops with `ResourceInitializationError: unable to pull secrets or registry auth` or
`CannotPullContainerError`. SimulatePrincipalPolicy evaluates the deployed role beforehand.
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
    """Actions that a role needs on each of some resources."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]


def needs(definition: Mapping[str, Any]) -> list[Need]:
    """Return what the execution role of a task definition (as ECS describes it) needs."""
    arn = definition["taskDefinitionArn"].split(":")
    partition, region, account = arn[1], arn[3], arn[4]
    secrets: set[str] = set()
    parameters: set[str] = set()
    repositories: set[str] = set()
    streams: set[str] = set()
    for container in definition["containerDefinitions"]:
        for secret in container.get("secrets", []):
            parts = secret["valueFrom"].split(":")
            # arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME, followed by a key, a stage and a version.
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
    """Return the number of roles, and the missing permissions as text. Raises AlvaError."""
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
    """Yield the deployed task definitions of the services and the migration."""
    running = {name: service["taskDefinition"] for name, service in rollout.describe_services(aws, manifest).items()}
    ecs = Stacks(aws).observe(manifest.migration.stack, with_template=False)
    if ecs is not None and (arn := ecs.outputs.get("MigrationTaskDefinitionArn")):
        running[manifest.migration.family] = arn
    for name, arn in running.items():
        with explained(f"read task definition {arn}"):
            yield name, aws.ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]


def _decisions(aws: Aws, role: str, need: Need) -> Iterable[tuple[str, str, str]]:
    """Yield (action, resource, allowed | explicitDeny | implicitDeny) for each action and resource."""
    with explained(f"read the permissions of {role.rpartition('/')[2]}"):
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
        # For several resources, IAM also returns one decision for each.
        for one in each.get("ResourceSpecificResults") or [each]:
            yield (
                each["EvalActionName"],
                one.get("EvalResourceName", each.get("EvalResourceName", "*")),
                one.get("EvalResourceDecision", each["EvalDecision"]),
            )
