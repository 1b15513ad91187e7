"""Shared parts of Envoy's configuration: ports, file names, and repeated structures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alva.region.certificates import Certificate

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Edge:
    """The ports of this machine that serve the listener ports of a load balancer."""

    port: int
    tls_port: int
    namespace: str | None = None
    """The file of the network namespace to listen in; None is Envoy's own."""

    def port_of(self, listener_port: int) -> int:
        """The port that serves a listener port; any other port is returned unchanged."""
        return {80: self.port, 443: self.tls_port}.get(listener_port, listener_port)


@dataclass(frozen=True, kw_only=True)
class Files:
    """The folder of Envoy's configuration."""

    folder: Path

    @property
    def bootstrap(self) -> Path:
        return self.folder / "bootstrap.json"

    @property
    def listeners(self) -> Path:
        return self.folder / "listeners.json"

    @property
    def clusters(self) -> Path:
        return self.folder / "clusters.json"

    def routes(self, listener_id: str) -> Path:
        return self.folder / f"routes-{listener_id}.json"

    def endpoints(self, target_group_id: str) -> Path:
        return self.folder / f"endpoints-{target_group_id}.json"


def tls_server(certificate: Certificate, protocols: list[str]) -> Json:
    """A transport socket that terminates TLS; `protocols` are offered by ALPN."""
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": type_url("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": {
                "alpn_protocols": protocols,
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "tls_certificates": [
                    {
                        "certificate_chain": {"filename": str(certificate.certificate_file)},
                        "private_key": {"filename": str(certificate.key_file)},
                    }
                ],
            },
        },
    }


def address_of(address: str, port: int, namespace: str | None = None) -> Json:
    """A TCP address; `namespace` is the file of the network namespace to listen in, if it is not Envoy's own."""
    where = {"network_namespace_filepath": namespace} if namespace else {}
    return {"socket_address": {"address": address, "port_value": port, **where}}


def from_file(path: Path) -> Json:
    """A configuration source that Envoy watches; a new version replaces it by rename."""
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def type_url(name: str) -> str:
    """The type URL of a message such as `config.listener.v3.Listener`."""
    return f"type.googleapis.com/envoy.{name}"
