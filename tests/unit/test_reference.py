"""The generated reference is up to date."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_reference_is_current() -> None:
    checked = subprocess.run(
        [sys.executable, ROOT / "tools" / "reference.py", "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_reference_contains_verbs_exit_codes_settings_and_checks() -> None:
    folder = ROOT / "docs" / "reference"
    assert "`./alva secrets rotate`" in (folder / "verbs.md").read_text()
    assert "| 5 | " in (folder / "verbs.md").read_text()
    assert "`database.snapshot`" in (folder / "settings.md").read_text()
    assert (
        "`PGPASSWORD` | secret `alva-staging-database`, key `password`"
        in (folder / "environment-variables.md").read_text()
    )
    assert "`path-coverage`" in (folder / "checks.md").read_text()
