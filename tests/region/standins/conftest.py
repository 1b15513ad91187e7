"""The stand-ins behind the real Envoy, reached as from tasks: by name, over verified TLS."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alva.region.addresses import Addresses
from alva.region.background import Background
from alva.region.certificates import CertificateAuthority
from alva.region.cloudwatch.metrics import Metrics
from alva.region.elb import LoadBalancers
from alva.region.names import Names
from alva.region.network import Loopback
from alva.region.standins import StandIns
from alva.region.supervisor import Supervisor
from tests.conftest import reserved_region_config


class Rig:
    """The stand-ins of a small region that runs in a thread; client libraries run in the test's thread."""

    def __init__(self, home: Path) -> None:
        self._reserved = contextlib.ExitStack()
        self.config = self._reserved.enter_context(reserved_region_config(home))
        self.inbox_url = f"http://127.0.0.1:{self.config.inbox_port}"
        self.openai_address = f"127.{self.config.loopback_octet}.255.10"
        self.resend_address = f"127.{self.config.loopback_octet}.255.11"
        self._is_ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        region: Any = SimpleNamespace(
            config=self.config,
            background=Background(),
            metrics=Metrics(),
            network=Loopback(),
            supervisor=Supervisor(self.config),
            addresses=Addresses(self.config),
            certificates=CertificateAuthority(self.config.state_folder / "certificates"),
            names=Names(self.config.run_folder / "names"),
            persistence=SimpleNamespace(mark_changed=lambda: None),
        )
        self.region = region
        region.load_balancers = LoadBalancers(region)
        self.standins = StandIns(region)
        try:
            await region.load_balancers.start()
            await self.standins.start()
            await asyncio.sleep(0.2)
            self._is_ready.set()
            await self._stopping.wait()
        except BaseException as error:
            self._failure = error
        finally:
            self._is_ready.set()
            await self.standins.stop()
            await region.load_balancers.stop()
            await region.supervisor.stop_all()

    def start(self) -> Rig:
        self._thread.start()
        self._is_ready.wait(30)
        if self._failure:
            raise self._failure
        return self

    def stop(self) -> None:
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        self._reserved.close()

    @property
    def authority(self) -> str:
        return str(self.region.certificates.authority_file)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Running stand-ins, shared by the tests of a module."""
    rig = Rig(tmp_path_factory.mktemp("standins"))
    yield rig.start()
    rig.stop()


@pytest.fixture
def start_rig(tmp_path: Path) -> Iterator[Any]:
    """Starts further regions; each stops at the end of the test."""
    rigs = []

    def start(home: Path = tmp_path) -> Rig:
        rigs.append(Rig(home))
        return rigs[-1].start()

    yield start
    for rig in rigs:
        rig.stop()
