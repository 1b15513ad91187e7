from __future__ import annotations

from collections.abc import Iterator

import pytest

from .workbench import Workbench, running_workbench


@pytest.fixture(scope="session")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """A region with a network, a cluster and a log group, shared by the tests of ECS."""
    with running_workbench(tmp_path_factory.mktemp("ecs")) as bench:
        bench.prepare()
        yield bench
