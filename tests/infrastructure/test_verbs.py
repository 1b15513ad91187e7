"""`./alva cost` and `./alva preflight --reachability` on the command line, without AWS."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lib.config.environments import STAGING

from alva.cli.main import run

Call = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all calls, so that templates are written once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def call(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run one command line: its exit code and standard output."""
    monkeypatch.setenv("ALVA_HOME", str(home))

    def once(*arguments: str) -> tuple[int, str]:
        code = run(arguments)
        return code, capsys.readouterr().out

    return once


def test_reachability_is_printed_as_a_table(call: Call) -> None:
    code, output = call("preflight", "--reachability")
    head, internet, *rows = output.splitlines()
    assert code == 0
    names = [service.name for service in STAGING.services]
    assert head.split() == ["from", "\\", "to", "internet", "alb", *names, "database", "cache"]
    assert internet.split() == ["internet", "-", "80", *("-" for _ in (*names, "database", "cache"))]
    assert len(rows) == len(names) + 3
    pairs: list[dict[str, Any]] = json.loads(call("preflight", "--reachability", "--json")[1])
    assert {"from": "api", "to": "database", "ports": ["5432"]} in pairs


def test_cost_adds_up_and_offers_savings(call: Call) -> None:
    code, output = call("cost", "--json")
    bill: dict[str, Any] = json.loads(output)
    assert code == 0
    assert sum(item["usd"] for item in bill["items"]) == pytest.approx(bill["usd"], abs=0.5)
    for saving in bill["savings"]:
        assert saving["usd"] == pytest.approx(bill["usd"] - saving["saves_usd"], abs=0.02)
    text = call("cost")[1]
    assert f"a month in USD, list prices of {bill['prices_as_of']}" in text
    assert "nat-instance" in text
    assert "nat-instance" not in call("cost", "--no-savings")[1]


@pytest.mark.parametrize("verb", [("bootstrap", "--yes"), ("deploy", "--yes"), ("deploy", "--dry-run")], ids=" ".join)
def test_aws_is_not_called_while_settings_are_missing(
    verb: tuple[str, ...], home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The credentials are invalid, and the settings are checked first."""
    monkeypatch.setenv("ALVA_HOME", str(home))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert run((*verb, "--target", "aws")) == 3
    assert "settings are missing" in capsys.readouterr().err
