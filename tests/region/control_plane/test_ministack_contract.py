"""The names and behaviour of MiniStack, private ones included, that the region depends on."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from ministack import app

from alva.region import offered_services
from alva.region.cloudformation import extension

REGION = Path(extension.__file__).parents[1]
MOST_PRIVATE_NAMES = 10


def used_names() -> Iterator[tuple[str, str, str]]:
    """Every name of a MiniStack module that the region's source uses: (file, module, name)."""
    for file in sorted(REGION.rglob("*.py")):
        for module, name in names_in(ast.parse(file.read_text()), {}):
            yield file.name, module, name


def names_in(scope: ast.AST, outside: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Every name of a MiniStack module that a scope uses; `outside` are the modules that enclosing scopes import."""
    for nodes, modules in scopes_in(scope, outside):
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ministack"):
                names = (alias.name for alias in node.names if not _is_module(f"{node.module}.{alias.name}"))
                yield from ((str(node.module), name) for name in names)
            elif (name := _named(node, modules)) is not None:
                yield name


def scopes_in(scope: ast.AST, outside: Mapping[str, str]) -> Iterator[tuple[list[ast.AST], Mapping[str, str]]]:
    """The nodes of each scope without those of inner functions, and the MiniStack modules to which its names refer."""
    modules = dict(outside)
    if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        for argument in ast.walk(scope.args):
            if isinstance(argument, ast.arg):
                modules.pop(argument.arg, None)
    nodes, inner = [], []
    pending = list(ast.iter_child_nodes(scope))
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inner.append(node)
        else:
            nodes.append(node)
            pending += ast.iter_child_nodes(node)
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ministack"):
            found = {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            modules |= {name: full for name, full in found.items() if _is_module(full)}
    yield nodes, modules
    for node in inner:
        yield from scopes_in(node, modules)


def _named(node: ast.AST, modules: Mapping[str, str]) -> tuple[str, str] | None:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
        return modules[node.value.id], node.attr
    return None


def private_calls() -> Iterator[tuple[str, str, int, tuple[str, ...], bool]]:
    """Every call of a private function of MiniStack: the module, the name, the number of positional arguments, the
    names of the keyword arguments, and whether the list is complete. `run(function, ...)` is a call of `function`, too.
    """
    for file in sorted(REGION.rglob("*.py")):
        for nodes, modules in scopes_in(ast.parse(file.read_text()), {}):
            for node in (node for node in nodes if isinstance(node, ast.Call)):
                for called, arguments in ((node.func, node.args), *((each, node.args[1:]) for each in node.args[:1])):
                    name = _named(called, modules)
                    if name is not None and name[1].startswith("_"):
                        positional = [each for each in arguments if not isinstance(each, ast.Starred)]
                        keywords = tuple(each.arg for each in node.keywords if each.arg is not None)
                        is_whole = len(positional) + len(keywords) == len(arguments) + len(node.keywords)
                        yield *name, len(positional), keywords, is_whole


def _is_module(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return True


def test_every_name_that_the_region_uses_exists() -> None:
    used = sorted(set(used_names()))
    assert ("ministack_types.py", "ministack.services.cloudformation.provisioners", "_RESOURCE_HANDLERS") in used
    missing = [each for each in used if not hasattr(importlib.import_module(each[1]), each[2])]
    assert missing == []


def test_few_private_names_are_used() -> None:
    """Use AWS's API in process (`control_plane.call`) or records of our own instead of a further one."""
    private = {(module, name) for _, module, name in used_names() if name.startswith("_")}
    assert len(private) <= MOST_PRIVATE_NAMES, sorted(private)


def test_private_functions_accept_the_arguments_of_the_regions_calls() -> None:
    calls = sorted(set(private_calls()))
    assert calls
    for module, name, count, keywords, is_whole in calls:
        called = getattr(importlib.import_module(module), name)
        if callable(called):
            signature = inspect.signature(called)
            (signature.bind if is_whole else signature.bind_partial)(*range(count), **dict.fromkeys(keywords))


def test_an_argument_that_has_a_modules_name_is_not_the_module() -> None:
    source = "from ministack.services import ecr\ndef one(ecr):\n    ecr.call()\ndef two():\n    ecr._repo_shape()"
    assert list(names_in(ast.parse(source), {})) == [("ministack.services.ecr", "_repo_shape")]


def test_the_version_is_the_pinned_one() -> None:
    pinned = (REGION.parents[2] / "pyproject.toml").read_text()
    assert f'"ministack=={version("ministack")}"' in pinned


def test_offered_and_absent_services_are_ministacks() -> None:
    assert set(offered_services.OFFERED) <= set(app.SERVICE_REGISTRY)
    folder = Path(app.__file__).parent / "services"
    unknown = [name for name in offered_services.ABSENT if not (folder / f"{name}.py").exists()]
    assert unknown == []
    offered_modules = {app.SERVICE_REGISTRY[name]["module"] for name in offered_services.OFFERED}
    assert not offered_modules & set(offered_services.ABSENT)


def test_disabled_entry_points_of_ministack_exist() -> None:
    names = (
        "_handle_special_data_plane_request", "_resolve_custom_domain_request", "_handle_admin_reset",
        "_handle_admin_config_request", "_handle_s3_control_request", "_handle_s3_vhost_request",
    )  # fmt: skip
    assert all(callable(getattr(app, name)) for name in names)
