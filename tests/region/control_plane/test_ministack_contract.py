"""What the region takes for granted of MiniStack, private names included: fails when an update takes any of it away."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
from ministack import app
from ministack.services.cloudformation import changesets, engine, handlers, provisioners, stacks

from alva.region import offered_services
from alva.region.cloudformation import extension, requests

REGION = Path(extension.__file__).parents[1]


def used_names() -> Iterator[tuple[str, str, str]]:
    """Every name of a MiniStack module that the region's source mentions: (file, module, name)."""
    for file in sorted(REGION.rglob("*.py")):
        tree = ast.parse(file.read_text())
        modules: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ministack"):
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    if _is_module(full):
                        modules[alias.asname or alias.name] = full
                    else:
                        yield file.name, str(node.module), alias.name
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                yield file.name, modules[node.value.id], node.attr


def _is_module(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return True


def test_every_name_that_the_region_uses_is_there() -> None:
    used = sorted(set(used_names()))
    assert len(used) > 100, "the scan has gone blind"
    missing = [each for each in used if not hasattr(importlib.import_module(each[1]), each[2])]
    assert missing == []


def test_the_version_is_the_pinned_one() -> None:
    pinned = (REGION.parents[2] / "pyproject.toml").read_text()
    assert f'"ministack=={version("ministack")}"' in pinned


def original(name: str) -> object:
    """A replaced function as MiniStack wrote it, whatever a region in this process put in its place."""
    source = ast.parse(inspect.getsource(stacks))
    return next(node for node in source.body if getattr(node, "name", "") == name)


@pytest.mark.parametrize("name", list(extension.REPLACED))
def test_a_replaced_operation_is_called_as_ours_expects(name: str) -> None:
    theirs = original(name)
    assert isinstance(theirs, ast.FunctionDef | ast.AsyncFunctionDef)
    assert isinstance(theirs, ast.AsyncFunctionDef) is inspect.iscoroutinefunction(extension.REPLACED[name])
    expected = [argument.arg for argument in theirs.args.args]
    ours = list(inspect.signature(extension.REPLACED[name]).parameters)
    assert ours == expected


@pytest.mark.parametrize("module", [handlers, changesets])
def test_the_replaced_operations_are_called_by_name(module: ModuleType) -> None:
    """A module that imported the name keeps calling it through its own globals, where ours is put."""
    assert hasattr(module, "_deploy_stack_async")


def test_the_wrapped_actions_exist() -> None:
    assert set(requests.WRAPPERS) <= set(handlers._ACTION_HANDLERS)


def test_offered_and_absent_services_are_ministacks() -> None:
    assert set(offered_services.OFFERED) <= set(app.SERVICE_REGISTRY)
    folder = Path(app.__file__).parent / "services"
    unknown = [name for name in offered_services.ABSENT if not (folder / f"{name}.py").exists()]
    assert unknown == []
    offered_modules = {app.SERVICE_REGISTRY[name]["module"] for name in offered_services.OFFERED}
    assert not offered_modules & set(offered_services.ABSENT)


def test_side_doors_are_where_they_are_closed() -> None:
    names = (
        "_handle_special_data_plane_request", "_resolve_custom_domain_request", "_handle_admin_reset",
        "_handle_admin_config_request", "_handle_s3_control_request", "_handle_s3_vhost_request",
    )  # fmt: skip
    assert all(callable(getattr(app, name)) for name in names)


def test_an_update_without_changes_touches_nothing() -> None:
    """What lets an operation skip a resource whose properties are as before."""
    assert provisioners._update_resource("AWS::Any::Type", "id", {"a": 1}, {"a": 1}, "stack", "Logical", {"b": 2}) == (
        "id",
        {"b": 2},
    )


def test_dependencies_are_found_in_references_and_depends_on() -> None:
    resource = {"Properties": {"A": {"Fn::Sub": "${One}-${Two.Arn}"}, "B": {"Ref": "Three"}}, "DependsOn": "Four"}
    names = {"One", "Two", "Three", "Four", "Five"}
    assert engine._extract_deps(resource, names) == names - {"Five"}
