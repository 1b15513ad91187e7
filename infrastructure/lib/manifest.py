"""Writes `cdk.out/alva.json`, the release manifest: what the release engine needs besides the templates.

docs/reference/manifest.md describes it. The engine imports nothing from this folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lib.config.environments import Environment
from lib.config.secrets import DATABASE_SECRET
from lib.config.service import Service, secrets_of
from lib.config.services import MIGRATION
from lib.constructs.alarms import PART
from lib.stacks.database_stack import max_connections

FILE_NAME = "alva.json"

PHASES = {"registry": "registry", "services": "services", "cicd": "after", "budget": "after"}
OPTIONAL = frozenset({"budget"})
"""A release reports the failure of these stacks and continues. The product works without them."""


def write_manifest(environment: Environment, output_folder: Path) -> Path:
    """Write `alva.json` beside the templates of a finished synthesis, and return its path."""
    file = output_folder / FILE_NAME
    file.write_text(json.dumps(manifest(environment, output_folder), indent=1) + "\n")
    return file


def manifest(environment: Environment, output_folder: Path) -> dict[str, Any]:
    stacks = _stacks(environment, output_folder)
    return {
        "environment": environment.name,
        "prefix": environment.prefix,
        "region": environment.region,
        "cluster": f"{environment.prefix}-cluster",
        "namespace": environment.namespace,
        "load_balancer": f"{environment.prefix}-alb",
        "dashboard": environment.prefix,
        "alarm_prefix": f"{environment.prefix}-",
        "alarms": _alarms(output_folder / each["template"] for each in stacks),
        "parameters": {
            "lock": f"/{environment.prefix}/lock",
            "releases": f"/{environment.prefix}/release",
            "causes": f"/{environment.prefix}/why",
            "secrets": f"/{environment.prefix}/secrets",
            "asleep": f"/{environment.prefix}/asleep",
        },
        "tags": {"Project": "alva", "Environment": environment.name},
        "architecture": environment.architecture,
        "pipeline": {
            "repository": environment.pipeline.repository,
            "branch": environment.pipeline.branch,
            "runner": environment.runner,
        },
        "unset_settings": dict(environment.unset_settings),
        "stacks": stacks,
        "services": [_service(service, environment) for service in environment.services],
        "database": {
            "instance_class": environment.database.instance_class,
            "max_connections": max_connections(environment.database.instance_class),
        },
        "migration": {
            "family": MIGRATION.family,
            "container": MIGRATION.container,
            "service": MIGRATION.service,
            "image_parameter": MIGRATION.image_parameter,
            "stack": f"{environment.prefix}-ecs",
            "folder": MIGRATION.folder,
            "database_connections": MIGRATION.database_connections,
        },
        "secrets": [
            {
                "name": f"{environment.prefix}-{secret.name}",
                "short_name": secret.name,
                "kind": secret.kind,
                "used_by": [
                    each.name
                    for each in environment.services
                    if secret.name in each.secret_names or (secret.name == DATABASE_SECRET and each.depends_on_password)
                ],
            }
            for secret in secrets_of(environment.services)
        ],
    }


def _service(service: Service, environment: Environment) -> dict[str, Any]:
    return {
        "name": service.name,
        "service": service.service_name,
        "repository": service.service_name,
        "dockerfile": service.dockerfile,
        "context": service.context,
        "port": service.port,
        "paths": list(service.paths),
        "host": environment.host(service),
        "health_path": service.health_path,
        "deep_check_command": list(service.deep_check_command) if service.deep_check_command else None,
        "journey_command": list(service.journey_command) if service.journey_command else None,
        "companions": {each.name: {"idle_command": list(each.idle_command)} for each in service.companions},
        "has_pages": service.has_pages,
        "log_group": environment.log_group(service.name),
        "image_parameter": service.image_parameter,
        "database_connections": service.database_connections,
    }


def _alarms(templates: Iterable[Path]) -> dict[str, str]:
    """Return the alarms of all stacks: the name -> the part of the environment that it watches."""
    resources = [each for file in templates for each in json.loads(file.read_text()).get("Resources", {}).values()]
    return {
        each["Properties"]["AlarmName"]: each["Metadata"][PART]
        for each in resources
        if each["Type"] == "AWS::CloudWatch::Alarm"
    }


def _stacks(environment: Environment, output_folder: Path) -> list[dict[str, Any]]:
    """Return the stacks in the order of the cloud assembly: each comes after its dependencies."""
    artifacts = json.loads((output_folder / "manifest.json").read_text())["artifacts"]
    stacks = {name: each for name, each in artifacts.items() if each["type"] == "aws:cloudformation:stack"}
    ordered: list[dict[str, Any]] = []
    done: set[str] = set()
    while len(done) < len(stacks):
        for name, artifact in stacks.items():
            depends_on = [each for each in artifact.get("dependencies", []) if each in stacks]
            if name not in done and done.issuperset(depends_on):
                done.add(name)
                part = name.removeprefix(f"{environment.prefix}-")
                ordered.append(
                    {
                        "name": name,
                        "short_name": part,
                        "template": artifact["properties"]["templateFile"],
                        "depends_on": depends_on,
                        "phase": "services" if part.startswith("services-") else PHASES.get(part, "data"),
                        "optional": part in OPTIONAL,
                    }
                )
    return ordered
