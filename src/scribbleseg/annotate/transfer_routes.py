"""Routes that take archives out and in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import ExitStack
from pathlib import Path

import anyio.to_thread
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from scribbleseg.annotate.answers import Pool, answer, failure
from scribbleseg.annotate.learning import Learning, tell
from scribbleseg.annotate.predicted import Progress, export_predictions
from scribbleseg.annotate.project import Project
from scribbleseg.annotate.security import TooLongError, too_long
from scribbleseg.annotate.transfer import export_model, export_strokes, join, scratch, unpacked
from scribbleseg.data.formats.safety import safe_name
from scribbleseg.errors import DataError


def routes(project: Project, learner: Learning, progress: Progress) -> list[Route]:
    """Return the routes; how far an export of predictions is goes into ``progress``."""
    pool = Pool(2)

    def strokes(request: Request, body: bytes) -> Response:
        return _packed(project, lambda folder: export_strokes(project, request.query_params.get("format", "dataset"), folder))

    def predictions(request: Request, body: bytes) -> Response:
        kind = request.query_params.get("format", "png")
        return _streamed(export_predictions(project, learner, kind, progress), "predictions.zip")

    def model(request: Request, body: bytes) -> Response:
        return _packed(project, lambda folder: export_model(project, folder))

    async def take(request: Request) -> Response:
        try:
            async with request.form(max_files=1, max_fields=4) as form:
                file, texts = form.get("file"), {k: str(v) for k, v in form.items() if not isinstance(v, UploadFile)}
                if not isinstance(file, UploadFile):
                    raise DataError("import", "a file", "none", "choose a file")
                return answer(await anyio.to_thread.run_sync(_joined, project, learner, file, texts))
        except TooLongError:
            return too_long(request.scope["path"])
        except Exception as error:
            return failure(error)

    return [
        Route("/api/export/strokes", pool(strokes)),
        Route("/api/export/predictions", pool(predictions)),
        Route("/api/export/model", pool(model)),
        Route("/api/import", take, methods=["POST"]),
    ]


def _joined(project: Project, learner: Learning, file: UploadFile, texts: dict[str, str]) -> dict[str, object]:
    """Join an uploaded file; it is given a plain name, and keeps its suffixes."""
    with scratch(project, "imports") as folder:
        name = Path(safe_name(Path(file.filename or "file").name, "import")).name
        path = folder / name
        with path.open("wb") as sink:
            while chunk := file.file.read(2**20):
                sink.write(chunk)
        if path.suffix.lower() == ".zip":
            (folder / "unpacked").mkdir()
            path = unpacked(path, folder / "unpacked")
        before = {row.id: row.version for row in project.images()}
        joined = join(project, path, texts.get("format") or None, texts.get("unlabelled") or None)
    tell(learner, "classes_changed")
    for row in project.images():
        if row.version != before.get(row.id):
            tell(learner, "strokes_changed", row.id)
    return {"converted": joined.converted, "failed": joined.failed}


def _packed(project: Project, make: Callable[[Path], Path]) -> Response:
    """Answer with an archive, whose files are gone once it was sent."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch(project, "exports"))
        archive = make(folder)
        stream = stack.enter_context(archive.open("rb"))
        size = archive.stat().st_size
        later = stack.pop_all()

    def chunks() -> Generator[bytes, None, None]:
        with later:
            while chunk := stream.read(2**20):
                yield chunk

    return _streamed(chunks(), archive.name, {"content-length": str(size)})


def _streamed(parts: Generator[bytes, None, None], name: str, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with an archive that is made, in a thread, as fast as it is taken."""

    async def chunks() -> AsyncIterator[bytes]:
        try:
            while (chunk := await anyio.to_thread.run_sync(next, parts, None)) is not None:
                if chunk:
                    yield chunk
        finally:
            parts.close()

    headers = {"content-disposition": f'attachment; filename="{name}"', **(headers or {})}
    return StreamingResponse(chunks(), media_type="application/zip", headers=headers)
