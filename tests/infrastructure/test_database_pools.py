"""`database_connections` in `services.py` equals the pool sizes in the services' code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from lib.config.environments import STAGING

APPS = Path(__file__).parents[2] / "apps"


def number(node: ast.expr | None) -> int:
    assert isinstance(node, ast.Constant), "a pool's size is not written as a number"
    assert isinstance(node.value, int)
    return node.value


def database_initializer() -> ast.FunctionDef:
    """`__init__` of common.database.Database."""
    for node in ast.walk(ast.parse((APPS / "common" / "database.py").read_text())):
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return node
    raise AssertionError("common.database.Database has no __init__")


def default_pool_size() -> int:
    arguments = database_initializer().args
    defaults = dict(zip((arg.arg for arg in arguments.kwonlyargs), arguments.kw_defaults, strict=True))
    return number(defaults["pool_size"])


def pool_of(call: ast.Call) -> int:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    return number(given["pool_size"]) if "pool_size" in given else default_pool_size()


def pools_of(service: str) -> dict[str, int]:
    """Return, for each module, the most connections of its calls of Database(...), without one-off commands."""
    pools = {}
    for file in sorted((APPS / service).rglob("*.py")):
        calls = [
            node
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Database"
        ]
        if calls:
            pools[file.stem] = sum(pool_of(call) for call in calls)
    return pools


@pytest.mark.parametrize("name", [service.name for service in STAGING.services])
def test_database_connections_equal_the_pool_sizes(name: str) -> None:
    (service,) = [each for each in STAGING.services if each.name == name]
    containers = {"app", *(companion.name for companion in service.companions)}
    opened = {module: size for module, size in pools_of(name).items() if module in containers}
    assert sum(opened.values()) == service.database_connections, opened


def test_pools_do_not_overflow() -> None:
    """SQLAlchemy's default would open ten connections more than the pool's size."""
    overflows = [
        keyword.value
        for node in ast.walk(database_initializer())
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "max_overflow"
    ]
    assert [number(each) for each in overflows] == [0]
