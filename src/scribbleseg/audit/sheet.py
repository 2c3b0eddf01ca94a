"""The sheet of points to look at, the table to fill in beside it, and how the filled table is read."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image as Pillow, ImageDraw

from scribbleseg.atomic import write_text
from scribbleseg.audit.points import PATCH_RADIUS, Item, Plan
from scribbleseg.errors import DataError, nearest
from scribbleseg.trees import from_json

PLAN, SHEET, TABLE = "plan.json", "points.html", "answers.csv"

#: What is written in the table where nobody can tell.
UNDECIDED = "?"

#: Shown around a point: so many pixels to each side, near and far, both at this size on the sheet.
NEAR_PX, FAR_PX, SHOWN_PX = 24, 120, 240

#: A table larger than this is no table of ours.
MAX_BYTES = 16 * 2**20


def write_sheet(out: Path, plan: Plan, rgb: Callable[[str], np.ndarray]) -> Path:
    """Write plan, sheet and an empty table, and return the sheet. A table that is there is kept: it may be half filled in.

    Args:
        out: folder.
        plan: of the points.
        rgb: gives the picture of an image, (H, W, 3) in [0, 1].
    """
    pictures: dict[int, tuple[str, str]] = {}
    for image in sorted({item.image for item in plan.items}):
        picture = rgb(image)
        for item in plan.items:
            if item.image == image:
                pictures[item.number] = (cut_out(picture, item, NEAR_PX), cut_out(picture, item, FAR_PX))
    environment = Environment(
        loader=PackageLoader("scribbleseg", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("audit.html.j2").render(
        names=list(enumerate(plan.names)),
        items=[(item, *pictures[item.number]) for item in plan.items],
        unit=plan.unit,
        table=TABLE,
    )
    write_text(out / PLAN, json.dumps(plan.tree(), indent=1) + "\n")
    if not (out / TABLE).exists():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["number", "class", "image", "x", "y"])
        writer.writerows([item.number, "", item.image, item.x, item.y] for item in plan.items)
        write_text(out / TABLE, text.getvalue())
    write_text(out / SHEET, page)
    return out / SHEET


def cut_out(picture: np.ndarray, item: Item, reach: int) -> str:
    """Return what lies around a point as a PNG in a data URL, the point (or patch) framed."""
    height, width = picture.shape[:2]
    top, left = max(0, item.y - reach), max(0, item.x - reach)
    part = picture[top : item.y + reach + 1, left : item.x + reach + 1]
    scale = max(1, SHOWN_PX // max(part.shape[:2]))
    shown = Pillow.fromarray((255 * np.clip(part, 0, 1)).round().astype(np.uint8))
    shown = shown.resize((shown.width * scale, shown.height * scale), Pillow.Resampling.NEAREST)
    draw = ImageDraw.Draw(shown)
    half = item.radius if _is_patch(item) else 0
    box = [(item.x - half - left) * scale, (item.y - half - top) * scale]
    box += [min(box[0] + (2 * half or 1) * scale, width * scale), min(box[1] + (2 * half or 1) * scale, height * scale)]
    for grow, colour in ((3, (0, 0, 0)), (2, (255, 255, 255)), (1, (0, 0, 0))):
        draw.rectangle((box[0] - grow, box[1] - grow, box[2] - 1 + grow, box[3] - 1 + grow), outline=colour)
    buffer = io.BytesIO()
    shown.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _is_patch(item: Item) -> bool:
    return item.radius == PATCH_RADIUS


def read_plan(out: Path) -> Plan:
    """Read the plan of an audit.

    Raises:
        DataError: missing or damaged.
    """
    path = out / PLAN
    try:
        plan = Plan.from_tree(from_json(path.read_text(encoding="utf-8")))
        classes = range(len(plan.names))
        if not all(item.predicted in classes for item in plan.items) or len(plan.sizes) != len(plan.names):
            raise ValueError("classes that do not fit")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(path, "the plan of an audit", str(error), "run `scribbleseg audit` without --answers first") from None
    return plan


def read_answers(path: Path, plan: Plan) -> dict[int, int | None]:
    """Read a filled table: class ids or names; empty lines are points not yet looked at, ``?`` such that nobody can decide.

    Raises:
        DataError: unreadable, or a number or class that is not in the plan; its line is told.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(path, f"a table of at most {MAX_BYTES // 2**20} MiB", "a larger one", f"give {TABLE}")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        got = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise DataError(path, "a table of answers, UTF-8", got, f"give the filled {TABLE}") from None
    known = {item.number for item in plan.items}
    wanted = {str(k): k for k in range(len(plan.names))} | {name.casefold(): k for k, name in enumerate(plan.names)}
    answers: dict[int, int | None] = {}
    try:
        delimiter = ";" if text.partition("\n")[0].count(";") > text.partition("\n")[0].count(",") else ","
        rows = list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
    except csv.Error as error:
        raise DataError(path, "a table with commas", str(error), f"give the filled {TABLE}") from None
    for line, row in enumerate(rows, 2):
        number, answer = (row.get("number") or "").strip(), (row.get("class") or "").strip()
        if not answer:
            continue
        if not number.isdecimal() or int(number[:9]) not in known:
            raise DataError(
                f"{path}, line {line}", f"a point from 1 to {len(known)}", f"'{number[:40]}'", "keep the first column"
            )
        if answer != UNDECIDED and answer.casefold() not in wanted:
            ids = ", ".join(f"{k} {name}" for k, name in enumerate(plan.names))
            got, do = f"'{answer[:40]}'", nearest(answer[:40], plan.names)
            raise DataError(f"{path}, line {line}", f"a class ({ids}) or {UNDECIDED}", got, do)
        answers[int(number)] = None if answer == UNDECIDED else wanted[answer.casefold()]
    return answers
