"""The verb that serves a model."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from scribbleseg.verbs.options import Device


def serve(
    model: Annotated[Path, typer.Argument(help="Model folder, run folder, or a folder that `export` wrote.")],
    host: Annotated[str, typer.Option(help="Address to listen at; any but this computer's own needs a token.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port; the first free one from 8421 on.")] = None,
    device: Device = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of the model; 0 leaves the library's choice.")] = 0,
    token_file: Annotated[Path | None, typer.Option(help="File with the token that requests must bring.")] = None,
    max_mb: Annotated[int, typer.Option(min=1, help="Largest body, in MiB.")] = 32,
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest picture, in pixels.")] = 2**24,
    queue: Annotated[int, typer.Option(min=1, help="Requests in hand; further ones are refused with 503.")] = 64,
    batch: Annotated[int, typer.Option(min=1, help="Windows that go through the network together.")] = 8,
    batch_wait_ms: Annotated[float, typer.Option(min=0, max=1000, help="For how long a batch waits to be full.")] = 5.0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds until a request is given up.")] = 30.0,
    label_studio: Annotated[str | None, typer.Option(help="Address of the Label Studio whose backend this is.")] = None,
    label_studio_token: Annotated[Path | None, typer.Option(help="File with the access token of a user of it.")] = None,
    local_files: Annotated[Path | None, typer.Option(help="Folder that is Label Studio's document root.")] = None,
) -> None:
    """Answer over HTTP what a model predicts: REST with OpenAPI, batches, limits and metrics."""
    from scribbleseg.errors import ConfigError

    for library in ("starlette", "uvicorn", "python_multipart", "prometheus_client", "shapely", "defusedxml"):
        if importlib.util.find_spec(library) is None:
            raise ConfigError("serve", f"the library {library}", "not installed", 'pip install "scribbleseg[serve]"')
    from scribbleseg.serve.admission import Limits
    from scribbleseg.serve.fetching import Fetcher
    from scribbleseg.serve.server import leave, read_token, serve as run

    limits = Limits(max_mb * 2**20, max_pixels, queue, batch, batch_wait_ms / 1000, timeout)
    fetcher = None
    if label_studio is not None or local_files is not None:
        if label_studio is not None and not label_studio.startswith(("http://", "https://")):
            do = "as http://localhost:8080"
            raise ConfigError("--label-studio", "an address that begins with http:// or https://", label_studio, do)
        if local_files is not None and not local_files.is_dir():
            raise ConfigError("--local-files", "a folder", f"{local_files}: none", "check the path")
        own = "" if label_studio_token is None else read_token(label_studio_token)
        fetcher = Fetcher((label_studio or "").rstrip("/"), own, local_files, limits.max_bytes)
    run(
        model,
        host=host,
        port=port,
        device=device,
        threads=threads,
        limits=limits,
        token_file=token_file,
        fetcher=fetcher,
    )
    leave()
