"""The demo: a data set made on the spot, two trainings from one seed, an honest comparison."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scribbleseg.config import RunConfig, parse_config
from scribbleseg.data.synthetic import make_dataset
from scribbleseg.errors import ConfigError
from scribbleseg.report.page import report
from scribbleseg.scores import read_scores
from scribbleseg.training.run import train

#: Method name and title of each training, the baseline first.
METHODS = {"partial_ce": "partial cross-entropy", "dfr": "DFR"}

#: The demo's own strength of the regularizer: on its textures a strong and early one is best (found on the validation
#: images of another seed).
LOSSES: dict[str, dict[str, Any]] = {"partial_ce": {}, "dfr": {"dynamic_feature": {"weight": 10.0, "start": 0.0}}}

#: What both trainings share. Nothing here was chosen by looking at the test images.
SETTINGS: dict[str, Any] = {
    "data": {"crop_px": 96, "scale": [0.8, 1.25], "colour": 0.1},
    "model": {
        "backbone": {
            "model_type": "resnet",
            "embedding_size": 32,
            "hidden_sizes": [32, 48, 64, 96],
            "depths": [1, 1, 1, 1],
            "layer_type": "basic",
        },
        "channels": 32,
        "dropout": 0.0,
    },
    "training": {"max_steps": 600, "batch_size": 8, "lr": 2e-3, "val_every": 200, "snapshots": 3},
}


@dataclasses.dataclass(frozen=True)
class DemoResult:
    """What the demo found: scores by method title (trees of ``evaluate.summary``), and where the report is."""

    scores: dict[str, dict[str, Any]]
    report: Path


def demo_config(data: Path, method: str, seed: int, max_steps: int | None = None, progress_bar: bool = True) -> RunConfig:
    """Return the configuration of one of the demo's trainings."""
    training = SETTINGS["training"] | {"progress_bar": progress_bar} | ({} if max_steps is None else {"max_steps": max_steps})
    tree = SETTINGS | {
        "seed": seed,
        "method": method,
        "losses": LOSSES[method],
        "data": SETTINGS["data"] | {"root": str(data)},
        "training": training,
    }
    return parse_config(tree)


def demo(
    out: Path | str,
    *,
    seed: int = 0,
    max_steps: int | None = None,
    progress_bar: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> DemoResult:
    """Make a data set, train with partial cross-entropy and with DFR from one seed, score both on unseen images, report.

    Needs no network, no weights and no GPU.

    Args:
        out: new folder; it gets ``data/``, a run folder per method and ``report.html``.
        seed: of the data, the weights and the order.
        max_steps: shorter or longer trainings.
        progress_bar: show one per training.
        say: receives a line on what is going on.

    Raises:
        ConfigError: the folder already holds a demo.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(out, "a new or empty folder", "files are in it", "remove it, or choose another --out")
    data = make_dataset(out / "data", seed=seed)
    say(f"made a data set of textured objects with scribbles: {data}")
    runs = []
    for method, title in METHODS.items():
        say(f"training with {title} …")
        run = out / method
        train(demo_config(data, method, seed, max_steps, progress_bar), run)
        runs.append(run)
    page = report(runs, out / "report.html", data=data, split="test", titles=list(METHODS.values()))
    scores = {title: read_scores(run / "scores_test.json") for title, run in zip(METHODS.values(), runs, strict=True)}
    return DemoResult(scores, page)
