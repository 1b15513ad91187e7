"""The supervisor's child processes: start, output, stop, and their end with the region."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from alva.region.config import RegionConfig
from alva.region.sandbox import SandboxSpec
from alva.region.supervisor import Supervisor
from tests.waiting import async_until, until

IGNORE_SIGTERM = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def command_lines() -> dict[int, str]:
    """The running programs of this machine by process id."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and is_alive(int(folder.name)):
            with contextlib.suppress(OSError):
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def test_lines_arrive_in_order_and_before_the_end(workbench: Any) -> None:
    async def test(bench: Any) -> None:
        lines: list[str] = []
        script = "for i in range(5000): print(i)\nimport sys; sys.stdout.flush(); sys.stderr.write('err\\nno end')"
        process = await bench.start("python", "-c", script, lines=lines)
        assert (await process.wait()).code == 0
        assert lines == [*map(str, range(5000)), "err", "no end"]

    workbench(test)


def test_line_of_a_megabyte_is_split(workbench: Any) -> None:
    async def test(bench: Any) -> None:
        lines: list[str] = []
        await (await bench.start("python", "-c", "print('x' * 1_000_000); print('next')", lines=lines)).wait()
        assert "".join(lines[:-1]) == "x" * 1_000_000
        assert lines[-1] == "next"
        assert max(map(len, lines)) <= 256 * 1024

    workbench(test)


def test_output_is_appended_to_a_log_file(workbench: Any, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "program.log"

    async def test(bench: Any) -> None:
        for _ in range(2):
            await (await bench.start("sh", "-c", "echo out; echo err >&2", log_file=log)).wait()

    workbench(test)
    assert log.read_text() == "out\nerr\n" * 2


@pytest.mark.parametrize("sandbox", [None, SandboxSpec(layers=())], ids=["plain", "sandbox"])
@pytest.mark.parametrize("code", [0, 3])
def test_exit_code_is_the_programs(workbench: Any, sandbox: SandboxSpec | None, code: int) -> None:
    async def test(bench: Any) -> None:
        process = await bench.start("/bin/sh", "-c", f"exit {code}", sandbox=sandbox)
        assert (await process.wait()).code == code
        assert not process.is_running
        assert (await process.stop(1)).code == code, "stopping an ended process changes nothing"

    workbench(test)


def test_stop_lets_a_program_end_with_its_own_exit_code(workbench: Any) -> None:
    async def test(bench: Any) -> None:
        script = IGNORE_SIGTERM.replace("signal.SIG_IGN", "lambda *_: exit(7)")
        ready = asyncio.Event()
        process = await bench.start("python", "-c", script, on_line=lambda _: ready.set())
        await ready.wait()
        assert (await process.stop(10)).code == 7

    workbench(test)


def test_plain_process_without_a_handler_ends_with_143(workbench: Any) -> None:
    async def test(bench: Any) -> None:
        process = await bench.start("/bin/sleep", "60", sandbox=None)
        assert (await process.stop(10)).code == 143

    workbench(test)


@pytest.mark.parametrize(
    "sandbox",
    [None, SandboxSpec(layers=()), SandboxSpec(layers=(), has_init=True)],
    ids=["plain", "sandbox", "sandbox with init"],
)
def test_ignored_stop_signal_ends_with_137_in_time(workbench: Any, sandbox: SandboxSpec | None) -> None:
    async def test(bench: Any) -> None:
        ready = asyncio.Event()
        program = "python" if sandbox is not None else sys.executable
        user = None if sandbox is None else (10001, 10001)
        process = await bench.start(
            program, "-c", IGNORE_SIGTERM, sandbox=sandbox, user=user, on_line=lambda _: ready.set()
        )
        await ready.wait()
        started = time.monotonic()
        assert (await process.stop(0.3)).code == 137
        assert time.monotonic() - started >= 0.3

    workbench(test)


@pytest.mark.parametrize("sandbox", [None, SandboxSpec(layers=())], ids=["plain", "sandbox"])
def test_children_of_an_ended_process_are_killed(workbench: Any, sandbox: SandboxSpec | None) -> None:
    async def test(bench: Any) -> None:
        nap = f"0.{os.getpid()}61"
        process = await bench.start("/bin/sh", "-c", f"sleep 1{nap} & exit 0", sandbox=sandbox)
        await process.wait()
        await asyncio.sleep(0.1)
        assert f"sleep 1{nap} " not in command_lines().values()

    workbench(test)


def test_environment_is_the_given_one_without_the_regions(workbench: Any) -> None:
    async def test(bench: Any) -> None:
        os.environ["ALVA_TEST_MARK"] = "must not leak"
        try:
            output = await bench.output("env", environment={"DATABASE": "x=y z"}, sandbox=SandboxSpec(layers=()))
        finally:
            del os.environ["ALVA_TEST_MARK"]
        assert set(output.split("\n")) >= {"DATABASE=x=y z", "HOME=/"}
        assert "ALVA_TEST_MARK" not in output

    workbench(test)


def test_files_of_the_region_are_not_open_in_a_child(workbench: Any, tmp_path: Path) -> None:
    async def test(bench: Any) -> None:
        with (tmp_path / "database").open("w") as file:
            os.set_inheritable(file.fileno(), True)
            output = await bench.output("sh", "-c", "ls -l /proc/self/fd")
        assert "database" not in output
        assert len([line for line in output.split("\n") if "->" in line]) == 4, output  # 0, 1, 2 and the listing itself

    workbench(test)


def test_secrets_are_not_on_any_command_line(workbench: Any) -> None:
    async def test(bench: Any) -> None:
        process = await bench.start("sleep", "60", environment={"SECRET": "hunter2"})
        assert command_lines()[process.pid] == "sleep 60 "
        assert not any("hunter2" in line for line in command_lines().values())

    workbench(test)


def test_stop_all_stops_side_by_side(workbench: Any) -> None:
    async def test(bench: Any) -> None:
        processes = [await bench.start("sleep", "60") for _ in range(5)]  # process 1 ignores SIGTERM
        started = time.monotonic()
        await bench.supervisor.stop_all(2)
        assert time.monotonic() - started < 8, "one after the other takes 10 s"
        assert [process.exit.code for process in processes] == [137] * 5
        assert bench.supervisor.processes == ()

    workbench(test)


def region_program(home: Path) -> str:
    """A region that starts a plain and a sandboxed program, each with a child, and prints their ids."""
    return textwrap.dedent(f"""
        import asyncio, sys
        from pathlib import Path
        from alva.region.config import RegionConfig
        from alva.region.sandbox import SandboxSpec
        from alva.region.supervisor import ProcessSpec, Supervisor

        async def main():
            supervisor = Supervisor(RegionConfig(home=Path({str(home)!r})))
            script = ("/bin/sh", "-c", "sleep 62 & sleep 62")
            for name, sandbox in (("plain", None), ("sandbox", SandboxSpec(layers=()))):
                process = await supervisor.start(ProcessSpec(name=name, argv=script, environment={{}}, sandbox=sandbox))
                print(process.pid, flush=True)
            await asyncio.sleep(60)

        asyncio.run(main())
    """)


def start_region(home: Path) -> tuple[subprocess.Popen[str], list[int]]:
    region = subprocess.Popen([sys.executable, "-c", region_program(home)], stdout=subprocess.PIPE, text=True)
    assert region.stdout is not None
    pids = [int(region.stdout.readline()) for _ in range(2)]
    region.stdout.close()
    return region, pids


def session_members(pid: int) -> list[int]:
    members = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(") ")[2].split()
                if int(fields[3]) == pid and fields[0] != "Z":
                    members.append(int(folder.name))
    return members


def test_processes_of_a_killed_region_end_and_the_next_one_kills_the_rest(tmp_path: Path) -> None:
    region, pids = start_region(tmp_path)
    until(lambda: all(len(session_members(pid)) >= 3 for pid in pids), "the children of both programs")
    plain_group, sandbox_group = session_members(pids[0]), session_members(pids[1])
    region.send_signal(signal.SIGKILL)
    region.wait()
    until(lambda: not any(map(is_alive, (*pids, *sandbox_group))), "the end of the processes")

    left = [pid for pid in plain_group if is_alive(pid)]
    assert left, "children of a plain program outlive it, so the record lists them"
    assert sorted(Supervisor(RegionConfig(home=tmp_path)).kill_leftovers()) == sorted(left)
    assert not any(map(is_alive, left))
    assert Supervisor(RegionConfig(home=tmp_path)).kill_leftovers() == []


def test_process_with_a_reused_id_is_not_killed(tmp_path: Path) -> None:
    region, _ = start_region(tmp_path)
    region.kill()
    region.wait()
    other = subprocess.Popen(["sleep", "63"], start_new_session=True)
    try:
        record = json.loads((tmp_path / "processes.json").read_text())
        record["processes"] = [[other.pid, 12345]]
        (tmp_path / "processes.json").write_text(json.dumps(record))
        assert Supervisor(RegionConfig(home=tmp_path)).kill_leftovers() == []
        assert other.poll() is None

        started = int(Path(f"/proc/{other.pid}/stat").read_text().rpartition(") ")[2].split()[19])
        (tmp_path / "processes.json").write_text(json.dumps({"boot": "another", "processes": [[other.pid, started]]}))
        assert Supervisor(RegionConfig(home=tmp_path)).kill_leftovers() == [], (
            "recorded before the machine started anew"
        )
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_cancelled_start_leaves_nothing(workbench: Any) -> None:
    async def test(bench: Any) -> None:
        nap = f"64.{os.getpid()}"
        for delay in (0, 0.002, 0.008, 0.016):
            task = asyncio.create_task(bench.start("sleep", nap))
            await asyncio.sleep(delay)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await task).kill()
        await bench.supervisor.stop_all(0)
        await async_until(lambda: f"sleep {nap} " not in command_lines().values(), "the end of the process")

    workbench(test)


def test_program_whose_start_is_cancelled_before_its_id_is_read_is_ended(workbench: Any) -> None:
    async def test(bench: Any) -> None:
        nap = f"65.{os.getpid()}"
        task = asyncio.create_task(bench.start("sleep", nap))
        await asyncio.sleep(0)
        # This wait blocks the event loop, so nothing that the launcher writes is read.
        until(lambda: f"sleep {nap} " in command_lines().values(), "the program to run")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await async_until(lambda: f"sleep {nap} " not in command_lines().values(), "the end of the program")

    workbench(test)
