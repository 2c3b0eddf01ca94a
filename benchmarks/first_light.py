"""The comparison of docs/results.md: DFR, its static kernel, partial cross-entropy and full supervision.

    python benchmarks/first_light.py run --data DATA --backbone FOLDER [--seeds 0 1 2] [--only acdc-scribble:dfr]
    python benchmarks/first_light.py write

A file of benchmarks/first_light/ is a protocol, named after its data set and, behind two dashes, what is special about it.
``run`` trains what has no result yet and writes one JSON a training to benchmarks/results/first_light/; ``write`` makes the
tables of docs/results.md from those files. Every method shares data, steps, batch, augmentation, seed and selection
(best validation mIoU); a row differs from the others by its ``losses`` and ``labels`` alone. Ablations are scored on
``val``, the four methods of the main table on ``test`` as well, once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from scribbleseg.atomic import write_text
from scribbleseg.config import dump_config, merge, parse_config, without_places
from scribbleseg.evaluate import evaluate, summary
from scribbleseg.provenance import provenance
from scribbleseg.training.run import train

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "first_light"
PAGE = HERE.parent / "docs" / "results.md"

#: Rows of the main table, then ablations: what each changes in the configuration.
MAIN: dict[str, dict[str, Any]] = {
    "partial CE": {"method": "partial_ce"},
    "static kernel": {"method": "static"},
    "DFR": {"method": "dfr"},
    "full supervision": {"method": "partial_ce", "data": {"labels": "masks"}},
}
ABLATIONS: dict[str, dict[str, Any]] = {
    "DFR, gradient into features": {"method": "dfr", "losses": {"dynamic_feature": {"feature_gradient": True}}},
    "DFR, dynamic kernel only": {"method": "dfr", "losses": {"dynamic_feature": {"static": None, "dynamic": {"weight": 1.0}}}},
    "DFR, no regularizer": {"method": "dfr", "losses": {"dynamic_feature": {"weight": 0.0}}},
    "DFR, pairs within images only": {"method": "dfr", "losses": {"feature_consistency": {"across_images": False}}},
    "DFR, no confident predictions": {"method": "dfr", "losses": {"feature_consistency": {"confident_after": 1.0}}},
}


def score_of(tree: dict[str, Any]) -> tuple[str, float]:
    """Return the data set's usual figure: Dice a volume where there are volumes, else mIoU."""
    if "volume_dice" in tree:
        return "Dice a volume", tree["volume_dice"]["foreground"]
    return "mIoU", tree["miou"]


def run_one(name: str, row: str, seed: int, data: Path, backbone: Path, out: Path, extra: dict[str, Any]) -> dict[str, Any]:
    """Train one row with one seed and score it."""
    tree = yaml.safe_load((HERE / "first_light" / f"{name}.yaml").read_text(encoding="utf-8"))
    root = data / name.split("--")[0]
    by_method = tree.pop("methods", {})
    tree = merge({"model": {"backbone": str(backbone)}}, merge(tree, {"seed": seed, "data": {"root": str(root)}}))
    change = (MAIN | ABLATIONS)[row]
    tree = merge(merge(merge(tree, by_method.get(change["method"], {})), change), extra)
    config = parse_config(tree)
    began = time.monotonic()
    model = train(config, out)
    minutes = (time.monotonic() - began) / 60
    result: dict[str, Any] = {
        "data": name,
        "row": row,
        "seed": seed,
        "minutes": minutes,
        "provenance": provenance(seed),
        "config": yaml.safe_load(dump_config(without_places(config))),
    }
    for split in ("val", "test") if row in MAIN else ("val",):
        found = summary(evaluate(model, root, split=split))
        found.pop("per_image")
        result[split] = found
    return result


def run(arguments: argparse.Namespace) -> None:
    """Train and score every row that has no result yet."""
    for seed in arguments.seeds:
        for name in sorted(p.stem for p in (HERE / "first_light").glob("*.yaml")):
            for row in [*MAIN, *ABLATIONS]:
                key = f"{name}:{row}"
                target = RESULTS / f"{name}-{row.replace(', ', '-').replace(' ', '_')}-{seed}.json"
                if target.exists() or (arguments.only and key not in arguments.only):
                    continue
                print(f"{key} seed {seed} …", flush=True)
                folder = arguments.out / target.stem
                extra = {"training": {"threads": arguments.threads}}
                result = run_one(name, row, seed, arguments.data, arguments.backbone, folder, extra)
                write_text(target, json.dumps(result, indent=1) + "\n")
                figure, value = score_of(result["val"])
                print(f"  {result['minutes']:.1f} min, val {figure} {value:.3f}", flush=True)


def spread(values: Sequence[float]) -> str:
    """Return mean ± standard deviation, or the one value."""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


#: Scores of the main table: heading and how to read it from a result's split.
COLUMNS: dict[str, Callable[[dict[str, Any]], float]] = {
    "mIoU": lambda s: s["miou"],
    "border mIoU (5 px)": lambda s: s["border_miou"],
    "pixel accuracy": lambda s: s["pixel_accuracy"],
}


def gap_closed(value: float, low: float, high: float) -> str:
    """Return the share of the gap from partial CE to full supervision that a value closes."""
    return f"{100 * (value - low) / (high - low):.0f} %" if high - low >= 0.005 else "no gap"


def tables(results: list[dict[str, Any]]) -> str:
    """Return the tables of the page as Markdown."""
    lines: list[str] = []
    for name in sorted({r["data"] for r in results}):
        mine = [r for r in results if r["data"] == name]
        lines += [f"### {name}", "", protocol(mine), "", *main_table(mine), "", *ablation_table(mine), ""]
    return "\n".join(lines)


def protocol(mine: list[dict[str, Any]]) -> str:
    """Return what all rows share, in a sentence."""
    config, machine = mine[0]["config"], mine[0]["provenance"]["machine"]
    training, data, model = config["training"], config["data"], config["model"]
    return (
        f"{training['max_steps']} steps of {training['batch_size']}; crops of {data['crop_px']} px from images "
        f"{data['longest_px']} px long, zoom {data['scale'][0]} to {data['scale'][1]}; "
        f"backbone {backbone_name(model['backbone'])}, "
        f"{model['decoder']} decoder. Seeds {', '.join(map(str, sorted({r['seed'] for r in mine})))}. {machine['processor']}, "
        f"{machine['cores']} cores, no GPU, {machine['threads']} thread a run, two runs at a time. "
        f"Commits {', '.join(sorted({r['provenance']['commit'] for r in mine}))}."
    )


def backbone_name(backbone: str | dict[str, Any]) -> str:
    """Return a backbone in words."""
    if isinstance(backbone, str):
        return backbone
    return f"{backbone['model_type']} from scratch (depths {backbone['depths']}, widths {backbone['hidden_sizes']})"


def main_table(mine: list[dict[str, Any]]) -> list[str]:
    """Return the four methods on val and test, with the share of the gap closed on test."""
    usual, _ = score_of(mine[0]["val"])
    columns: dict[str, Callable[[dict[str, Any]], float]] = {usual: lambda s: score_of(s)[1]} | COLUMNS
    by_row = {row: [r for r in mine if r["row"] == row] for row in MAIN}
    ends = by_row["partial CE"], by_row["full supervision"]
    heads = "".join(f" {name}, test | gap closed |" for name in columns)
    lines = [f"| method | {usual}, val |{heads} minutes |", "|---|---|" + "---|---|" * len(columns) + "---|"]
    for row, found in by_row.items():
        if not found:
            continue
        cells = [row, spread([score_of(r["val"])[1] for r in found])]
        for read in columns.values():
            values = [read(r["test"]) for r in found]
            low, high = (statistics.mean(read(r["test"]) for r in end) if end else 0.0 for end in ends)
            cells += [spread(values), gap_closed(statistics.mean(values), low, high) if all(ends) else "–"]
        cells.append(f"{statistics.mean(r['minutes'] for r in found):.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def ablation_table(mine: list[dict[str, Any]]) -> list[str]:
    """Return the variants on val."""
    usual, _ = score_of(mine[0]["val"])
    if not any(r["row"] in ABLATIONS for r in mine):
        return []
    columns = {usual: lambda s: score_of(s)[1]} | {k: v for k, v in COLUMNS.items() if k != usual}
    lines = ["| variant |" + "".join(f" {name}, val |" for name in columns), "|---|" + "---|" * len(columns)]
    for row in ["partial CE", "static kernel", "DFR", *ABLATIONS]:
        found = [r for r in mine if r["row"] == row]
        if found:
            lines.append(
                "| " + " | ".join([row, *(spread([read(r["val"]) for r in found]) for read in columns.values())]) + " |"
            )
    return lines


def write(_: argparse.Namespace) -> None:
    """Put the tables into the page, between its two marks."""
    results = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(RESULTS.glob("*.json"))]
    begin, end = "<!-- first_light: begin -->", "<!-- first_light: end -->"
    head, rest = PAGE.read_text(encoding="utf-8").split(begin)
    write_text(PAGE, f"{head}{begin}\n\n{tables(results)}\n{end}{rest.split(end)[1]}")
    print(PAGE)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    runner = verbs.add_parser("run")
    runner.add_argument("--data", type=Path, required=True, help="folder that holds the data sets")
    runner.add_argument("--backbone", type=Path, required=True, help="folder of the DeiT-tiny backbone")
    runner.add_argument("--out", type=Path, default=Path("runs/first_light"))
    runner.add_argument("--seeds", type=int, nargs="+", default=[0])
    runner.add_argument("--threads", type=int, default=0)
    runner.add_argument("--only", nargs="+", default=[], help="SET:ROW …")
    runner.set_defaults(verb=run)
    verbs.add_parser("write").set_defaults(verb=write)
    arguments = parser.parse_args()
    arguments.verb(arguments)


if __name__ == "__main__":
    main()
