"""What the console's server asks for: the environment's readers, with what they read kept for a moment and shared."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
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

RECENT = timedelta(minutes=15)
"""How long ago a task may have failed to count as what is wrong now, as for `./alva why`."""


class Watch:
    """Looks at the environment in a thread, as long as somebody follows it."""

    def __init__(self, look: Callable[[], Any], seconds_between_looks: float) -> None:
        self._look = look
        self._seconds = seconds_between_looks
        self._news = threading.Condition()
        self._version = 0
        self._latest: tuple[str, Any] | None = None
        self._followers = 0
        self._is_closed = False
        self._thread: threading.Thread | None = None

    @contextmanager
    def follow(self) -> Iterator[Watch]:
        """Look during the block."""
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
        """Look at least once, and as long as somebody follows, in a thread."""
        with self._news:
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="console-watch", daemon=True)
                self._thread.start()

    @property
    def is_closed(self) -> bool:
        """Whether nothing new will come."""
        return self._is_closed

    def newer_than(self, version: int, *, timeout_seconds: float) -> tuple[int, str, Any]:
        """The latest look once it is another than `version`, or the same after the time. The look is shared."""
        deadline = time.monotonic() + timeout_seconds
        with self._news:
            while (self._latest is None or self._version == version) and not self._is_closed:
                if not self._news.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    break
            name, value = self._latest or ("waiting", {})
            return (self._version if self._latest is not None else version), name, value

    def close(self) -> None:
        """End the thread, and wake up who waits."""
        with self._news:
            self._is_closed = True
            self._news.notify_all()

    def _look_once(self) -> None:
        try:
            seen = ("environment", self._look())
        except AlvaError as error:
            seen = ("problem", error.as_json())
        except Exception as error:  # the page says it; the next look may do better
            seen = ("problem", {"message": f"cannot look at the environment: {error}", "evidence": [], "next": ""})
        with self._news:
            if _without_time(seen) != _without_time(self._latest):
                self._latest, self._version = seen, self._version + 1
                self._news.notify_all()

    def _run(self) -> None:
        while True:
            started = time.monotonic()
            self._look_once()
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
    """One environment, as the console reads it. Methods may be called from several threads, and raise AlvaError."""

    def __init__(
        self,
        aws: Aws,
        manifest: Manifest,
        manifest_values: Mapping[str, Any],
        *,
        seconds_between_looks: float,
        chart_library: Path,
        extra: Mapping[str, str],
        read_savings: Callable[[], dict[str, Any]],
    ) -> None:
        """`chart_library` is the folder with uPlot's files; `extra` is shown on the first page (endpoint, inbox).

        `read_savings` gives what `./alva cost` says of settings that cost less.
        """
        self._aws = aws
        self._manifest = manifest
        self._manifest_values = manifest_values
        environment = Environment(aws, manifest)
        self._watch = Watch(lambda: {**environment.look(), "extra": dict(extra)}, seconds_between_looks)
        self._read_savings = read_savings
        self._kept: dict[str, tuple[float, Any]] = {}
        self._reading: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        static = Path(__file__).parent / "static"
        self.static_files = {file.name: file for file in static.iterdir()} | {
            name: chart_library / name for name in ("uPlot.iife.min.js", "uPlot.min.css")
        }

    def watching(self) -> Any:
        """The environment as it changes: a context manager that gives a `Watch`."""
        return self._watch.follow()

    def prepare(self) -> None:
        """Begin to read what the first view shows, before somebody asks for it. Returns at once."""
        self._watch.start()
        threading.Thread(target=self._prepare_picture, name="console-picture", daemon=True).start()

    def _prepare_picture(self) -> None:
        with suppress(Exception, Interrupted):  # the page asks again, and is told what cannot be read
            self.picture()

    def close(self) -> None:
        """Stop looking, and end the streams that follow."""
        self._watch.close()
        self._aws.poll.interrupt.set()

    def picture(self) -> dict[str, Any]:
        """The architecture from the deployed templates: SVG, and the details of each part."""
        return self._keep("picture", 20, self._read_picture)

    def _read_picture(self) -> dict[str, Any]:
        picture = read_picture(self._deployed())
        return {
            "svg": drawing.draw(picture),
            "parts": {part.name: asdict(part) for part in picture.parts},
            "arrows": [asdict(arrow) for arrow in picture.arrows],
        }

    def _deployed(self) -> Assembly:
        return self._keep("templates", 20, lambda: deployed_assembly(self._aws, self._manifest, self._manifest_values))

    def releases(self) -> dict[str, Any]:
        """The ledger, newest first, with the causes of those that failed where they were kept."""
        return {"releases": [asdict(release) for release in Ledger(self._aws, self._manifest).history()]}

    def causes(self, release: int | None) -> dict[str, Any]:
        """What `./alva why` says: what is wrong now, and the last release that failed, or that release alone."""
        now = []
        if release is None:
            now = [
                *why.services_causes(self._aws, self._manifest, since=datetime.now(UTC) - RECENT),
                *why.stacks_causes(self._aws, self._manifest),
            ]
        account = why.Accounts(self._aws, self._manifest).find(release)
        return {
            "now": [cause.as_json() for cause in now],
            "release": account.as_json() if account is not None else None,
        }

    def charts(self, minutes: int) -> dict[str, Any]:
        """The charts of the last minutes."""
        return self._keep(
            f"charts {minutes}", 5, lambda: metrics.read_charts(self._aws, self._manifest, minutes=minutes)
        )

    def cost(self) -> dict[str, Any]:
        """The month's bill of what is deployed, at list prices."""
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
        """What each setting that costs less would save a month, and what it gives up. Takes seconds to compute."""
        return self._keep("savings", 600, self._read_savings)

    def log_batches(
        self, names: list[str], since: datetime, pattern: str, size: int, *, is_following: bool
    ) -> Iterator[list[dict[str, object]]]:
        """Log lines, oldest first, in batches of at most `size`; when following also empty ones, as a sign of life."""
        groups = logs.log_groups(self._manifest, names)
        if is_following:
            rounds = logs.follow_in_rounds(self._aws, groups, since=since, pattern=pattern)
        else:
            rounds = iter([logs.read(self._aws, groups, since=since, pattern=pattern)])
        for lines in rounds:
            for first in range(0, max(len(lines), 1), size):
                yield [line.as_json() for line in lines[first : first + size]]

    def _keep(self, key: str, seconds: float, read: Callable[[], Value]) -> Value:
        """What was read less than `seconds` ago, or what is read now; who asks meanwhile waits for the same."""
        with self._reading[key]:
            at, value = self._kept.get(key, (0.0, None))
            if value is None or time.monotonic() - at > seconds:
                value = read()
                self._kept[key] = (time.monotonic(), value)
            kept: Value = value
            return kept


def deployed_assembly(aws: Aws, manifest: Manifest, manifest_values: Mapping[str, Any]) -> Assembly:
    """The templates that CloudFormation has, as one graph. Raises AlvaError where nothing is deployed yet."""
    stacks = Stacks(aws)
    observed = {stack.name: stacks.observe(stack.name) for stack in manifest.stacks}
    templates = {name: found.template for name, found in observed.items() if found is not None and found.template}
    missing = [name for name in observed if name not in templates]
    if missing:
        raise AlvaError(
            f"cannot draw {manifest.environment}: it is not deployed as a whole",
            evidence=[f"there is no stack {name}" for name in missing],
            next_step="./alva up, or ./alva deploy --target aws",
        )
    return Assembly(manifest_values, templates)
