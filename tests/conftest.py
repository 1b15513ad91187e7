"""A complete local region with its own home, ports and addresses, started once for the tests that need it."""

from __future__ import annotations

import functools
import gc
import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import botocore.loaders
import botocore.session
import httpx
import pytest
from botocore.config import Config
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from alva.region import daemon
from alva.region.config import RegionConfig
from tests.ports import free_port, reserve
from tests.waiting import until

if TYPE_CHECKING:
    from tests.rehearsal.environment import Rehearsal

NIGHTLY_LIMIT_SECONDS = 1800.0
# Second octets of loopback addresses for regions under test; 20 is the default region's.
OCTETS = range(101, 180)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--all`: also the nightly tests, which take minutes."""
    parser.addoption("--all", action="store_true", help="run the tests marked nightly, too")


LONGEST_FIRST = (
    *("rehearsal", "faults", "apps", "region/ecs", "region/control_plane", "clients", "release", "region/elb"),
    *("console", "infrastructure", "unit"),
)
"""Folders in the order of their start, so that the processes end at about the same time."""


def folder_of(nodeid: str) -> str:
    """The folder whose tests run in one process: `release`, for example, or a subfolder of `region` (`region/elb`)."""
    _, folder, *below = nodeid.partition("::")[0].split("/")
    return f"{folder}/{below[0]}" if folder == "region" and len(below) > 1 else folder


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the folders that take longest. Without --all, leave nightly tests out and print their number."""
    folders = {name: position for position, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: folders.get(folder_of(item.nodeid), len(folders)))
    for item in items:
        if item.get_closest_marker("nightly") is None:
            continue
        item.add_marker(pytest.mark.timeout(NIGHTLY_LIMIT_SECONDS))
        if not config.getoption("--all"):
            item.add_marker(pytest.mark.skip(reason="nightly: ./alva test --all runs it"))


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the process of the tests."""
    # Modules and tests stay until the end. Garbage collection among them would double the time of this phase.
    if not config.getoption("numprocesses", None):  # With pytest-xdist, the first process collects nothing.
        gc.disable()
    # Sessions of boto3 share the models of AWS's services: to read them again takes most of a new session's time.
    botocore.session.create_loader = functools.cache(botocore.loaders.create_loader)  # type: ignore[attr-defined]
    # Clients of httpx share a TLS context, which takes 20 ms to create, also for a client that uses no TLS.
    httpx._transports.default.create_ssl_context = functools.cache(httpx.create_ssl_context)
    # Ctrl-C reaches the tests' child processes. By default, background jobs of a shell ignore SIGINT.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Start garbage collection again, without the objects that exist now."""
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the number of recorded facts about AWS that hold in the local region."""
    agree, disagree = (
        sum("aws_fact" in report.keywords for report in terminalreporter.getreports(outcome) if report.when == "call")
        for outcome in ("passed", "failed")
    )
    if agree + disagree:
        terminalreporter.write_line(f"facts of AWS: the local region agrees with {agree} of {agree + disagree}")


class FoldersTogether(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Runs a folder's tests in one process, since they share a region or an environment."""

    def _split_scope(self, nodeid: str) -> str:
        return folder_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FoldersTogether:
    """The hook with which pytest-xdist gets its scheduler."""
    return FoldersTogether(config, log)


@dataclass(frozen=True)
class Stack:
    """A stack as DescribeStacks and DescribeStackEvents show it after an operation."""

    id: str
    status: str
    outputs: dict[str, str]
    events: list[dict[str, Any]]
    """Oldest first."""

    def history(self, logical_id: str) -> list[str]:
        """The statuses of a resource (or the stack), in order."""
        return [event["ResourceStatus"] for event in self.events if event["LogicalResourceId"] == logical_id]

    def reason(self, logical_id: str, status: str) -> str:
        """The reason that the event with this status has."""
        return str(
            next(
                event.get("ResourceStatusReason", "")
                for event in reversed(self.events)
                if event["LogicalResourceId"] == logical_id and event["ResourceStatus"] == status
            )
        )


class RunningRegion:
    """A running region, used through AWS's API."""

    def __init__(self, config: RegionConfig) -> None:
        self.config = config
        self._session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=config.region)
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """A boto3 client without retries, so that a test sees every response; the same one for each call."""
        if service not in self._clients:
            config = Config(retries={"max_attempts": 0}, read_timeout=60)
            make_client: Any = self._session.client
            self._clients[service] = make_client(service, endpoint_url=self.config.endpoint_url, config=config)
        return self._clients[service]

    def close(self) -> None:
        """Close the clients' connections."""
        for client in self._clients.values():
            client.close()

    def create(self, name: str, template: Mapping[str, Any], **options: Any) -> Stack:
        """Create a stack and wait for the end of the operation."""
        arn = self.client("cloudformation").create_stack(
            StackName=name, TemplateBody=json.dumps(template), **{"Capabilities": ["CAPABILITY_NAMED_IAM"], **options}
        )
        return self.settled(arn["StackId"])

    def update(self, name: str, template: Mapping[str, Any], **options: Any) -> Stack:
        """Update a stack and wait for the end of the operation."""
        arn = self.client("cloudformation").update_stack(
            StackName=name, TemplateBody=json.dumps(template), **{"Capabilities": ["CAPABILITY_NAMED_IAM"], **options}
        )
        return self.settled(arn["StackId"])

    def delete(self, name: str, **options: Any) -> Stack:
        """Delete a stack and wait for the end of the operation."""
        client = self.client("cloudformation")
        arn = client.describe_stacks(StackName=name)["Stacks"][0]["StackId"]
        client.delete_stack(StackName=name, **options)
        return self.settled(arn)

    def settled(self, stack: str) -> Stack:
        """Wait until no operation is in progress on a stack, named by its name or id."""
        client = self.client("cloudformation")

        def ended() -> dict[str, Any] | None:
            found: dict[str, Any] = client.describe_stacks(StackName=stack)["Stacks"][0]
            return None if found["StackStatus"].endswith("_IN_PROGRESS") else found

        seen = until(ended, f"the end of what is in progress on {stack}")
        pages = client.get_paginator("describe_stack_events").paginate(StackName=seen["StackId"])
        events = [event for page in pages for event in page["StackEvents"]][::-1]
        outputs = {each["OutputKey"]: each["OutputValue"] for each in seen.get("Outputs", [])}
        return Stack(id=seen["StackId"], status=seen["StackStatus"], outputs=outputs, events=events)

    def log(self) -> str:
        """The log of the region's process."""
        return (self.config.logs_folder / "region.log").read_text()


@contextmanager
def reserved_region_config(home: Path, network: str = "") -> Iterator[RegionConfig]:
    """A configuration with free ports, and with addresses that no other test of this machine uses.

    `network`: the kind of the region's network; by default ALVA_NETWORK, or the kind that this machine allows.
    """
    with ExitStack() as reserved:
        octet, lock = reserve("octets", OCTETS)
        reserved.enter_context(lock)
        api, edge, edge_tls, inbox = (free_port() for _ in range(4))
        yield RegionConfig(
            home=home,
            api_port=api,
            edge_port=edge,
            edge_tls_port=edge_tls,
            inbox_port=inbox,
            loopback_octet=octet,
            network=network or os.environ.get("ALVA_NETWORK", "auto"),
        )


@contextmanager
def running_region(home: Path, **settings: Any) -> Iterator[RunningRegion]:
    """A separate region, for a test that breaks, restarts or fills it; `settings` are fields of its RegionConfig."""
    with reserved_region_config(home) as reserved:
        config = replace(reserved, **settings)
        daemon.start(config)
        running = RunningRegion(config)
        try:
            yield running
        finally:
            running.close()
            daemon.stop(config)


@pytest.fixture
def immediate_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 repeats a request without a pause. By default it waits up to a second, then up to two, four and so on."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)


@pytest.fixture(scope="session")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegion]:
    """One region for all tests that only use it; each test has its own names of stacks."""
    with running_region(tmp_path_factory.mktemp("region")) as running:
        yield running


@pytest.fixture(scope="session")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """One environment, started with `./alva up`, for all tests that restore its state at their end."""
    from tests.rehearsal.environment import rehearsal_in

    with rehearsal_in(tmp_path_factory.mktemp("rehearsal")) as rehearsal:
        up = rehearsal.alva("up")
        assert up.returncode == 0, up.stderr
        yield rehearsal
