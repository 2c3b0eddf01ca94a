"""The tools' side of ``benchmarks.real_tools``: opens our files, and writes some, with the libraries of the tools alone.

Runs in an interpreter that has the tools and need not have scribbleseg:

    python real_tools_side.py open TOOL FOLDER LABELS.npz      # what the tool sees in FOLDER, into LABELS.npz
    python real_tools_side.py write TOOL FOLDER LABELS.npz     # the labels of LABELS.npz, into FOLDER

``LABELS.npz`` holds uint8 (H, W) an image, 255 where nobody drew. The last line printed is JSON:
the version, and what was used.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ("background", "leaf", "stone")
UNLABELLED = 255

Maps = dict[str, np.ndarray]


def from_zero(labels: np.ndarray) -> np.ndarray:
    return np.where(labels == UNLABELLED, 0, labels + 1)


def to_zero(labels: Any) -> np.ndarray:
    labels = np.asarray(labels)
    return np.where(labels == 0, UNLABELLED, labels - 1).astype(np.uint8)


def picture(labels: np.ndarray) -> np.ndarray:
    """Return some RGB picture of this size."""
    return np.random.default_rng(labels.size).integers(0, 255, (*labels.shape, 3), np.uint8)


def save_png(path: Path, pixels: np.ndarray) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def napari_open(folder: Path) -> Maps:
    """The reader that napari brings, and a layer of its own kind."""
    from napari.components import ViewerModel
    from npe2 import PluginManager

    PluginManager.instance().discover()  # the reader is a plugin, which the window would load
    found = {}
    for file in sorted(folder.glob("labels/*.tif")):
        viewer = ViewerModel()
        (layer,) = viewer.open(str(file), plugin="napari", layer_type="labels")
        assert type(layer).__name__ == "Labels"
        found[file.stem] = to_zero(layer.data)
    return found


def napari_write(folder: Path, maps: Maps) -> None:
    from napari.layers import Labels
    from npe2 import PluginManager

    PluginManager.instance().discover()
    for stem, labels in maps.items():
        (folder / "labels").mkdir(exist_ok=True)
        assert Labels(from_zero(labels)).save(str(folder / f"labels/{stem}.tif"), plugin="napari")


def label_studio_open(folder: Path) -> Maps:
    """Label Studio's own converter of brush masks to arrays."""
    from label_studio_sdk.converter import Converter

    tasks = json.loads((folder / "label-studio.json").read_text(encoding="utf-8"))
    for number, task in enumerate(tasks):
        task["id"] = number
        for annotation in task["annotations"]:
            annotation |= {"id": number, "completed_by": 1}
    with tempfile.TemporaryDirectory() as place:
        export = Path(place) / "export.json"
        export.write_text(json.dumps(tasks), encoding="utf-8")
        (Path(place) / "out").mkdir()
        config = (folder / "label-config.xml").read_text(encoding="utf-8")
        Converter(config, place, download_resources=False).convert(str(export), f"{place}/out", "BRUSH_TO_NUMPY", is_dir=False)
        found = {}
        for number, task in enumerate(tasks):
            stem = Path(next(iter(task["data"].values()))).stem
            for file in sorted(Path(place, "out").glob(f"task-{number}-*.npy")):
                inside = np.load(file) > 0
                labels = found.setdefault(stem, np.full(inside.shape, UNLABELLED, np.uint8))
                labels[inside] = NAMES.index(file.stem.split("-")[-2])
    return found


def label_studio_write(folder: Path, maps: Maps) -> None:
    from label_studio_sdk.converter.brush import mask2rle

    tasks = []
    for number, (stem, labels) in enumerate(maps.items()):
        size = {"original_width": labels.shape[1], "original_height": labels.shape[0], "image_rotation": 0}
        result = [
            {
                "type": "brushlabels",
                "from_name": "tag",
                "to_name": "image",
                "value": {"format": "rle", "rle": list(mask2rle((labels == k).astype(np.uint8) * 255)), "brushlabels": [name]},
                **size,
            }
            for k, name in enumerate(NAMES)
        ]
        tasks.append({"id": number, "data": {"image": f"{stem}.png"}, "annotations": [{"id": number, "result": result}]})
    (folder / "export.json").write_text(json.dumps(tasks), encoding="utf-8")


def pycocotools_open(folder: Path) -> Maps:
    from pycocotools.coco import COCO

    coco = COCO(str(folder / "annotations.json"))
    ids = {entry["id"]: NAMES.index(entry["name"]) for entry in coco.dataset["categories"]}
    found = {}
    for image in coco.dataset["images"]:
        labels = np.full((image["height"], image["width"]), UNLABELLED, np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            labels[coco.annToMask(annotation) > 0] = ids[annotation["category_id"]]
        found[Path(image["file_name"]).stem] = labels
    return found


def pycocotools_write(folder: Path, maps: Maps) -> None:
    from pycocotools import mask

    images, annotations = [], []
    for number, (stem, labels) in enumerate(maps.items()):
        images.append({"id": number, "file_name": f"{stem}.png", "width": labels.shape[1], "height": labels.shape[0]})
        for k in range(len(NAMES)):
            run = mask.encode(np.asfortranarray(labels == k, np.uint8))
            place = {"id": len(annotations) + 1, "image_id": number, "category_id": k + 1, "iscrowd": 1}
            annotations.append(place | {"segmentation": run | {"counts": run["counts"].decode()}, "area": int(mask.area(run))})
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(NAMES)]
    tree = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(tree), encoding="utf-8")


def cvat_open(folder: Path) -> Maps:
    """Masks decoded by CVAT's SDK, from the file's run lengths and boxes."""
    from xml.etree import ElementTree

    from cvat_sdk.masks import decode_mask

    found = {}
    for image in ElementTree.parse(folder / "annotations.xml").getroot().iter("image"):  # our own file
        width, height = int(image.attrib["width"]), int(image.attrib["height"])
        labels = np.full((height, width), UNLABELLED, np.uint8)
        for mask in image.iter("mask"):
            left, top = int(mask.attrib["left"]), int(mask.attrib["top"])
            right, bottom = left + int(mask.attrib["width"]) - 1, top + int(mask.attrib["height"]) - 1
            runs = [*map(int, mask.attrib["rle"].split(",")), left, top, right, bottom]
            labels[decode_mask(runs, image_width=width, image_height=height)] = NAMES.index(mask.attrib["label"])
        found[Path(image.attrib["name"]).stem] = labels
    return found


def cvat_write(folder: Path, maps: Maps) -> None:
    from cvat_sdk.masks import encode_mask

    lines = ["<annotations><version>1.1</version>"]
    for number, (stem, labels) in enumerate(maps.items()):
        lines.append(f'<image id="{number}" name="{stem}.png" width="{labels.shape[1]}" height="{labels.shape[0]}">')
        for k, name in enumerate(NAMES):
            *runs, left, top, right, bottom = map(int, encode_mask(labels == k))
            size = f'width="{right - left + 1}" height="{bottom - top + 1}"'
            lines.append(f'<mask label="{name}" rle="{", ".join(map(str, runs))}" left="{left}" top="{top}" {size}/>')
        lines.append("</image>")
    (folder / "annotations.xml").write_text("\n".join([*lines, "</annotations>"]), encoding="utf-8")


def _datumaro_open(folder: Path, kind: str) -> Maps:
    import datumaro

    data = datumaro.Dataset.import_from(str(folder), kind)
    names = [category.name for category in data.categories()[datumaro.AnnotationType.label]]
    found = {}
    for item in data:
        masks = [a for a in item.annotations if a.type == datumaro.AnnotationType.mask]
        labels = np.full(masks[0].image.shape, UNLABELLED, np.uint8)
        for mask in masks:
            labels[np.asarray(mask.image) > 0] = NAMES.index(names[mask.label])
        found[Path(item.id).name] = labels
    return found


def _datumaro_write(folder: Path, maps: Maps, kind: str) -> None:
    import datumaro
    from datumaro.components.annotation import Mask
    from datumaro.components.media import Image

    items = [
        datumaro.DatasetItem(
            id=stem,
            subset="default",
            media=Image.from_numpy(picture(labels)),
            attributes={"frame": number},
            annotations=[Mask(labels == k, label=k, id=k + 1, group=k + 1) for k in range(len(NAMES)) if (labels == k).any()],
        )
        for number, (stem, labels) in enumerate(maps.items())
    ]
    datumaro.Dataset.from_iterable(items, categories=list(NAMES)).export(str(folder / "made"), kind, save_media=False)


def datumaro_coco_open(folder: Path) -> Maps:
    """A folder as datumaro wants it: annotations/instances_NAME.json."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "annotations").mkdir()
        (Path(place) / "annotations/instances_default.json").write_bytes((folder / "annotations.json").read_bytes())
        (Path(place) / "images").symlink_to(folder / "images")
        return _datumaro_open(Path(place), "coco_instances")


def datumaro_cvat_open(folder: Path) -> Maps:
    return _datumaro_open(folder, "cvat")


def datumaro_coco_write(folder: Path, maps: Maps) -> None:
    _datumaro_write(folder, maps, "coco_instances")


def datumaro_cvat_write(folder: Path, maps: Maps) -> None:
    _datumaro_write(folder, maps, "cvat")


def nnunet_open(folder: Path) -> Maps:
    """The check that nnU-Net runs before it plans, then its reader of labels."""
    from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
    from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO

    verify_dataset_integrity(str(folder), num_processes=1)
    ignore = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["labels"]["ignore"]
    found = {}
    for file in sorted(folder.glob("labelsTr/*.png")):
        labels = NaturalImage2DIO().read_seg(str(file))[0][0, 0].astype(np.uint8)
        found[file.stem] = np.where(labels == ignore, UNLABELLED, labels)
    return found


def nnunet_write(folder: Path, maps: Maps) -> None:
    from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json
    from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO

    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir()
    values = {name: k for k, name in enumerate((*NAMES, "ignore"))}
    for stem, labels in maps.items():
        save_png(folder / f"imagesTr/{stem}_0000.png", picture(labels))
        known = np.where(labels == UNLABELLED, len(NAMES), labels)
        NaturalImage2DIO().write_seg(known[None].astype(np.uint8), str(folder / f"labelsTr/{stem}.png"), {})
    generate_dataset_json(str(folder), {0: "R", 1: "G", 2: "B"}, values, len(maps), ".png")


def simpleitk_open(folder: Path) -> Maps:
    import SimpleITK

    return {
        file.name.removesuffix("_scribble.nii.gz"): SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))[0]
        for file in sorted(folder.glob("*_scribble.nii.gz"))
        if SimpleITK.ReadImage(str(folder / file.name.replace("_scribble", ""))).GetNumberOfComponentsPerPixel() == 3
    }


def simpleitk_write(folder: Path, maps: Maps) -> None:
    import SimpleITK

    for stem, labels in maps.items():
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(labels[None]), str(folder / f"{stem}_scribble.nii.gz"))


def shapely_open(folder: Path) -> Maps:
    """GeoJSON as the geojson package demands it; a pixel has the class of the polygon that its centre is in."""
    import geojson
    import shapely

    found = {}
    for file in sorted(folder.glob("*.geojson")):
        tree = geojson.loads(file.read_text(encoding="utf-8"))
        assert tree.is_valid, tree.errors()
        from PIL import Image

        with Image.open(folder / f"images/{file.stem}.png") as opened:
            width, height = opened.size
        x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        labels = np.full((height, width), UNLABELLED, np.uint8)
        for feature in tree.features:
            shape = shapely.geometry.shape(feature.geometry)
            assert shape.is_valid, shapely.is_valid_reason(shape)
            labels[shapely.contains_xy(shape, x, y)] = NAMES.index(feature.properties["classification"]["name"])
        found[file.stem] = labels
    return found


def shapely_write(folder: Path, maps: Maps) -> None:
    import geojson
    import shapely

    for stem, labels in maps.items():
        features = []
        for k, name in enumerate(NAMES):
            boxes = [shapely.box(x, y, x + 1, y + 1) for y, x in zip(*np.nonzero(labels == k), strict=True)]
            described = {"objectType": "annotation", "classification": {"name": name, "color": [10, 20, 30]}}
            features.append(geojson.Feature(geometry=shapely.geometry.mapping(shapely.union_all(boxes)), properties=described))
        (folder / f"{stem}.geojson").write_text(geojson.dumps(geojson.FeatureCollection(features)), encoding="utf-8")
        save_png(folder / f"images/{stem}.png", picture(labels))


#: Name: package whose version counts, what is used of it, opens, writes.
TOOLS: dict[str, tuple[str, str, Callable[[Path], Maps], Callable[[Path, Maps], None]]] = {
    "napari": ("napari", "viewer model and built-in reader and writer", napari_open, napari_write),
    "Label Studio": ("label-studio-sdk", "converter of brush masks", label_studio_open, label_studio_write),
    "pycocotools": ("pycocotools", "COCO and its masks", pycocotools_open, pycocotools_write),
    "datumaro, COCO": ("datumaro", "coco_instances", datumaro_coco_open, datumaro_coco_write),
    "CVAT": ("cvat-sdk", "masks of its SDK", cvat_open, cvat_write),
    "datumaro, CVAT": ("datumaro", "cvat", datumaro_cvat_open, datumaro_cvat_write),
    "nnU-Net": ("nnunetv2", "verify_dataset_integrity, 2D reader and writer", nnunet_open, nnunet_write),
    "ITK": ("simpleitk", "SimpleITK", simpleitk_open, simpleitk_write),
    "GeoJSON": ("geojson", "geojson's rules with shapely's geometry", shapely_open, shapely_write),
}


def main() -> None:
    what, tool, folder, file = sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
    package, used, opens, writes = TOOLS[tool]
    told: dict[str, Any] = {"package": package, "used": used}
    try:
        told["version"] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        print(json.dumps(told | {"version": None}))
        return
    if what == "open":
        np.savez(file, **opens(folder))
    else:
        with np.load(file) as stored:
            writes(folder, {stem: stored[stem] for stem in stored.files})
    print(json.dumps(told))


if __name__ == "__main__":
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):  # without them nnU-Net complains at import
        os.environ.setdefault(name, tempfile.gettempdir())
    main()
