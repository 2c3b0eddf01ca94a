"""The runner: pictures of every kind, large ones by windows, and one clear message for a wrong one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

from scribbleseg import runner as module
from scribbleseg.data.images import read_rgb
from scribbleseg.models.folder import load_model
from scribbleseg.predict import predict_mask, probabilities
from scribbleseg.reading import PLAIN, Reading
from scribbleseg.runner import Runner, bands, read_picture
from tests.fake.exported import picture


def write(path: Path, kind: str) -> Path:
    """Write a picture of some kind."""
    rgb = picture(5, (61, 70))
    grey16 = (rgb[..., 0].astype(np.uint16) * 257) ^ 77
    if kind == "16 bit":
        Image.fromarray(grey16).save(path)
    elif kind == "16 bit tiff":
        tifffile.imwrite(path := path.with_suffix(".tif"), grey16)
    elif kind == "float tiff":
        tifffile.imwrite(path := path.with_suffix(".tif"), (grey16 / 65535).astype(np.float32))
    elif kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(rgb).save(path := path.with_suffix(".jpg"), exif=exif)
    elif kind == "RGBA":
        Image.fromarray(np.dstack([rgb, rgb[..., 0]])).save(path)
    else:
        Image.fromarray(rgb).convert(kind).save(path)
    return path


KINDS = ["RGB", "L", "1", "P", "LA", "RGBA", "16 bit", "16 bit tiff", "float tiff", "turned"]


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_read_as_prediction_reads_them(tmp_path, kind):
    path = write(tmp_path / "photo.png", kind)
    expected, found = read_rgb(path), read_picture(path)
    assert found.shape == expected.shape
    assert len(np.unique(expected)) > 1
    if found.dtype == np.uint8:
        found = found / np.float32(255)
    np.testing.assert_allclose(found, expected, atol=1e-7)


READINGS = {
    "channels": Reading(channels=(2, 0, 1)),
    "one channel": Reading(channels=(1,)),
    "nothing in one": Reading(channels=(0, None, 2)),
    "values": Reading(window={"low": 20, "high": 190}),  # type: ignore[arg-type]
    "percentiles": Reading(window={"percentiles": [2, 90]}),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", READINGS)
def test_channels_and_values_as_the_model_was_trained_with(tmp_path, name):
    reading, path = READINGS[name], write(tmp_path / "photo.png", "RGB")
    said = reading.model_dump(mode="json")
    found = read_picture(path, said["channels"], said["window"])
    if found.dtype == np.uint8:
        found = found / np.float32(255)
    np.testing.assert_allclose(found, read_rgb(path, reading), atol=1e-6)


def test_percentiles_of_a_large_picture(tmp_path, monkeypatch):
    rgb = picture(3, (2100, 2050))
    Image.fromarray(rgb).save(tmp_path / "large.png", compress_level=1)
    reading = READINGS["percentiles"]
    found = read_picture(tmp_path / "large.png", None, reading.model_dump(mode="json")["window"])
    np.testing.assert_allclose(found, read_rgb(tmp_path / "large.png", reading), atol=1e-6)


@pytest.mark.parametrize("kind", ["RGB", "L", "RGBA", "16 bit"])
def test_masks_of_the_original(exported, tmp_path, kind):
    model, runner = load_model(exported / "model"), Runner(exported / "onnx" / "model.onnx", 1)
    path = write(tmp_path / "photo.png", kind)
    mask = runner.mask(runner.read(path))
    same = mask == predict_mask(model, read_rgb(path, PLAIN))
    assert same.mean() > (0.99 if kind == "16 bit" else 0.999)  # this model sees 8 of the 16 bits
    assert len(np.unique(mask)) > 1


def test_bands_are_the_whole(exported):
    model, runner = load_model(exported / "model"), Runner(exported / "onnx" / "model.onnx", 1)
    rgb = picture(1, (201, 150))
    expected = probabilities(model, rgb).numpy()
    np.testing.assert_allclose(runner.probabilities(rgb), expected, atol=1e-5)
    assert (runner.mask(rgb) == expected.argmax(0)).mean() > 0.999


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(2, 33))
def test_windows_cover_every_pixel_once(height, width, side):
    """Averages of one and the same answer are that answer, whatever the sizes."""
    answer = np.random.default_rng(0).random((2, height, width)).astype(np.float32)
    rgb = np.stack([*np.mgrid[:height, :width], np.zeros((height, width))], -1)

    def run(window: np.ndarray) -> np.ndarray:
        assert max(window.shape[:2]) <= side
        top, left = int(window[0, 0, 0]), int(window[0, 0, 1])
        return answer[:, top : top + window.shape[0], left : left + window.shape[1]]

    parts = list(bands(run, rgb, side, 2))
    np.testing.assert_allclose(np.concatenate([rows for _, rows in parts], 1), answer, atol=1e-5)
    assert [top for top, _ in parts] == list(np.cumsum([0, *(rows.shape[1] for _, rows in parts)])[:-1])


MEMORY = """
import resource, sys
import numpy as np
from scribbleseg.runner import bands
high, wide, classes = 6000, 4000, 20
rgb = np.lib.format.open_memmap(sys.argv[1], "w+", np.uint8, (high, wide, 3))
mask = np.empty((high, wide), np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for top, rows in bands(lambda part: np.ones((classes, *part.shape[:2]), np.float32), rgb, 512, classes):
    mask[top:top + rows.shape[1]] = rows.argmax(0)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is told otherwise, or not at all")
def test_memory_does_not_grow_with_the_height(tmp_path):
    """20 classes of 24 million pixels are 1.9 GB; two rows of windows are 330 MB, the picture itself 72 MB."""
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path / "a.npy")], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 900


def run(words: list[object], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Call the copy beside the model where there is neither torch nor scribbleseg."""
    script = str(words[0])
    guard = (
        f"import sys, runpy; sys.modules.update(torch=None, scribbleseg=None); runpy.run_path({script!r}, run_name='__main__')"
    )
    arguments = [sys.executable, "-c", guard, *map(str, words[1:])]
    return subprocess.run(arguments, capture_output=True, text=True, cwd=cwd, check=False)


def test_it_runs_where_there_is_no_torch_and_no_scribbleseg(exported, tmp_path):
    onnx = exported / "onnx"
    Image.fromarray(picture(5, (90, 70))).save(tmp_path / "photo.png")
    done = run([onnx / "runner.py", onnx / "model.onnx", "photo.png", "masks/mask.png"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "rust on leaf" in done.stdout
    expected = predict_mask(load_model(exported / "model"), picture(5, (90, 70)))
    assert (np.asarray(Image.open(tmp_path / "masks" / "mask.png")) == expected).mean() > 0.999
    assert [p.name for p in (tmp_path / "masks").iterdir()] == ["mask.png"]


def test_a_folder_of_pictures_and_what_is_wrong_in_it(exported, tmp_path):
    onnx, folder = exported / "onnx", tmp_path / "photos"
    folder.mkdir()
    for k in range(2):
        Image.fromarray(picture(k, (50, 40))).save(folder / f"photo {k}.png")
    np.save(folder / "array.npy", picture(7, (30, 30)))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    (folder / "notes.txt").write_text("no picture")
    done = run([onnx / "runner.py", onnx / "model.onnx", "photos", "masks"], tmp_path)
    assert done.returncode == 1
    assert sorted(p.name for p in (tmp_path / "masks").iterdir()) == ["array.png", "photo 0.png", "photo 1.png"]
    assert [line for line in done.stderr.splitlines() if "broken.jpg" in line]
    assert "1 of 4 files have no mask" in done.stderr
    assert "Traceback" not in done.stderr


def test_help(exported, tmp_path):
    done = run([exported / "onnx" / "runner.py", "--help"], tmp_path)
    assert done.returncode == 0
    for word in ("model", "picture", "mask", "--threads", "without PyTorch"):
        assert word in done.stdout


def wrong(tmp_path: Path, exported: Path) -> dict[str, tuple[list[object], str]]:
    onnx = exported / "onnx" / "model.onnx"
    good, out = tmp_path / "good.png", tmp_path / "mask.png"
    Image.fromarray(picture(0, (20, 20))).save(good)
    (tmp_path / "text.png").write_text("no picture")
    good_bytes = good.read_bytes()
    (tmp_path / "cut.png").write_bytes(good_bytes[: len(good_bytes) // 2])
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((3, 20, 20), np.uint8), photometric="minisblack")
    tifffile.imwrite(tmp_path / "floats.tif", np.full((20, 20), 700, np.float32))
    np.save(tmp_path / "flat.npy", np.zeros((4, 4), np.uint8))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "empty").mkdir()
    return {
        "no model": ([tmp_path / "none.onnx", good, out], "no ONNX model"),
        "no ONNX": ([good, good, out], "no ONNX model"),
        "no picture": ([onnx, tmp_path / "none.png", out], "no such file"),
        "text": ([onnx, tmp_path / "text.png", out], "no picture that can be read"),
        "cut short": ([onnx, tmp_path / "cut.png", out], "no picture that can be read"),
        "stack": ([onnx, tmp_path / "stack.tif", out], "3 pages"),
        "floats": ([onnx, tmp_path / "floats.tif", out], "floats in [0, 1]"),
        "flat": ([onnx, tmp_path / "flat.npy", out], "(H, W, 3)"),
        "objects": ([onnx, tmp_path / "objects.npy", out], "no array"),
        "lossy": ([onnx, good, tmp_path / "mask.jpg"], "keeps its values"),
        "empty": ([onnx, tmp_path / "empty", tmp_path / "out"], "no pictures in it"),
        "onto itself": ([onnx, tmp_path, tmp_path], "give another folder"),
    }


def test_wrong_inputs_get_one_line(exported, tmp_path, monkeypatch, capsys):
    for name, (words, told) in wrong(tmp_path, exported).items():
        if name == "onto itself":
            continue
        monkeypatch.setattr(sys, "argv", ["runner.py", *map(str, words)])
        with pytest.raises(SystemExit) as error:
            module.main()
        message = str(error.value)
        assert message.startswith("runner.py: "), name
        assert told in message, name
        assert "\n" not in message, name
        assert not [p for p in tmp_path.iterdir() if p.name.startswith(("mask", "writing", "out"))], name
    capsys.readouterr()


def test_masks_do_not_land_among_the_pictures(exported, tmp_path, monkeypatch):
    Image.fromarray(picture(0, (20, 20))).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    monkeypatch.setattr(sys, "argv", ["runner.py", str(exported / "onnx" / "model.onnx"), str(tmp_path), str(tmp_path)])
    with pytest.raises(SystemExit, match="give another folder"):
        module.main()
    Image.fromarray(picture(1, (20, 20))).save(tmp_path / "a.bmp")
    monkeypatch.setattr(sys, "argv", [*sys.argv[:3], str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="two pictures named a"):
        module.main()
    assert (tmp_path / "a.png").read_bytes() == before


def test_wrong_arrays_are_refused(exported):
    runner = Runner(exported / "onnx" / "model.onnx", 1)
    for shape in ((4, 4), (4, 4, 4), (0, 4, 3)):
        with pytest.raises(ValueError, match=r"\(H, W, 3\)"):
            runner.probabilities(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        runner.mask(np.zeros((4, 4, 3), np.float32))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_files_make_one_clear_error(tmp_path, data):
    """Whatever the bytes: a picture, or a ValueError that names the file."""
    kind = data.draw(st.sampled_from(["good.png", "good.tif", "good.bmp", "good.jpg"]))
    path = tmp_path / kind
    if not (tmp_path / f"{kind}.kept").exists():
        Image.fromarray(picture(0, (12, 10))).save(path)
        (tmp_path / f"{kind}.kept").write_bytes(path.read_bytes())
    content = bytearray((tmp_path / f"{kind}.kept").read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    message, found = "", None
    try:
        found = read_picture(path)
    except ValueError as error:
        message = str(error)
    assert (found is not None and found.shape[2] == 3) or (kind in message and "\n" not in message)
