"""What ``predict --engine ray`` has of its own: options, and what it tells."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scribbleseg.verbs.options import tell

if TYPE_CHECKING:  # --help starts without it
    from scribbleseg.distributed import Progress
    from scribbleseg.errors import DataError

_PANEL = "With --engine ray"

ClusterAddress = Annotated[
    str | None,
    typer.Option(
        "--cluster", help="auto for the cluster of this machine, or HOST:PORT; else one begins here.", rich_help_panel=_PANEL
    ),
]
Workers = Annotated[int, typer.Option(help="0 for one a GPU or, without any, one a core.", rich_help_panel=_PANEL)]
CpusEach = Annotated[float, typer.Option("--cpus", help="Cores of each worker.", rich_help_panel=_PANEL)]
BlockSize = Annotated[
    int, typer.Option("--block", min=1, help="Inputs that are done and noted together.", rich_help_panel=_PANEL)
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Try again what was left out before.", rich_help_panel=_PANEL)
]

#: Reasons that are told at the end; all are in OUT.
TOLD = 20

ENGINES = ("plain", "ray")


def require_engine(name: str) -> None:
    """Raise ``ConfigError`` for an engine that is not known."""
    from scribbleseg.errors import ConfigError, nearest

    if name not in ENGINES:
        raise ConfigError("--engine", f"one of {', '.join(ENGINES)}", f"'{name}'", nearest(name, ENGINES))


def predict_on_ray(
    model: Path,
    inputs: str,
    out: str,
    *,
    strict: bool,
    cluster: str | None,
    workers: int,
    cpus: float,
    block: int,
    **how: Any,
) -> None:
    """Run it, and tell how far it is and what was left out."""
    from scribbleseg.distributed import Progress, Resources, predict_many

    last = Progress(0)
    reasons: list[dict[str, Any]] = []
    taken = Resources(cluster, workers, cpus, block)
    try:
        for last in predict_many(model, inputs, out, resources=taken, **how):
            if strict and last.reasons:
                raise _error(last.reasons[0])
            reasons += last.reasons[: TOLD - len(reasons)]
            tell(f"\r{_said(last)}\033[K")
    except KeyboardInterrupt:
        print("\nscribbleseg: stopped. Run the same again to go on.", file=sys.stderr)
        raise typer.Exit(130) from None
    tell("\n")
    before = f" ({last.kept} were done before)" if last.kept else ""
    print(f"{last.done + last.kept} images{before}: {out.partition('?')[0]}")
    if last.failed:
        for reason in reasons:
            print(f"left out: {_error(reason)}", file=sys.stderr)
        print(f"{last.failed} of {last.inputs} images were left out; predictions/failed/ in OUT has all", file=sys.stderr)
        raise typer.Exit(1)


def _error(reason: dict[str, Any]) -> DataError:
    from scribbleseg.errors import DataError

    return DataError(reason["input"], reason["expected"], reason["got"], reason["do"])


def _said(progress: Progress) -> str:
    return f"{progress.done + progress.kept} of {progress.inputs} done, {progress.failed} failed"
