"""The routes: each reads a request, asks the predictor and answers; every error is one JSON object."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from scribbleseg import __version__
from scribbleseg.errors import DataError, ScribblesegError, nearest
from scribbleseg.palette import hex_colours
from scribbleseg.serve.admission import BusyError
from scribbleseg.serve.batching import stopping
from scribbleseg.serve.gate import too_long
from scribbleseg.serve.outputs import OUTPUTS
from scribbleseg.serve.pictures import MEDIA_TYPES, TooManyPixelsError, UnknownFormatError
from scribbleseg.serve.predicting import Predictor
from scribbleseg.web.guard import TooLongError, refused

_told = logging.getLogger("scribbleseg.serve")


class NotAcceptableError(DataError):
    """No form of answer that the client takes."""


#: Kind of error to status, the first that fits.
STATUS: tuple[tuple[type[ScribblesegError], int], ...] = (
    (NotAcceptableError, 406),
    (UnknownFormatError, 415),
    (TooManyPixelsError, 413),
    (BusyError, 503),
    (ScribblesegError, 422),
)


def answering(
    predictor: Predictor, work: Callable[[Request, float], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that takes a request on if there is room, gives it up in time or when its client leaves."""

    async def endpoint(request: Request) -> Response:
        limits = predictor.limits
        request.state.read = anyio.Event()  # set once the body is: the client's leaving can be waited for from then on
        answer: Response | None = None

        async def worked() -> None:
            nonlocal answer
            answer = await work(request, predictor.until())

        try:
            stated = request.headers.get("content-length")
            with (
                predictor.admission.request(limits.max_bytes if stated is None else int(stated)),
                anyio.fail_after(limits.timeout_s),
            ):
                await _while_there(request, worked)
        except TimeoutError:
            do = "send it again when the server has less to do, or a smaller picture"
            return refused(504, "server", f"an answer within {limits.timeout_s:g} s", "not done", do)
        except TooLongError:
            return too_long(limits.max_bytes)
        except ClientDisconnect:
            pass
        except asyncio.CancelledError:
            if predictor.batcher.alive:
                raise
            return failure(stopping())  # what stops has given up on us, but may still hand this out
        except Exception as error:
            return failure(error)
        return Response(status_code=499) if answer is None else answer  # which nobody reads

    return endpoint


async def _while_there(request: Request, work: Callable[[], Awaitable[None]]) -> None:
    """Do something until it is done or the client has left."""
    own: Exception | None = None
    async with anyio.create_task_group() as tasks:

        async def watched() -> None:
            nonlocal own
            try:
                await work()
            except Exception as error:  # kept, for a group would wrap it
                own = error
            tasks.cancel_scope.cancel()

        tasks.start_soon(watched)
        await request.state.read.wait()
        while (await request.receive())["type"] != "http.disconnect":
            pass
        tasks.cancel_scope.cancel()
    if own is not None:
        raise own


async def predict(predictor: Predictor, request: Request, until: float) -> Response:
    """Answer ``POST /v1/predict``."""
    form = OUTPUTS[wanted(request)]
    data = await body_of(request)
    content = await predictor.predict(data, until, form.write)
    return Response(content, media_type=form.media_type)


def wanted(request: Request) -> str:
    """Return the name of the form of answer: as ``?output=`` says, or else the first that ``Accept`` takes.

    Raises:
        NotAcceptableError: none of them.
    """
    named = request.query_params.get("output")
    if named is not None:
        if named not in OUTPUTS:
            raise NotAcceptableError("output", ", ".join(OUTPUTS), ascii(named)[:50], nearest(named, OUTPUTS))
        return named
    accepted = request.headers.get("accept", "*/*")
    types = [part.partition(";")[0].strip().lower() for part in accepted.split(",")]
    for media in types:
        for name, form in OUTPUTS.items():
            if media in (form.media_type, "*/*", form.media_type.partition("/")[0] + "/*"):
                return name
    expected = ", ".join(dict.fromkeys(form.media_type for form in OUTPUTS.values()))
    raise NotAcceptableError("Accept", expected, ascii(accepted)[1:101], "name a form: ?output=mask")


async def body_of(request: Request) -> bytes:
    """Return the picture of a request: its body, or the file ``image`` of a form.

    Raises:
        DataError: a form without a picture.
        UnknownFormatError: a body that says it is something else.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "multipart/form-data":
            async with request.form(max_files=1, max_fields=8) as form:
                file = form.get("image")
                if not isinstance(file, UploadFile):
                    got = f"fields {', '.join(ascii(key)[1:31] for key in form)[:200]}" if form else "no field"
                    raise DataError("body", "a form with a file `image`", got, "curl -F image=@photo.jpg")
                return await file.read()
        if kind not in ("", "application/octet-stream", "application/x-www-form-urlencoded", *MEDIA_TYPES):
            expected = f"{', '.join(MEDIA_TYPES)}, application/octet-stream or multipart/form-data"
            raise UnknownFormatError("Content-Type", expected, ascii(kind)[1:51], "send the picture's file as it is")
        return await request.body()
    except (HTTPException, FormParserError) as error:  # either, as the library's version goes
        raise DataError("body", "a form", str(getattr(error, "detail", error))[:200], "curl -F image=@photo.jpg") from None
    finally:
        request.state.read.set()


async def model(predictor: Predictor, request: Request) -> Response:
    """Answer ``GET /v1/model``."""
    engine, limits = predictor.engine, predictor.limits
    colours = hex_colours(len(engine.names))
    tree: dict[str, Any] = {
        "classes": [{"id": k, "name": name, "colour": colours[k]} for k, name in enumerate(engine.names)],
        "kind": engine.kind,
        "device": engine.device,
        "window_px": engine.window_px,
        "longest_px": engine.longest_px,
        "reading": engine.reading.model_dump(mode="json", exclude_none=True),
        "origin": engine.origin,
        "outputs": {name: form.media_type for name, form in OUTPUTS.items()},
        "accepts": list(MEDIA_TYPES),
        "limits": {
            "max_bytes": limits.max_bytes,
            "max_pixels": limits.max_pixels,
            "max_requests": limits.max_requests,
            "max_batch": limits.max_batch,
            "timeout_s": limits.timeout_s,
        },
        "version": __version__,
    }
    return JSONResponse(tree)


async def live(predictor: Predictor, request: Request) -> Response:
    """Answer ``GET /health/live``."""
    return JSONResponse({"status": "live"})


async def ready(predictor: Predictor, request: Request) -> Response:
    """Answer ``GET /health/ready``."""
    if not predictor.batcher.alive:
        return refused(503, "server", "a model at work", "none: the server stops, or has failed", "ask another one")
    return JSONResponse({"status": "ready", "requests": predictor.admission.requests})


async def metrics(predictor: Predictor, request: Request) -> Response:
    """Answer ``GET /metrics``."""
    return Response(predictor.counts.text(), headers={"content-type": predictor.counts.media_type})


def failure(error: Exception) -> Response:
    """Return the answer to a request that failed; what is not the user's to mend goes to the server's own log alone."""
    if isinstance(error, ScribblesegError):
        status = next(status for kind, status in STATUS if isinstance(error, kind))
        answer = refused(status, *(part[:500] for part in (error.where, error.expected, error.got, error.do)))
        if isinstance(error, BusyError):
            answer.headers["retry-after"] = str(error.retry_s)
        return answer
    _told.error("a request failed", exc_info=error)
    return refused(500, "server", "an answer", "a failure of the program", "see the server's terminal, and report it")
