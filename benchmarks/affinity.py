"""What the kernels of DFR find alike while a network learns: a figure of it on every data set, and a gallery.

    python -m benchmarks.affinity run DATA RUN [RUN ...] [--split val] [--images 40]
    python -m benchmarks.affinity gallery DEMO
    python -m benchmarks.affinity write

``run`` reads trainings that kept networks on the way (``training.snapshots``; the DFR cells of benchmarks/staged.yaml do) and
measures, at each, which share of a kernel's mass joins pixels of two classes: where the loss is wrong to ask for agreement.
DATA is the data set of those runs, or the folder that it is in. ``gallery`` draws maps of the demo's images, the first of its
test split, not chosen. ``write`` puts both into docs/explanation/dynamic_feature.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.ops.page import table, write
from scribbleseg.atomic import atomic_path, write_text
from scribbleseg.bench.picture import svg
from scribbleseg.config import load_record
from scribbleseg.data.folder import Dataset, open_dataset
from scribbleseg.data.loader import evenly
from scribbleseg.errors import ConfigError
from scribbleseg.explain import affinity, at_grid, inmost, kernels, leak, look, same_class, stages
from scribbleseg.models.folder import load_model
from scribbleseg.provenance import provenance

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "affinity"
PAGE = ROOT / "docs" / "explanation" / "dynamic_feature.md"
GALLERY, CURVES = (ROOT / "docs" / "images" / name for name in ("affinity.png", "affinity-leak.svg"))

#: The kernels in pictures and tables.
WORDS = {"shallow": "colour (static kernel)", "deep": "colour and features (dynamic kernel)"}


def measure(run: Path, dataset: Dataset, split: str, images: int) -> dict[str, Any]:
    """Return each kernel's leak, pooled over images, by step."""
    config = load_record(run)
    found = kernels(config.losses)
    if found is None:
        raise ConfigError(run, "a run of DFR with its dynamic kernel", f"method {config.method}", "give another run")
    flat = {name: kernel.model_copy(update={"sigma_rgb": None, "sigma_feature": None}) for name, kernel in found.items()}
    stems = evenly(dataset.stems(split), images)
    steps = []
    for step, folder in stages(run, config.training.max_steps):
        model = load_model(folder)
        sums = dict.fromkeys([*found, *(f"flat {name}" for name in flat)], (0.0, 0.0))
        for stem in stems:
            rgb = dataset.rgb(stem, model.reading)
            seen = look(model, rgb)
            labels = at_grid(dataset.labels(stem, "masks", rgb.shape[:2]), *seen.rgb.shape[-2:])
            for name, kernel in {**found, **{f"flat {name}": kernel for name, kernel in flat.items()}}.items():
                across, whole = leak(kernel, seen, labels, len(dataset.names))
                sums[name] = sums[name][0] + across, sums[name][1] + whole
        steps.append({"step": step, **{name: across / whole for name, (across, whole) in sums.items()}})
        print(run.name, steps[-1], flush=True)
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return {
        "data": dataset.root.resolve().name,
        "split": split,
        "images": len(stems),
        "steps": steps,
        "trained": {key: record.get(key) for key in ("seed", "commit")},
        "provenance": provenance(config.seed),
    }


def gallery(demo: Path, rows: int = 3) -> None:
    """Draw maps of the demo's DFR run."""
    dataset, run = open_dataset(demo / "data"), demo / "dfr"
    config = load_record(run)
    found = kernels(config.losses)
    assert found is not None
    networks = [(step, load_model(folder)) for step, folder in stages(run, config.training.max_steps)]
    sheet = Figure(figsize=(9.0, 1.72 * rows + 0.25), layout="constrained")
    FigureCanvasAgg(sheet)
    titles = ["picture", "alike in colour", *(f"in features too,\nstep {step}" for step, _ in networks)]
    for line, stem in zip(sheet.subplots(rows, len(titles)), dataset.stems("test"), strict=False):
        rgb = dataset.rgb(stem)
        looks = [look(model, rgb) for _, model in networks]
        labels = at_grid(dataset.labels(stem, "masks", rgb.shape[:2]), *looks[-1].rgb.shape[-2:])
        row, column = inmost(labels)
        guides = [looks[-1].guide(found["shallow"]), *(seen.guide(found["deep"]) for seen in looks)]
        maps = [affinity(guide, row, column) for guide in guides]
        grey = np.repeat(0.55 * rgb.mean(-1, keepdims=True), 3, 2)
        high, wide = rgb.shape[:2]
        for n, (axis, title) in enumerate(zip(line, titles, strict=True)):
            axis.imshow(grey if n else rgb, extent=(0, wide, high, 0))
            if n:
                alpha = maps[n - 1].numpy()
                yellow = np.broadcast_to(np.array([240, 228, 66]) / 255, (*alpha.shape, 3))
                axis.imshow(yellow, alpha=alpha, extent=(0, wide, high, 0), interpolation="bilinear")
                axis.set_xlabel(f"{100 * same_class(maps[n - 1], labels, row, column):.0f} % on its class", fontsize=8)
            where = (column + 0.5) / labels.shape[1] * wide, (row + 0.5) / labels.shape[0] * high
            axis.plot(*where, "+", color="white", markersize=8, markeredgewidth=1.6)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            if stem == dataset.stems("test")[0]:
                axis.set_title(title, fontsize=9)
    with atomic_path(GALLERY) as temporary:
        sheet.savefig(temporary, format="png", dpi=110)


def curves(results: Sequence[dict[str, Any]]) -> None:
    """Draw the leak by step."""
    with svg(CURVES, 6.4, 3.4) as axes:
        for result, colour in zip(results, ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"), strict=False):
            x = [100 * s["step"] / result["steps"][-1]["step"] for s in result["steps"]]
            axes.plot(x, [100 * s["deep"] for s in result["steps"]], "o-", color=colour, label=result["data"], markersize=4)
            axes.plot(x, [100 * s["shallow"] for s in result["steps"]], ":", color=colour)
        axes.set_xlabel("share of the training, %")
        axes.set_ylabel("kernel's mass that joins two classes, %")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, title="solid: dynamic kernel, dotted: static", alignment="left")


def page() -> list[str]:
    """Return the table with where it comes from."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    curves(results)
    head = ["", "split, images", "window of the static kernel, flat", "static kernel", "window of the dynamic kernel, flat"]
    head += ["dynamic kernel, step 0", "half way", "at the end"]
    rows = []
    for r in results:
        first, half, last = (r["steps"][n] for n in (0, len(r["steps"]) // 2, -1))
        shares = [last["flat shallow"], last["shallow"], last["flat deep"], first["deep"], half["deep"], last["deep"]]
        rows.append([r["data"], f"{r['split']}, {r['images']}", *(f"{100 * share:.1f} %" for share in shares)])
    seeds = {f"seed {r['trained']['seed']}, commit {(r['trained']['commit'] or '?')[:12]}" for r in results}
    return [*table(head, rows), "", f"Trained with {'; '.join(sorted(seeds))}; `python -m benchmarks.affinity run`."]


def main() -> None:
    """Do what the words say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run")
    run.add_argument("data", type=Path)
    run.add_argument("runs", type=Path, nargs="+")
    run.add_argument("--split", default="val")
    run.add_argument("--images", type=int, default=40)
    verbs.add_parser("gallery").add_argument("demo", type=Path)
    verbs.add_parser("write")
    given = parser.parse_args()
    if given.verb == "run":
        for folder in given.runs:
            root = load_record(folder).data.root
            inner = given.data / (root.name if root else "")
            result = measure(folder, open_dataset(inner if inner.is_dir() else given.data), given.split, given.images)
            write_text(RESULTS / f"{result['data']}.json", json.dumps(result, indent=1) + "\n")
    elif given.verb == "gallery":
        gallery(given.demo)
    else:
        write({"affinity": page()}, PAGE)


if __name__ == "__main__":
    main()
