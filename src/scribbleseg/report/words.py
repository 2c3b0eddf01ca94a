"""The words of a report: what came out, and what to know before trusting it."""

from __future__ import annotations

from collections.abc import Sequence

from scribbleseg.report.runs import Run
from scribbleseg.report.tables import number


def describe(runs: Sequence[Run], dataset: str, split: str) -> str:
    """Return the outcome in a few sentences, with the numbers as they are printed."""
    ranked = sorted(runs, key=lambda run: -1.0 if run.scores["miou"] is None else float(run.scores["miou"]), reverse=True)
    best, s = ranked[0], ranked[0].scores
    text = f"On the {s['num_images']:,} images of the split “{split}” of {dataset} ({len(s['classes'])} classes, "
    text += f"{s['num_pixels']:,} pixels with a known class), "
    if len(runs) == 1:
        text += f"the run “{best.title}” reaches a mean IoU of {number(s['miou'])}, "
        text += f"and a mean Dice of {number(s['foreground_dice'])} over all classes but the first. "
    elif number(s["miou"]) == number(ranked[1].scores["miou"]):
        text += f"“{best.title}” and “{ranked[1].title}” are level in mean IoU, at {number(s['miou'])}. "
    else:
        text += f"“{best.title}” has the highest mean IoU, {number(s['miou'])}. {_lead(best, ranked[1])}"
    known = {name: c["iou"] for name, c in s["classes"].items() if c["iou"] is not None}
    if len(known) > 1:
        low, high = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
        text += f"The best class of “{best.title}” is {high} (IoU {number(known[high])}), "
        text += f"its weakest {low} ({number(known[low])}). "
    rivals = [run for run in ranked if run.config.data.labels != "masks"]
    if best.config.data.labels == "masks" and rivals:
        text += f"“{best.title}” was trained on dense masks, so it is an upper bound; the best run trained on scribbles is "
        text += f"“{rivals[0].title}” with {number(rivals[0].scores['miou'])}."
    return text.strip()


def _lead(best: Run, second: Run) -> str:
    mine, its = best.scores["miou"], second.scores["miou"]
    if its is None:
        return ""
    theirs = {i["stem"]: i["miou"] for i in second.scores["per_image"]}
    pairs = [(i["miou"], theirs[i["stem"]]) for i in best.scores["per_image"]]
    pairs = [(a, b) for a, b in pairs if a is not None and b is not None]
    lead = f"That is {round(mine, 3) - round(its, 3):.3f} more than “{second.title}” ({number(its)}); image by image "
    return lead + f"it scores higher on {sum(a > b for a, b in pairs)} of {len(pairs)}. "


def caveats(runs: Sequence[Run], split: str) -> list[str]:
    """Return what a reader must know before trusting the numbers."""
    first, notes = runs[0].scores, []
    if split in {run.config.data.train_split for run in runs}:
        notes.append(f"The split “{split}” was trained on: its scores say nothing about new images.")
    if first["num_images"] < 20:
        notes.append(f"{first['num_images']} images are few: on other images of the same kind the numbers may well differ.")
    if len(runs) > 1:
        notes.append(
            "Each run is one training; how much of a difference is chance shows only when runs are repeated with other seeds."
        )
        if len({run.config.data.labels for run in runs}) > 1:
            notes.append("Runs trained on masks have seen every pixel's class; runs trained on scribbles only the strokes.")
        if len({run.config.training.max_steps for run in runs}) > 1:
            notes.append("The runs were trained for different numbers of steps.")
    missing = [name for name, c in first["classes"].items() if not c["pixels"]]
    if missing:
        notes.append(
            f"No pixel of the truth is {', '.join(missing)}: a run that predicts it has an IoU of 0 there, "
            "and one that does not leaves it out of its means."
        )
    return notes
