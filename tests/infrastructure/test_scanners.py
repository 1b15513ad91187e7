"""Third-party scanners of the templates. (cdk-nag runs in every synthesis: see conftest.)"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
CHECKOV = REPOSITORY / "tools" / "checkov"


def test_cfn_lint_finds_nothing(staging: Any, production: Any) -> None:
    files = [*staging.template_files(), *production.template_files()]
    finished = subprocess.run(
        [Path(sys.executable).parent / "cfn-lint", "--regions", "us-east-1", "--", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (finished.returncode, finished.stdout) == (0, ""), finished.stdout + finished.stderr


@pytest.mark.nightly
def test_checkov_finds_nothing_that_is_not_accepted_with_a_reason(
    staging: Any, production: Any, tmp_path: Path
) -> None:
    for synthesis in (staging, production):
        for file in synthesis.template_files():
            (tmp_path / file.name).write_text(file.read_text())
    finished = subprocess.run(
        [
            *(Path(sys.executable).parent / "uv", "run", "--quiet", "--frozen", "--project", CHECKOV, "checkov"),
            *("--framework", "cloudformation", "--directory", tmp_path, "--output", "json"),
            *("--skip-download", "--compact", "--quiet"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(finished.stdout)
    failed = [f"{each['check_id']} {each['resource']}" for each in report["results"]["failed_checks"]]
    assert failed == []
    assert report["summary"]["passed"] > 300, "the templates were scanned"
