"""`ALVA_SERVICES`: the services of another product, in place of those in `services.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from lib.config.chosen_services import chosen_services
from lib.config.environments import STAGING
from lib.config.errors import SettingError
from lib.config.service import check_services
from lib.config.services import MIGRATION, SERVICES

WORKSPACE = Path(__file__).parents[2] / "examples" / "typescript"


def test_without_the_variable_services_py_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALVA_SERVICES", raising=False)
    assert chosen_services(SERVICES, MIGRATION) == (SERVICES, MIGRATION)
    assert STAGING.services == SERVICES


def test_services_of_a_workspace_are_built_from_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALVA_SERVICES", str(WORKSPACE / "services.py"))
    services, migration = chosen_services(SERVICES, MIGRATION)
    check_services(services)
    assert {service.name for service in services} == {"web", "api", "auth", "admin"}
    for service in services:
        assert service.context == "examples/typescript"
        assert (WORKSPACE.parents[1] / service.dockerfile).is_file()
        assert (service.health_command, service.deep_check_command) == (None, None)
    assert migration.command[0] == "node"
    assert (WORKSPACE / str(migration.folder).removeprefix("/app/")).is_dir()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "FileNotFoundError"),
        ("SERVICES = ()", "MIGRATION"),
        ("SERVICES = (", "SyntaxError"),
        ("import gone", "gone"),
    ],
)
def test_unreadable_file_is_reported_with_its_name_and_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, problem: str
) -> None:
    file = tmp_path / "services.py"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("ALVA_SERVICES", str(file))
    with pytest.raises(SettingError, match=problem) as caught:
        chosen_services(SERVICES, MIGRATION)
    assert str(file) in str(caught.value)
