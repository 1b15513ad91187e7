"""Reads one environment for the console's server, and caches the results for all open pages."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from alva.aws import Aws, Interrupted
from alva.checks.assembly import Assembly
from alva.checks.cost import Prices, bill, total
from alva.console import drawing, metrics
from alva.console.environment import Environment
from alva.console.picture import read_picture
from alva.errors import AlvaError
from alva.release import logs, why
from alva.release.ledger import Ledger
from alva.release.manifest import Manifest
from alva.release.stacks import Stacks

Value = TypeVar("Value")

PICTURE_SECONDS = 20.0
"""How long the deployed templates and their picture are cached."""


class Watch:
    """Reads the environment in a thread while it has followers."""

    def __init__(self, read: Callable[[], Any], seconds_between_readings: float) -> None:
        self._read = read
        self._seconds = seconds_between_readings
        self._news = threading.Condition()
        self._version = 0
        self._latest: tuple[str, Any] | None = None
        self._read_at = float("-inf")
        self._followers = 0
        self._is_closed = False
        self._thread: threading.Thread | None = None

    @contextmanager
    def follow(self) -> Iterator[Watch]:
        """Be a follower during the block."""
        with self._news:
            self._followers += 1
        self.start()
        try:
            yield self
        finally:
            with self._news:
                self._followers -= 1
                self._news.notify_all()

    def start(self) -> None:
        """Start the thread, which reads once and then while there are followers."""
        with self._news:
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="console-watch", daemon=True)
                self._thread.start()

    @property
    def is_closed(self) -> bool:
        """Whether it was closed: nothing new will come."""
        return self._is_closed

    @property
    def latest(self) -> Any:
        """The latest reading, or None: there was none, or it failed, or nobody follows and it is old."""
        name, value = self._latest or ("waiting", None)
        is_recent = time.monotonic() - self._read_at <= 2 * self._seconds
        return value if name == "environment" and is_recent else None

    def newer_than(self, version: int, *, timeout_seconds: float) -> tuple[int, str, Any]:
        """Return the latest reading when its version differs from `version`, or after the timeout."""
        deadline = time.monotonic() + timeout_seconds
        with self._news:
            while (self._latest is None or self._version == version) and not self._is_closed:
                if not self._news.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    break
            name, value = self._latest or ("waiting", {})
            return (self._version if self._latest is not None else version), name, value

    def close(self) -> None:
        """End the thread and wake all followers."""
        with self._news:
            self._is_closed = True
            self._news.notify_all()

    def _read_once(self) -> None:
        try:
            seen = ("environment", self._read())
        except AlvaError as error:
            seen = ("problem", error.as_json())
        except Exception as error:  # the page shows it, and the next reading tries again
            seen = ("problem", {"message": f"cannot read the environment: {error}", "evidence": [], "next": ""})
        with self._news:
            self._read_at = time.monotonic()
            if _without_time(seen) != _without_time(self._latest):
                self._latest, self._version = seen, self._version + 1
                self._news.notify_all()

    def _run(self) -> None:
        while True:
            started = time.monotonic()
            self._read_once()
            with self._news:
                wait_until = started + self._seconds
                while not self._is_closed and self._followers and time.monotonic() < wait_until:
                    self._news.wait(wait_until - time.monotonic())
                if self._is_closed or not self._followers:
                    self._thread = None
                    return


def _without_time(seen: tuple[str, Any] | None) -> Any:
    if seen is None or seen[0] != "environment":
        return seen
    return {key: value for key, value in seen[1].items() if key != "at"}


class Session:
    """One environment, as the console reads it. Methods can be called from several threads and raise AlvaError."""

    def __init__(
        self,
        aws: Aws,
        manifest: Manifest,
        manifest_values: Mapping[str, Any],
        *,
        seconds_between_readings: float,
        chart_library: Path,
        extra: Mapping[str, str],
        read_savings: Callable[[], dict[str, Any]],
    ) -> None:
        """`chart_library` is the folder with uPlot's files; `extra` is shown on the first page (endpoint, inbox).

        `read_savings` returns the savings that `./alva cost` shows.
        """
        self._aws = aws
        self._manifest = manifest
        self._manifest_values = manifest_values
        environment = Environment(aws, manifest)
        self._watch = Watch(lambda: {**environment.read(), "extra": dict(extra)}, seconds_between_readings)
        self._read_savings = read_savings
        self._kept: dict[str, tuple[float, Any]] = {}
        self._reading: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        static = Path(__file__).parent / "static"
        self.static_files = {file.name: file for file in static.iterdir()} | {
            name: chart_library / name for name in ("uPlot.iife.min.js", "uPlot.min.css")
        }

    def watching(self) -> Any:
        """Return a context manager that follows the environment and gives a `Watch`."""
        return self._watch.follow()

    def prepare(self) -> None:
        """Begin to read what the first view shows, before the first request. Returns at once."""
        self._watch.start()
        threading.Thread(target=self._prepare_picture, name="console-picture", daemon=True).start()

    def _prepare_picture(self) -> None:
        with suppress(Exception, Interrupted):  # the page requests it again and shows the error
            self.picture()

    def close(self) -> None:
        """Stop reading and end the event streams."""
        self._watch.close()
        self._aws.poll.interrupt.set()

    def known(self) -> dict[str, Any]:
        """Return the environment and the picture as they were just read, or None. Reads nothing."""
        return {"environment": self._watch.latest, "picture": self._recent("picture", PICTURE_SECONDS)}

    def picture(self) -> dict[str, Any]:
        """Return the architecture of the deployed templates: the SVG, and the details of each part."""
        return self._keep("picture", PICTURE_SECONDS, self._read_picture)

    def _read_picture(self) -> dict[str, Any]:
        picture = read_picture(self._deployed())
        return {
            "svg": drawing.draw(picture),
            "parts": {part.name: asdict(part) for part in picture.parts},
            "arrows": [asdict(arrow) for arrow in picture.arrows],
        }

    def _deployed(self) -> Assembly:
        return self._keep(
            "templates", PICTURE_SECONDS, lambda: deployed_assembly(self._aws, self._manifest, self._manifest_values)
        )

    def releases(self) -> dict[str, Any]:
        """Return the releases of the ledger, newest first."""
        history = Ledger(self._aws, self._manifest).history()
        return {"releases": [{**asdict(each), "outcome_in_words": each.outcome_in_words} for each in history]}

    def causes(self, release: int | None) -> dict[str, Any]:
        """Return what `./alva why` shows: current failures and the last failed release, or one release alone."""
        now = []
        if release is None:
            now = [
                *why.services_causes(self._aws, self._manifest, since=datetime.now(UTC) - why.RECENT),
                *why.stacks_causes(self._aws, self._manifest),
            ]
        stored = why.FailedReleases(self._aws, self._manifest).find(release)
        return {
            "now": [cause.as_json() for cause in now],
            "release": stored.as_json() if stored is not None else None,
        }

    def charts(self, minutes: int) -> dict[str, Any]:
        """Return the charts of the last minutes."""
        return self._keep(
            f"charts {minutes}", 5, lambda: metrics.read_charts(self._aws, self._manifest, minutes=minutes)
        )

    def cost(self) -> dict[str, Any]:
        """Return the monthly cost of what is deployed, at list prices."""
        prices = Prices.read()
        items = bill(self._deployed(), prices)
        large = sorted((item for item in items if item.usd >= 1), key=lambda item: -item.usd)
        small = sum(item.usd for item in items if item.usd < 1)
        return {
            "usd": round(total(items), 2),
            "prices_as_of": prices.as_of,
            "items": [
                *({"subject": each.subject, "what": each.what, "usd": round(each.usd, 2)} for each in large),
                {"subject": "secrets, alarms and other small things", "what": "", "usd": round(small, 2)},
            ],
        }

    def savings(self) -> dict[str, Any]:
        """Return what each saving setting would save per month, and its drawback. This takes some seconds."""
        return self._keep("savings", 600, self._read_savings)

    def log_batches(
        self, names: list[str], since: datetime, pattern: str, size: int, *, is_following: bool
    ) -> Iterator[list[dict[str, object]]]:
        """Yield log lines, oldest first, in batches of at most `size`. When following, empty batches are heartbeats."""
        groups = logs.log_groups(self._manifest, names)
        if is_following:
            rounds = logs.follow_in_rounds(self._aws, groups, since=since, pattern=pattern)
        else:
            rounds = iter([logs.read(self._aws, groups, since=since, pattern=pattern)])
        for lines in rounds:
            for first in range(0, max(len(lines), 1), size):
                yield [line.as_json() for line in lines[first : first + size]]

    def _recent(self, key: str, seconds: float) -> Any:
        at, value = self._kept.get(key, (0.0, None))
        return value if time.monotonic() - at <= seconds else None

    def _keep(self, key: str, seconds: float, read: Callable[[], Value]) -> Value:
        """Return the value cached less than `seconds` ago, or read it. Concurrent callers share one read."""
        with self._reading[key]:
            value = self._recent(key, seconds)
            if value is None:
                value = read()
                self._kept[key] = (time.monotonic(), value)
            kept: Value = value
            return kept


def deployed_assembly(aws: Aws, manifest: Manifest, manifest_values: Mapping[str, Any]) -> Assembly:
    """Read the deployed templates as one graph. Raises AlvaError where a stack does not exist."""
    stacks = Stacks(aws)
    observed = {stack.name: stacks.observe(stack.name) for stack in manifest.stacks}
    templates = {name: found.template for name, found in observed.items() if found is not None and found.template}
    missing = [name for name in observed if name not in templates]
    if missing:
        raise AlvaError(
            f"cannot draw {manifest.environment}: not all of its stacks exist",
            evidence=[f"there is no stack {name}" for name in missing],
            next_step="./alva up, or ./alva deploy --target aws",
        )
    return Assembly(manifest_values, templates)
