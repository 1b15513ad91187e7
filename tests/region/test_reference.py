"""docs/reference/region.md matches the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENT = PROJECT / "docs/reference/region.md"


def test_reference_of_the_region_is_current() -> None:
    tool = [sys.executable, str(PROJECT / "tools/region_reference.py"), "--check"]
    checked = subprocess.run(tool, capture_output=True, text=True, cwd=PROJECT, timeout=300, check=False)
    assert checked.returncode == 0, checked.stderr


def section(title: str) -> str:
    """The text under one heading."""
    return DOCUMENT.read_text().partition(f"### {title}\n")[2].partition("\n#")[0]


def test_reference_lists_refused_and_ignored_members() -> None:
    """Samples from each table, which show that the tool reads all of them."""
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
