"""The command line: help, refusals, exit codes."""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from alva.cli import main
from alva.cli.deploy import given_digests
from alva.cli.logs import parse_since, say
from alva.cli.verbs import GROUPS, VERBS
from alva.errors import AlvaError, UsageError


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a region."""
    monkeypatch.setenv("ALVA_HOME", str(tmp_path))
    monkeypatch.delenv("ALVA_TARGET", raising=False)
    return tmp_path


def test_bare_call_lists_every_verb_with_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    main.run([])
    printed = "".join(capsys.readouterr())
    for _, verbs in GROUPS:
        for verb in verbs:
            assert f"{verb.name} " in printed
            assert verb.summary in printed


@pytest.mark.parametrize("name", sorted(VERBS))
def test_every_verb_has_a_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([name, "--help"]) == 0
    assert f"./alva {name}" in capsys.readouterr().out


def test_every_verb_module_is_listed() -> None:
    listed = {verb.module.rpartition(".")[2] for verb in VERBS.values()}
    folder = Path(main.__file__).parent
    with_command = {
        file.stem
        for file in folder.glob("*.py")
        if isinstance(getattr(importlib.import_module(f"alva.cli.{file.stem}"), "command", None), click.Command)
    }
    assert with_command == listed


def test_help_imports_neither_boto3_nor_the_region_server() -> None:
    code = (
        "import sys; from alva.cli import main; main.run(['--help']);"
        "print([m for m in ('boto3', 'ministack', 'rich', 'cryptography') if m in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr.strip() == "[]"


def test_wiping_asks_and_deletes_nothing_without_an_answer(
    nowhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    (nowhere / "state").mkdir()
    assert main.run(["down", "--wipe"]) == 2
    assert "--yes answers yes" in capsys.readouterr().err
    assert (nowhere / "state").exists()
    assert main.run(["down", "--wipe", "--yes"]) == 0
    assert not (nowhere / "state").exists()
    assert main.run(["down", "--wipe"]) == 0, "without data there is no question"


def test_no_color_removes_the_colour_from_results_too() -> None:
    """Results are printed by click, progress by rich: the variable applies to both, on a terminal."""
    program = (
        "import click; from alva.cli import main\n@main.application.command()\ndef x(): click.secho('red', fg='red')"
    )
    shown = {}
    for value in ("", "1"):
        outside, inside = os.openpty()
        script = f"{program}\nmain._Verbs.get_command = lambda *_: x; main.run(['x'])"
        subprocess.run([sys.executable, "-c", script], stdout=inside, env={**os.environ, "NO_COLOR": value}, check=True)
        os.close(inside)
        shown[value] = os.read(outside, 100)
        os.close(outside)
    assert b"\x1b[31m" in shown[""]
    assert shown["1"] == b"red\r\n"


def test_unknown_verb_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


def test_check_that_does_not_exist_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["check", "lnt"]) == 2
    assert "'lint'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["status"], ["verify"], ["logs"], ["secrets", "list"], ["run", "api", "--", "x"]]
)
def test_without_a_region_the_error_has_the_command_that_starts_one(
    nowhere: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("cannot ")
    assert "next: ./alva up" in printed.err
    assert not list(nowhere.iterdir())


@pytest.mark.parametrize("name", ["up", "down"])
def test_verbs_about_the_local_region_refuse_aws(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([name, "--target", "aws"]) == 2
    assert "local region" in capsys.readouterr().err


@pytest.mark.usefixtures("nowhere")
def test_json_error_on_standard_error_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["status", "--json"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    error = json.loads(printed.err)
    assert error["message"].startswith("cannot ")
    assert error["exit_code"] == 1


def test_unexpected_error_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_arguments: object, **_more: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(main.application, "main", broken)
    assert main.run(["status"]) == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError: oops" in err
    assert "Traceback" not in err
    main.run(["status", "--verbose"])
    assert "Traceback" in capsys.readouterr().err


def test_closed_standard_output_is_no_error() -> None:
    code = "from alva.cli import main; main.main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_every_error_class_has_its_exit_code() -> None:
    from alva import errors

    codes = {
        "AlvaError": 1,
        "UsageError": 2,
        "PreflightRefused": 3,
        "MigrationFailed": 4,
        "RolledBack": 5,
        "TimedOut": 6,
        "VerificationFailed": 7,
        "Locked": 8,
        "RollbackFailed": 9,
    }
    assert {name: getattr(errors, name).exit_code for name in codes} == codes


def test_error_shows_evidence_and_next_step_below_its_message() -> None:
    error = AlvaError("cannot go", evidence=["road closed"], next_step="./alva up")
    assert str(error) == "cannot go\n  road closed\n  next: ./alva up"


def test_image_option_accepts_digests_only() -> None:
    digest = "sha256:" + "0" * 64
    assert given_digests((f"api={digest}",)) == {"api": digest}
    for wrong in ("api=latest", "api", f"api={digest[:-1]}"):
        with pytest.raises(UsageError):
            given_digests((wrong,))


NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", datetime(2026, 1, 31, 11, 59, 30, tzinfo=UTC)),
        ("2h", datetime(2026, 1, 31, 10, 0, tzinfo=UTC)),
        ("1d", datetime(2026, 1, 30, 12, 0, tzinfo=UTC)),
        ("2026-01-31T11:00Z", datetime(2026, 1, 31, 11, 0, tzinfo=UTC)),
        ("2026-01-31T12:00+02:00", datetime(2026, 1, 31, 10, 0, tzinfo=UTC)),
        ("2026-01-31T11:00", datetime(2026, 1, 31, 11, 0, tzinfo=UTC)),
    ],
)
def test_since_is_a_duration_or_a_time(text: str, expected: datetime) -> None:
    assert parse_since(text, NOW) == expected


@pytest.mark.parametrize("text", ["yesterday", "10", "10 m", ""])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_since(text, NOW)


def test_json_log_lines_become_text_and_others_are_unchanged() -> None:
    line = say('{"time": "x", "level": "info", "message": "hello", "status": 200, "user": null}')
    assert click.unstyle(line) == "INFO    hello status=200"
    assert say("plain text") == "plain text"
    assert say('["a list"]') == '["a list"]'
