"""docs/reference/region.md says what the code does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENT = PROJECT / "docs/reference/region.md"


def test_the_reference_of_the_region_is_what_the_code_makes_of_it() -> None:
    tool = [sys.executable, str(PROJECT / "tools/region_reference.py"), "--check"]
    checked = subprocess.run(tool, capture_output=True, text=True, cwd=PROJECT, timeout=300, check=False)
    assert checked.returncode == 0, checked.stderr


def section(title: str) -> str:
    """The text under one heading."""
    return DOCUMENT.read_text().partition(f"### {title}\n")[2].partition("\n#")[0]


def test_what_the_region_refuses_and_ignores_is_told_as_such() -> None:
    """Samples whose place is known from the code's own tests: the reading of the tables has not gone blind."""
    database = section("AWS::RDS::DBInstance")
    honoured, _, rest = database.partition("- **Without effect**")
    without_effect, _, refused = rest.partition("- **Refused**")
    assert "`DBParameterGroupName`" in honoured
    assert "`MultiAZ`" in without_effect
    assert "`EnableIAMDatabaseAuthentication`" in refused
    assert "`UpdateTaskProtection`" in section("Refused calls")
    assert "`CreateDBInstance`" in section("rds").partition("**Refused by name")[2]
    assert "`CreateDBInstance`" not in section("rds").partition("**Refused by name")[0]
    assert "`RetentionInDays`" in section("AWS::Logs::LogGroup").partition("**Without effect**")[0]
    assert "`PutMetricAlarm`" in section("cloudwatch")
