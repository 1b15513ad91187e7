"""The control plane's state on disk: written soon after every change and at stop, all of it in one transaction.

One SQLite file holds a row per service. A commit is all or nothing, also under SIGKILL, so that what is restored is a
state that existed: never a stack that says complete beside resources that were not written yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

from ministack import app as ministack_app
from ministack.core import persistence as codec

from alva.errors import RegionFailed

logger = logging.getLogger("alva.persistence")

DELAY_SECONDS = 0.5
# Lines that tasks log arrive without a request; they are saved this often when nothing else is.
IDLE_SAVE_SECONDS = 10.0
# By far the largest state, and it changes with its own requests and operations only: saved when those say so.
_ON_REQUEST_ONLY = "cloudformation"
# Histories grow without end and nothing refers to them: one that takes long to write down is written less often, at
# most this share of the time. The rest is written together: no stack is missing while what it made is there.
_HISTORIES = frozenset({"cloudwatch", "cloudwatch_logs"})
SHARE_OF_TIME = 0.05
_SCHEMA_VERSION = 1


class Persistence:
    """Saves the state of MiniStack's services and of our own modules in their place. Used on the event loop only."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._changed = asyncio.Event()
        self._is_cloudformation_changed = True
        self._written: dict[str, bytes] = {}
        self._not_before: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None
        self._last_error = ""

    def mark_changed(self) -> None:
        """Have the state saved within half a second. Call it on the event loop after a change outside a request.

        CloudFormation's is not among it: `mark_stacks_changed`.
        """
        self._changed.set()

    def mark_stacks_changed(self) -> None:
        """The same after a change of a stack."""
        self._is_cloudformation_changed = True
        self._changed.set()

    def restore(self) -> list[str]:
        """Load the saved state into the services; returns their names (none at the first start).

        What an earlier version saved for a service that is no longer offered is told in the log, left in the file for
        the version that knows it, and otherwise without effect. Raises RegionFailed when the file is damaged or was
        written by a newer version; the file is left as it is.
        """
        if not self._file.exists():
            return []
        try:
            rows = self._read()
        except (sqlite3.DatabaseError, ValueError) as error:
            raise RegionFailed(
                "cannot restore the local region: its saved state is damaged",
                evidence=[f"{self._file}: {error}"],
                next_step=f"keep a copy of {self._file} if its contents matter, then ./alva down --wipe",
            ) from error
        unknown = sorted(set(rows) - set(ministack_app._state_map))
        if unknown:
            logger.warning(
                "%s was written by an earlier version of alva: the state of %s is kept there and not restored, since "
                "this version does not offer it; everything else is restored",
                self._file,
                ", ".join(unknown),
            )
        for service in unknown:
            del rows[service]
        for service, state in rows.items():
            module_name = ministack_app._state_map[service]
            try:
                ministack_app._get_module(module_name).load_persisted_state(state)
            except Exception as error:
                raise RegionFailed(
                    f"cannot restore the local region: the saved state of {service} does not fit this version",
                    evidence=[f"{self._file}: {type(error).__name__}: {error}"],
                    next_step="use the version of alva that wrote it, or ./alva down --wipe",
                ) from error
        return list(rows)

    def start(self) -> None:
        """Begin to save after changes."""
        self._task = asyncio.get_running_loop().create_task(self._save_after_changes())

    async def stop(self) -> None:
        """Save what changed and end. Raises OSError or sqlite3.Error when that is not possible."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self._not_before.clear()
        self._is_cloudformation_changed = True
        await self.save()

    async def save(self) -> None:
        """Write every service's state that is not on disk yet, in one transaction."""
        rows = self._changed_states()
        if rows:
            await asyncio.to_thread(self._write, rows)
            self._written.update({service: hashlib.blake2b(payload).digest() for service, payload in rows.items()})

    async def _save_after_changes(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), IDLE_SAVE_SECONDS)
            # Not a wait for anything: it gathers the changes of a burst of requests into one write.
            await asyncio.sleep(DELAY_SECONDS)
            self._changed.clear()
            try:
                await self.save()
                self._last_error = ""
            except (OSError, sqlite3.Error) as error:
                self._is_cloudformation_changed = True
                # A full disk, most often. The next change tries again; nothing that was saved before is lost.
                if str(error) != self._last_error:
                    logger.error("cannot save the region's state to %s: %s", self._file, error)
                self._last_error = str(error)
                self._changed.set()
            if self._not_before:
                soonest = min(self._not_before.values()) - time.monotonic()
                asyncio.get_running_loop().call_later(max(soonest, DELAY_SECONDS), self._changed.set)

    def _changed_states(self) -> dict[str, bytes]:
        """The states that differ from what is on disk, encoded. Runs in one go, so that they fit each other."""
        now = time.monotonic()
        rows = {}
        for service, module_name in ministack_app._state_map.items():
            if self._not_before.get(service, 0.0) > now:
                continue
            if service == _ON_REQUEST_ONLY and not self._is_cloudformation_changed:
                continue
            module = ministack_app._loaded_modules.get(module_name) or sys.modules.get(
                f"ministack.services.{module_name}"
            )
            if module is None or not hasattr(module, "get_state"):
                continue
            started = time.monotonic()
            state = module.get_state()
            if state is None:
                continue
            payload = json.dumps(state, default=codec._json_default, separators=(",", ":")).encode()
            took = time.monotonic() - started
            self._not_before.pop(service, None)
            if self._written.get(service) != hashlib.blake2b(payload).digest():
                rows[service] = payload
                if service in _HISTORIES and took > DELAY_SECONDS * SHARE_OF_TIME:
                    self._not_before[service] = now + took / SHARE_OF_TIME
        self._is_cloudformation_changed = False
        return rows

    def _connect(self) -> sqlite3.Connection:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._file, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        # NORMAL loses the last commits when the machine loses power, none when a process is killed.
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def _write(self, rows: dict[str, bytes]) -> None:
        connection = self._connect()
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE IF NOT EXISTS state (service TEXT PRIMARY KEY, payload BLOB NOT NULL)")
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            connection.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", list(rows.items()))
            connection.execute("COMMIT")
        finally:
            connection.close()

    def _read(self) -> dict[str, Any]:
        connection = self._connect()
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > _SCHEMA_VERSION:
                raise RegionFailed(
                    "cannot restore the local region: a newer version of alva wrote its saved state",
                    evidence=[f"{self._file}: format {version}; this version reads up to {_SCHEMA_VERSION}"],
                    next_step="use the version of alva that wrote it, or ./alva down --wipe",
                )
            if version == 0:
                return {}
            (check,) = connection.execute("PRAGMA quick_check").fetchone()
            if check != "ok":
                raise ValueError(check)
            rows = connection.execute("SELECT service, payload FROM state ORDER BY rowid").fetchall()
        finally:
            connection.close()
        self._written = {service: hashlib.blake2b(payload).digest() for service, payload in rows}
        return {service: json.loads(payload, object_hook=codec._json_object_hook) for service, payload in rows}
