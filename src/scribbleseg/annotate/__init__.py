"""The drawing page: a server for one folder of images, and what it keeps on disk."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from scribbleseg.errors import ConfigError

if TYPE_CHECKING:
    from scribbleseg.annotate.learning import Learning
    from scribbleseg.annotate.project import Project


def start(folder: Path, *, host: str, port: int | None, open_page: bool, backbone: Path | None, device: str) -> None:
    """Serve a folder until it is stopped, see :func:`scribbleseg.annotate.server.serve`.

    Raises:
        ConfigError: the libraries of the server are not installed.
        ScribblesegError: as there.
    """
    for library in ("starlette", "uvicorn", "python_multipart"):
        if importlib.util.find_spec(library) is None:
            do = 'pip install "scribbleseg[annotate]"'
            raise ConfigError("annotate", f"the library {library}, which serves the page", "not installed", do)
    from scribbleseg.annotate.server import serve

    name = "scribbleseg.annotate.learner"

    def learner(project: Project) -> Learning:
        learns: Learning = importlib.import_module(name).Learner(project, device=device, backbone=backbone)
        return learns

    known = importlib.util.find_spec(name) is not None
    serve(folder, host=host, port=port, open_page=open_page, learner=learner if known else None)
