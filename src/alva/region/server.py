"""The region's process: constructs, starts and stops its components, and serves the API.

Only the program imports this. MiniStack reads its environment when it is imported, so `environment.prepare` runs
before. MiniStack's application answers the requests; its own start and stop (banner, Docker, schedulers) are not used.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any

from ministack import app as ministack_app

from alva.errors import RegionFailed
from alva.region import (
    filter_patterns,
    iam_api,
    log_events,
    malformed,
    offered_services,
    policy_simulation,
    validation,
)
from alva.region.addresses import Addresses
from alva.region.adverse_conditions import AdverseConditions
from alva.region.api_server import ApiServer, listen
from alva.region.asgi import READ_ONLY, ASGIApplication, answer_json, is_for_registry, requested_action
from alva.region.background import Background
from alva.region.certificates import CertificateAuthority
from alva.region.cloudformation import extension
from alva.region.cloudformation.operations import Operations
from alva.region.cloudwatch.alarms import Alarms
from alva.region.cloudwatch.api import CloudWatch
from alva.region.component import Component
from alva.region.config import RegionConfig
from alva.region.control_plane import ControlPlane
from alva.region.daemon import FAILURES_PATH, hold_lock
from alva.region.ecr import ContainerRegistry
from alva.region.ecs import ContainerService
from alva.region.elasticache import CacheService
from alva.region.elb import LoadBalancers
from alva.region.images.store import ImageStore
from alva.region.memory import MemoryLimits
from alva.region.metric_filters import MetricFilters
from alva.region.names import Names
from alva.region.network import open_network
from alva.region.persistence import Persistence
from alva.region.query_definitions import QueryDefinitions
from alva.region.rds import DatabaseService
from alva.region.region import Region
from alva.region.retention import Retention
from alva.region.roles import Roles
from alva.region.service_table import ServiceTable
from alva.region.standins import StandIns
from alva.region.supervisor import Supervisor
from alva.region.unexpected import answer_exceptions

logger = logging.getLogger("alva.region")

WORKER_THREADS = 16
# The services whose calls can change VPCs and interfaces, beside CloudFormation; unsigned requests name none.
_NETWORK_SERVICES = ("ec2", "ecs", "elasticache", "elasticloadbalancing", "rds", "")
# `down` takes five seconds; this is the rest after the server has stopped accepting requests.
STOP_TIMEOUT_SECONDS = 4.0


def build(config: RegionConfig) -> tuple[Region, list[Component]]:
    """Construct the region and its components, in the order of their start, without starting them."""
    background = Background()
    services = ServiceTable()
    control_plane = ControlPlane(config.account_id, config.region)
    network = open_network(config.network, config.run_folder, background, control_plane)
    region = Region(
        config=config,
        background=background,
        supervisor=Supervisor(config),
        network=network,
        memory=MemoryLimits(config.home),
        addresses=Addresses(config, are_real=network.is_enforced),
        names=Names(config.run_folder / "names"),
        certificates=CertificateAuthority(config.trust_bundle_file.parent),
        images=ImageStore(config.images_folder),
        services=services,
        persistence=Persistence(config.state_folder / "control-plane.sqlite", services, background),
    )
    region.load_balancers = load_balancers = LoadBalancers(region)
    # Tasks need all other components, so they start last and stop first.
    components: list[Component] = [
        load_balancers,
        Alarms(region),
        StandIns(region),
        DatabaseService(region),
        CacheService(region),
        ContainerRegistry(region),
        ContainerService(region),
    ]
    return region, components


async def run(config: RegionConfig) -> None:
    """Serve the region until SIGTERM or SIGINT. Raises RegionFailed when it cannot start or stop cleanly."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    for folder in (config.state_folder, config.run_folder, config.logs_folder, config.images_folder):
        folder.mkdir(parents=True, exist_ok=True)
    hold_lock(config)
    listener = listen(config.api_port)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(WORKER_THREADS, thread_name_prefix="region"))

    offered_services.disable_other_entry_points(ministack_app)
    region, components = build(config)
    asyncio.get_running_loop().set_exception_handler(partial(_record_unexpected, region.background))
    for pid in region.supervisor.kill_leftovers():
        logger.warning("ended process %s of an earlier region that was killed", pid)
    region.memory.remove_leftovers()
    logger.info("network: %s", region.network.description)
    logger.info("memory limits: %s", region.memory.description)

    operations = install_cloudformation(region)
    policy_simulation.install()
    iam_api.install(ministack_app.SERVICE_HANDLERS)
    log_events.install()
    filter_patterns.install()
    region.services.replace("monitoring", CloudWatch(region.metrics))
    for component in components:
        component.install()
    definitions = QueryDefinitions()
    region.services.add_state("query_definitions", definitions)
    validation.install(
        ministack_app.SERVICE_HANDLERS, {"logs": {**definitions.operations, **MetricFilters(region.metrics).operations}}
    )
    malformed.install(ministack_app.SERVICE_HANDLERS)
    answer_exceptions(ministack_app.SERVICE_HANDLERS)
    region.persistence.restore()

    services = offered_services.refuse_others(ministack_app.app)
    if config.adverse_conditions:
        services = AdverseConditions(config).guard(services)
        logger.info("adverse conditions: AWS's delays divided by %g", config.adverse_conditions)
    application = _application(Roles(config.account_id, config.region).guard(services), region)
    certificate = region.certificates.issue("127.0.0.1", "localhost")
    server = ApiServer(application, listener, certificate, region.background)
    server.start()
    started: list[Component] = []
    try:
        for component in components:
            started.append(component)
            await component.start()
        region.persistence.start()
        region.background.run_forever("delete what has expired", Retention(config.logs_folder, region.metrics).step)
        extension.resume_interrupted(operations)
        _write_running_file(region)
        logger.info("serving %s", config.endpoint_url)
        await stopping.wait()
    finally:
        began = time.monotonic()
        config.running_file.unlink(missing_ok=True)
        await server.stop()
        await _stop(region, list(reversed(started)))
        logger.info("stopped in %.1f s", time.monotonic() - began)


def install_cloudformation(region: Region) -> Operations:
    """Serve CloudFormation. Each step of a stack operation saves the state soon, and its end at once."""

    def stacks_changed() -> None:
        region.persistence.mark_stacks_changed()
        region.network.changed()
        region.load_balancers.security_groups_may_have_changed()

    # A region that is killed directly after a creation must not roll it back at its next start.
    operation_ended = partial(region.persistence.mark_stacks_changed, at_once=True)
    return extension.install(region.resource_types, region.services, stacks_changed, operation_ended, region.background)


def _record_unexpected(background: Background, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Record an exception that no loop and no job has caught: in a callback, or in a task that is not awaited."""
    error = context.get("exception")
    if isinstance(error, Exception):
        background.failed(f"finish background work ({context['message']})", error)
    else:
        loop.default_exception_handler(context)


def _application(ministack: ASGIApplication, region: Region) -> ASGIApplication:
    """MiniStack's application, which saves the state after a request that may have changed it."""

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket" and region.serve_websocket is not None:
            await region.serve_websocket(scope, receive, send)
            return
        if scope.get("path") == FAILURES_PATH:
            await answer_json(send, {"failures": [failure.as_dict() for failure in region.background.failures]})
            return
        if scope["type"] == "http" and region.serve_registry is not None and is_for_registry(scope):
            await region.serve_registry(scope, receive, send)
            return
        body = b""

        async def receive_and_keep_body() -> Any:
            nonlocal body
            message = await receive()
            body = body or message.get("body", b"")
            return message

        try:
            await ministack(scope, receive_and_keep_body, send)
        finally:
            service, action = requested_action(scope, body)
            if not action.startswith(READ_ONLY):
                region.persistence.mark_changed()
                if service in _NETWORK_SERVICES:
                    region.network.changed()
                    region.load_balancers.security_groups_may_have_changed()
                if service == "cloudformation":
                    region.persistence.mark_stacks_changed()

    return application


async def _stop(region: Region, components: list[Component]) -> None:
    """Stop the data plane, save the state, end every process. It continues after a failure, and raises the first one.

    Tasks end first, while the services that they use still run; then all others in parallel.
    """
    failures: list[Exception] = []

    async def stop(component: Component) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
                await component.stop()
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
    await region.background.stop()
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
    """Write the region's ports. The file is written last: once it exists, the API answers."""
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
        "adverse_conditions": config.adverse_conditions,
    }
    new = config.running_file.with_suffix(".new")
    new.write_text(json.dumps(contents, indent=2) + "\n")
    new.replace(config.running_file)
