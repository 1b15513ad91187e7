"""A load balancer's listeners in Envoy: TLS, headers, local replies in an ALB's words, the access log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from alva.region.certificates import Certificate
from alva.region.elb.envoy_parts import Edge, Files, Json, address_of, from_file, tls_server, type_url
from alva.region.elb.records import Listener, LoadBalancer
from alva.region.elb.routes import SERVER, SOURCE_HEADER


def listener_resource(
    load_balancer: LoadBalancer,
    listener: Listener,
    certificates: Mapping[str, Certificate],
    edge: Edge,
    files: Files,
    access_log: Path,
) -> Json:
    """A listener on the edge.

    The port for 80 also accepts TLS when there is an HTTPS listener: the DNS name contains only that port, and
    `https://<DNSName>` must reach the HTTPS listener, as on AWS.
    """

    def chain(served: Listener) -> Json:
        result: Json = {"filters": [_connection_manager(load_balancer, served, files, access_log)]}
        if served.protocol == "HTTPS":
            http2 = load_balancer.attributes["routing.http2.enabled"] == "true"
            protocols = ["h2", "http/1.1"] if http2 else ["http/1.1"]
            result["transport_socket"] = tls_server(certificates[served.arn], protocols)
        return result

    resource: Json = {
        "@type": type_url("config.listener.v3.Listener"),
        "name": listener.id,
        "address": address_of(load_balancer.address, edge.port_of(listener.port), edge.namespace),
        "filter_chains": [chain(listener)],
    }
    secure = [
        other
        for other in load_balancer.listeners
        if other.port == 443 and other.protocol == "HTTPS" and other.admits_clients
    ]
    if secure and listener.port == 80 and listener.protocol == "HTTP":
        resource["filter_chains"].append(chain(secure[0]) | {"filter_chain_match": {"transport_protocol": "tls"}})
        resource["listener_filters"] = [
            {
                "name": "envoy.filters.listener.tls_inspector",
                "typed_config": {"@type": type_url("extensions.filters.listener.tls_inspector.v3.TlsInspector")},
            }
        ]
    return resource


def _connection_manager(load_balancer: LoadBalancer, listener: Listener, files: Files, access_log: Path) -> Json:
    attributes = load_balancer.attributes
    idle_timeout = f"{load_balancer.idle_timeout_seconds}s"
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": type_url("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "alb",
            "codec_type": "AUTO" if listener.protocol == "HTTPS" else "HTTP1",
            "rds": {"route_config_name": listener.id, "config_source": from_file(files.routes(listener.id))},
            "use_remote_address": True,
            # Envoy would append the machine's own address for a client on loopback, so the Lua filter sets the header.
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
                        "@type": type_url("extensions.filters.http.router.v3.Router"),
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
    """The changes that an ALB makes to a request's headers before it evaluates rules.

    X-Forwarded-For by the attribute's mode, X-Amzn-Trace-Id, and optionally dropping names outside [-A-Za-z0-9].
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
            "@type": type_url("extensions.filters.http.lua.v3.Lua"),
            "default_source_code": {"inline_string": code},
        },
    }


def _local_replies(listener: Listener) -> Json:
    """Envoy's local replies, with an ALB's status codes and words.

    An ALB returns 504 when a connection or a response times out, 502 when the target refuses, resets or sends an
    invalid response, and 503 when there is no target.
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
                "@type": type_url("extensions.access_loggers.filters.cel.v3.ExpressionFilter"),
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
    # Without the query, since links in mails contain tokens.
    "%PATH(NQ)%",
)
"""One tab-separated line for each request; `metrics.py` reads it."""


def _access_log(load_balancer: LoadBalancer, access_log: Path) -> Json:
    line = "\t".join(ACCESS_LOG_FIELDS).replace("LOAD_BALANCER", load_balancer.full_name)
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": type_url("extensions.access_loggers.file.v3.FileAccessLog"),
            "path": str(access_log),
            "log_format": {"text_format_source": {"inline_string": line + "\n"}},
        },
    }
