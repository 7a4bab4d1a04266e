"""The routes: a request is read, checked, tokenized and taken in before anything is answered."""

import asyncio
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from refute_runtime.engine import Engine
from refute_runtime.errors import RuntimeFailure
from refute_runtime.serving import prepare
from refute_runtime.serving.fields import chat_body, completion_body
from refute_runtime.serving.jobs import Busy
from refute_runtime.serving.openapi import document
from refute_runtime.serving.refusals import INTERNAL, Refusal, refusal_of
from refute_runtime.serving.requests import unknown_model
from refute_runtime.serving.responses import model_list, model_object
from refute_runtime.serving.schema import Schema
from refute_runtime.serving.sending import Answer
from refute_runtime.serving.service import Service

_CLIENT_LEFT = 499  # as proxies write it in their logs; nobody reads it


def application(service: Service, key: str | None) -> Starlette:
    """Return the ASGI application. key: what clients must show; None for no such thing."""
    routes = _Routes(service, protected=key is not None)
    app = Starlette(
        routes=[
            Route("/health", routes.health),
            Route("/v1/models", routes.models),
            Route("/v1/models/{name:path}", routes.model),
            Route("/v1/chat/completions", routes.chat, methods=["POST"]),
            Route("/v1/completions", routes.completion, methods=["POST"]),
            Route("/openapi.json", routes.openapi),
        ],
        exception_handlers={
            Refusal: _refused,
            HTTPException: _refused_by_router,
            ClientDisconnect: _left,
            Exception: _failed,
        },
        middleware=[] if key is None else [Middleware(_Guard, key=key)],
    )
    app.router.redirect_slashes = False
    return app


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of request. prompt: the field that holds what the runtime calls the prompt."""

    body: Schema
    prompt: str
    prepare: Callable[[bytes, Schema, Engine, str], prepare.Prepared]


class _Routes:
    def __init__(self, service: Service, *, protected: bool) -> None:
        self._service = service
        self._chat = _Kind(chat_body(service.model), "messages", prepare.chat)
        self._completion = _Kind(completion_body(service.model), "prompt", prepare.completion)
        self._document = document(self._chat.body, self._completion.body, protected=protected)

    async def health(self, _: Request) -> Response:
        self._service.check()
        return JSONResponse({"status": "ok"})

    async def models(self, _: Request) -> Response:
        return JSONResponse(model_list([self._model()]))

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name != self._service.model:
            raise unknown_model(name, self._service.model)
        return JSONResponse(self._model())

    async def chat(self, request: Request) -> Response:
        return await self._answer(request, self._chat)

    async def completion(self, request: Request) -> Response:
        return await self._answer(request, self._completion)

    async def openapi(self, _: Request) -> Response:
        return JSONResponse(self._document)

    def _model(self) -> dict[str, object]:
        engine = self._service.served.engine
        service = self._service
        return model_object(service.model, service.created, engine.config.context, engine.digest)

    async def _answer(self, request: Request, kind: _Kind) -> Response:
        service = self._service
        deadline = asyncio.get_running_loop().time() + service.limits.timeout
        engine = service.served.engine
        raw = await _body(request, service.limits.max_body, deadline)
        try:
            prepared = await asyncio.to_thread(kind.prepare, raw, kind.body, engine, service.model)
            running = service.start(prepared.job, deadline)
        except (RuntimeFailure, Busy) as error:
            raise refusal_of(error, kind.body["properties"], kind.prompt) from None
        return Answer(running, prepared.writing, stream=prepared.stream)


async def _body(request: Request, most: int, deadline: float) -> bytes:
    """Read a body of JSON, as many bytes as may come: what its head says of its length is not believed."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # a web page cannot send it elsewhere without asking
        message = f"the body is of type {kind or 'unknown'}, expected application/json"
        raise Refusal(415, message, code="unsupported_media_type")
    body = bytearray()
    try:
        async with asyncio.timeout_at(deadline):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    message = f"the body is too large, expected at most {most} bytes"
                    raise Refusal(413, message, code="body_too_large")
    except TimeoutError:
        raise Refusal(408, "the body took longer than the server's limit", code="timeout") from None
    return bytes(body)


class _Guard:
    """Lets in who shows the key as `Authorization: Bearer` or `X-Api-Key`; anyone may ask for health."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/health" or self._shown(scope):
            await self._app(scope, receive, send)
        else:
            message = "the API key is missing or wrong, expected as Authorization: Bearer or X-Api-Key"
            await _response(Refusal(401, message, code="invalid_api_key"))(scope, receive, send)

    def _shown(self, scope: Scope) -> bool:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        bearer = token.strip() if scheme.lower() == b"bearer" else b""
        given = (bearer, headers.get(b"x-api-key", b""))
        return any(hmac.compare_digest(shown, self._key) for shown in given)


def _response(refusal: Refusal) -> Response:
    return JSONResponse(refusal.body, refusal.status, refusal.headers)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _response(error)


async def _refused_by_router(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = {404: f"there is no {request.url.path}", 405: f"{request.url.path} does not take {request.method}"}
    refusal = Refusal(error.status_code, told.get(error.status_code, error.detail))
    return JSONResponse(refusal.body, error.status_code, error.headers)


async def _left(_: Request, __: Exception) -> Response:
    return Response(status_code=_CLIENT_LEFT)


async def _failed(_: Request, __: Exception) -> Response:
    """The error itself goes to the log of the server that runs this."""
    return _response(Refusal(500, INTERNAL))
