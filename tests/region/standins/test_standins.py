"""The stand-ins, called by the real client libraries over TLS with verified names, and the inbox."""

from __future__ import annotations

import importlib
import json
import os
import socket
import ssl
import time
from typing import Literal

import httpx
import pytest
import resend
from pydantic import BaseModel, Field

from alva.errors import RegionFailed
from alva.region.standins.answers import LABEL, Business, fill, read_business

PROFILE = {
    "profile": {
        "business_name": "Blue Door Bakery",
        "industry": "bakery",
        "audience": "families nearby",
        "goals": ["sell more bread on weekdays", "win two cafés"],
    }
}


class Channel(BaseModel):
    name: str = Field(max_length=200)
    why: str
    actions: list[str] = Field(min_length=2, max_length=8)


class Task(BaseModel):
    title: str
    channel: str
    week: int = Field(ge=1, le=12)
    effort: Literal["small", "medium", "large"]


class Plan(BaseModel):
    summary: str
    channels: list[Channel] = Field(min_length=2, max_length=6)
    tasks: list[Task] = Field(min_length=4)
    budget: float | None


class ToAddress(httpx.HTTPTransport):
    """Connects to a fixed address and verifies the requested name, as with a task's hosts file."""

    def __init__(self, address: str, authority: str) -> None:
        super().__init__(verify=ssl.create_default_context(cafile=authority))
        self._address = address

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sni_hostname"] = request.url.host
        request.url = request.url.copy_with(host=self._address)
        return super().handle_request(request)


@pytest.fixture
def openai():
    """The library. Its import takes 0.4 s, and each of pytest's processes collects this module."""
    return importlib.import_module("openai")


@pytest.fixture
def client(rig, openai):
    transport = ToAddress(rig.openai_address, rig.authority)
    with (
        httpx.Client(transport=transport) as http,
        openai.OpenAI(api_key="sk-local", http_client=http, max_retries=0) as client,
    ):
        yield client


@pytest.fixture
def mails(rig, monkeypatch):
    """The real resend library, with names resolved as in a task."""
    monkeypatch.setattr(resend, "api_key", "re_local")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", rig.authority)
    real = socket.getaddrinfo

    def resolve(host, port, *more, **options):
        return real(rig.resend_address if host == "api.resend.com" else host, port, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    httpx.delete(f"{rig.inbox_url}/api/messages")
    return resend.Emails


@pytest.fixture(autouse=True)
def no_faults(request):
    yield
    if "rig" in request.fixturenames:
        httpx.delete(f"{request.getfixturevalue('rig').inbox_url}/api/faults")


def complete(client, **more):
    messages = [{"role": "user", "content": json.dumps(PROFILE)}]
    return client.chat.completions.parse(model="gpt-4.1-mini", messages=messages, response_format=Plan, **more)


def fault(rig, **body):
    answer = httpx.post(f"{rig.inbox_url}/api/faults", json=body)
    assert answer.status_code == 200, answer.text


def test_a_structured_answer_fits_the_schema_and_the_business(client):
    completion = complete(client)
    plan = completion.choices[0].message.parsed
    assert completion.model == "alva-standin"
    assert "Blue Door Bakery" in plan.summary
    assert "sell more bread on weekdays" in plan.summary
    assert LABEL in plan.summary
    names = [channel.name for channel in plan.channels]
    assert len(set(names)) == len(names)
    assert {task.channel for task in plan.tasks} <= set(names)
    assert [task.week for task in plan.tasks] == list(range(1, 9))


def test_the_same_request_gets_the_same_answer(client):
    first, second = (complete(client).choices[0].message.content for _ in range(2))
    assert first == second


def test_a_streamed_answer_has_several_parts_and_the_same_plan(client):
    messages = [{"role": "user", "content": json.dumps(PROFILE)}]
    started, deltas = time.monotonic(), []
    with client.chat.completions.stream(model="m", messages=messages, response_format=Plan) as stream:
        for event in stream:
            if event.type == "content.delta":
                deltas.append(time.monotonic() - started)
        completion = stream.get_final_completion()
    assert len(deltas) > 10
    assert 0.3 < deltas[-1] - deltas[0] < 3
    assert completion.choices[0].message.parsed == complete(client).choices[0].message.parsed


def test_the_responses_api_answers_the_same_streamed_or_not(client):
    request = {"model": "m", "input": json.dumps(PROFILE), "text_format": Plan}
    answer = client.responses.parse(**request)
    with client.responses.stream(**request) as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
        streamed = stream.get_final_response()
    assert "Blue Door Bakery" in answer.output_parsed.summary
    assert streamed.output_parsed == answer.output_parsed
    assert "".join(pieces) == answer.output_text


def test_a_plain_question_gets_a_plain_answer(client):
    messages = [{"role": "user", "content": "Business name: Blue Door Bakery\nIndustry: bakery"}]
    raw = client.chat.completions.with_raw_response.create(model="m", messages=messages)
    assert raw.headers["x-alva-standin"] == "true"
    assert "Blue Door Bakery" in raw.parse().choices[0].message.content


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("500", "InternalServerError"),
        ("503", "InternalServerError"),
        ("429", "RateLimitError"),
        ("401", "AuthenticationError"),
        ("length", "LengthFinishReasonError"),
    ],
)
def test_requested_fault_raises_the_librarys_error_once(rig, client, openai, kind, error):
    fault(rig, api="openai", kind=kind)
    with pytest.raises(getattr(openai, error)):
        complete(client)
    assert complete(client).choices[0].message.parsed


@pytest.mark.parametrize(
    ("name", "path", "key", "status"),
    [
        ("openai", "/v1/chat/completions", "sk-local", 500),
        ("openai", "/v1/chat/completions", "invalid-key", 401),
        ("openai", "/v1/unknown", "sk-local", 404),
        ("resend", "/emails", "re_local", 500),
        ("resend", "/emails", "invalid-key", 403),
        ("resend", "/unknown", "re_local", 404),
    ],
)
def test_an_error_is_answered_after_the_whole_request_so_that_the_connection_stays_open(rig, name, path, key, status):
    """Envoy closes a client's connection if the response ends before the request; the next request then fails."""

    def slow_body():
        yield b"{"
        time.sleep(0.3)
        yield b"}"

    fault(rig, api=name, kind="500")
    host, address = {
        "openai": ("api.openai.com", rig.openai_address),
        "resend": ("api.resend.com", rig.resend_address),
    }[name]
    with httpx.Client(transport=ToAddress(address, rig.authority), base_url=f"https://{host}") as http:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        first = http.post(path, headers=headers, content=slow_body())
        second = http.post("/unknown", headers=headers, content=b"{}")
        ports = [answer.extensions["network_stream"].get_extra_info("client_addr")[1] for answer in (first, second)]
    assert (first.status_code, second.status_code) == (status, 404)
    assert ports[0] == ports[1]


def test_a_refusal_and_a_timeout_on_demand(rig, client, openai):
    fault(rig, api="openai", kind="refusal")
    message = complete(client).choices[0].message
    assert (message.parsed, bool(message.refusal)) == (None, True)
    fault(rig, api="openai", kind="timeout")
    with pytest.raises(openai.APITimeoutError):
        complete(client, timeout=0.5)


def test_the_librarys_retries_survive_two_faults(rig, client):
    fault(rig, api="openai", kind="500", count=2)
    messages = [{"role": "user", "content": "hello"}]
    answer = client.with_options(max_retries=2).chat.completions.create(model="m", messages=messages)
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("key", ["alva:unset", "invalid-key"])
def test_invalid_key_is_refused(client, openai, key):
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key=key).models.list()


def test_unsupported_call_of_a_standin_is_refused_by_name(client, openai):
    with pytest.raises(openai.NotFoundError, match="stand-in does not offer"):
        client.embeddings.create(model="m", input="x")
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    with pytest.raises(openai.BadRequestError, match="does not offer 'tools'"):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], tools=[tool])


def test_unsupported_schema_is_an_error():
    with pytest.raises(ValueError, match="does not understand"):
        fill({"type": "object", "properties": {"x": {"not": {}}}}, Business())


def test_limits_of_a_schema_are_kept():
    schema = {
        "type": "object",
        "properties": {
            "long": {"type": "string", "minLength": 400},
            "short": {"type": "string", "maxLength": 5},
            "many": {"type": "array", "items": {"type": "integer", "maximum": 4}, "minItems": 7},
            "few": {"type": "array", "items": {"type": "boolean"}, "maxItems": 1},
            "maybe": {"anyOf": [{"type": "null"}, {"enum": ["a", "b"]}]},
        },
    }
    value = fill(schema, Business())
    assert len(value["long"]) >= 400
    assert len(value["short"]) <= 5
    assert value["many"] == [1, 2, 3, 4, 4, 4, 4]
    assert value["few"] == [True]
    assert value["maybe"] == "a"


def test_a_business_is_read_from_json_or_from_lines():
    expected = Business(name="A", industry="b", audience="c", goals=("d", "e"))
    text = 'Here: {"profile": {"business_name": "A", "industry": "b", "audience": "c", "goals": ["d", "e"]}} thanks'
    assert read_business(["Be brief {", text]) == expected
    assert read_business(["Business name: A\nIndustry: b\n- Audience: c\nGoals: d, e"]) == expected
    assert read_business(["nothing"]) == Business()


def mail(**more):
    return {
        "from": "Alva <hello@alva.test>",
        "to": ["Ann@Example.com"],
        "subject": "Welcome <you>",
        "html": '<p>Hi <a href="http://127.0.0.1:8080/auth/verify?token=a&amp;b=c">sign in</a></p>',
        "text": "Open http://127.0.0.1:8080/auth/verify?token=a&b=c",
    } | more


def test_a_mail_sent_with_the_real_library_arrives_in_the_inbox(rig, mails):
    mails.send(mail(to="bob@example.com", subject="First"))
    sent = mails.send(mail())
    listed = httpx.get(f"{rig.inbox_url}/api/messages").json()["messages"]
    assert [entry["subject"] for entry in listed] == ["Welcome <you>", "First"]
    only = httpx.get(f"{rig.inbox_url}/api/messages", params={"to": "ann@example.com"}).json()["messages"]
    assert [entry["id"] for entry in only] == [sent["id"]]
    assert only[0]["links"] == ["http://127.0.0.1:8080/auth/verify?token=a&b=c"]
    assert mails.get(sent["id"])["subject"] == "Welcome <you>"


def test_an_idempotency_key_sends_once(rig, mails):
    options = {"idempotency_key": "k1"}
    assert mails.send(mail(), options)["id"] == mails.send(mail(), options)["id"]
    assert len(httpx.get(f"{rig.inbox_url}/api/messages").json()["messages"]) == 1
    with pytest.raises(resend.exceptions.ResendError, match="different request payload"):
        mails.send(mail(subject="Other"), options)


def test_mails_that_resend_refuses_are_refused(rig, mails, monkeypatch):
    with pytest.raises(resend.exceptions.MissingRequiredFieldsError):
        mails.send(mail(subject=""))
    with pytest.raises(resend.exceptions.ValidationError, match="Invalid `to` field"):
        mails.send(mail(to="not an address"))
    fault(rig, api="resend", kind="429")
    with pytest.raises(resend.exceptions.RateLimitError):
        mails.send(mail())
    monkeypatch.setattr(resend, "api_key", "alva:unset")
    with pytest.raises(resend.exceptions.InvalidApiKeyError):
        mails.send(mail())
    monkeypatch.setattr(resend, "api_key", None)
    with pytest.raises(resend.exceptions.MissingApiKeyError):
        mails.send(mail())
    assert httpx.get(f"{rig.inbox_url}/api/messages").json()["messages"] == []


def test_the_inbox_page_shows_mails_escaped_with_their_links(rig, mails):
    sent = mails.send(mail())
    listing = httpx.get(rig.inbox_url)
    assert "no mail leaves this machine" in listing.text
    assert "Welcome &lt;you&gt;" in listing.text
    assert f'href="/messages/{sent["id"]}"' in listing.text
    page = httpx.get(f"{rig.inbox_url}/messages/{sent['id']}")
    assert 'href="http://127.0.0.1:8080/auth/verify?token=a&amp;b=c"' in page.text
    assert "script" not in page.headers["content-security-policy"]
    frame = httpx.get(f"{rig.inbox_url}/messages/{sent['id']}/html")
    assert "default-src 'none'" in frame.headers["content-security-policy"]
    assert httpx.get(f"{rig.inbox_url}/messages/none").status_code == 404
    assert httpx.post(f"{rig.inbox_url}/delete").status_code == 303
    assert "No mail yet" in httpx.get(rig.inbox_url).text


def test_another_site_can_neither_read_nor_delete(rig, mails):
    mails.send(mail())
    headers = {"Origin": "https://evil.example"}
    assert httpx.post(f"{rig.inbox_url}/delete", headers=headers).status_code == 403
    assert httpx.delete(f"{rig.inbox_url}/api/messages", headers=headers).status_code == 403
    assert httpx.get(rig.inbox_url, headers={"Host": "evil.example"}).status_code == 400
    assert len(httpx.get(f"{rig.inbox_url}/api/messages").json()["messages"]) == 1


def test_an_unknown_fault_is_refused_with_a_list_of_the_known_ones(rig):
    answer = httpx.post(f"{rig.inbox_url}/api/faults", json={"api": "openai", "kind": "flood"})
    assert answer.status_code == 400
    assert "429" in answer.json()["error"]


def test_mails_survive_a_restart(start_rig, tmp_path):
    body = mail() | {"to": "ann@example.com"}
    first = start_rig()
    url = f"http://{first.resend_address}:8080/emails"
    assert httpx.post(url, json=body, headers={"Authorization": "Bearer re_x"}).status_code == 200
    first.stop()
    second = start_rig(tmp_path)
    assert len(httpx.get(f"{second.inbox_url}/api/messages").json()["messages"]) == 1


def test_inbox_port_in_use_is_an_error_with_a_next_step(start_rig, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        from alva.region.config import RegionConfig

        port = taken.getsockname()[1]
        real = RegionConfig.__init__
        monkeypatch.setattr(
            RegionConfig, "__init__", lambda self, **values: real(self, **(values | {"inbox_port": port}))
        )
        with pytest.raises(RegionFailed, match=f"port {port} is in use") as raised:
            start_rig()
        assert "ALVA_INBOX_PORT" in str(raised.value)
        assert f"process {os.getpid()} (" in str(raised.value)


def test_without_permission_for_port_443_the_region_serves_the_rest_and_has_a_next_step(start_rig, monkeypatch):
    monkeypatch.setattr("alva.region.standins.can_listen_on", lambda port: port != 443)
    rig = start_rig()
    assert "sudo sysctl net.ipv4.ip_unprivileged_port_start=443" in rig.standins.problem
    assert "sudo sysctl" in httpx.get(rig.inbox_url).text
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"https://{rig.openai_address}/v1/models")
