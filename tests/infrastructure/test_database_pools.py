"""The connections that `services.py` promises are those that the services' code opens."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from lib.config.environments import STAGING

APPS = Path(__file__).parents[2] / "apps"


def pool_of(call: ast.Call, defaults: dict[str, int]) -> int:
    given = {keyword.arg: keyword.value for keyword in call.keywords}

    def number(name: str) -> int:
        value = given.get(name)
        if value is None:
            return defaults[name]
        assert isinstance(value, ast.Constant), f"{name} is not written as a number"
        assert isinstance(value.value, int)
        return value.value

    return number("pool_size") + number("max_overflow")


def default_pool() -> dict[str, int]:
    """The defaults of kit.database.Database."""
    tree = ast.parse((APPS / "kit" / "database.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            return {
                arg.arg: default.value
                for arg, default in pairs
                if isinstance(default, ast.Constant) and isinstance(default.value, int)
            }
    raise AssertionError("kit.database.Database has no __init__")


def pools_of(service: str) -> dict[str, int]:
    """Module -> the most connections that its calls of Database(...) open; one-off commands apart."""
    pools = {}
    for file in sorted((APPS / service).rglob("*.py")):
        calls = [
            node
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Database"
        ]
        if calls:
            pools[file.stem] = sum(pool_of(call, default_pool()) for call in calls)
    return pools


@pytest.mark.parametrize("name", [service.name for service in STAGING.services])
def test_promised_connections_are_those_of_the_pools(name: str) -> None:
    (service,) = [each for each in STAGING.services if each.name == name]
    containers = {"app", *(companion.name for companion in service.companions)}
    opened = {module: size for module, size in pools_of(name).items() if module in containers}
    assert sum(opened.values()) == service.database_connections, opened
