"""The environment of 40 services, synthesised once for all tests of the console."""

from __future__ import annotations

from typing import Any

import pytest

from alva.release.manifest import Manifest
from tests.cdk import folder_of_the_run

from .large_environment import synthesise

Synthesised = tuple[Manifest, dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="session")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Synthesised:
    """The manifest (also as values) and the templates of this environment."""
    return synthesise(folder_of_the_run(tmp_path_factory))
