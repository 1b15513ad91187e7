"""The console and `./alva status` report the same values, which they read with the same function."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from alva.console.environment import Environment
from alva.release import status
from alva.release.condition import judge

from .conftest import Synthesised
from .large_environment import LargeEnvironment


@pytest.fixture(scope="module")
def large(forty: Synthesised) -> LargeEnvironment:
    manifest, _, templates = forty
    return LargeEnvironment(manifest, templates)


def test_page_and_verb_report_the_same(large: LargeEnvironment) -> None:
    page = Environment(large, large.manifest).read()
    found = status.read_status(large, large.manifest, with_drift=False)
    verb = asdict(found)
    assert page["condition"] == asdict(judge(found))
    for each in (*page["services"], *verb["services"]):
        del each["events"]  # they count the readings
    assert {name: page[name] for name in ("services", "stacks", "alarms", "release", "url")} == {
        name: verb[name] for name in ("services", "stacks", "alarms", "release", "url")
    }


def test_each_task_definition_is_described_once(large: LargeEnvironment) -> None:
    environment = Environment(large, large.manifest)
    environment.read()
    environment.read()
    assert len(large.described) == len(set(large.described)) == len(large.manifest.services)
