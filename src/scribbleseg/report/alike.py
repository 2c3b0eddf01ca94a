"""The pictures of what the kernels find alike: for one pixel as they stand in the report, for any other by its script."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from scribbleseg.data.folder import Dataset
from scribbleseg.explain import Look, affinity, at_grid, inmost, kernels, look, same_class, stages
from scribbleseg.losses.dynamic_feature import Kernel
from scribbleseg.models.folder import load_model
from scribbleseg.predict import pick_device
from scribbleseg.records import UNLABELLED
from scribbleseg.report.pictures import tile_size
from scribbleseg.report.runs import Run

#: The colour that alike pixels take, by how alike they are. The report's script has it too.
HUE = (240, 228, 66)


def alike_section(run: Run, dataset: Dataset, stems: Mapping[str, str], device: str) -> dict[str, Any] | None:
    """Return what the section shows of the run; None where it has no kernel with deep features.

    Args:
        run: with a finished model, and snapshots if it kept any.
        dataset: with masks.
        stems: of the pictures, by the ids that their photographs have in the page.
        device: for the network.

    Each picture has one map by colour and one a stage of the training, all for the same pixel: the inmost one of the largest
    thing that is not class 0.
    """
    found = kernels(run.config.losses)
    if found is None or not stems:
        return None
    looks: list[tuple[int, dict[str, Look]]] = []
    for step, folder in stages(run.folder, run.config.training.max_steps):
        model = load_model(folder)
        model.segmenter.to(pick_device(device))
        looks.append((step, {stem: look(model, dataset.rgb(stem, model.reading)) for stem in stems.values()}))
    pictures = [
        _picture(dataset, stem, found, [(step, seen[stem]) for step, seen in looks]) | {"photo": photo}
        for photo, stem in stems.items()
    ]
    deep = found["deep"]
    return {
        "title": run.title,
        "pictures": pictures,
        "hue": "rgb({} {} {})".format(*HUE),
        "sigmas": {"shallow": found["shallow"].sigma_rgb, "deep": deep.sigma_rgb, "feature": deep.sigma_feature},
        "names": json.dumps(dataset.names),
        "has_snapshots": len(looks) > 1,
    }


def _picture(dataset: Dataset, stem: str, found: dict[str, Kernel], seen: Sequence[tuple[int, Look]]) -> dict[str, Any]:
    photo = dataset.rgb(stem)
    rows, columns = seen[-1][1].rgb.shape[-2:]
    labels = at_grid(dataset.labels(stem, "masks", photo.shape[:2]), rows, columns)
    row, column = inmost(labels)
    views = [("by colour", found["shallow"], seen[-1][1])]
    views += [(f"by features too, step {step:,}", found["deep"], view) for step, view in seen]
    maps = []
    for k, (caption, kernel, view) in enumerate(views):
        alike = affinity(view.guide(kernel), row, column)
        maps.append(
            {
                "caption": caption,
                "uri": map_uri(alike.numpy()),
                "share": same_class(alike, labels, row, column),
                "features": _text((127 * view.features.movedim(0, -1)).round().to(torch.int8).numpy()) if k else "",
            }
        )
    width, height = tile_size(photo.shape)
    colours = (255 * seen[-1][1].rgb.movedim(0, -1)).round().clamp(0, 255).to(torch.uint8).numpy()
    return {
        "stem": stem,
        "width": width,
        "height": height,
        "rows": rows,
        "columns": columns,
        "row": row,
        "column": column,
        "class": "unlabelled" if labels[row, column] == UNLABELLED else dataset.names[labels[row, column]],
        "colours": _text(colours),
        "truth": _text(labels.astype(np.uint8)),
        "maps": maps,
    }


def map_uri(alike: np.ndarray) -> str:
    """Return a map (h, w) of 0 to 1 as a PNG data URI: one colour, the more opaque the more alike."""
    picture = np.empty((*alike.shape, 4), np.uint8)
    picture[..., :3] = HUE
    picture[..., 3] = (255 * alike).round()
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _text(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
