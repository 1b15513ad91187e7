"""Progress as plain lines, as JSON and on a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest
from rich.console import RenderableType

from alva.cli.progress import JsonProgress, LiveProgress, PlainProgress, Progress, choose_progress, step


def work(progress: Progress) -> None:
    with progress:
        with step(progress, "a", "first"):
            progress.step_line("a", "inside")
        with step(progress, "b", "second") as result:
            result.outcome = "unchanged"
        progress.note("by the way")
        with pytest.raises(ValueError, match="broken"), step(progress, "c", "third"):
            raise ValueError("broken")


def test_plain_progress_is_one_line_per_step_with_its_duration() -> None:
    stream = io.StringIO()
    work(PlainProgress(stream))
    lines = [line.split() for line in stream.getvalue().splitlines()]
    assert lines[0] == ["✓", "first", "0.0s"]
    assert lines[1] == ["·", "second", "0.0s", "unchanged"]
    assert lines[2] == ["by", "the", "way"]
    assert lines[3] == ["✗", "third", "0.0s", "failed"]


def test_verbose_progress_shows_the_events_of_a_step() -> None:
    stream = io.StringIO()
    work(PlainProgress(stream, verbose=True))
    assert "    first: inside" in stream.getvalue().splitlines()


def test_json_progress_is_one_object_per_event() -> None:
    stream = io.StringIO()
    work(JsonProgress(stream))
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(e["event"], e.get("step")) for e in events] == [
        ("started", "a"),
        ("line", "a"),
        ("finished", "a"),
        ("started", "b"),
        ("finished", "b"),
        ("note", None),
        ("started", "c"),
        ("finished", "c"),
    ]
    assert [e["outcome"] for e in events if e["event"] == "finished"] == ["done", "unchanged", "failed"]


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TextIO, list[bytes]]]:
    """A pseudo-terminal, and its output, which is complete once the block has ended."""
    monkeypatch.setenv("TERM", "xterm-256color")
    ours, theirs = pty.openpty()
    printed: list[bytes] = []

    def read() -> None:
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:
                return
            if not data:
                return
            printed.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w") as stream:
        yield stream, printed
    reader.join(timeout=5)
    os.close(ours)


def test_progress_on_a_terminal_ends_with_the_same_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as (stream, printed):
        progress = choose_progress(stream, as_json=False, verbose=False)
        assert isinstance(progress, LiveProgress)
        work(progress)
    text = b"".join(printed).decode()
    for title in ("✓ first", "· second", "by the way", "✗ third"):
        assert title in text


def test_lines_during_the_drawing_do_not_stop_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    is_drawn = threading.Event()

    class Slow(LiveProgress):
        """Draws its view slowly, like a slow machine."""

        def _render(self) -> RenderableType:
            is_drawn.set()
            time.sleep(0.5)
            return super()._render()

    def many_lines() -> None:
        with progress:
            progress.step_started("a", "first")
            is_drawn.clear()
            is_drawn.wait(timeout=10)
            progress.note("by the way")
            progress.step_line("a", "inside")
            progress.step_finished("a", "done")

    with terminal(monkeypatch) as (stream, _):
        progress = Slow(stream, verbose=True)
        worker = threading.Thread(target=many_lines, daemon=True)
        worker.start()
        worker.join(timeout=20)
        assert not worker.is_alive(), "the view and the lines wait for each other"


def test_no_terminal_means_plain_lines_and_json_means_json() -> None:
    assert isinstance(choose_progress(io.StringIO(), as_json=False, verbose=False), PlainProgress)
    assert isinstance(choose_progress(io.StringIO(), as_json=True, verbose=False), JsonProgress)


def test_running_step_shows_how_long_it_took_the_last_time() -> None:
    from rich.console import Console

    live = LiveProgress(io.StringIO())
    live.expect({"migration": 12.4})
    live.step_started("migration", "migrate the database")
    live.step_started("verify", "verify")
    console = Console(file=io.StringIO(), width=100)
    with console.capture() as captured:
        console.print(live._render())
    first, second = captured.get().splitlines()[:2]
    assert "of ~12s" in first
    assert "of ~" not in second
