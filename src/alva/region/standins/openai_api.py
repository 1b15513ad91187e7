"""The part of OpenAI's API that the product uses: chat completions and responses, structured output, streaming.

It identifies itself as a stand-in: the model's name is `alva-standin`, and every response has the header
`x-alva-standin: true`. Unsupported calls get an error in the API's format.
https://platform.openai.com/docs/api-reference
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from alva.region.standins.answers import answer_text, fill, read_business
from alva.region.standins.faults import Fault, Faults

MODEL = "alva-standin"
HEADERS = {"x-alva-standin": "true"}
PIECES = 24
"""The number of pieces of a streamed answer."""

_UNUSABLE_KEYS = ("alva:unset", "invalid")

Json = dict[str, Any]


@dataclass(eq=False)
class Refused(Exception):
    """An error response."""

    status_code: int
    message: str
    kind: str = "invalid_request_error"
    code: str | None = None
    parameter: str | None = None

    def response(self) -> Response:
        body = {"message": self.message, "type": self.kind, "param": self.parameter, "code": self.code}
        headers = HEADERS | ({"retry-after-ms": "200"} if self.status_code == 429 else {})
        return JSONResponse({"error": body}, self.status_code, headers=headers)


@dataclass(frozen=True)
class _Answer:
    """The model's answer, for both APIs."""

    text: str
    finish_reason: str = "stop"
    refusal: str | None = None


def application(faults: Faults, *, seconds: float = 0.8) -> Starlette:
    """The API as an ASGI application; a response takes `seconds`, so that its progress is visible."""

    async def chat(request: Request) -> Response:
        body, fault = await _read(request, faults)
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise Refused(400, "Missing required parameter: 'messages'.", code="missing_required_parameter")
        _require_known(body, ("tools", "functions", "audio", "n"))
        texts = [text for message in messages for text in _texts(message.get("content"))]
        answer = _answer(texts, _chat_schema(body), fault)
        identifier = f"chatcmpl-{_digest(body)}"
        if body.get("stream"):
            include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
            return _events(_chat_chunks(identifier, answer, texts, seconds, include_usage=include_usage))
        await asyncio.sleep(seconds)
        return JSONResponse(_chat_completion(identifier, answer, texts), headers=HEADERS)

    async def respond(request: Request) -> Response:
        body, fault = await _read(request, faults)
        given = body.get("input")
        if not given:
            raise Refused(400, "Missing required parameter: 'input'.", code="missing_required_parameter")
        _require_known(body, ("tools", "background", "conversation", "previous_response_id"))
        items = [given] if isinstance(given, str) else [item.get("content") for item in given]
        texts = [text for item in items for text in _texts(item)]
        answer = _answer(texts, _responses_schema(body), fault)
        identifier = _digest(body)
        if body.get("stream"):
            return _events(_response_events(identifier, answer, texts, body, seconds))
        await asyncio.sleep(seconds)
        return JSONResponse(_response(identifier, answer, texts, body), headers=HEADERS)

    async def models(request: Request) -> Response:
        _authenticate(request)
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "alva"}
        return JSONResponse({"object": "list", "data": [model]}, headers=HEADERS)

    async def unknown(request: Request) -> Response:
        await request.body()
        return Refused(
            404, f"Invalid URL ({request.method} {request.url.path}): the local stand-in does not offer it."
        ).response()

    async def refused(request: Request, error: Exception) -> Response:
        del request
        assert isinstance(error, Refused)  # noqa: S101
        return error.response()

    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/responses", respond, methods=["POST"]),
            Route("/v1/models", models),
            Route("/{path:path}", unknown, methods=["GET", "POST", "DELETE", "PUT", "PATCH"]),
        ],
        exception_handlers={Refused: refused},
    )


async def _read(request: Request, faults: Faults) -> tuple[Json, Fault | None]:
    # A response before the end of the request's body makes Envoy close the client's connection (RFC 9112, section 9.3).
    await request.body()
    _authenticate(request)
    fault = faults.next("openai")
    if fault is not None:
        await _fail(fault)
    try:
        body = await request.json()
    except ValueError as error:
        raise Refused(400, "We could not parse the JSON body of your request.") from error
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise Refused(400, "you must provide a model parameter", parameter="model")
    return body, fault


def _authenticate(request: Request) -> None:
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not key.strip():
        raise Refused(
            401, "You didn't provide an API key. You need to provide your API key in an Authorization header."
        )
    if key.strip().startswith(_UNUSABLE_KEYS):
        raise Refused(401, "Incorrect API key provided.", code="invalid_api_key")


async def _fail(fault: Fault) -> None:
    match fault.kind:
        case "timeout":
            await asyncio.sleep(fault.seconds)
            raise Refused(504, "Gateway timeout", "server_error")
        case "429":
            raise Refused(429, "Rate limit reached for requests (requested fault).", "requests", "rate_limit_exceeded")
        case "401":
            raise Refused(401, "Incorrect API key provided (requested fault).", code="invalid_api_key")
        case "500" | "503":
            raise Refused(int(fault.kind), "The server had an error (requested fault).", "server_error")


def _require_known(body: Json, refused: tuple[str, ...]) -> None:
    for name in refused:
        if body.get(name) and body[name] != 1:
            raise Refused(400, f"The local stand-in does not offer '{name}'.", parameter=name)


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content or () if isinstance(part, dict) and isinstance(part.get("text"), str)]


def _chat_schema(body: Json) -> Mapping[str, Any] | None:
    form = body.get("response_format") or {"type": "text"}
    if form.get("type") == "json_schema":
        return form["json_schema"]["schema"]  # type: ignore[no-any-return]
    return _schema_of(form)


def _responses_schema(body: Json) -> Mapping[str, Any] | None:
    form = (body.get("text") or {}).get("format") or {"type": "text"}
    if form.get("type") == "json_schema":
        return form["schema"]  # type: ignore[no-any-return]
    return _schema_of(form)


def _schema_of(form: Json) -> Mapping[str, Any] | None:
    if form.get("type") == "json_object":
        return {"type": "object", "properties": {"summary": {"type": "string"}}}
    if form.get("type") != "text":
        raise Refused(400, f"Invalid value: '{form.get('type')}'.", parameter="response_format.type")
    return None


def _answer(texts: list[str], schema: Mapping[str, Any] | None, fault: Fault | None) -> _Answer:
    business = read_business(texts)
    try:
        text = answer_text(business) if schema is None else json.dumps(fill(schema, business), ensure_ascii=False)
    except (ValueError, KeyError, IndexError) as error:
        raise Refused(400, f"Invalid schema for response_format: {error}", parameter="response_format") from error
    match fault.kind if fault else None:
        case "refusal":
            return _Answer("", refusal="I'm sorry, I can't help with that (requested fault).")
        case "malformed":
            return _Answer('{"surprise": true}')
        case "length":
            return _Answer(text[: len(text) // 2], finish_reason="length")
    return _Answer(text)


def _digest(body: Json) -> str:
    """An identifier that depends only on the request."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:24]


def _tokens(texts: list[str]) -> int:
    # OpenAI's rule of thumb: a token is four characters.
    return sum(len(text) for text in texts) // 4 + 1


def _pieces(text: str) -> list[str]:
    size = max(1, -(-len(text) // PIECES))
    return [text[start : start + size] for start in range(0, len(text), size)]


def _events(events: AsyncIterator[str]) -> Response:
    return StreamingResponse(events, media_type="text/event-stream", headers=HEADERS | {"Cache-Control": "no-cache"})


def _chat_usage(answer: _Answer, texts: list[str]) -> Json:
    sent, returned = _tokens(texts), _tokens([answer.text])
    return {"prompt_tokens": sent, "completion_tokens": returned, "total_tokens": sent + returned}


def _chat_completion(identifier: str, answer: _Answer, texts: list[str]) -> Json:
    message: Json = {
        "role": "assistant",
        "content": None if answer.refusal else answer.text,
        "refusal": answer.refusal,
        "annotations": [],
    }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
    return {
        "id": identifier,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [choice],
        "usage": _chat_usage(answer, texts),
        "system_fingerprint": MODEL,
    }


async def _chat_chunks(
    identifier: str, answer: _Answer, texts: list[str], seconds: float, *, include_usage: bool
) -> AsyncIterator[str]:
    created = int(time.time())

    def chunk(delta: Json | None, finish_reason: str | None = None, usage: Json | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        value = {
            "id": identifier,
            "object": "chat.completion.chunk",
            "created": created,
            "model": MODEL,
            "system_fingerprint": MODEL,
            "choices": [] if delta is None else [choice],
        }
        if include_usage:
            value["usage"] = usage
        return f"data: {json.dumps(value)}\n\n"

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    pieces, name = (_pieces(answer.refusal), "refusal") if answer.refusal else (_pieces(answer.text), "content")
    for piece in pieces:
        await asyncio.sleep(seconds / len(pieces))
        yield chunk({name: piece})
    yield chunk({}, answer.finish_reason)
    if include_usage:
        yield chunk(None, usage=_chat_usage(answer, texts))
    yield "data: [DONE]\n\n"


def _content_part(answer: _Answer) -> Json:
    if answer.refusal:
        return {"type": "refusal", "refusal": answer.refusal}
    return {"type": "output_text", "text": answer.text, "annotations": []}


def _response(identifier: str, answer: _Answer, texts: list[str], body: Json, *, is_done: bool = True) -> Json:
    sent, returned = _tokens(texts), _tokens([answer.text])
    is_cut = answer.finish_reason == "length"
    item = {
        "type": "message",
        "id": f"msg_{identifier}",
        "status": "incomplete" if is_cut else "completed",
        "role": "assistant",
        "content": [_content_part(answer)],
    }
    usage = {
        "input_tokens": sent,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": returned,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": sent + returned,
    }
    status = ("incomplete" if is_cut else "completed") if is_done else "in_progress"
    return {
        "id": f"resp_{identifier}",
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut and is_done else None,
        "instructions": body.get("instructions"),
        "metadata": body.get("metadata") or {},
        "model": MODEL,
        "output": [item] if is_done else [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage if is_done else None,
    }


async def _response_events(
    identifier: str, answer: _Answer, texts: list[str], body: Json, seconds: float
) -> AsyncIterator[str]:
    number = -1

    def event(kind: str, **values: Any) -> str:
        nonlocal number
        number += 1
        return f"event: {kind}\ndata: {json.dumps({'type': kind, 'sequence_number': number, **values})}\n\n"

    done = _response(identifier, answer, texts, body)
    begun = _response(identifier, answer, texts, body, is_done=False)
    item = done["output"][0]
    where = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    part = _content_part(answer)
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    yield event("response.output_item.added", output_index=0, item=item | {"status": "in_progress", "content": []})
    name, key = ("refusal", "refusal") if answer.refusal else ("output_text", "text")
    empty = part | {key: ""}
    yield event("response.content_part.added", part=empty, **where)
    pieces = _pieces(part[key])
    extra: Json = {} if answer.refusal else {"logprobs": []}
    for piece in pieces:
        await asyncio.sleep(seconds / len(pieces))
        yield event(f"response.{name}.delta", delta=piece, **where, **extra)
    yield event(f"response.{name}.done", **{key: part[key]}, **where, **extra)
    yield event("response.content_part.done", part=part, **where)
    yield event("response.output_item.done", output_index=0, item=item)
    yield event("response.incomplete" if done["status"] == "incomplete" else "response.completed", response=done)
