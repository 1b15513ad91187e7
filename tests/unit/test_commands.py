"""Every `./alva` and `aws` command in workflows, runbooks and help is valid for its parser."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from alva.cli.examples import EXAMPLES
from alva.cli.main import application
from alva.cli.verbs import VERBS

ROOT = Path(__file__).resolve().parents[2]
ANYTHING = "1"
"""The value that replaces a shell variable: a number is a valid name, digest and count."""

SUBSTITUTION = re.compile(r"\$\((?:[^()]|\([^()]*\))*\)")
ARRAY = re.compile(r'"?\$\{\w+\[@\]\}"?')
VARIABLE = re.compile(r"\$\{?\w+\}?")
HERE_DOCUMENT = re.compile(r"<<'(\w+)'(.*?)\n.*?^\1$", flags=re.MULTILINE | re.DOTALL)
"""A here-document: text that a command reads, not the shell."""


def scripts() -> Iterator[tuple[str, str]]:
    """Each script with its location: steps of workflows, all blocks of runbooks, blocks of the README."""
    for file in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        for name, job in yaml.safe_load(file.read_text())["jobs"].items():
            for step in job["steps"]:
                if "run" in step:
                    yield f"{file.name}:{name}", step["run"]
    documents = [file for name in ("guides", "reference", "runbooks") for file in (ROOT / "docs" / name).glob("*.md")]
    documents.remove(ROOT / "docs" / "reference" / "verbs.md")  # generated from the verbs
    for file in [*sorted(documents), ROOT / "README.md", ROOT / "examples" / "typescript" / "README.md"]:
        text = file.read_text()
        for block in re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
            yield file.name, block
        for line in re.findall(r"^    ((?:\./alva|aws) .*)$", text, flags=re.MULTILINE):
            yield file.name, line
        for line in re.findall(r"`(\./alva [a-z][^`]*)`", text):
            yield file.name, line
    for verb, examples in EXAMPLES.items():
        for example in examples:
            yield f"./alva {verb} --help", example


def commands(script: str) -> Iterator[list[str]]:
    """The simple commands of a script, with shell variables replaced by a value."""
    text = HERE_DOCUMENT.sub(r"\2", script).replace("\\\n", " ")
    inner = [each[2:-1] for each in SUBSTITUTION.findall(text)]
    text = VARIABLE.sub(ANYTHING, ARRAY.sub("", SUBSTITUTION.sub(ANYTHING, text)))
    for part in (text, *inner):
        for line in part.splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
            lexer.commenters = "#"
            lexer.whitespace_split = True
            command: list[str] = []
            redirected = False
            for token in [*lexer, ";"]:
                if set(token) <= set(";|&()"):
                    while command and (re.match(r"\w+=", command[0]) or command[0] in ("{", "!", "if", "then", "do")):
                        command = command[1:]
                    if command:
                        yield command
                    command = []
                elif set(token) <= set("<>"):
                    redirected = True
                elif redirected:
                    redirected = False
                else:
                    command.append(token)


FOUND = [(where, command) for where, script in scripts() for command in commands(script)]
ALVA = [(where, command) for where, command in FOUND if command[0] == "./alva"]
AWS = [(where, command) for where, command in FOUND if command[0] == "aws"]


def parse(arguments: list[str]) -> None:
    """Parse like `./alva ARGUMENTS`, without running it. Raises click's exceptions."""
    context = application.make_context("./alva", list(arguments))
    command: click.Command = application
    while isinstance(command, click.Group):
        _, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        context = found.make_context(found.name, rest, parent=context)
        command = found


@pytest.mark.parametrize(("where", "command"), ALVA, ids=[f"{w}: {shlex.join(c)}" for w, c in ALVA])
def test_alva_parses_the_command(where: str, command: list[str]) -> None:
    try:
        parse(command[1:])
    except click.ClickException as error:
        pytest.fail(f"{where}: {shlex.join(command)}: {error.format_message()}")


def test_parser_refuses_unknown_verbs_and_options() -> None:
    for wrong in (["nonsense"], ["deploy", "--no-such-option"], ["secrets", "nonsense"], ["rollback", "x"]):
        with pytest.raises(click.ClickException):
            parse(wrong)


def test_aws_cli_parses_every_command() -> None:
    tools = ROOT / "tools" / "pipeline"
    arguments = [command[1:] for _, command in AWS]
    finished = subprocess.run(
        [
            *(Path(sys.executable).parent / "uv", "run", "--quiet", "--frozen", "--project", tools),
            *("python", tools / "parse_aws.py"),
        ],
        input=json.dumps([*arguments, ["ecs", "run-task", "--wait"], ["ecr", "describe-images"]]),
        capture_output=True,
        text=True,
        check=True,
    )
    *problems, no_option, no_argument = json.loads(finished.stdout)
    assert no_option, "the parser would refuse an option that does not exist"
    assert no_argument, "the parser would refuse a missing option that is required"
    wrong = [f"{where}: {shlex.join(c)}: {p}" for (where, c), p in zip(AWS, problems, strict=True) if p]
    assert wrong == []


def test_commands_are_found_where_they_stand() -> None:
    assert {where for where, _ in ALVA} >= {"ci.yml:check", "deploy-staging.yml:release", "roll-back.md", "README.md"}
    assert len(AWS) >= 5
    assert list(commands('A=1 ./alva x "$(aws y)" > f && ./alva z <g # ./alva c')) == [
        ["./alva", "x", "1"],
        ["./alva", "z"],
        ["aws", "y"],
    ]


SPOKEN_OF = re.compile(r"\./alva ([a-z]+)((?: (?:--[a-z][a-z-]*|[\w-]+))*)")


def unknown(text: str) -> Iterator[str]:
    """Return the verbs and options in a text that do not exist: of `./alva VERB` and the words directly after it."""
    for verb, rest in SPOKEN_OF.findall(text):
        command = application.get_command(click.Context(application), verb)
        if command is None:
            yield f"./alva {verb}"
            continue
        known = {name for each in all_commands(command) for parameter in each.params for name in parameter.opts}
        named = re.findall(r"--[a-z][a-z-]*", rest.partition(" -- ")[0])
        yield from (f"./alva {verb} {option}" for option in named if option not in known)


@pytest.mark.parametrize("folder", ["src", "docs", "apps", "infrastructure"])
def test_mentioned_verbs_and_options_exist(folder: str) -> None:
    """In errors' next steps, in prose, in comments."""
    files = [file for file in (ROOT / folder).rglob("*") if file.suffix in (".py", ".md", ".html")]
    assert files
    assert [f"{file.relative_to(ROOT)}: {each}" for file in files for each in unknown(file.read_text())] == []


def test_unknown_names_would_be_found() -> None:
    said = (
        "next: ./alva deploy --yes, then ./alva nonsense; ./alva secrets set x --loudly asks; ./alva run api -- x --y"
    )
    assert list(unknown(said)) == ["./alva nonsense", "./alva secrets --loudly"]


def all_commands(command: click.Command) -> Iterator[click.Command]:
    """A command and its subcommands."""
    yield command
    if isinstance(command, click.Group):
        yield from command.commands.values()


def test_every_verb_has_an_example() -> None:
    assert set(EXAMPLES) >= set(VERBS)
