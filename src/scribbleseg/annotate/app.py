"""The server's application: routes behind a guard."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from scribbleseg.annotate import audit_routes, drawing_routes, learning_routes, picture_routes, transfer_routes
from scribbleseg.annotate.answers import failure
from scribbleseg.annotate.learning import Learning, NoLearning, tell
from scribbleseg.annotate.pictures import Pictures
from scribbleseg.annotate.predicted import Progress
from scribbleseg.annotate.project import Project
from scribbleseg.annotate.security import Guard, refused
from scribbleseg.annotate.static_files import StaticFiles

STATIC = Path(__file__).parent / "static"


def create_app(
    project: Project,
    learner: Learning | None = None,
    *,
    token: str = "",
    hosts: Iterable[str] = (),
    further: Iterable[BaseRoute] = (),
) -> Guard:
    """Return the application.

    Args:
        project: opened; closed when the server stops.
        learner: learns from the strokes, if anything does.
        token: that every request must bring; empty where only this computer can reach the server.
        hosts: further names of this server that requests may be addressed to.
        further: routes of other parts of the page.
    """
    pictures, progress = Pictures(project), Progress()
    learns: Learning = learner if learner is not None else NoLearning()

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await anyio.to_thread.run_sync(tell, learns, "close")
        await anyio.to_thread.run_sync(project.close)

    routes: list[BaseRoute] = [
        *StaticFiles(STATIC).routes(),
        *drawing_routes.routes(project, pictures, learns, bool(token)),
        *picture_routes.routes(project, pictures, learns),
        *learning_routes.routes(project, learns, progress),
        *audit_routes.routes(project, learns),
        *transfer_routes.routes(project, learns, progress),
        *further,
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _http, Exception: _failed})
    return Guard(app, token, frozenset(hosts))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refused(error.status_code, "address", "one of the page's", error.detail)


async def _failed(request: Request, error: Exception) -> Response:
    return failure(error)
