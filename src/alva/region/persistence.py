"""Saves the control plane's state soon after every change and at stop, in one transaction.

One SQLite file holds a row per service, and rows of CloudWatch Logs' events, which are appended and expire. A commit is
atomic, also under SIGKILL, so the restored state is consistent: for example, a complete stack has all of its resources.

A service whose state cannot be written or read does not affect the others: `./alva status` names it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ministack.services import cloudwatch_logs

from alva.errors import RegionFailed
from alva.region.background import Background, end
from alva.region.cloudformation.store import StackRecords
from alva.region.encoded_state import LargeStates, decode, encode
from alva.region.log_events import Changes, LogEvents
from alva.region.service_table import ServiceTable, module_of

logger = logging.getLogger("alva.persistence")

DELAY_SECONDS = 0.5
# Tasks' log lines arrive without a request; they are saved at least this often.
IDLE_SAVE_SECONDS = 10.0
# The largest state. It changes only with its own requests and operations, so it is saved after these.
_ON_REQUEST_ONLY = "cloudformation"
_LOGS = "cloudwatch_logs"
# Datapoints arrive continuously and nothing refers to them. Encoding them uses at most this share of the time.
_HISTORIES = frozenset({"cloudwatch"})
SHARE_OF_TIME = 0.05
_SCHEMA_VERSION = 2
_TABLES = """
CREATE TABLE IF NOT EXISTS state (service TEXT PRIMARY KEY, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS unreadable_state (service TEXT NOT NULL, payload BLOB NOT NULL, error TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS log_events (stream TEXT NOT NULL, last_timestamp INTEGER NOT NULL, events BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS log_events_of_stream ON log_events (stream, last_timestamp);
"""


class Persistence:
    """Saves the state of MiniStack's services and of the region's replacements. Used on the event loop only."""

    def __init__(self, file: Path, services: ServiceTable, background: Background) -> None:
        self._file = file
        self._services = services
        self._background = background
        self._changed = asyncio.Event()
        self._is_urgent = asyncio.Event()
        self._is_cloudformation_changed = True
        self._written: dict[str, bytes] = {}
        self._not_before: dict[str, float] = {}
        self._log_events = LogEvents()
        self._large = LargeStates()
        self._task: asyncio.Task[None] | None = None

    def mark_changed(self) -> None:
        """Save the state within half a second. Call it on the event loop after a change outside a request.

        This does not include CloudFormation's state: see `mark_stacks_changed`.
        """
        self._changed.set()

    def mark_stacks_changed(self, *, at_once: bool = False) -> None:
        """Save the state, including CloudFormation's, within half a second, or `at_once`."""
        self._is_cloudformation_changed = True
        self._changed.set()
        if at_once:
            self._is_urgent.set()

    def restore(self) -> list[str]:
        """Load the saved state into the services; returns their names (none at the first start).

        State of an earlier version's service that is no longer offered is logged, kept in the file and not restored.
        Raises RegionFailed when the file is damaged or was written by a newer version; the file is not changed.
        """
        if not self._file.exists():
            return []
        try:
            rows = self._read()
        except (sqlite3.DatabaseError, ValueError) as error:
            raise RegionFailed(
                "cannot restore the local region: its saved state is damaged",
                evidence=[f"{self._file}: {error}"],
                next_step=f"keep a copy of {self._file} if you need its content, then run ./alva down --wipe",
            ) from error
        unknown = sorted(set(rows) - set(self._services.states()))
        if unknown:
            logger.warning(
                "%s was written by an earlier version of alva: the state of %s is kept there and not restored, since "
                "this version does not offer it; everything else is restored",
                self._file,
                ", ".join(unknown),
            )
        for service in unknown:
            del rows[service]
        restored = [service for service, payload in rows.items() if self._load(service, payload)]
        if _LOGS in restored:
            self._log_events.restore(self._read_log_events())
        return restored

    def _load(self, service: str, payload: bytes) -> bool:
        """Restore one service's state; returns whether that succeeded. If not, the state is kept in another table."""
        try:
            owner = self._services.states()[service] or module_of(service)
            owner.load_persisted_state(decode(payload))
        except Exception as error:
            self._background.failed(f"restore the state of {service}", error)
            cause = f"{type(error).__name__}: {error}"
            logger.error("the saved state of %s is kept in %s, in table unreadable_state", service, self._file)
            with contextlib.closing(self._connect()) as connection, connection:
                connection.execute("INSERT INTO unreadable_state VALUES (?, ?, ?)", (service, payload, cause))
            return False
        return True

    def start(self) -> None:
        """Start to save after changes."""
        self._task = self._background.run_forever("save the region's state", self._save_after_changes)

    async def stop(self) -> None:
        """Save the changes and stop. Raises OSError or sqlite3.Error when that fails."""
        await end(self._task)
        self._task = None
        self._not_before.clear()
        self._is_cloudformation_changed = True
        await self.save()

    async def save(self) -> None:
        """Write unsaved changes in one transaction. After OSError or sqlite3.Error, the next call writes them."""
        rows = self._changed_states()
        log_changes = self._log_events.changes()
        if not rows and not log_changes:
            return
        try:
            await asyncio.to_thread(self._write, rows, log_changes)
        except BaseException:
            self._is_cloudformation_changed = True
            self._changed.set()
            raise
        self._log_events.written(log_changes)
        self._written.update({service: hashlib.blake2b(payload).digest() for service, payload in rows.items()})

    async def _save_after_changes(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_SAVE_SECONDS):
                await self._changed.wait()
        # This delay collects the changes of several requests into one write.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DELAY_SECONDS):
                await self._is_urgent.wait()
        self._changed.clear()
        self._is_urgent.clear()
        await self.save()
        if self._not_before:
            soonest = min(self._not_before.values()) - time.monotonic()
            asyncio.get_running_loop().call_later(max(soonest, DELAY_SECONDS), self._changed.set)

    def _changed_states(self) -> dict[str, bytes]:
        """The unsaved states, encoded. It does not await anything, so that the states are consistent."""
        now = time.monotonic()
        rows = {}
        for service, module in self._services.states().items():
            if self._not_before.get(service, 0.0) > now:
                continue
            if service == _ON_REQUEST_ONLY and not self._is_cloudformation_changed:
                continue
            if module is None or not hasattr(module, "get_state"):
                continue
            started = time.monotonic()
            try:
                text = self._state_of(service, module)
                if text is None:
                    continue
                payload = text.encode()
            except Exception as error:
                # The other services are saved.
                self._background.failed(f"save the state of {service}", error)
                continue
            self._background.succeeded(f"save the state of {service}")
            took = time.monotonic() - started
            self._not_before.pop(service, None)
            if self._written.get(service) != hashlib.blake2b(payload).digest():
                rows[service] = payload
                if service in _HISTORIES and took > DELAY_SECONDS * SHARE_OF_TIME:
                    self._not_before[service] = now + took / SHARE_OF_TIME
            if service == _ON_REQUEST_ONLY:
                self._is_cloudformation_changed = False
        return rows

    def _state_of(self, service: str, module: Any) -> str | None:
        """A service's state in JSON; None if it has none. Of large states, only changes are encoded."""
        if service == _LOGS and module is cloudwatch_logs:
            return encode(self._log_events.state())
        if isinstance(module, StackRecords):
            return self._large.cloudformation(module.get_state())
        state = module.get_state()
        return None if state is None else encode(state)

    def _connect(self) -> sqlite3.Connection:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._file, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        # NORMAL loses the last commits when the machine loses power, none when a process is killed.
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def _write(self, rows: dict[str, bytes], log_changes: Changes) -> None:
        with contextlib.closing(self._connect()) as connection:
            connection.executescript(_TABLES)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            connection.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", list(rows.items()))
            connection.executemany("DELETE FROM log_events WHERE stream = ?", [(each,) for each in log_changes.removed])
            connection.executemany(
                "DELETE FROM log_events WHERE stream = ? AND last_timestamp < ?", log_changes.expired
            )
            for appended in log_changes.appended:
                events = json.dumps(appended.events, separators=(",", ":"))
                connection.execute(
                    "INSERT INTO log_events VALUES (?, ?, ?)",
                    (appended.stream, appended.events[-1]["timestamp"], events),
                )
            connection.execute("COMMIT")

    def _read(self) -> dict[str, bytes]:
        with contextlib.closing(self._connect()) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > _SCHEMA_VERSION:
                raise RegionFailed(
                    "cannot restore the local region: a newer version of alva wrote its saved state",
                    evidence=[f"{self._file}: format {version}; this version reads up to {_SCHEMA_VERSION}"],
                    next_step="use the version of alva that wrote it, or run ./alva down --wipe",
                )
            if version == 0:
                return {}
            (check,) = connection.execute("PRAGMA quick_check").fetchone()
            if check != "ok":
                raise ValueError(check)
            connection.executescript(_TABLES)
            rows = dict(connection.execute("SELECT service, payload FROM state ORDER BY rowid").fetchall())
        self._written = {service: hashlib.blake2b(payload).digest() for service, payload in rows.items()}
        return rows

    def _read_log_events(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        with contextlib.closing(self._connect()) as connection:
            for stream, events in connection.execute("SELECT stream, events FROM log_events ORDER BY rowid"):
                yield stream, json.loads(events)
