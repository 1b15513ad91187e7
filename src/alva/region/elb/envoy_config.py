"""Envoy's configuration from the records and the targets' health. Pure: values in, dictionaries out.

Listeners, routes, clusters and endpoints are files of their own, which Envoy watches (LDS, RDS, CDS, EDS). A change of
health rewrites one endpoints file and touches no connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alva.region.certificates import Certificate
from alva.region.elb.records import Listener, LoadBalancer, Records, TargetGroup
from alva.region.elb.routes import SERVER, SOURCE_HEADER, route_configuration
from alva.region.elb.target_health import State

Json = dict[str, Any]

CONNECT_TIMEOUT_SECONDS = 10
"""An ALB answers 504 when a target does not accept within 10 seconds.
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html#http-504-issues"""


@dataclass(frozen=True)
class Endpoint:
    """A target as Envoy is told of it."""

    address: str
    port: int
    state: State


@dataclass(frozen=True, kw_only=True)
class TlsProxy:
    """A port that terminates TLS and passes bytes on: what stands before Valkey and the stand-ins."""

    name: str
    address: str
    port: int
    upstream_address: str
    upstream_port: int
    certificate: Certificate


@dataclass(frozen=True, kw_only=True)
class Edge:
    """Where the listener ports of a load balancer are served."""

    port: int
    tls_port: int

    def port_of(self, listener_port: int) -> int:
        """The port that serves a listener port; of any other port, itself."""
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


def bootstrap(files: Files, admin_socket: Path) -> Json:
    """What Envoy is started with; everything else it reads from the files named here."""
    return {
        "node": {"id": "alva-region", "cluster": "alva-region"},
        "admin": {"address": {"pipe": {"path": str(admin_socket), "mode": 0o600}}},
        "dynamic_resources": {
            "lds_config": _from_file(files.listeners),
            "cds_config": _from_file(files.clusters),
        },
        # Statistics cost memory per target group; the metrics come from the access log.
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": [{"suffix": "update_rejected"}]}}},
        "layered_runtime": {"layers": [{"name": "static", "static_layer": {}}]},
    }


def configuration(
    records: Records,
    endpoints: Mapping[str, Iterable[Endpoint]],
    tls_proxies: Iterable[TlsProxy],
    certificates: Mapping[str, Certificate],
    *,
    edge: Edge,
    files: Files,
    access_log: Path,
) -> dict[Path, list[Json]]:
    """Every file's resources, in the order in which the files must be written.

    `endpoints` are by target group ARN, `certificates` by listener ARN.
    """
    proxies = sorted(tls_proxies, key=lambda proxy: proxy.name)
    attached = records.attached()
    result: dict[Path, list[Json]] = {}
    groups = [group for arn, group in sorted(records.target_groups.items()) if arn in attached]
    for group in groups:
        result[files.endpoints(group.id)] = [endpoint_resource(group, endpoints.get(group.arn, ()))]
    result[files.clusters] = [
        cluster_resource(group, files, idle_timeout_seconds=attached[group.arn][0].idle_timeout_seconds)
        for group in groups
    ] + [proxy_cluster(proxy) for proxy in proxies]

    def cluster_name(arn: str) -> str:
        return records.target_groups[arn].full_name

    listeners = []
    for load_balancer in records.load_balancers:
        for listener in load_balancer.listeners:
            routes = route_configuration(load_balancer, listener, cluster_name, edge.port_of)
            result[files.routes(listener.id)] = [{"@type": _type("config.route.v3.RouteConfiguration"), **routes}]
            listeners.append(listener_resource(load_balancer, listener, certificates, edge, files, access_log))
    result[files.listeners] = listeners + [proxy_listener(proxy) for proxy in proxies]
    return result


def endpoint_resource(group: TargetGroup, endpoints: Iterable[Endpoint]) -> Json:
    """The targets that may get requests, and those that are draining.

    When no target is healthy, the unhealthy ones get requests ("the load balancer fails open"); targets whose first
    checks are still under way never do. See docs/decisions/load-balancer-fails-open.md.
    """
    targets = sorted(endpoints, key=lambda endpoint: (endpoint.address, endpoint.port))
    usable = [target for target in targets if target.state is State.HEALTHY]
    usable = usable or [target for target in targets if target.state is State.UNHEALTHY]
    draining = [target for target in targets if target.state is State.DRAINING]
    return {
        "@type": _type("config.endpoint.v3.ClusterLoadAssignment"),
        "cluster_name": group.full_name,
        "endpoints": [
            {
                "lb_endpoints": [
                    {
                        "endpoint": {"address": _address(target.address, target.port)},
                        "health_status": "DRAINING" if target.state is State.DRAINING else "HEALTHY",
                    }
                    for target in [*usable, *draining]
                ]
            }
        ],
    }


def cluster_resource(group: TargetGroup, files: Files, *, idle_timeout_seconds: int) -> Json:
    """A target group: never panic-routed, never limited in connections, idle connections closed as an ALB does."""
    cluster: Json = {
        "@type": _type("config.cluster.v3.Cluster"),
        "name": group.full_name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": _from_file(files.endpoints(group.id))},
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
                "@type": _type("extensions.upstreams.http.v3.HttpProtocolOptions"),
                "common_http_protocol_options": {"idle_timeout": f"{idle_timeout_seconds}s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }
    if group.protocol == "HTTPS":
        # An ALB does not verify a target's certificate.
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {"@type": _type("extensions.transport_sockets.tls.v3.UpstreamTlsContext")},
        }
    return cluster


def listener_resource(
    load_balancer: LoadBalancer,
    listener: Listener,
    certificates: Mapping[str, Certificate],
    edge: Edge,
    files: Files,
    access_log: Path,
) -> Json:
    """A listener on the edge.

    The port that stands for 80 also takes TLS when there is an HTTPS listener: the DNS name holds that one port, and
    `https://<DNSName>` has to lead to the HTTPS listener as it does on AWS.
    """

    def chain(served: Listener) -> Json:
        result: Json = {"filters": [_connection_manager(load_balancer, served, files, access_log)]}
        if served.protocol == "HTTPS":
            http2 = load_balancer.attributes["routing.http2.enabled"] == "true"
            protocols = ["h2", "http/1.1"] if http2 else ["http/1.1"]
            result["transport_socket"] = _tls_server(certificates[served.arn], protocols)
        return result

    resource: Json = {
        "@type": _type("config.listener.v3.Listener"),
        "name": listener.id,
        "address": _address(load_balancer.address, edge.port_of(listener.port)),
        "filter_chains": [chain(listener)],
    }
    secure = [other for other in load_balancer.listeners if other.port == 443 and other.protocol == "HTTPS"]
    if secure and listener.port == 80 and listener.protocol == "HTTP":
        resource["filter_chains"].append(chain(secure[0]) | {"filter_chain_match": {"transport_protocol": "tls"}})
        resource["listener_filters"] = [
            {
                "name": "envoy.filters.listener.tls_inspector",
                "typed_config": {"@type": _type("extensions.filters.listener.tls_inspector.v3.TlsInspector")},
            }
        ]
    return resource


def _connection_manager(load_balancer: LoadBalancer, listener: Listener, files: Files, access_log: Path) -> Json:
    attributes = load_balancer.attributes
    idle_timeout = f"{load_balancer.idle_timeout_seconds}s"
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": _type("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "alb",
            "codec_type": "AUTO" if listener.protocol == "HTTPS" else "HTTP1",
            "rds": {"route_config_name": listener.id, "config_source": _from_file(files.routes(listener.id))},
            "use_remote_address": True,
            # Envoy would append the machine's own address for a client on loopback; the Lua filter does it right.
            "skip_xff_append": True,
            "generate_request_id": False,
            "preserve_external_request_id": True,
            "server_header_transformation": "PASS_THROUGH",
            "stream_idle_timeout": idle_timeout,
            "common_http_protocol_options": {
                "idle_timeout": idle_timeout,
                "max_connection_duration": f"{attributes['client_keep_alive.seconds']}s",
            },
            "http_protocol_options": {"accept_http_10": True},
            "max_request_headers_kb": 64,
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "local_reply_config": _local_replies(listener),
            "access_log": [_access_log(load_balancer, access_log)],
            "http_filters": [
                _request_headers(load_balancer),
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {
                        "@type": _type("extensions.filters.http.router.v3.Router"),
                        "suppress_envoy_headers": True,
                    },
                },
            ],
        },
    }


_REQUEST_HEADERS_LUA = """
math.randomseed(os.time() + tonumber(tostring({}):match("0x(%x+)"), 16) % 1000000007)

local function trace_id()
  local parts = {}
  for i = 1, 6 do parts[i] = string.format("%04x", math.random(0, 65535)) end
  return string.format("1-%08x-", os.time()) .. table.concat(parts)
end

function envoy_on_request(handle)
  local headers = handle:headers()
  if DROP_INVALID then
    local invalid = {}
    for name, _ in pairs(headers) do
      if name:sub(1, 1) ~= ":" and not name:match("^[A-Za-z0-9-]+$") then invalid[#invalid + 1] = name end
    end
    for _, name in ipairs(invalid) do headers:remove(name) end
  end

  local client = handle:streamInfo():downstreamDirectRemoteAddress():match("^(.*):%d+$")
  headers:replace("SOURCE_HEADER", client)
  if FORWARDED_FOR == "append" then
    local given = headers:get("x-forwarded-for")
    headers:replace("x-forwarded-for", given and (given .. ", " .. client) or client)
  elseif FORWARDED_FOR == "remove" then
    headers:remove("x-forwarded-for")
  end

  local fields, has_root = {}, false
  for field in (headers:get("x-amzn-trace-id") or ""):gmatch("[^;]+") do
    field = field:match("^%s*(.-)%s*$")
    if field:sub(1, 5) ~= "Self=" then fields[#fields + 1] = field end
    if field:sub(1, 5) == "Root=" then has_root = true end
  end
  table.insert(fields, 1, (has_root and "Self=" or "Root=") .. trace_id())
  headers:replace("x-amzn-trace-id", table.concat(fields, ";"))
end
"""


def _request_headers(load_balancer: LoadBalancer) -> Json:
    """What an ALB does to a request's headers before it looks for a rule.

    X-Forwarded-For by the attribute's mode, X-Amzn-Trace-Id, and names outside [-A-Za-z0-9] dropped where asked for.
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/x-forwarded-headers.html
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-request-tracing.html
    """
    attributes = load_balancer.attributes
    code = (
        f"local DROP_INVALID = {attributes['routing.http.drop_invalid_header_fields.enabled']}\n"
        f"local FORWARDED_FOR = '{attributes['routing.http.xff_header_processing.mode']}'\n"
        + _REQUEST_HEADERS_LUA.replace("SOURCE_HEADER", SOURCE_HEADER)
    )
    return {
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": _type("extensions.filters.http.lua.v3.Lua"),
            "default_source_code": {"inline_string": code},
        },
    }


def _local_replies(listener: Listener) -> Json:
    """Envoy's own answers, in an ALB's status codes and words.

    An ALB says 504 when it cannot connect in time or the target is silent, 502 when the target refuses, resets or
    answers nonsense, 503 when there is no target.
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html
    """

    def mapper(conditions: Json, status_code: int, title: str) -> Json:
        page = (
            f"<html>\r\n<head><title>{status_code} {title}</title></head>\r\n<body>\r\n"
            f"<center><h1>{status_code} {title}</h1></center>\r\n</body>\r\n</html>\r\n"
        )
        headers = (
            [] if listener.attributes.get("routing.http.response.server.enabled") == "false" else [("Server", SERVER)]
        )
        return {
            "filter": conditions,
            "status_code": status_code,
            "headers_to_add": [
                {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
                for key, value in headers
            ],
            "body_format_override": {
                "text_format_source": {"inline_string": page},
                "content_type": "text/html",
            },
        }

    def flags(*names: str) -> Json:
        return {"response_flag_filter": {"flags": list(names)}}

    def status(code: int) -> Json:
        return {
            "status_code_filter": {
                "comparison": {"op": "EQ", "value": {"default_value": code, "runtime_key": f"alva.local_reply.{code}"}}
            }
        }

    connect_timeout = {
        "extension_filter": {
            "name": "envoy.access_loggers.extension_filters.cel",
            "typed_config": {
                "@type": _type("extensions.access_loggers.filters.cel.v3.ExpressionFilter"),
                "expression": "response.code_details.contains('connection_timeout')",
            },
        }
    }
    return {
        "mappers": [
            mapper({"and_filter": {"filters": [flags("UF"), connect_timeout]}}, 504, "Gateway Time-out"),
            mapper(flags("UF", "UC", "UR", "LR", "UPE", "UO"), 502, "Bad Gateway"),
            mapper(flags("UH", "NC"), 503, "Service Temporarily Unavailable"),
            mapper({"and_filter": {"filters": [flags("SI", "UT"), status(504)]}}, 504, "Gateway Time-out"),
            mapper({"and_filter": {"filters": [flags("SI"), status(408)]}}, 408, "Request Time-out"),
            mapper({"and_filter": {"filters": [flags("DPE"), status(400)]}}, 400, "Bad Request"),
        ]
    }


ACCESS_LOG_FIELDS = (
    "%START_TIME%",
    "LOAD_BALANCER",
    "%UPSTREAM_CLUSTER_RAW%",
    "%UPSTREAM_HOST%",
    "%RESPONSE_CODE%",
    "%RESPONSE_CODE_DETAILS%",
    "%RESPONSE_FLAGS%",
    "%DURATION%",
    "%RESPONSE_DURATION%",
    "%BYTES_SENT%",
    "%REQ(:METHOD)%",
    # Without the query: links in mails carry tokens.
    "%PATH(NQ)%",
)
"""One tab-separated line a request; `metrics.py` reads it."""


def _access_log(load_balancer: LoadBalancer, access_log: Path) -> Json:
    line = "\t".join(ACCESS_LOG_FIELDS).replace("LOAD_BALANCER", load_balancer.full_name)
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": _type("extensions.access_loggers.file.v3.FileAccessLog"),
            "path": str(access_log),
            "log_format": {"text_format_source": {"inline_string": line + "\n"}},
        },
    }


def proxy_listener(proxy: TlsProxy) -> Json:
    """The listener of a TLS proxy."""
    return {
        "@type": _type("config.listener.v3.Listener"),
        "name": f"tls/{proxy.name}",
        "address": _address(proxy.address, proxy.port),
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.tcp_proxy",
                        "typed_config": {
                            "@type": _type("extensions.filters.network.tcp_proxy.v3.TcpProxy"),
                            "stat_prefix": "tls",
                            "cluster": f"tls/{proxy.name}",
                            # Redis connections are quiet for hours.
                            "idle_timeout": "0s",
                        },
                    }
                ],
                "transport_socket": _tls_server(proxy.certificate, []),
            }
        ],
    }


def proxy_cluster(proxy: TlsProxy) -> Json:
    """The upstream of a TLS proxy."""
    return {
        "@type": _type("config.cluster.v3.Cluster"),
        "name": f"tls/{proxy.name}",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [{"max_connections": 1_000_000}]},
        "load_assignment": {
            "cluster_name": f"tls/{proxy.name}",
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _address(proxy.upstream_address, proxy.upstream_port)}}]}
            ],
        },
    }


def _tls_server(certificate: Certificate, protocols: list[str]) -> Json:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": _type("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
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


def _address(address: str, port: int) -> Json:
    return {"socket_address": {"address": address, "port_value": port}}


def _from_file(path: Path) -> Json:
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def _type(name: str) -> str:
    return f"type.googleapis.com/envoy.{name}"
