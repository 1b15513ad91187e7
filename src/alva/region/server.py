"""The region as one object and one process: its parts, the order they start and stop in, and the API that is served.

MiniStack's application answers the requests; its own start and stop (banner, Docker, schedulers) are left out, since
what they do is not wanted here.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from alva.errors import RegionFailed
from alva.region import offered_services
from alva.region.component import Component
from alva.region.config import RegionConfig
from alva.region.daemon import hold_lock

if TYPE_CHECKING:
    from alva.region.addresses import Addresses
    from alva.region.certificates import CertificateAuthority
    from alva.region.elb import LoadBalancers
    from alva.region.images.store import ImageStore
    from alva.region.memory import MemoryLimits
    from alva.region.names import Names
    from alva.region.network import Network
    from alva.region.persistence import Persistence
    from alva.region.supervisor import Supervisor

logger = logging.getLogger("alva.region")

WORKER_THREADS = 16
# What is left of the five seconds that `down` promises, after the server has stopped taking requests.
STOP_TIMEOUT_SECONDS = 4.0

# In the order in which they start. Tasks come last and stop first: they need all the others.
COMPONENTS = (
    ("alva.region.elb", "LoadBalancers"),
    ("alva.region.alarms", "Alarms"),
    ("alva.region.standins", "StandIns"),
    ("alva.region.rds", "Databases"),
    ("alva.region.elasticache", "Caches"),
    ("alva.region.ecs", "ContainerService"),
)


@dataclass
class Region:
    """What every component is constructed with."""

    config: RegionConfig
    supervisor: Supervisor
    network: Network
    memory: MemoryLimits
    addresses: Addresses
    names: Names
    certificates: CertificateAuthority
    images: ImageStore
    persistence: Persistence
    """`persistence.mark_changed()` after state changed outside an API request (a task that stopped, say)."""
    load_balancers: LoadBalancers = field(init=False)
    """Set before any component's `install`."""
    serve_websocket: ASGIApplication | None = None
    """What answers WebSockets at the API's port, set by the component that has any."""


def prepare_environment(config: RegionConfig) -> None:
    """Set what MiniStack reads from the environment when it is imported."""
    os.environ.update(
        BIND_HOST="127.0.0.1",
        GATEWAY_PORT=str(config.api_port),
        MINISTACK_HOST="localhost",
        MINISTACK_ACCOUNT_ID=config.account_id,
        MINISTACK_REGION=config.region,
        PERSIST_STATE="0",
        S3_PERSIST="0",
        IOT_MTLS_ENABLED="0",
        SFTP_ENABLED="0",
        MINISTACK_TEST_NO_AUTOSTART="1",
        LOG_LEVEL="WARNING",
        # No Docker client is ever made, even where there is a daemon.
        DOCKER_HOST="unix:///nonexistent/docker.sock",
    )
    offered_services.restrict()


def build(config: RegionConfig) -> tuple[Region, list[Component]]:
    """Construct the region and its components; starts nothing."""
    from alva.region.addresses import Addresses
    from alva.region.certificates import CertificateAuthority
    from alva.region.images.store import ImageStore
    from alva.region.memory import MemoryLimits
    from alva.region.names import Names
    from alva.region.network import open_network
    from alva.region.persistence import Persistence
    from alva.region.supervisor import Supervisor

    network = open_network(config.network, config.run_folder)
    region = Region(
        config=config,
        supervisor=Supervisor(config),
        network=network,
        memory=MemoryLimits(config.home),
        addresses=Addresses(config, are_real=network.is_enforced),
        names=Names(config.run_folder / "names"),
        certificates=CertificateAuthority(config.trust_bundle_file.parent),
        images=ImageStore(config.images_folder),
        persistence=Persistence(config.state_folder / "control-plane.sqlite"),
    )
    components: list[Component] = []
    for module_name, class_name in COMPONENTS:
        component: Component = getattr(importlib.import_module(module_name), class_name)(region)
        if class_name == "LoadBalancers":
            region.load_balancers = cast("LoadBalancers", component)
        components.append(component)
    return region, components


async def run(config: RegionConfig) -> None:
    """Serve the region until SIGTERM or SIGINT. Raises RegionFailed when it cannot start or stop cleanly."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    for folder in (config.state_folder, config.run_folder, config.logs_folder, config.images_folder):
        folder.mkdir(parents=True, exist_ok=True)
    hold_lock(config)
    listener = _listen(config)
    prepare_environment(config)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(WORKER_THREADS, thread_name_prefix="region"))

    from ministack import app as ministack_app

    from alva.region import policy_simulation
    from alva.region.cloudformation import extension
    from alva.region.roles import Roles

    ministack_app._MAIN_LOOP = asyncio.get_running_loop()
    offered_services.close_side_doors(ministack_app)
    region, components = build(config)
    for pid in region.supervisor.kill_leftovers():
        logger.warning("ended process %s of an earlier region that was killed", pid)
    region.memory.remove_leftovers()
    logger.info("network: %s", region.network.description)
    logger.info("memory limits: %s", region.memory.description)

    def stacks_changed() -> None:
        region.persistence.mark_stacks_changed()
        region.network.changed()
        region.load_balancers.security_groups_may_have_changed()

    extension.install(stacks_changed)
    policy_simulation.install()
    for component in components:
        component.install()
    extension.finish_install()
    region.persistence.restore()

    application = _application(Roles(config.account_id, config.region).guard(ministack_app.app), region)
    server = asyncio.ensure_future(_serve(application, listener, stopping))
    started: list[Component] = []
    try:
        for component in components:
            started.append(component)
            await component.start()
        region.persistence.start()
        extension.resume_interrupted()
        _write_running_file(region)
        logger.info("serving %s", config.endpoint_url)
        await stopping.wait()
    finally:
        began = time.monotonic()
        stopping.set()
        config.running_file.unlink(missing_ok=True)
        await _stop(region, list(reversed(started)))
        await asyncio.wait([server], timeout=1.0)
        logger.info("stopped in %.1f s", time.monotonic() - began)


def _listen(config: RegionConfig) -> socket.socket:
    """Bind the API's port on loopback."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", config.api_port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise RegionFailed(
            f"cannot start the local region: port {config.api_port} is in use",
            evidence=[f"127.0.0.1:{config.api_port}: {error.strerror}"],
            next_step="end what listens there, or choose another port with ALVA_API_PORT",
        ) from error
    return listener


ASGIApplication = Callable[
    [dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]
]


# Requests whose action begins with one of these change nothing worth saving.
READ_ONLY = ("Describe", "Get", "List", "BatchGet", "Filter", "Lookup", "Validate", "Estimate", "Discover", "Detect")


def _application(ministack: ASGIApplication, region: Region) -> ASGIApplication:
    """MiniStack's application; the state is saved after a request that may have changed it."""

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket" and region.serve_websocket is not None:
            await region.serve_websocket(scope, receive, send)
            return
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        body = b""

        async def overhear() -> Any:
            nonlocal body
            message = await receive()
            body = body or message.get("body", b"")
            return message

        try:
            await ministack(scope, overhear, send)
        finally:
            service, action = requested_action(scope, body)
            if not action.startswith(READ_ONLY):
                region.persistence.mark_changed()
                region.network.changed()
                region.load_balancers.security_groups_may_have_changed()
                if service == "cloudformation":
                    region.persistence.mark_stacks_changed()

    return application


def requested_action(scope: dict[str, Any], body: bytes) -> tuple[str, str]:
    """The service and the action of a request, as far as they can be told; S3's are its methods (`Get`, `Put`)."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope.get("headers", ())}
    credential = headers.get("authorization", "").partition("Credential=")[2].split("/")
    service = credential[3] if len(credential) > 3 else ""
    if target := headers.get("x-amz-target"):
        return service, target.rpartition(".")[2]
    if "/operation/" in scope.get("path", ""):
        return service, scope["path"].rpartition("/")[2]
    for part in (body + b"&" + scope.get("query_string", b"")).split(b"&"):
        if part.startswith(b"Action="):
            return service, part[7:].decode("latin-1")
    return service, scope.get("method", "").capitalize().replace("Head", "Get")


async def _serve(application: ASGIApplication, listener: socket.socket, stopping: asyncio.Event) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    server = Config()
    server.bind = [f"fd://{listener.detach()}"]
    server.keep_alive_timeout = 75
    server.loglevel = "WARNING"
    server.graceful_timeout = 0.2
    server.shutdown_timeout = 0.5
    await serve(application, server, shutdown_trigger=stopping.wait)  # type: ignore[arg-type]


async def _stop(region: Region, components: list[Component]) -> None:
    """Stop the data plane, save the state, end every process. Goes on after a failure; raises the first one.

    Tasks end first, while what they use still serves; then all the rest side by side.
    """
    failures: list[Exception] = []

    async def stop(component: Component) -> None:
        began = time.monotonic()
        try:
            await asyncio.wait_for(component.stop(), STOP_TIMEOUT_SECONDS)
        except Exception as error:
            logger.exception("cannot stop %s", type(component).__name__)
            failures.append(error)
        logger.info("stopped %s in %.1f s", type(component).__name__, time.monotonic() - began)

    for component in components[:1]:
        await stop(component)
    await asyncio.gather(*(stop(component) for component in components[1:]))
    try:
        await region.persistence.stop()
    except Exception as error:
        logger.exception("cannot save the region's state")
        failures.append(error)
    await region.supervisor.stop_all()
    await region.network.close()
    region.memory.close()
    if failures:
        raise RegionFailed(
            "cannot stop the local region cleanly",
            evidence=[f"{type(error).__name__}: {error}" for error in failures],
            next_step=f"see {region.config.logs_folder / 'region.log'}",
        )


def _write_running_file(region: Region) -> None:
    """Say where the region serves; written last, so that whoever sees the file can call the API."""
    config = region.config
    contents = {
        "pid": os.getpid(),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "endpoint_url": config.endpoint_url,
        "region": config.region,
        "account_id": config.account_id,
        "api_port": config.api_port,
        "edge_port": config.edge_port,
        "edge_tls_port": config.edge_tls_port,
        "inbox_port": config.inbox_port,
        "loopback_octet": config.loopback_octet,
        "network": config.network,
        "network_description": region.network.description,
        "enforces_security_groups": region.network.is_enforced,
        "memory_limits": region.memory.description,
    }
    new = config.running_file.with_suffix(".new")
    new.write_text(json.dumps(contents, indent=2) + "\n")
    new.replace(config.running_file)
