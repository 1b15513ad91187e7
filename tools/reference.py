"""Writes docs/reference/ from the code: verbs and exit codes, settings, environment variables, checks.

`python tools/reference.py` writes the files. With `--check` it writes nothing, and exits with 1 if a file is out of
date.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
sys.path[:0] = [str(ROOT / "infrastructure"), str(ROOT / "src")]

GENERATED = "_Written by `tools/reference.py` from the code; edit that._"


def table(header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    """A Markdown table."""

    def line(cells: Iterable[object]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return [line(header), line("---" for _ in header), *map(line, rows), ""]


def verbs() -> str:
    """Return the verbs with their options and examples, and the exit codes."""
    import click

    from alva import errors
    from alva.cli.examples import EXAMPLES
    from alva.cli.verbs import GROUPS

    lines = ["# Verbs and exit codes", "", GENERATED, ""]
    for title, group in GROUPS:
        lines += [f"## {title}", ""]
        for verb in group:
            command = importlib.import_module(verb.module).command
            lines += [f"### `./alva {verb.name}`", "", *_described(command, verb.name)]
            if isinstance(command, click.Group):
                for name, sub in command.commands.items():
                    lines += [f"#### `./alva {verb.name} {name}`", "", *_described(sub, f"{verb.name} {name}")]
            lines += [f"    {example}" for example in EXAMPLES.get(verb.name, ())]
            lines.append("")
    lines += ["## Exit codes", ""]
    codes: dict[int, list[str]] = {0: ["success"], 130: ["interrupted; run the same command again to continue"]}
    for _, error in inspect.getmembers(errors, inspect.isclass):
        if (
            issubclass(error, errors.AlvaError)
            and error is not errors.AlvaError
            and error.__module__ == errors.__name__
        ):
            codes.setdefault(error.exit_code, []).append((error.__doc__ or "").strip().splitlines()[0].rstrip("."))
    codes[errors.AlvaError.exit_code].append("Any other expected failure")
    rows = [(code, ". ".join(dict.fromkeys(said))) for code, said in sorted(codes.items())]
    lines += table(("code", "meaning"), rows)
    lines.append("`./alva run` ends with the exit code of the task's command, `./alva test` with pytest's.")
    return "\n".join([*lines, ""])


ARGUMENTS = {
    "services": "names of services; default: all",
    "service": "the name of a service",
    "name": "the secret, with or without the environment's prefix",
    "number": "a release's number",
    "reason": "why the lock is taken",
    "shell": "the shell",
    "names": "names of checks; default: all",
    "run arguments": "the command of the task",
    "exec arguments": "the command; default: a shell",
    "test arguments": "arguments of pytest",
}
"""An argument's name, where needed after its verb -> its description. click has no help for arguments."""


def _described(command: Any, verb: str) -> list[str]:
    import click

    lines = [(command.help or "").replace("\b", "").strip(), ""]
    rows = []
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            said = ARGUMENTS.get(parameter.name) or ARGUMENTS[f"{verb} {parameter.name}"]
            rows.append((f"`{parameter.make_metavar(click.Context(command))}`", said))
        elif isinstance(parameter, click.Option) and "--help" not in parameter.opts:
            names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
            rows.append((names, parameter.help or ""))
    return [*lines, *(table(("option", "description"), rows) if rows else [])]


def settings() -> str:
    """Return the settings: their defaults and their values in each environment."""
    from lib.config import settings as groups
    from lib.config.environments import ENVIRONMENTS, Environment

    names = list(ENVIRONMENTS)
    lines = [
        "# Settings of an environment",
        "",
        GENERATED,
        "",
        "`infrastructure/lib/config/environments.py` has their values. The synthesis refuses an invalid value",
        "and names the setting.",
        "",
        "## The environment",
        "",
    ]
    nested: dict[str, Any] = {}
    rows = []
    for field in dataclasses.fields(Environment):
        values = [getattr(ENVIRONMENTS[name], field.name) for name in names]
        group = next((v for v in values if dataclasses.is_dataclass(v)), None)
        if group is not None and type(group).__module__ == groups.__name__:
            nested[field.name] = type(group)
        elif field.name != "services":
            rows.append((f"`{field.name}`", _default(field), *map(_value, values)))
    lines += table(("setting", "default", *names), rows)
    for name, cls in inspect.getmembers(groups, inspect.isclass):
        if dataclasses.is_dataclass(cls) and cls not in nested.values() and name in ("Domain", "WorkingHours"):
            nested["domain" if name == "Domain" else "working_hours"] = cls
    for name, cls in nested.items():
        lines += [f"## `{name}`", "", inspect.cleandoc(cls.__doc__ or ""), ""]
        rows = []
        for field in dataclasses.fields(cls):
            groups_of = [getattr(ENVIRONMENTS[each], name) for each in names]
            values = ["-" if group is None else _value(getattr(group, field.name)) for group in groups_of]
            rows.append((f"`{name}.{field.name}`", _default(field), *values))
        lines += table(("setting", "default", *names), rows)
    return "\n".join(lines)


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return _value(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return _value(field.default_factory())
    return "must be given"


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_value(each)}" for key, each in value.items()) or "none"
    if isinstance(value, tuple):
        return ", ".join(_value(each) for each in value) or "none"
    if dataclasses.is_dataclass(value):
        return " ".join(str(getattr(value, field.name)) for field in dataclasses.fields(value))
    if value is None:
        return "none"
    return f"`{value}`"


def variables() -> str:
    """Return the environment variables of each service's containers, from the functions that write the templates."""
    from lib.config.environments import STAGING
    from lib.constructs.service_environment import Addresses, service_variables

    addresses = Addresses(
        database_url="postgresql://alva_admin@HOST:5432/alva?sslmode=verify-full",
        redis_url="rediss://HOST:6379/0",
        public_urls={each.name: "http://LOAD-BALANCER" for each in STAGING.services},
    )
    lines = [
        "# Environment variables of tasks",
        "",
        GENERATED,
        "",
        "The values of staging. The image sets `HOST` to `0.0.0.0`; a local region without network namespaces sets it"
        " to the task's address.",
        "",
    ]
    for service in STAGING.services:
        plain = service_variables(service, STAGING, addresses=addresses, image_digest="sha256:...")
        containers = ", ".join([f"`{service.name}`", *(f"`{each.name}`" for each in service.companions)])
        lines += [f"## {service.name}", "", f"Containers: {containers}. Port {service.port}.", ""]
        rows: list[tuple[object, ...]] = [(f"`{name}`", f"`{value}`") for name, value in sorted(plain.items())]
        rows += [
            (f"`{name}`", f"secret `{STAGING.prefix}-{key.secret}`" + (f", key `{key.key}`" if key.key else ""))
            for name, key in sorted(service.secret_keys.items())
        ]
        lines += table(("variable", "value"), rows)
    return "\n".join(lines)


def checks() -> str:
    """Return the checks before a release and the checks that verify it."""
    from alva.checks.template_rules import RULES

    lines = [
        "# Checks",
        "",
        GENERATED,
        "",
        "## Template rules",
        "",
        "Run by `./alva preflight --rules`. They read the templates only.",
        "",
    ]
    lines += table(
        ("rule", "what it requires"), [(f"`{name}`", _first_line(rule.__doc__)) for name, rule in RULES.items()]
    )
    for title, module, said in (
        ("Preflight", "preflight", "Run by `./alva preflight`. Every release begins with the essential ones."),
        (
            "The account",
            "account",
            "Run by `./alva preflight`. Skipped without these services, as in a local region.",
        ),
        (
            "Verification",
            "verify",
            "Run after every release and by `./alva verify`. A release that fails a check is rolled back.",
        ),
        (
            "Further checks",
            "deep_checks",
            "Run by `./alva verify --deep`, in addition to the checks above and `alarms are quiet`.",
        ),
        (
            "Dependency checks",
            "deep_check",
            "Run after every release, restart and rotation, and by `./alva verify`, as a one-off task with the api's "
            "image, environment and network (`python -m common.deep_check`).",
        ),
    ):
        lines += [f"## {title}", "", said, ""]
        folder = ROOT / "apps" / "common" if module == "deep_check" else ROOT / "src" / "alva" / "release"
        found = _named_checks(folder / f"{module}.py")
        lines += [*(f"- `{name}`{': ' if said else ''}{said}" for name, said in found), ""]
    return "\n".join(lines)


def _named_checks(file: Path) -> list[tuple[str, str]]:
    """Return the name and the first docstring line of each ("name", function) pair or entry in a module's source."""
    tree = ast.parse(file.read_text())
    functions = {n.name: ast.get_docstring(n) for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    found: list[tuple[str, str]] = []
    for node in ast.walk(tree):
        pairs: list[tuple[ast.expr | None, ast.expr]] = []
        if isinstance(node, ast.Tuple) and len(node.elts) == 2:
            pairs = [(node.elts[0], node.elts[1])]
        elif isinstance(node, ast.Dict):
            pairs = list(zip(node.keys, node.values, strict=True))
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            pairs = [(node.targets[0].slice, node.value)]
        for key, value in pairs:
            name, function = _text(key), _called(value)
            if name is None or function not in functions:
                continue
            said = _first_line(functions[function])
            if not said:
                raise SystemExit(f"{file.name}: the check {name!r} has no description: {function} has no docstring")
            if not any(name == known for known, _ in found):
                found.append((name, said))
    return found


def _text(node: ast.expr | None) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):  # f"{service.name} runs" becomes "SERVICE runs".
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return None


def _called(node: ast.expr) -> str | None:
    """Return the function of a check: `self._x`, `x`, or the function that a lambda or a partial calls."""
    if isinstance(node, ast.Lambda):
        return _called(node.body)
    if isinstance(node, ast.Call):
        own = _called(node.func)
        return _called(node.args[0]) if own == "partial" and node.args else own
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def _first_line(text: str | None) -> str:
    return inspect.cleandoc(text or "").partition("\n\n")[0].replace("\n", " ")


PAGES = {"verbs.md": verbs, "settings.md": settings, "environment-variables.md": variables, "checks.md": checks}


def main(arguments: list[str]) -> int:
    """Write the pages, or with --check report the ones that are out of date."""
    stale = []
    for name, page in PAGES.items():
        file, text = FOLDER / name, page()
        if not file.exists() or file.read_text() != text:
            stale.append(name)
            if "--check" not in arguments:
                file.write_text(text)
                print(f"wrote docs/reference/{name}")
    if stale and "--check" in arguments:
        print(f"stale: {', '.join(stale)}; next: .venv/bin/python tools/reference.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
