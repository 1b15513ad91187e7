"""The real Envoy handles requests like an ALB."""

# ruff: noqa: ARG001 - answers and tests have a common signature, and some use only a part of it

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import time

import httpx
import pytest

from alva.errors import RegionFailed
from tests.waiting import async_until

from .conftest import accepts_connections


def run(make_rig, test):
    """Run a test's coroutine with its own rig."""

    async def body():
        async with make_rig() as rig, httpx.AsyncClient(base_url=rig.url, timeout=20) as client:
            await test(rig, client)

    asyncio.run(body())


def path(*patterns):
    return {"Field": "path-pattern", "PathPatternConfig": {"Values": list(patterns)}}


def fixed(body, status="200"):
    return {
        "Type": "fixed-response",
        "FixedResponseConfig": {"StatusCode": status, "ContentType": "text/plain", "MessageBody": body},
    }


def test_rules_are_tried_by_priority_and_the_default_last(make_rig):
    async def test(rig, client):
        listener = await rig.listener(await rig.load_balancer(), fixed("default", "404"))
        await rig.rule(listener, 20, [path("/api", "/api/*")], fixed("twenty"))
        await rig.rule(listener, 10, [path("/api/v?/*")], fixed("ten"))
        await rig.until_served()
        answers = {
            asked: (await client.get(asked)).text
            for asked in ("/api", "/api/", "/api/v1/x", "/api/v10/x", "/API", "/apix", "/x", "/api?x=/none")
        }
        assert answers == {
            "/api": "twenty",
            "/api/": "twenty",
            "/api/v1/x": "ten",
            "/api/v10/x": "twenty",
            "/API": "default",
            "/apix": "default",
            "/x": "default",
            "/api?x=/none": "twenty",
        }

    run(make_rig, test)


@pytest.mark.parametrize(
    ("condition", "matching", "other"),
    [
        (
            {"Field": "host-header", "HostHeaderConfig": {"Values": ["*.Example.com"]}},
            {"headers": {"Host": "api.example.COM:8080"}},
            {"headers": {"Host": "example.com"}},
        ),
        (
            {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-Kind", "Values": ["beta*", "x"]}},
            {"headers": {"x-kind": "BETA-2"}},
            {"headers": {"x-kind": "alpha"}},
        ),
        (
            {"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["PUT", "DELETE"]}},
            {"method": "DELETE"},
            {"method": "GET"},
        ),
        (
            {"Field": "query-string", "QueryStringConfig": {"Values": [{"Key": "version", "Value": "v1*"}]}},
            {"params": {"a": "b", "Version": "V12"}},
            {"params": {"a": "v1", "xversion": "v1"}},
        ),
        (
            {"Field": "query-string", "QueryStringConfig": {"Values": [{"Value": "beta"}]}},
            {"params": {"anything": "beta"}},
            {"params": {"beta": "anything"}},
        ),
        (
            {"Field": "source-ip", "SourceIpConfig": {"Values": ["10.0.0.0/8", "127.0.0.0/30"]}},
            {"source": "127.0.0.1"},
            {"source": "127.0.0.5"},
        ),
    ],
    ids=lambda value: value.get("Field") if isinstance(value, dict) else None,
)
def test_condition_matches_only_the_named_requests(make_rig, condition, matching, other):
    async def test(rig, client):
        listener = await rig.listener(await rig.load_balancer(), fixed("default"))
        await rig.rule(listener, 1, [condition, path("/*")], fixed("matched"))
        await rig.until_served()

        async def answer(source=None, method="GET", **request):
            transport = httpx.AsyncHTTPTransport(local_address=source)
            async with httpx.AsyncClient(base_url=rig.url, transport=transport) as own:
                return (await own.request(method, "/some", **request)).text

        assert (await answer(**matching), await answer(**other)) == ("matched", "default")

    run(make_rig, test)


def test_weights_split_requests(make_rig):
    async def test(rig, client):
        groups, targets = [], []
        for name in ("a", "b", "none"):
            groups.append(await rig.target_group())
            targets.append(await rig.target(rig.answer(body=name)))
        weights = zip(groups, (3, 1, 0), strict=True)
        forward = {
            "Type": "forward",
            "ForwardConfig": {"TargetGroups": [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in weights]},
        }
        await rig.listener(await rig.load_balancer(), forward)
        for group, target in zip(groups, targets, strict=True):
            rig.load_balancers.register(group, target.address, target.port)
            await rig.until_state(group, target, "healthy")
        answers = [(await client.get("/")).text for _ in range(200)]
        assert 110 < answers.count("a") < 190
        assert answers.count("a") + answers.count("b") == 200

    run(make_rig, test)


def test_a_redirect_leads_to_the_port_that_serves_https_here(make_rig):
    async def test(rig, client):
        redirect = {
            "Type": "redirect",
            "RedirectConfig": {"Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_301"},
        }
        listener = await rig.listener(await rig.load_balancer(), redirect)
        for priority, (pattern, config) in enumerate(
            {
                "/old/*": {"Path": "/new/#{path}", "StatusCode": "HTTP_302"},
                "/fixed": {"Path": "/there", "Query": "a=b", "StatusCode": "HTTP_302"},
                "/host": {"Host": "example.com", "Port": "81", "StatusCode": "HTTP_302"},
            }.items(),
            start=1,
        ):
            await rig.rule(listener, priority, [path(pattern)], {"Type": "redirect", "RedirectConfig": config})
        await rig.until_served()
        edge, tls = rig.config.edge_port, rig.config.edge_tls_port
        answer = await client.get("/plans/7?x=1&y=2")
        assert answer.status_code == 301
        assert answer.headers["server"] == "awselb/2.0"
        assert answer.headers["location"] == f"https://127.0.0.1:{tls}/plans/7?x=1&y=2"
        locations = [(await client.get(asked)).headers["location"] for asked in ("/old/x?q=1", "/fixed?q=1", "/host")]
        assert locations == [
            f"http://127.0.0.1:{edge}/new/old/x?q=1",
            f"http://127.0.0.1:{edge}/there?a=b",
            "http://example.com:81/host",
        ]

    run(make_rig, test)


def test_a_url_rewrite_changes_the_targets_request(make_rig):
    async def test(rig, client):
        group = await rig.target_group()
        target = await rig.target(rig.echo)
        listener = await rig.listener(await rig.load_balancer(), fixed("default"))
        await rig.rule(
            listener,
            1,
            [path("/api/*")],
            {"Type": "forward", "TargetGroupArn": group},
            Transforms=[
                {
                    "Type": "url-rewrite",
                    "UrlRewriteConfig": {"Rewrites": [{"Regex": "^/api/(.*)$", "Replace": "/v2/$1"}]},
                }
            ],
        )
        rig.load_balancers.register(group, target.address, target.port)
        await rig.until_state(group, target, "healthy")
        assert (await client.get("/api/plans?x=1")).text.splitlines()[0] == "GET /v2/plans?x=1 HTTP/1.1"

    run(make_rig, test)


def test_targets_see_the_headers_that_an_alb_sets(make_rig):
    async def test(rig, client):
        await rig.serving(rig.echo)
        given = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "99"}
        text = (await client.get("/some//path?a=b", headers={**given, "X-Request-Id": "mine"})).text
        lines = text.split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        assert lines[0] == "GET /some//path?a=b HTTP/1.1"
        assert headers["host"] == f"127.0.0.1:{rig.config.edge_port}"
        assert headers["x-forwarded-for"] == "203.0.113.7, 127.0.0.1"
        assert headers["x-forwarded-proto"] == "http"
        assert headers["x-forwarded-port"] == "80"
        assert headers["x-request-id"] == "mine"
        assert re.fullmatch("Root=1-[0-9a-f]{8}-[0-9a-f]{24}", headers["x-amzn-trace-id"])
        assert not [name for name in headers if "envoy" in name or "alva" in name]
        root = "Root=1-67891233-abcdef012345678912345678"
        text = (await client.get("/", headers={"X-Amzn-Trace-Id": f"Self=old;{root};CalledFrom=app"})).text
        trace = re.search("x-amzn-trace-id: (.*)\r\n", text)
        assert trace
        assert re.fullmatch(f"Self=1-[0-9a-f]{{8}}-[0-9a-f]{{24}};{root};CalledFrom=app", trace[1])

    run(make_rig, test)


def test_invalid_header_names_are_dropped_if_the_attribute_is_set(make_rig):
    async def test(rig, client):
        await rig.serving(rig.echo, **{"routing.http.drop_invalid_header_fields.enabled": "true"})
        text = (await client.get("/", headers={"x_user": "admin", "x-fine": "yes"})).text
        assert "x-fine: yes" in text
        assert "x_user" not in text

    run(make_rig, test)


def test_without_a_target_it_answers_503_as_an_alb(make_rig):
    async def test(rig, client):
        group = await rig.target_group()
        await rig.listener(await rig.load_balancer(), {"Type": "forward", "TargetGroupArn": group})
        await rig.until_served()
        answer = await client.get("/")
        assert answer.status_code == 503
        assert answer.headers["server"] == "awselb/2.0"
        assert answer.headers["content-type"] == "text/html"
        assert "<center><h1>503 Service Temporarily Unavailable</h1></center>" in answer.text

    run(make_rig, test)


def test_target_that_refuses_resets_or_sends_an_invalid_response_gives_502_without_a_retry(make_rig):
    async def test(rig, client):
        _, target = await rig.serving()

        async def reset(head, reader, writer):
            writer.transport.abort()
            raise ConnectionResetError

        async def babble(head, reader, writer):
            writer.write(b"this is no HTTP\r\n\r\n")
            await writer.drain()
            writer.close()
            raise ConnectionResetError

        for answer in (reset, babble):
            target.requests.clear()
            target.answer = answer
            assert (await client.get("/")).status_code == 502
            assert len(target.requests) == 1
        await target.stop()
        answer = await client.get("/")
        assert answer.status_code == 502
        assert "<h1>502 Bad Gateway</h1>" in answer.text

    run(make_rig, test)


def test_target_without_a_response_within_the_idle_timeout_gives_504(make_rig):
    async def test(rig, client):
        async def silence(head, reader, writer):
            await asyncio.sleep(30)

        await rig.serving(silence, **{"idle_timeout.timeout_seconds": "1"})
        started = time.monotonic()
        answer = await client.get("/")
        assert answer.status_code == 504
        assert 0.9 < time.monotonic() - started < 20

    run(make_rig, test)


def test_target_that_does_not_accept_in_time_gives_504(make_rig, monkeypatch):
    monkeypatch.setattr("alva.region.elb.envoy_config.CONNECT_TIMEOUT_SECONDS", 1)

    async def test(rig, client):
        with contextlib.ExitStack() as sockets:
            # Linux drops the SYN of further connections to a listener with a full queue.
            place = (f"127.{rig.config.loopback_octet}.7.200", 8000)
            full = sockets.enter_context(socket.create_server(place, backlog=0))
            group = await rig.target_group()
            await rig.listener(await rig.load_balancer(), {"Type": "forward", "TargetGroupArn": group})
            rig.load_balancers.register(group, full.getsockname()[0], 8000)
            for _ in range(4):
                waiting = sockets.enter_context(socket.socket())
                waiting.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    waiting.connect(full.getsockname())
            health = rig.load_balancers.health
            await rig.until(lambda: health(group, full.getsockname()[0], 8000).state == "unhealthy")
            answer = await client.get("/")
        assert answer.status_code == 504
        assert "<h1>504 Gateway Time-out</h1>" in answer.text

    run(make_rig, test)


def test_streamed_events_are_not_buffered(make_rig):
    async def test(rig, client):
        async def events(head, reader, writer):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for number in range(3):
                event = f"data: {number}\n\n".encode()
                writer.write(b"%x\r\n%s\r\n" % (len(event), event))
                await writer.drain()
                await asyncio.sleep(0.3)
            writer.write(b"0\r\n\r\n")

        await rig.serving(events)
        arrived = []
        async with client.stream("GET", "/") as answer:
            async for _ in answer.aiter_raw():
                arrived.append(time.monotonic())
        assert arrived[-1] - arrived[0] > 0.4

    run(make_rig, test)


def test_a_websocket_passes_both_ways(make_rig):
    async def test(rig, client):
        async def upgrade(head, reader, writer):
            assert b"upgrade: websocket" in head.lower()
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            while data := await reader.read(100):
                writer.write(data.upper())
                await writer.drain()

        await rig.serving(upgrade)
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.config.edge_port)
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"HELLO"
        writer.close()

    run(make_rig, test)


def test_https_is_verified_against_the_regions_authority(make_rig):
    async def test(rig, client):
        load_balancer = await rig.load_balancer()
        certificates = [{"CertificateArn": await rig.certificate("alva.example.org")}]
        group = await rig.target_group()
        target = await rig.target(rig.echo)
        await rig.listener(
            load_balancer,
            {"Type": "forward", "TargetGroupArn": group},
            Port=443,
            Protocol="HTTPS",
            Certificates=certificates,
        )
        rig.load_balancers.register(group, target.address, target.port)
        await rig.until_state(group, target, "healthy")
        trust = ssl.create_default_context(cafile=str(rig.certificates.authority_file))
        async with httpx.AsyncClient(base_url=rig.tls_url, verify=trust) as own:
            text = (await own.get("/")).text
        assert "x-forwarded-proto: https" in text
        assert "x-forwarded-port: 443" in text
        with pytest.raises(httpx.ConnectError):
            async with httpx.AsyncClient(base_url=rig.tls_url, verify=ssl.create_default_context()) as own:
                await own.get("/")

    run(make_rig, test)


def test_https_to_the_dns_name_reaches_the_https_listener(make_rig):
    async def test(rig, client):
        load_balancer = await rig.load_balancer()
        redirect = {
            "Type": "redirect",
            "RedirectConfig": {"Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_301"},
        }
        await rig.listener(load_balancer, redirect)
        certificates = [{"CertificateArn": await rig.certificate("alva.example.org")}]
        await rig.listener(load_balancer, fixed("secure"), Port=443, Protocol="HTTPS", Certificates=certificates)
        await rig.until_served()
        trust = ssl.create_default_context(cafile=str(rig.certificates.authority_file))
        assert (await client.get("/")).headers["location"] == f"{rig.tls_url}/"
        async with httpx.AsyncClient(verify=trust) as own:
            assert (await own.get(rig.tls_url)).text == "secure"

            async def answer_at_port_80():
                with contextlib.suppress(httpx.NetworkError):
                    return (await own.get(rig.url.replace("http:", "https:"))).text

            # Port 80 accepts TLS a moment after it has accepted plain text.
            assert await async_until(answer_at_port_80, "TLS at port 80") == "secure"

    run(make_rig, test)


def test_an_https_target_is_checked_and_used_without_verifying_it(make_rig):
    async def test(rig, client):
        group = await rig.target_group(Protocol="HTTPS", HealthCheckProtocol="HTTPS")
        await rig.listener(await rig.load_balancer(), {"Type": "forward", "TargetGroupArn": group})
        target = await rig.target(start=False)
        certificate = rig.certificates.issue("some.other.name")
        target.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        target.tls.load_cert_chain(certificate.certificate_file, certificate.key_file)
        await target.start()
        rig.load_balancers.register(group, target.address, target.port)
        await rig.until_state(group, target, "healthy")
        assert (await client.get("/")).text == "fine"

    run(make_rig, test)


def test_a_tls_proxy_verifies_and_passes_bytes_until_it_is_removed(make_rig):
    async def test(rig, client):
        async def shout(reader, writer):
            with contextlib.suppress(asyncio.IncompleteReadError):
                while True:
                    writer.write((await reader.readexactly(4)).upper())
                    await writer.drain()
            writer.close()

        async def is_closed():
            return not await accepts_connections(address, port)

        address, port = f"127.{rig.config.loopback_octet}.9.9", 6379
        async with await asyncio.start_server(shout, "127.0.0.1", 0) as upstream:
            upstream_port = upstream.sockets[0].getsockname()[1]
            rig.load_balancers.tls_proxy(
                "cache", address, port, "127.0.0.1", upstream_port, rig.certificates.issue("cache.example.com")
            )
            await rig.until_served()
            trust = ssl.create_default_context(cafile=str(rig.certificates.authority_file))
            reader, writer = await asyncio.open_connection(
                address, port, ssl=trust, server_hostname="cache.example.com"
            )
            writer.write(b"ping")
            assert await reader.readexactly(4) == b"PING"
            writer.close()
            rig.load_balancers.remove_tls_proxy("cache")
            # Envoy closes the port a moment after it has accepted the configuration.
            await async_until(is_closed, "Envoy to close the port")

    run(make_rig, test)


def test_a_second_load_balancer_serves_beside_the_first(make_rig):
    async def test(rig, client):
        await rig.listener(await rig.load_balancer(), fixed("first"))
        second = await rig.load_balancer()
        await rig.listener(second, fixed("second"))
        await rig.until_served()
        described = await rig.call("DescribeLoadBalancers", LoadBalancerArns=[second])
        name = described.findtext(".//DNSName")
        assert (await client.get("/")).text == "first"

        assert (await client.get(f"http://{name}/")).text == "second"

    run(make_rig, test)


def test_envoy_is_restarted_when_it_ends(make_rig):
    async def test(rig, client):
        await rig.listener(await rig.load_balancer(), fixed("fine"))
        await rig.until_served()
        rig.load_balancers._envoy.process.kill()

        async def answers():
            with contextlib.suppress(httpx.TransportError):
                return (await client.get("/")).text == "fine"
            return False

        await asyncio.sleep(0.3)
        await async_until(answers, "an answer of another Envoy")

    run(make_rig, test)


def test_edge_port_in_use_is_an_error_with_a_next_step(make_rig):
    async def test(rig, client):
        await rig.load_balancers.stop()
        with (
            socket.create_server(("127.0.0.1", rig.config.edge_port)),
            pytest.raises(RegionFailed, match=f"port {rig.config.edge_port} is in use") as raised,
        ):
            await rig.load_balancers.start()
        assert "ALVA_EDGE_PORT" in str(raised.value)

    run(make_rig, test)


def test_configuration_that_envoy_rejects_is_reported_and_written_again(make_rig, caplog):
    async def test(rig, client):
        address = f"127.{rig.config.loopback_octet}.9.8"
        with socket.create_server((address, 6379)):
            certificate = rig.certificates.issue("cache.example.com")
            rig.load_balancers.tls_proxy("cache", address, 6379, "127.0.0.1", 1, certificate)
            await rig.until(lambda: "Envoy rejected its configuration" in caplog.text, is_accepted=False)
            assert [failure.name for failure in rig.background.failures] == ["configure Envoy"]
        await rig.until(lambda: rig.background.failures == [])
        socket.create_connection((address, 6379), timeout=10).close()

    run(make_rig, test)
