"""Synthesis for the tests. Each environment is synthesised once, validated, and scanned by cdk-nag.

Tests import aws_cdk, and modules that import it, in functions: the import starts Node.js, and each of pytest's
processes collects all modules.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lib.config.environments import PRODUCTION, STAGING, Environment
from lib.node import prepare_node

from tests.cdk import folder_of_the_run, synthesised

prepare_node()

Properties = dict[str, Any]


@dataclass(frozen=True)
class Resource:
    """One resource of a template."""

    logical_id: str
    type: str
    definition: dict[str, Any]

    @property
    def properties(self) -> Properties:
        return self.definition.get("Properties", {})  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Synthesis:
    """The output of one synthesis, as values."""

    environment: Environment
    folder: Path

    @property
    def manifest(self) -> dict[str, Any]:
        from lib.manifest import manifest

        return manifest(self.environment, self.folder)

    def template_file(self, part: str) -> Path:
        return self.folder / f"{self.environment.prefix}-{part}.template.json"

    def template(self, part: str) -> dict[str, Any]:
        return json.loads(self.template_file(part).read_text())  # type: ignore[no-any-return]

    def resources(self, part: str, resource_type: str) -> list[Resource]:
        """All resources of a type (`EC2::Subnet`) in one stack."""
        return [
            Resource(logical_id, each["Type"], each)
            for logical_id, each in self.template(part)["Resources"].items()
            if each["Type"] == f"AWS::{resource_type}"
        ]

    def one(self, part: str, resource_type: str, **properties: object) -> Properties:
        """The properties of the one resource of a type that has these properties."""
        found = [
            each.properties
            for each in self.resources(part, resource_type)
            if all(each.properties.get(name) == value for name, value in properties.items())
        ]
        assert len(found) == 1, f"{len(found)} of {resource_type} with {properties} in {part}, not one"
        return found[0]

    def all_resources(self) -> list[Resource]:
        parts = (file.name.split(".")[0].removeprefix(f"{self.environment.prefix}-") for file in self.template_files())
        return [
            Resource(logical_id, each["Type"], each)
            for part in parts
            for logical_id, each in self.template(part)["Resources"].items()
        ]

    def template_files(self) -> list[Path]:
        return sorted(self.folder.glob("*.template.json"))

    def containers(self, part: str, family: str) -> dict[str, Properties]:
        """The container definitions of one task definition, by name."""
        definition = self.one(part, "ECS::TaskDefinition", Family=family)
        return {each["Name"]: each for each in definition["ContainerDefinitions"]}


@pytest.fixture(scope="session")
def synthesise(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Environment], Synthesis]:
    """Synthesise an environment; equal environments only once. Fails on a finding of CDK's validation or of cdk-nag."""
    run = folder_of_the_run(tmp_path_factory)
    return lambda environment: Synthesis(environment, synthesised(environment, run))


@pytest.fixture(scope="session")
def staging(synthesise: Callable[[Environment], Synthesis]) -> Synthesis:
    return synthesise(STAGING)


@pytest.fixture(scope="session")
def production(synthesise: Callable[[Environment], Synthesis]) -> Synthesis:
    return synthesise(PRODUCTION)
