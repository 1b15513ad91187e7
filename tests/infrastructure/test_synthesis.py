"""`./alva synth` runs the CDK app, independent of other temporary files."""

from __future__ import annotations

from pathlib import Path

import pytest

from alva.cli.synth import run_app


@pytest.mark.nightly
def test_package_json_among_the_temporary_files_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CDK unpacks a Node program there, and Node reads the nearest package.json."""
    temporary, out = tmp_path / "tmp", tmp_path / "out"
    for folder in (temporary, out):
        folder.mkdir()
    (temporary / "package.json").write_text("{ not JSON")
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    run_app("app.py", "staging", out)
    assert (out / "alva.json").exists()
