"""What several verbs share: options, and telling how far they are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
ModelFolder = Annotated[Path, typer.Option("--model", help="Model folder, or the run folder that holds it.")]
Refine = Annotated[str | None, typer.Option(help="Draw the borders to the picture's edges: dense_crf, tree or window.")]
Flips = Annotated[str, typer.Option(help="Look at mirror images too and average: none, horizontal, vertical or both.")]
Scales = Annotated[str, typer.Option(help="Look at these sizes and average, as 0.75,1,1.25.")]
DataFolder = Annotated[Path, typer.Option("--data", help="Data set: a folder with a dataset.yaml.")]


def tell(text: str) -> None:
    """Print progress where a person is watching."""
    if sys.stderr.isatty():
        print(text, end="", file=sys.stderr, flush=True)
