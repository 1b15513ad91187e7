"""The region as a process: start, stop, SIGKILL, ports in use."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from alva.cli import status
from alva.errors import RegionFailed
from alva.region import daemon
from alva.region.config import RegionConfig
from tests.conftest import RunningRegion, reserved_region_config, running_region
from tests.waiting import until

pytestmark = pytest.mark.region

PARAMETER = {
    "Resources": {
        "Parameter": {"Type": "AWS::SSM::Parameter", "Properties": {"Name": "/kept", "Type": "String", "Value": "1"}}
    }
}


def wait_until_saved(config: RegionConfig, word: str, *, seconds: float = 60.0) -> None:
    """Wait until the state on disk mentions `word`."""
    file = config.state_folder / "control-plane.sqlite"

    def is_saved() -> bool:
        if not file.exists():
            return False
        connection = sqlite3.connect(file)
        try:
            rows = connection.execute("SELECT payload FROM state").fetchall()
        except sqlite3.OperationalError:
            return False  # the table does not exist yet
        finally:
            connection.close()
        return any(word.encode() in payload for (payload,) in rows)

    until(is_saved, f"{word} to be saved", seconds=seconds)


def test_tasks_can_read_their_files_with_any_umask(tmp_path: Path) -> None:
    former = os.umask(0o077)
    try:
        with running_region(tmp_path / "home") as region:
            names = region.config.run_folder / "names"
            assert names.stat().st_mode & 0o777 == 0o755
            assert (names / "hosts").stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(former)


def test_start_is_idempotent_and_stop_leaves_nothing(tmp_path: Path) -> None:
    with reserved_region_config(tmp_path) as config:
        daemon.start(config)
        first = daemon.status(config)
        daemon.start(config)
        assert daemon.status(config) == first
        assert first.is_running
        assert json.loads(config.running_file.read_text())["endpoint_url"] == config.endpoint_url
        assert daemon.stop(config)
        assert not daemon.status(config).is_running
        assert not config.running_file.exists()
        assert not daemon.stop(config)
        assert processes_naming(tmp_path) == []


def processes_naming(folder: Path) -> list[str]:
    """Command lines of running processes that mention a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in command:
                found.append(command)
    return found


def test_everything_listens_on_loopback_only(region: RunningRegion) -> None:
    own_ports = {
        region.config.api_port, region.config.edge_port, region.config.edge_tls_port, region.config.inbox_port
    }  # fmt: skip
    listening = subprocess.run(["ss", "-tlnH"], capture_output=True, text=True, check=True).stdout.splitlines()
    addresses = [line.split()[3] for line in listening if int(line.split()[3].rpartition(":")[2]) in own_ports]
    assert addresses
    assert all(address.startswith("127.") for address in addresses), addresses


def test_port_in_use_is_named_and_no_process_is_left(tmp_path: Path) -> None:
    with reserved_region_config(tmp_path) as config, socket.create_server(("127.0.0.1", config.edge_port)):
        with pytest.raises(RegionFailed, match=f"port {config.edge_port} is in use") as failure:
            daemon.start(config)
        assert failure.value.next_step is not None
        assert "ALVA_EDGE_PORT" in failure.value.next_step
        assert f"process {os.getpid()} (" in str(failure.value)
        assert not daemon.status(config).is_running


def test_two_regions_of_one_home_are_refused(tmp_path: Path) -> None:
    with running_region(tmp_path) as running, reserved_region_config(tmp_path) as other:
        environment = {**os.environ, **daemon.environment_of(replace(other, home=running.config.home))}
        second = subprocess.run(
            [sys.executable, "-m", "alva.region"], env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert second.returncode == 1
        assert "it runs already" in second.stderr
        assert daemon.status(running.config).is_running


def test_state_survives_stop_and_start(tmp_path: Path) -> None:
    with running_region(tmp_path) as running:
        assert running.create("kept", PARAMETER).status == "CREATE_COMPLETE"
        daemon.stop(running.config)
        daemon.start(running.config)
        assert running.settled("kept").status == "CREATE_COMPLETE"
        assert running.client("ssm").get_parameter(Name="/kept")["Parameter"]["Value"] == "1"
        assert running.delete("kept").status == "DELETE_COMPLETE"


def test_state_survives_sigkill(tmp_path: Path) -> None:
    with running_region(tmp_path) as running:
        running.create("kept", PARAMETER)
        wait_until_saved(running.config, "CREATE_COMPLETE")
        pid = daemon.status(running.config).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: daemon.status(running.config).pid is None, "the end of the region")
        assert not daemon.status(running.config).is_running
        daemon.start(running.config)
        assert running.settled("kept").status == "CREATE_COMPLETE"


def test_stale_running_file_is_ignored(tmp_path: Path) -> None:
    with reserved_region_config(tmp_path) as config:
        config.running_file.write_text(json.dumps({"pid": os.getpid(), "started_at": "2026-01-01T00:00:00+00:00"}))
        assert not daemon.status(config).is_running
        daemon.start(config)
        assert daemon.status(config).is_running
        daemon.stop(config)


def test_status_shows_failures_of_background_work(tmp_path: Path) -> None:
    with running_region(tmp_path) as running:
        assert daemon.failures(running.config) == []
        daemon.stop(running.config)
        assert daemon.failures(running.config) is None
    failure = {"name": "evaluate alarm web", "error": "ValueError: no metric", "since": "2026-01-01", "count": 3}
    assert "cannot evaluate alarm web: ValueError: no metric" in "".join(status._failures([failure]))
    assert "does not answer" in "".join(status._failures(None))


def test_damaged_state_is_an_error_and_the_file_is_kept(tmp_path: Path) -> None:
    with reserved_region_config(tmp_path) as config:
        config.state_folder.mkdir(parents=True)
        file = config.state_folder / "control-plane.sqlite"
        file.write_bytes(b"this is no database" * 100)
        with pytest.raises(RegionFailed, match="its saved state is damaged") as failure:
            daemon.start(config)
        assert str(file) in failure.value.evidence[0]
        assert file.read_bytes() == b"this is no database" * 100
        assert not daemon.status(config).is_running


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    occupied = tmp_path / "home"
    occupied.write_text("a file, where the region wants a folder")
    with reserved_region_config(occupied) as config, pytest.raises(RegionFailed, match="folder cannot be written"):
        daemon.start(config)


def test_wipe_deletes_all_data(tmp_path: Path) -> None:
    with running_region(tmp_path) as running:
        running.create("kept", PARAMETER)
        cut_off = tmp_path / ".wiped-earlier/images"
        cut_off.mkdir(parents=True)
        daemon.wipe(running.config)
        assert not running.config.state_folder.exists()
        assert not running.config.images_folder.exists()
        daemon.start(running.config)
        assert running.client("cloudformation").describe_stacks()["Stacks"] == []
        until(lambda: not list(tmp_path.glob(".wiped-*")), "all data to be deleted")


def test_the_process_stays_small(region: RunningRegion) -> None:
    pid = daemon.status(region.config).pid
    status = Path(f"/proc/{pid}/status").read_text()
    resident_kib = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
    assert resident_kib < 300 * 1024, "twice what it needs"


def test_region_survives_a_full_disk(tmp_path: Path) -> None:
    """A failed save is logged once, and the state is saved when there is space again."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)], check=True)
    try:
        with running_region(disk / "home") as running:
            filler = disk / "filler"
            with filler.open("wb") as file:
                try:
                    while True:
                        file.write(b"x" * 65536)
                        file.flush()
                except OSError:
                    pass
            running.client("ssm").put_parameter(Name="/late", Type="String", Value="x" * 4000)
            with pytest.raises(AssertionError, match="/late to be saved"):
                wait_until_saved(running.config, "/late", seconds=2)
            filler.unlink()
            wait_until_saved(running.config, "/late")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
