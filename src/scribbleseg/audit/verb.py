"""The verb ``audit`` of the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def audit(
    data: Annotated[Path, typer.Option("--data", help="Data set, or a folder of images.")],
    model: Annotated[Path, typer.Option("--model", help="Model folder, or the run folder that holds it.")],
    number: Annotated[int, typer.Option(min=1, help="Points to look at.")] = 100,
    unit: Annotated[str, typer.Option(help="pixel, or patch: squares of 16 × 16.")] = "pixel",
    out: Annotated[Path, typer.Option(help="Folder for the sheet of points and the table to fill in.")] = Path("audit"),
    split: Annotated[str | None, typer.Option(help="Of the data set; all images if not given.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same points.")] = 0,
    answers: Annotated[Path | None, typer.Option(help="The filled table: say what follows from it.")] = None,
    truth: Annotated[bool, typer.Option("--truth", help="Answer from the data set's dense masks.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
) -> None:
    """Estimate a model's accuracy from points that you look at: once to make the sheet, once with --answers."""
    from scribbleseg.audit.run import finish_audit, make_audit, table
    from scribbleseg.errors import ConfigError

    if unit not in ("pixel", "patch"):
        raise ConfigError("--unit", "pixel or patch", f"'{unit}'", "give one of them")
    if answers is not None:
        found, unit = finish_audit(out, answers)
        print(table(found, unit))
        return
    chosen: Any = unit
    plan, known = make_audit(
        model,
        data,
        out,
        number=number,
        unit=chosen,
        split=split,
        seed=seed,
        device=device,
        truth=truth,
        progress=_tell if sys.stderr.isatty() else None,
    )
    if known is not None:
        print(table(known, plan.unit))
        return
    print(f"{len(plan.items)} points: {out / 'points.html'}\nfill in: {out / 'answers.csv'}")
    print(f"then: scribbleseg audit --model {model} --data {data} --out {out} --answers {out / 'answers.csv'}")


def _tell(done: int, number: int) -> None:
    """Print progress where a person is watching."""
    print(f"\r{done}/{number} images", end="\n" if done == number else "", file=sys.stderr, flush=True)
