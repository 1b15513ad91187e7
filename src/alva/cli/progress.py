"""Shows the steps of a verb on standard error.

On a terminal, a live view: running steps with their last event and a clock, below the lines of finished steps.
Elsewhere, one line when a step ends. With --json, one JSON object per event.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

MARKS = {"done": "✓", "unchanged": "·", "failed": "✗", "cancelled": "-"}
STYLES = {"done": "green", "unchanged": "dim", "failed": "bold red", "cancelled": "yellow"}


class Progress(Protocol):
    """A `release.reporting.Reporter` that is a context manager."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def expect(self, step_seconds: Mapping[str, float]) -> None: ...
    def step_started(self, key: str, title: str) -> None: ...
    def step_line(self, key: str, text: str) -> None: ...
    def step_finished(self, key: str, outcome: str, detail: str = "") -> None: ...
    def note(self, text: str) -> None: ...
    def paused(self) -> AbstractContextManager[None]: ...


def choose_progress(stream: TextIO, *, as_json: bool, verbose: bool) -> Progress:
    """Return the view for the stream."""
    if as_json:
        return JsonProgress(stream)
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        return LiveProgress(stream, verbose=verbose)
    return PlainProgress(stream, verbose=verbose)


@contextmanager
def step(progress: Progress, key: str, title: str) -> Iterator[StepResult]:
    """Report the block as a step: failed if it raises, unless it was cancelled; else as set in the `StepResult`."""
    result = StepResult()
    progress.step_started(key, title)
    try:
        yield result
    except BaseException as error:
        is_cancelled = not isinstance(error, Exception) or result.outcome == "cancelled"
        progress.step_finished(key, "cancelled" if is_cancelled else "failed")
        raise
    progress.step_finished(key, result.outcome, result.detail)


class StepResult:
    """The result that the block of `step` reports."""

    def __init__(self) -> None:
        self.outcome = "done"
        self.detail = ""


class _Steps:
    """Start times and titles of the steps."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()
        self._titles: dict[str, str] = {}
        self._started: dict[str, float] = {}
        self._begun = time.monotonic()
        self._expected: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def expect(self, step_seconds: Mapping[str, float]) -> None:
        """Store the usual durations of steps."""
        self._expected |= step_seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Show nothing during the block, which asks the user."""
        yield

    def _begin(self, key: str, title: str) -> None:
        self._titles[key] = title
        self._started[key] = time.monotonic()

    def _end(self, key: str) -> tuple[str, float]:
        return self._titles.pop(key, key), time.monotonic() - self._started.pop(key, time.monotonic())

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class PlainProgress(_Steps):
    """One line per step when it ends; with `verbose` also the lines inside."""

    def __init__(self, stream: TextIO, *, verbose: bool = False) -> None:
        super().__init__(stream)
        self._verbose = verbose

    def step_started(self, key: str, title: str) -> None:
        """Store the start time."""
        with self._lock:
            self._begin(key, title)

    def step_line(self, key: str, text: str) -> None:
        """Print a line, if verbose."""
        if self._verbose:
            with self._lock:
                self._write(f"    {self._titles.get(key, key)}: {text}")

    def step_finished(self, key: str, outcome: str, detail: str = "") -> None:
        """Print the step's line."""
        with self._lock:
            title, seconds = self._end(key)
            self._write(_line(outcome, title, detail, seconds))

    def note(self, text: str) -> None:
        """Print a line."""
        with self._lock:
            self._write(text)


class JsonProgress(_Steps):
    """One JSON object per event: {"event", "step", ...}."""

    def _event(self, **fields: object) -> None:
        self._write(json.dumps({"elapsed_seconds": round(time.monotonic() - self._begun, 3), **fields}))

    def step_started(self, key: str, title: str) -> None:
        """Print an event "started"."""
        with self._lock:
            self._begin(key, title)
            self._event(event="started", step=key, title=title)

    def step_line(self, key: str, text: str) -> None:
        """Print an event "line"."""
        with self._lock:
            self._event(event="line", step=key, text=text)

    def step_finished(self, key: str, outcome: str, detail: str = "") -> None:
        """Print an event "finished"."""
        with self._lock:
            _, seconds = self._end(key)
            self._event(event="finished", step=key, outcome=outcome, detail=detail, seconds=round(seconds, 3))

    def note(self, text: str) -> None:
        """Print an event "note"."""
        with self._lock:
            self._event(event="note", text=text)


class LiveProgress(_Steps):
    """Finished steps as lines, and a live view of the running steps below them."""

    def __init__(self, stream: TextIO, *, verbose: bool = False) -> None:
        from rich.console import Console

        super().__init__(stream)
        self._verbose = verbose
        self._console = Console(file=stream, highlight=False, soft_wrap=False)
        self._last_lines: dict[str, str] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        from rich.live import Live

        self._live = Live(
            get_renderable=self._render,
            console=self._console,
            refresh_per_second=5,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hide the view during the block."""
        was_live = self._live is not None
        if was_live:
            self.__exit__(None, None, None)
        try:
            yield
        finally:
            if was_live:
                self.__enter__()

    def _render(self) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1), expand=False)
        with self._lock:
            for key, title in self._titles.items():
                seconds = time.monotonic() - self._started[key]
                table.add_row(
                    Text("▸", style="cyan"),
                    Text(title),
                    Text(_clock(seconds, self._expected.get(key)), style="dim"),
                    Text(self._last_lines.get(key, ""), style="dim", overflow="ellipsis", no_wrap=True),
                )
        return table

    def step_started(self, key: str, title: str) -> None:
        """Add a running row."""
        with self._lock:
            self._begin(key, title)

    # Never print while holding the lock: the view's thread holds the console's lock while it waits for ours.

    def step_line(self, key: str, text: str) -> None:
        """Update the row's last column; print a line too, if verbose."""
        with self._lock:
            self._last_lines[key] = text
            title = self._titles.get(key, key)
        if self._verbose:
            self._console.print(f"    {title}: {text}", style="dim", markup=False)

    def step_finished(self, key: str, outcome: str, detail: str = "") -> None:
        """Replace the row by a line."""
        with self._lock:
            title, seconds = self._end(key)
            self._last_lines.pop(key, None)
        self._console.print(_line(outcome, title, detail, seconds), style=STYLES.get(outcome, ""), markup=False)

    def note(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False)


def _clock(seconds: float, expected: float | None) -> str:
    """Format a step's duration and its expected duration."""
    return f"{seconds:5.1f}s" + (f" of ~{expected:.0f}s" if expected is not None and expected >= 1 else "")


def _line(outcome: str, title: str, detail: str, seconds: float) -> str:
    end = detail or ("" if outcome == "done" else outcome)
    return f"{MARKS.get(outcome, '?')} {title:<40} {seconds:6.1f}s  {end}".rstrip()
