"""What ``--engine ray`` has of its own: options, and what it tells."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scribbleseg.verbs.options import tell

if TYPE_CHECKING:  # --help starts without it
    from scribbleseg.distributed import Progress, Resources
    from scribbleseg.errors import DataError
    from scribbleseg.records import Scores

_PANEL = "With --engine ray"

ClusterAddress = Annotated[
    str | None,
    typer.Option(
        "--cluster", help="auto for the cluster of this machine, or HOST:PORT; else one begins here.", rich_help_panel=_PANEL
    ),
]
Engine = Annotated[str, typer.Option(help="plain, or ray: spread over all cores, GPUs and machines.")]
NotesFolder = Annotated[
    str | None,
    typer.Option("--out", help="Folder, or address, where it is noted what is done.", rich_help_panel=_PANEL),
]
Anew = Annotated[bool, typer.Option("--overwrite", help="Forget what OUT notes; begin anew.", rich_help_panel=_PANEL)]
Workers = Annotated[int, typer.Option(help="0 for one a GPU or, without any, one a core.", rich_help_panel=_PANEL)]
CpusEach = Annotated[float, typer.Option("--cpus", help="Cores of each worker.", rich_help_panel=_PANEL)]
BlockSize = Annotated[
    int, typer.Option("--block", min=1, help="Inputs that are done and noted together.", rich_help_panel=_PANEL)
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Try again what was left out before.", rich_help_panel=_PANEL)
]
LookAgain = Annotated[
    bool, typer.Option("--new", help="List the inputs again; add those that are new.", rich_help_panel=_PANEL)
]

#: Reasons that are told at the end; all are in OUT.
TOLD = 20

ENGINES = ("plain", "ray")


def resources_of(engine: str, cluster: str | None, workers: int, cpus: float, block: int) -> Resources | None:
    """Return what a run takes of a cluster; None where it is the plain loop.

    Raises:
        ConfigError: no such engine.
    """
    from scribbleseg.errors import ConfigError, nearest

    if engine not in ENGINES:
        raise ConfigError("--engine", f"one of {', '.join(ENGINES)}", f"'{engine}'", nearest(engine, ENGINES))
    if engine == "plain":
        return None
    from scribbleseg.distributed import Resources

    return Resources(cluster, workers, cpus, block)


class Telling:
    """Says how far a run is and, at the end, what was left out.

    Args:
        strict: stop at the first that is.
    """

    def __init__(self, *, strict: bool = False) -> None:
        from scribbleseg.distributed import Progress

        self.last = Progress(0)
        self._strict, self._reasons = strict, list[dict[str, Any]]()

    def __call__(self, now: Progress) -> None:
        """Say how far it is now."""
        if self._strict and now.reasons:
            raise _error(now.reasons[0])
        self.last = now
        self._reasons += now.reasons[: TOLD - len(self._reasons)]
        tell(f"\r{now.done + now.kept} of {now.inputs} done, {now.failed} failed\033[K")

    def end(self, notes: str) -> None:
        """Say what was left out, if anything was, and exit with 1 then."""
        if self.last.failed:
            for reason in self._reasons:
                print(f"left out: {_error(reason)}", file=sys.stderr)
            print(
                f"{self.last.failed} of {self.last.inputs} images were left out; {notes}/failed/ in OUT has all",
                file=sys.stderr,
            )
            raise typer.Exit(1)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Say after Ctrl-C how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        print("\nscribbleseg: stopped. Run the same again to go on.", file=sys.stderr)
        raise typer.Exit(130) from None
    tell("\n")


def predict_on_ray(model: Path, inputs: str, out: str, *, strict: bool, resources: Resources, **how: Any) -> None:
    """Run it, and tell how far it is and what was left out."""
    from scribbleseg.distributed import predict_many

    telling = Telling(strict=strict)
    with interruptible():
        for now in predict_many(model, inputs, out, resources=resources, **how):
            telling(now)
    last = telling.last
    before = f" ({last.kept} were done before)" if last.kept else ""
    print(f"{last.done + last.kept} images{before}: {out.partition('?')[0]}")
    telling.end("predictions")


def evaluate_on_ray(source: Path, data: Path, out: str | None, **how: Any) -> tuple[Scores, Telling]:
    """Run it, and return the scores and what is to be told at the end."""
    from scribbleseg.distributed import evaluate_many
    from scribbleseg.errors import ConfigError

    if out is None:
        do = "name a folder that all machines can write to: a run that is stopped goes on from there"
        raise ConfigError("evaluate --engine ray", "--out FOLDER", "none", do)
    telling = Telling()
    with interruptible():
        scores, _ = evaluate_many(source, data, out, progress=telling, **how)
    return scores, telling


def _error(reason: dict[str, Any]) -> DataError:
    from scribbleseg.errors import DataError

    return DataError(reason["input"], reason["expected"], reason["got"], reason["do"])
