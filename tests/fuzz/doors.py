"""Where bytes of strangers come in. A door takes them, or refuses them with one of our errors; anything else is a fault."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import torch
import yaml
from PIL import Image

from scribbleseg.config import dump_config, load_config
from scribbleseg.data.convert import Options, convert
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.images import read_index, read_rgb
from scribbleseg.data.vector import read_strokes, write_strokes
from scribbleseg.models.folder import CONFIG, PREPROCESSOR, WEIGHTS, load_model
from scribbleseg.records import Stroke
from scribbleseg.training.checkpoint_file import read_checkpoint
from tests.fake.datasets import make_dataset
from tests.fake.drawing import add, op, picture_folder
from tests.fake.models import make_model

#: Pixels that a fuzzed picture may claim; more is refused before it is decoded.
PIXELS = 4_000_000


@dataclass(frozen=True)
class Door:
    """Something that takes bytes.

    Args:
        samples: sound ones, by folder to work in.
        opened: a context that gives the function to call with other ones; it returns whether they were taken.
    """

    samples: Callable[[Path], Sequence[bytes]]
    opened: Callable[[Path], contextlib.AbstractContextManager[Callable[[bytes], bool]]]


def _file(
    name: str, read: Callable[[Path], object]
) -> Callable[[Path], contextlib.AbstractContextManager[Callable[[bytes], bool]]]:
    """A door that is a file of a name in the folder to work in."""

    @contextlib.contextmanager
    def opened(folder: Path) -> Iterator[Callable[[bytes], bool]]:
        def take(data: bytes) -> bool:
            (folder / name).write_bytes(data)
            read(folder / name)
            return True

        yield take

    return opened


def _saved(make: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    make(file)
    return file.getvalue()


GREY = np.random.default_rng(0).integers(0, 5, (17, 23)).astype(np.uint8)
RGB = np.random.default_rng(1).integers(0, 255, (17, 23, 3)).astype(np.uint8)


def pictures(_: Path) -> list[bytes]:
    kinds = [{"format": "PNG"}, {"format": "JPEG"}, {"format": "WEBP"}, {"format": "PNG", "interlace": 1}]
    made = [_saved(lambda file, kind=kind, a=a: Image.fromarray(a).save(file, **kind)) for kind in kinds for a in (GREY, RGB)]
    more = [{}, {"tile": (16, 16), "compression": "zlib"}, {"compression": "lzw"}, {"compression": "packbits"}]
    return made + [_saved(lambda file, kind=kind, a=a: tifffile.imwrite(file, a, **kind)) for kind in more for a in (GREY, RGB)]


def label_pictures(_: Path) -> list[bytes]:
    palette = Image.fromarray(GREY, "P")
    palette.putpalette([0, 0, 0, 230, 159, 0, 86, 180, 233] + [9] * 300)
    pngs = [_saved(lambda file, image=image: image.save(file, "PNG")) for image in (Image.fromarray(GREY), palette)]
    return [*pngs, _saved(lambda file: Image.fromarray(GREY.astype(np.uint16)).save(file, "PNG"))]


def configs(_: Path) -> list[bytes]:
    whole = dump_config(load_config(overrides={"data": {"root": "leaves"}}))
    short = "data: {root: leaves, window_px: 64}\nmethod: partial_ce\nlosses: {gated_crf: {weight: 0.1, radius: 5}}\n"
    return [whole.encode(), short.encode()]


def dataset_files(folder: Path) -> list[bytes]:
    root = make_dataset(folder / "set", num_images=2, size=(14, 17), num_classes=2)
    plain = (root / "dataset.yaml").read_bytes()
    tree = yaml.safe_load(plain) | {"channels": [0, 1, 2], "window": {"low": 0, "high": 255}}
    return [plain, yaml.safe_dump(tree).encode()]


def stroke_files(folder: Path) -> list[bytes]:
    lines = [Stroke(1, 3.0, ((1.5, 2.5), (9.0, 9.5), (12.25, 3.0))), Stroke(0, 5.0, ((4.0, 4.0),))]
    write_strokes(folder / "sound.json", lines, (14, 17))
    return [(folder / "sound.json").read_bytes()]


def tools_files(kind: str) -> Callable[[Path], Sequence[bytes]]:
    def samples(_: Path) -> list[bytes]:
        return [_tools_file(kind).read_bytes()]

    return samples


def _tools_file(kind: str) -> Path:
    from tests.data.formats.test_hostile_bytes import sample

    files = [p for p in sample(kind).rglob("*") if p.is_file() and "images" not in p.parts]
    return max(files, key=lambda p: p.stat().st_size)


def _tool(kind: str) -> Callable[[Path], contextlib.AbstractContextManager[Callable[[bytes], bool]]]:
    @contextlib.contextmanager
    def opened(folder: Path) -> Iterator[Callable[[bytes], bool]]:
        from tests.data.formats.test_hostile_bytes import NAMES, SAMPLES, sample

        copy = folder / "in"
        shutil.copytree(sample(kind), copy)
        target = copy / _tools_file(kind).relative_to(sample(kind))

        def take(data: bytes) -> bool:
            target.write_bytes(data)
            with tempfile.TemporaryDirectory(dir=folder) as out:
                convert(copy, Path(out) / "out", Options(names=NAMES, unlabelled=None), source=SAMPLES[kind])
            return True

        yield take

    return opened


def part_of_a_model(name: str) -> Door:
    """A file of a model folder, the others sound."""

    @contextlib.contextmanager
    def opened(folder: Path) -> Iterator[Callable[[bytes], bool]]:
        model = make_model(folder / "model")
        with _file(name, lambda path: load_model(path.parent))(model) as take:
            yield take

    return Door(lambda folder: [(make_model(folder / "made") / name).read_bytes()], opened)


def checkpoints(_: Path) -> list[bytes]:
    state = {"state_dict": {"a": torch.ones(3, 2)}, "global_step": 3, "epoch": 0, "optimizer_states": [{"state": {}}]}
    return [_saved(functools.partial(torch.save, state))]


@contextlib.contextmanager
def prediction_server(_: Path) -> Iterator[Callable[[bytes], bool]]:
    from tests.serve.serving import serving

    with serving(max_bytes=2**20, max_pixels=PIXELS) as client:
        yield lambda data: _answered(client.post("/v1/predict?output=npy", content=data))


@contextlib.contextmanager
def page_commands(folder: Path) -> Iterator[Callable[[bytes], bool]]:
    from tests.annotate.conftest import page_of

    with page_of(picture_folder(folder / "pictures", number=1)) as client:
        version = number = 0

        def take(data: bytes) -> bool:
            nonlocal version, number
            number += 1
            data = data.replace(b'"id": "c', b'"id": "%d-' % number)  # one that came before would be known
            headers = {"Content-Type": "application/json", "If-Match": str(version)}
            taken = _answered(client.post("/api/images/1/commands", content=data, headers=headers))
            if taken:
                version = client.get("/api/images/1").json()["version"]
            return taken

        yield take


def _answered(answer: object) -> bool:
    status = answer.status_code  # type: ignore[attr-defined]
    if status >= 500:
        raise AssertionError(f"status {status}: {answer.text[:300]}")  # type: ignore[attr-defined]
    return bool(status < 400)


def command_bodies(_: Path) -> list[bytes]:
    commands = [
        [add()],
        [add(0), op("undo")],
        [op("clear")],
        [add(1, [[1, 1], [30, 20], [5.5, 39]], 9.0, "eraser"), op("undo"), op("redo")],
    ]
    return [json.dumps({"commands": each}).encode() for each in commands]


DOORS: dict[str, Door] = {
    "picture": Door(pictures, _file("a.img", lambda path: _picture(path))),
    "label picture": Door(label_pictures, _file("a.png", lambda path: read_index(path))),
    "configuration": Door(configs, _file("config.yaml", lambda path: load_config(path))),
    "dataset.yaml": Door(dataset_files, _file("set/dataset.yaml", lambda path: open_dataset(path.parent))),
    "strokes as lines": Door(stroke_files, _file("a.json", read_strokes)),
    "Label Studio's export": Door(tools_files("label studio shapes"), _tool("label studio shapes")),
    "CVAT's export": Door(tools_files("cvat shapes"), _tool("cvat shapes")),
    "COCO's export": Door(tools_files("coco shapes"), _tool("coco shapes")),
    "a model's config.json": part_of_a_model(CONFIG),
    "a model's preprocessor_config.json": part_of_a_model(PREPROCESSOR),
    "a model's weights": part_of_a_model(WEIGHTS),
    "checkpoint": Door(checkpoints, _file("a.ckpt", read_checkpoint)),
    "POST /v1/predict": Door(pictures, prediction_server),
    "POST /api/images/1/commands": Door(command_bodies, page_commands),
}


def _picture(path: Path) -> None:
    """Read a picture whose name may say anything of its kind."""
    head = path.read_bytes()[:4]
    tiff = head[:2] in (b"II", b"MM")
    path = path.rename(path.with_suffix(".tif" if tiff else ".png"))
    read_rgb(path)
