"""Allowed imports between packages: docs/architecture.md, "The parts"."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICES = tuple(sorted(file.parent.name for file in (ROOT / "apps").glob("*/Dockerfile")))

ALLOWED: dict[str, tuple[str, ...]] = {
    "alva.cli": (
        "alva.cli",
        "alva.console",
        "alva.release",
        "alva.checks",
        "alva.oci",
        "alva.region",
        "alva.sessions",
        "alva.aws",
        "alva.errors",
        "alva.user_cache",
    ),
    "alva.console": ("alva.console", "alva.release", "alva.checks", "alva.aws", "alva.errors"),
    "alva.release": ("alva.release", "alva.checks", "alva.sessions", "alva.aws", "alva.errors"),
    "alva.checks": ("alva.checks", "alva.aws", "alva.errors"),
    "alva.oci": ("alva.oci", "alva.errors"),
    "alva.region": ("alva.region", "alva.oci", "alva.sessions", "alva.errors", "alva.user_cache"),
    "alva.sessions": ("alva.sessions", "alva.errors"),
    "alva.aws": ("alva.errors",),
    "alva.errors": (),
    "alva.user_cache": (),
    "alva.__main__": ("alva.cli",),
}
"""Package -> the packages that it may import."""


@functools.cache
def imports_of(file: Path) -> tuple[tuple[int, str], ...]:
    """Line and absolute name of every import, also those inside functions and `TYPE_CHECKING`."""
    return tuple(_imports_of(file))


def _imports_of(file: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import"
            # `from alva.release import oneoff` imports a module, so the full name is compared.
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def sources(folder: Path) -> list[Path]:
    files = sorted(folder.rglob("*.py"))
    assert files, f"{folder} has no Python files"
    return files


def part_of(file: Path) -> str:
    """`alva.release` for src/alva/release/plan.py, `alva.aws` for src/alva/aws.py."""
    relative = file.relative_to(ROOT / "src").with_suffix("")
    return ".".join(relative.parts[:2])


def module_of(file: Path) -> str:
    """`alva.release` for src/alva/release/__init__.py, `alva.release.plan` for src/alva/release/plan.py."""
    return ".".join(file.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")


def test_no_import_is_part_of_a_cycle() -> None:
    """Also not inside functions or `TYPE_CHECKING`."""
    modules = {module_of(file): file for file in sources(ROOT / "src" / "alva")}
    imports = {
        module: {name if name in modules else name.rpartition(".")[0] for _, name in imports_of(file)} & modules.keys()
        for module, file in modules.items()
    }
    TopologicalSorter({module: imported - {module} for module, imported in imports.items()}).prepare()


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_tool_imports_go_one_way(part: str) -> None:
    files = [file for file in sources(ROOT / "src" / "alva") if part_of(file) == part]
    assert files or part == "alva.__main__"
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in files
        for line, name in imports_of(file)
        if is_within(name, "alva") and not any(is_within(name, allowed) for allowed in ALLOWED[part])
    ]
    assert not wrong


def test_every_part_of_the_tool_has_a_rule() -> None:
    parts = {part_of(file) for file in sources(ROOT / "src" / "alva")} - {"alva.__init__"}
    assert parts <= set(ALLOWED)


def test_tool_imports_neither_infrastructure_nor_services() -> None:
    foreign = ("aws_cdk", "constructs", "infrastructure", "lib", "common", "migrations", *SERVICES)
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in sources(ROOT / "src" / "alva")
        for line, name in imports_of(file)
        if any(is_within(name, package) for package in foreign)
    ]
    assert not wrong


def test_only_infrastructure_imports_the_cdk() -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for folder in ("src", "apps")
        for file in sources(ROOT / folder)
        for line, name in imports_of(file)
        if is_within(name, "aws_cdk") or is_within(name, "constructs")
    ]
    assert not wrong


def test_infrastructure_imports_neither_the_tool_nor_the_services() -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in sources(ROOT / "infrastructure")
        for line, name in imports_of(file)
        if any(is_within(name, package) for package in ("alva", "common", "migrations", *SERVICES))
    ]
    assert not wrong


@pytest.mark.parametrize("service", [*SERVICES, "common", "migrations"])
def test_service_imports_common_and_itself_only(service: str) -> None:
    foreign = {*SERVICES, "common", "migrations", "alva"} - {service, "common"}
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in sources(ROOT / "apps" / service)
        for line, name in imports_of(file)
        if any(is_within(name, package) for package in foreign)
    ]
    assert not wrong


def test_engine_does_not_read_its_target() -> None:
    """Only the endpoint differs between the targets: no module of the engine compares targets or endpoints."""
    wrong = []
    for file in sources(ROOT / "src" / "alva" / "release"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("is_local", "target_name"):
                wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}: {node.attr}")
            if isinstance(node, ast.Compare) and any(
                isinstance(part, ast.Attribute) and part.attr in ("endpoint_url", "target")
                for part in (node.left, *node.comparators)
            ):
                wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}: compares the target")
    assert not wrong
