"""The server's application: routes behind a gate."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

import scribbleseg
from scribbleseg import __version__
from scribbleseg.palette import hex_colours
from scribbleseg.serve import calls, label_studio
from scribbleseg.serve.fetching import Fetcher
from scribbleseg.serve.gate import Gate
from scribbleseg.serve.predicting import Predictor
from scribbleseg.serve.reference import CALLS, LABEL_STUDIO_CALLS, openapi, page
from scribbleseg.web.guard import refused

STYLE = Path(scribbleseg.__file__).parent / "templates" / "serve.css"


def create_app(
    predictor: Predictor,
    *,
    title: str = "model",
    token: str = "",
    hosts: Iterable[str] = (),
    fetcher: Fetcher | None = None,
) -> Gate:
    """Return the application.

    Args:
        predictor: the model; it is closed when the server stops.
        title: of the page.
        token: that requests must bring; empty where only this computer can reach the server.
        hosts: further names of this server that requests may be addressed to.
        fetcher: gets pictures for Label Studio; None where the server is not its backend.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await anyio.to_thread.run_sync(predictor.batcher.close)

    told = CALLS if fetcher is None else (*CALLS, *LABEL_STUDIO_CALLS)
    names = dict(zip(predictor.engine.names, hex_colours(len(predictor.engine.names)), strict=True))

    async def document(request: Request) -> Response:
        return JSONResponse(openapi(told, __version__))

    async def index(request: Request) -> Response:
        text = page(told, title, {} if token else names, str(request.url.replace(query="")), with_form=not token)
        return HTMLResponse(text, headers={"referrer-policy": "same-origin"})  # without it, the form's origin would be null

    async def style(request: Request) -> Response:
        return FileResponse(STYLE)

    plain = {"/v1/model": calls.model, "/health/live": calls.live, "/health/ready": calls.ready, "/metrics": calls.metrics}
    routes = [
        Route("/", index),
        Route("/style.css", style),
        Route("/openapi.json", document),
        *(Route(path, functools.partial(work, predictor)) for path, work in plain.items()),
        Route("/v1/predict", calls.answering(predictor, functools.partial(calls.predict, predictor)), methods=["POST"]),
    ]
    if fetcher is not None:
        routes += label_studio.routes(predictor, fetcher)
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _http, Exception: _failed})
    known = frozenset(route.path for route in routes)
    counts = predictor.counts
    return Gate(app, token, frozenset(hosts), predictor.limits.max_bytes, counts.answered, known)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    expected = "the method of this address" if error.status_code == 405 else "an address of the server"
    return refused(error.status_code, "address", expected, str(error.detail), "see / or /openapi.json")


async def _failed(request: Request, error: Exception) -> Response:
    return calls.failure(error)
