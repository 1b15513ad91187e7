"""The console tells what `./alva status` tells: it asks the same function."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from alva.console.environment import Environment
from alva.release import status

from .large_environment import LargeEnvironment, synthesise


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> LargeEnvironment:
    manifest, _, templates = synthesise(tmp_path_factory.mktemp("cdk.out"))
    return LargeEnvironment(manifest, templates)


def test_page_and_verb_tell_the_same(large: LargeEnvironment) -> None:
    page = Environment(large, large.manifest).look()
    verb = asdict(status.look(large, large.manifest, with_drift=False))
    for each in (*page["services"], *verb["services"]):
        del each["events"]  # they say how many looks there were
    assert {name: page[name] for name in ("services", "stacks", "alarms", "release", "url")} == {
        name: verb[name] for name in ("services", "stacks", "alarms", "release", "url")
    }


def test_each_task_definition_is_asked_for_once(large: LargeEnvironment) -> None:
    environment = Environment(large, large.manifest)
    environment.look()
    environment.look()
    assert len(large.described) == len(set(large.described)) == len(large.manifest.services)
