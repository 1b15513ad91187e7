"""Envoy's configuration from the records and the targets' health. Pure: values in, dictionaries out.

Listeners, routes, clusters and endpoints are files of their own, which Envoy watches (LDS, RDS, CDS, EDS). A change of
health rewrites one endpoints file and affects no connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from alva.region.certificates import Certificate
from alva.region.elb.envoy_listeners import listener_resource
from alva.region.elb.envoy_parts import Edge, Files, Json, address_of, from_file, tls_server, type_url
from alva.region.elb.records import Records, TargetGroup
from alva.region.elb.routes import route_configuration
from alva.region.elb.target_health import State

CONNECT_TIMEOUT_SECONDS = 10
"""An ALB answers 504 when a target does not accept within 10 seconds.
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html#http-504-issues"""


@dataclass(frozen=True)
class Endpoint:
    """A target in Envoy's configuration."""

    address: str
    port: int
    state: State


@dataclass(frozen=True, kw_only=True)
class TlsProxy:
    """A port that terminates TLS and forwards bytes, in front of Valkey and the stand-ins."""

    name: str
    address: str
    port: int
    upstream_address: str
    upstream_port: int
    certificate: Certificate
    namespace: str | None = None
    """The file of the network namespace to listen in; None is Envoy's own."""


def bootstrap(files: Files, admin_socket: Path) -> Json:
    """Envoy's bootstrap configuration, which names the files of the rest."""
    return {
        "node": {"id": "alva-region", "cluster": "alva-region"},
        "admin": {"address": {"pipe": {"path": str(admin_socket), "mode": 0o600}}},
        "dynamic_resources": {
            "lds_config": from_file(files.listeners),
            "cds_config": from_file(files.clusters),
        },
        # Statistics cost memory per target group, and the metrics come from the access log.
        "stats_config": {
            "stats_matcher": {
                "inclusion_list": {"patterns": [{"suffix": "update_rejected"}, {"suffix": "version_text"}]}
            }
        },
    }


def configuration(
    records: Records,
    endpoints: Mapping[str, Iterable[Endpoint]],
    tls_proxies: Iterable[TlsProxy],
    certificates: Mapping[str, Certificate],
    sources: Mapping[str, str] | None = None,
    *,
    edge: Edge,
    files: Files,
    access_log: Path,
) -> dict[Path, list[Json]]:
    """The resources of each file, in the order in which the files must be written.

    `endpoints` are by target group ARN, `certificates` by listener ARN; `sources` are the source addresses of load
    balancers, by ARN.
    """
    proxies = sorted(tls_proxies, key=lambda proxy: proxy.name)
    attached = records.attached()
    result: dict[Path, list[Json]] = {}
    groups = [group for arn, group in sorted(records.target_groups.items()) if arn in attached]
    for group in groups:
        result[files.endpoints(group.id)] = [endpoint_resource(group, endpoints.get(group.arn, ()))]
    result[files.clusters] = [
        cluster_resource(
            group,
            files,
            idle_timeout_seconds=attached[group.arn][0].idle_timeout_seconds,
            source=(sources or {}).get(attached[group.arn][0].arn),
        )
        for group in groups
    ] + [proxy_cluster(proxy) for proxy in proxies]

    def cluster_name(arn: str) -> str:
        return records.target_groups[arn].full_name

    listeners = []
    for load_balancer in records.load_balancers:
        for listener in load_balancer.listeners:
            if not listener.admits_clients:
                continue
            routes = route_configuration(load_balancer, listener, cluster_name, edge.port_of)
            result[files.routes(listener.id)] = [{"@type": type_url("config.route.v3.RouteConfiguration"), **routes}]
            listeners.append(listener_resource(load_balancer, listener, certificates, edge, files, access_log))
    result[files.listeners] = listeners + [proxy_listener(proxy) for proxy in proxies]
    return result


def endpoint_resource(group: TargetGroup, endpoints: Iterable[Endpoint]) -> Json:
    """The targets that can get requests, and those that are draining.

    When no target is healthy, the unhealthy ones get requests ("the load balancer fails open"); targets in their
    initial checks never do. See docs/decisions/load-balancer-fails-open.md.
    """
    targets = sorted(endpoints, key=lambda endpoint: (endpoint.address, endpoint.port))
    usable = [target for target in targets if target.state is State.HEALTHY]
    usable = usable or [target for target in targets if target.state is State.UNHEALTHY]
    draining = [target for target in targets if target.state is State.DRAINING]
    return {
        "@type": type_url("config.endpoint.v3.ClusterLoadAssignment"),
        "cluster_name": group.full_name,
        "endpoints": [
            {
                "lb_endpoints": [
                    {
                        "endpoint": {"address": address_of(target.address, target.port)},
                        "health_status": "DRAINING" if target.state is State.DRAINING else "HEALTHY",
                    }
                    for target in [*usable, *draining]
                ]
            }
        ],
    }


def cluster_resource(group: TargetGroup, files: Files, *, idle_timeout_seconds: int, source: str | None = None) -> Json:
    """A target group without Envoy's panic routing and connection limits, and with an ALB's idle timeout.

    `source` is its load balancer's address, the source of connections; None is any of this machine's.
    """
    cluster: Json = {
        "@type": type_url("config.cluster.v3.Cluster"),
        "name": group.full_name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": from_file(files.endpoints(group.id))},
        "connect_timeout": f"{CONNECT_TIMEOUT_SECONDS}s",
        "lb_policy": "LEAST_REQUEST"
        if group.attributes["load_balancing.algorithm.type"] == "least_outstanding_requests"
        else "ROUND_ROBIN",
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": {
            "thresholds": [{"max_connections": 1_000_000, "max_pending_requests": 1_000_000, "max_requests": 1_000_000}]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": type_url("extensions.upstreams.http.v3.HttpProtocolOptions"),
                "common_http_protocol_options": {"idle_timeout": f"{idle_timeout_seconds}s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }
    if source is not None:
        cluster["upstream_bind_config"] = {"source_address": {"address": source, "port_value": 0}}
    if group.protocol == "HTTPS":
        # An ALB does not verify a target's certificate.
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {"@type": type_url("extensions.transport_sockets.tls.v3.UpstreamTlsContext")},
        }
    return cluster


def proxy_listener(proxy: TlsProxy) -> Json:
    """The listener of a TLS proxy."""
    return {
        "@type": type_url("config.listener.v3.Listener"),
        "name": f"tls/{proxy.name}",
        "address": address_of(proxy.address, proxy.port, proxy.namespace),
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.tcp_proxy",
                        "typed_config": {
                            "@type": type_url("extensions.filters.network.tcp_proxy.v3.TcpProxy"),
                            "stat_prefix": "tls",
                            "cluster": f"tls/{proxy.name}",
                            # Redis connections can be idle for hours.
                            "idle_timeout": "0s",
                        },
                    }
                ],
                "transport_socket": tls_server(proxy.certificate, []),
            }
        ],
    }


def proxy_cluster(proxy: TlsProxy) -> Json:
    """The upstream of a TLS proxy."""
    return {
        "@type": type_url("config.cluster.v3.Cluster"),
        "name": f"tls/{proxy.name}",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [{"max_connections": 1_000_000}]},
        "load_assignment": {
            "cluster_name": f"tls/{proxy.name}",
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": address_of(proxy.upstream_address, proxy.upstream_port)}}]}
            ],
        },
    }
