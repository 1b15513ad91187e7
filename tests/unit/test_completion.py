"""Completion of verbs and options in a shell."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from alva.cli import main


def completions(words: str, position: int) -> list[str]:
    """The completions that bash offers at that word."""
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "alva"],
        env={**os.environ, "_ALVA_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(position)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.partition(",")[2] for line in ended.stdout.splitlines()]


def test_verbs_options_and_their_choices_are_offered() -> None:
    assert completions("./alva sec", 1) == ["secrets"]
    assert completions("./alva secrets ro", 2) == ["rotate"]
    assert "--since" in completions("./alva logs --s", 2)
    assert completions("./alva status --target a", 3) == ["aws"]


def test_bash_accepts_the_completion_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    ended = subprocess.run(["bash", "-euc", f"{script}\ncomplete -p alva"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith(" alva\n")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_zsh_and_fish_have_completion_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["completion", shell]) == 0
    assert "_ALVA_COMPLETE" in capsys.readouterr().out
