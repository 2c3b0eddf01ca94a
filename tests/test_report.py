"""The report: right numbers, nothing from outside, nothing unescaped."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scribbleseg.compare import compare
from scribbleseg.config import ModelConfig, dump_config, parse_config
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.images import read_index, write_png
from scribbleseg.errors import ConfigError, DataError
from scribbleseg.evaluate import fingerprint, score
from scribbleseg.methods import METHODS
from scribbleseg.metrics.image import Prediction
from scribbleseg.models.folder import TrainedModel, save_model
from scribbleseg.models.segmenter import Segmenter
from scribbleseg.report.curves import MAX_POINTS, curve_svg, read_history, run_style, thinned
from scribbleseg.report.page import pick_cases, report
from scribbleseg.report.pictures import overlay_uri, photo_uri, tile_size
from scribbleseg.report.tables import differences, mark_best, number
from scribbleseg.scores import write_scores
from tests.fake.datasets import make_dataset, write_lines

MODEL = {
    "backbone": {
        "model_type": "convnext",
        "patch_size": 2,
        "hidden_sizes": [8, 8, 8, 8],
        "depths": [1, 1, 1, 1],
        "layer_scale_init_value": 0.0,
    },
    "channels": 8,
    "detail_channels": 8,
    "feature_dim": 4,
}

METRICS = """epoch,step,train/dynamic_feature,train/partial_cross_entropy,train/total,val/miou
0,9,22.5,1.375,8.4,
0,9,,,,0.25
0,19,19.5,1.125,7.7,
0,19,,,,0.5
"""


def make_data(root: Path, names: dict[int, str] | None = None, stems: int = 5) -> Path:
    """Write a data set of eight images, of which the last few are the split "test"."""
    make_dataset(root, num_images=8, spec={"names": names} if names else None)
    write_lines(root / "splits" / "test.txt", [f"image_{n:03d}" for n in range(8 - stems, 8)])
    return root


def make_run(
    folder: Path, data: Path, *, scored: bool = True, metrics: str | None = METRICS, noise: float = 0.1, **config
) -> Path:
    """Write a run folder around an untrained network, with scores as if it were wrong ever more often from image to image."""
    dataset = open_dataset(data)
    resolved = parse_config({"data": {"root": str(data), "window_px": 64}, "model": MODEL, **config})
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_config(resolved), encoding="utf-8")
    tree = {"seed": resolved.seed, "date": "2026-01-02T03:04:05+00:00", "commit": None, "packages": {"torch": "9.9.9"}}
    (folder / "run.json").write_text(json.dumps(tree), encoding="utf-8")
    if metrics is not None:
        (folder / "metrics.csv").write_text(metrics, encoding="utf-8")
    torch.manual_seed(resolved.seed)
    segmenter = Segmenter(ModelConfig.model_validate(MODEL), len(dataset.names)).eval()
    save_model(folder / "model", TrainedModel(segmenter, dataset.names, 64))
    if scored:
        rng, stems = np.random.default_rng(resolved.seed), dataset.stems("test")

        def predict(stem: str) -> Prediction:
            truth = dataset.labels(stem, "masks")
            wrong = rng.random(truth.shape) < noise * (1 + stems.index(stem))
            return Prediction(np.where(wrong, (truth + 1) % len(dataset.names), truth).astype(np.uint8))

        known = {"source": folder.name, "data": "fake", "split": "test", "fingerprint": fingerprint(folder, dataset, "test")}
        write_scores(folder / "scores_test.json", score(dataset, stems, predict), **known)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, two runs on it, and the reports of one and of both."""
    root = tmp_path_factory.mktemp("report")
    data = make_data(root / "data")
    make_run(root / "plain", data, method="partial_ce", noise=0.12)
    make_run(root / "better", data, seed=1, noise=0.05, training={"max_steps": 20})
    report([root / "plain", root / "better"], root / "two.html", num_cases=2, titles=["plain", "better"])
    report([root / "better"], root / "one.html")
    return root


def table_rows(page: str, section: str) -> list[list[str]]:
    """Return the cells' texts of a section's tables, row by row; a bold one keeps its stars."""
    part = page[page.index(f'<section id="{section}">') :]
    part = part[: part.index("</section>")].replace("<b>", "*").replace("</b>", "*")
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in re.findall(r"<tr>.*?</tr>", part, re.DOTALL)]
    return [[html.unescape(re.sub(r"<[^>]+>", "", cell)).strip() for cell in row] for row in cells]


@pytest.mark.parametrize("name", ["one", "two"])
def test_nothing_comes_from_outside(world, name):
    page = (world / f"{name}.html").read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href|srcset|action|poster|data)="([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page)
    assert len(sources) > 10
    assert not [s[:60] for s in sources if not s.startswith(("data:", "#"))]
    assert "http://" not in page
    assert "https://" not in page
    assert "@import" not in page
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert {s[1:] for s in sources if s.startswith("#")} <= set(ids)


def test_comparison_has_the_numbers_of_the_scores_and_marks_the_best(world):
    head, plain, better, *_ = table_rows((world / "two.html").read_text(encoding="utf-8"), "comparison")
    assert head[:4] == ["run", "mIoU", "95 % of mIoU", "foreground Dice"]
    keys = ["miou", "foreground_dice", "mean_dice", "pixel_accuracy", "border_miou", "boundary_miou"]
    for title, row, star in (("plain", plain, ""), ("better", better, "*")):
        scores = json.loads((world / title / "scores_test.json").read_text(encoding="utf-8"))
        assert row[:2] + row[3:8] == [title] + [f"{star}{scores[key]:.3f}{star}" for key in keys]
        assert row[2] == "–".join(f"{end:.3f}" for end in scores["intervals"]["miou"])
    assert plain[-4:] == ["2,000", "partial_ce", "scribbles", "0"]
    assert better[-4:] == ["20", "dfr", "scribbles", "1"]


def test_class_and_confusion_tables(world):
    page = (world / "two.html").read_text(encoding="utf-8")
    scores = json.loads((world / "better" / "scores_test.json").read_text(encoding="utf-8"))
    rows = table_rows(page, "classes")[5:]
    for row, (name, s) in zip(rows, scores["classes"].items(), strict=True):
        assert [cell.strip("*") for cell in row] == [
            name,
            *(f"{s[key]:.3f}" for key in ("iou", "dice", "precision", "recall", "boundary_iou")),
            f"{s['hd95']:.2f}",
            "–".join(f"{end:.3f}" for end in s["iou_interval"]),
            f"{s['missed']} of {s['cases']}",
            f"{s['pixels']:,}",
        ]
    counts = np.array(scores["confusion"])
    expected = [[f"{share:.3f}" for share in row] for row in counts / counts.sum(1, keepdims=True)]
    assert [row[1:] for row in table_rows(page, "confusion")[-3:]] == expected


def test_lead_names_the_best_run_and_the_gap_as_printed(world):
    two, one = ((world / f"{name}.html").read_text(encoding="utf-8") for name in ("two", "one"))
    plain, better = (json.loads((world / n / "scores_test.json").read_text(encoding="utf-8")) for n in ("plain", "better"))
    gap = round(better["miou"], 3) - round(plain["miou"], 3)
    assert f"“better” has the highest mean IoU, {better['miou']:.3f}. That is {gap:.3f} more than “plain”" in two
    assert "scores higher on 5 of 5" in two
    assert "other seeds" in two
    assert "different numbers of steps" in two
    assert f"the run “better” reaches a mean IoU of {better['miou']:.3f}" in one
    assert "other seeds" not in one
    assert "<b>" not in one


def test_worst_case_comes_first_and_typical_ones_are_others(world):
    page = (world / "two.html").read_text(encoding="utf-8")
    per_image = json.loads((world / "better" / "scores_test.json").read_text(encoding="utf-8"))["per_image"]
    worst = min(per_image, key=lambda image: image["miou"])
    headings = re.findall(r"<h[34]>([^<]+)</h", page[page.index('<section id="cases">') :])
    best = max(per_image, key=lambda image: image["miou"])
    assert headings[:2] == ["Worst cases", worst["stem"]]
    assert headings[3] == "Typical cases"
    assert headings[6:8] == ["Best cases", best["stem"]]
    assert len({*headings[1:3], *headings[4:6], headings[7]}) == 5
    assert page.count("<figcaption>scribbles</figcaption>") == 5


def test_names_titles_and_stems_are_escaped(tmp_path):
    names = {0: "<script>alert(1)</script>", 1: 'a "b" & c', 2: "{{ 7 * 7 }}"}
    data = make_data(tmp_path / "data", names, stems=1)
    for folder in ("images", "masks"):
        (data / folder / "image_007.png").rename(data / folder / "<i>x.png")
    write_lines(data / "splits" / "test.txt", ["<i>x"])
    run = make_run(tmp_path / "run", data, metrics="step,train/<u>\n1,2.0\n")
    page = report([run], tmp_path / "report.html", titles=["<img src=x onerror=alert(2)>"]).read_text(encoding="utf-8")
    for raw in ("<script>alert", "<i>x", "<u>", "<img src=x"):
        assert raw not in page
    for text in (*names.values(), "<i>x", "<img src=x onerror=alert(2)>"):
        assert html.escape(text, quote=False).replace('"', "&#34;") in page
    assert page.count("<script>") == 1
    assert "scribbles</figcaption>" not in page, "this image has no strokes, so there is no tile of them"


def test_scores_the_run_where_no_scores_are_and_does_without_metrics(tmp_path):
    data = make_data(tmp_path / "data", stems=1)
    run = make_run(tmp_path / "run", data, scored=False, metrics=None)
    (run / "run.json").unlink()
    page = report([run], tmp_path / "report.html", num_cases=1, device="cpu").read_text(encoding="utf-8")
    scores = json.loads((run / "scores_test.json").read_text(encoding="utf-8"))
    assert scores["num_images"] == 1
    assert f"{scores['miou']:.3f}" in page
    assert "No curves" in page


def test_the_page_shows_no_folder_of_this_machine_but_in_the_command(world):
    page = (world / "two.html").read_text(encoding="utf-8")
    assert str(world) in page
    assert str(world) not in page[: page.index('id="again"') if 'id="again"' in page else page.index("Make this report again")]


def test_a_class_that_is_nowhere_is_a_dash(tmp_path):
    data = make_data(tmp_path / "data", {0: "background", 1: "leaf", 2: "stone", 3: "ghost"}, stems=2)
    run = make_run(tmp_path / "run", data, noise=0.0)
    page = report([run], tmp_path / "report.html", num_cases=1).read_text(encoding="utf-8")
    assert table_rows(page, "classes")[-1] == ["ghost", *["–"] * 8, "0"]
    assert table_rows(page, "confusion")[-1] == ["ghost"] + ["–"] * 4
    assert "No pixel of the truth is ghost" in page


def test_command_makes_the_report_again(world):
    one, two = ((world / f"{name}.html").read_text(encoding="utf-8") for name in ("one", "two"))
    assert f"scribbleseg report {world / 'better'} --out {world / 'one.html'} --split test</pre>" in one
    assert "titles=[&#39;plain&#39;, &#39;better&#39;]" in two


def test_scores_of_other_images_or_masks_are_made_anew(world, tmp_path):
    run = Path(shutil.copytree(world / "better", tmp_path / "run"))
    data = make_data(tmp_path / "data", stems=2)
    report([run], tmp_path / "report.html", data=data)
    first = json.loads((run / "scores_test.json").read_text(encoding="utf-8"))
    assert first["num_images"] == 2
    mask = data / "masks" / f"{open_dataset(data).stems('test')[0]}.png"
    write_png(mask, np.zeros_like(read_index(mask)))
    report([run], tmp_path / "report.html", data=data)
    second = json.loads((run / "scores_test.json").read_text(encoding="utf-8"))
    assert second["confusion"] != first["confusion"]
    written = (run / "scores_test.json").stat().st_mtime_ns
    report([run], tmp_path / "report.html", data=data)
    assert (run / "scores_test.json").stat().st_mtime_ns == written, "nothing changed: nothing is scored again"


def test_a_run_of_other_classes_is_refused(world, tmp_path):
    data = make_data(tmp_path / "other", {0: "a", 1: "b", 2: "c"})
    with pytest.raises(DataError, match="a model of the data set's classes: a, b, c"):
        report([world / "better"], tmp_path / "report.html", data=data)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(("runs", "titles", "got"), [([], None, "no run"), (["better"], ["a", "b"], "2 titles for 1 runs")])
def test_wrong_calls(world, tmp_path, runs, titles, got):
    with pytest.raises(ConfigError, match=got):
        report([world / run for run in runs], tmp_path / "report.html", titles=titles)


def test_the_last_run_is_compared_with_the_others(world):
    rows = table_rows((world / "two.html").read_text(encoding="utf-8"), "comparison")[3:]
    trees = [json.loads((world / n / "scores_test.json").read_text(encoding="utf-8")) for n in ("plain", "better")]
    found = {d.name: d for d in compare(*trees)}
    assert [row[1] for row in rows[1:]] == list(found)
    d = found["mIoU"]
    assert rows[1][:4] == ["plain", "mIoU", f"{d.difference:+.3f}", "{:+.3f} … {:+.3f}".format(*d.interval)]
    assert "against the others" not in (world / "one.html").read_text(encoding="utf-8")


def test_strokes_of_the_training_split_are_counted(world):
    rows = table_rows((world / "one.html").read_text(encoding="utf-8"), "strokes")[1:]
    data = open_dataset(world / "data")
    labels = np.concatenate([data.labels(s, "scribbles").ravel() for s in data.stems("train")])
    assert [(row[0], row[1]) for row in rows] == [(n, f"{(labels == k).sum():,}") for k, n in enumerate(data.names)]


def test_a_models_own_confidence_is_shown(tmp_path):
    data = make_data(tmp_path / "data", stems=1)
    run = make_run(tmp_path / "run", data, scored=False)
    page = report([run], tmp_path / "report.html", num_cases=1, device="cpu").read_text(encoding="utf-8")
    ece = json.loads((run / "scores_test.json").read_text(encoding="utf-8"))["calibration"]["ece"]
    assert f"calibration error: run {ece:.3f}" in page
    assert page.count("<svg") > 1


@pytest.mark.parametrize("suffix", [".md", ".csv", ".json"])
def test_other_forms_have_the_same_numbers(world, tmp_path, suffix):
    path = report([world / "plain", world / "better"], tmp_path / f"report{suffix}", titles=["plain", "a | b"])
    text, scores = (
        path.read_text(encoding="utf-8"),
        json.loads((world / "better" / "scores_test.json").read_text(encoding="utf-8")),
    )
    if suffix == ".json":
        tree = json.loads(text)
        assert tree["runs"][1]["scores"] == scores
        assert tree["versus"][0]["differences"][0]["name"] == "mIoU"
    elif suffix == ".csv":
        rows = {(row["run"], row["class"]): row for row in csv.DictReader(io.StringIO(text))}
        assert len(rows) == 2 * (1 + len(scores["classes"]))
        assert float(rows["a | b", ""]["iou"]) == scores["miou"]
        for name, s in scores["classes"].items():
            assert float(rows["a | b", name]["hd95"]) == s["hd95"]
            assert float(rows["a | b", name]["iou_low"]) == s["iou_interval"][0]
    else:
        assert f"| a \\| b | **{scores['miou']:.3f}** |" in text
        for name, s in scores["classes"].items():
            assert f"| {name} | **{s['iou']:.3f}** |" in text


def test_pick_cases():
    images = [{"stem": s, "miou": m} for s, m in [("a", 0.9), ("b", None), ("c", 0.1), ("d", 0.5), ("e", 0.3), ("f", 0.7)]]

    def picked(of: list, number: int) -> list[list[str]]:
        groups = pick_cases(of, number)
        assert list(groups) == ["Worst cases", "Typical cases", "Best cases"]
        return list(groups.values())

    assert picked(images, 1) == [["c"], ["e"], ["a"]]
    assert picked(images, 9) == [["c", "e"], ["d", "f"], ["a"]]
    assert picked(images, 0) == [[], [], []]
    assert picked(images[:2], 3) == [["a"], [], []]


def test_small_words():
    assert number(None) == "–"
    assert number(0.12345) == "0.123"
    assert [cell.best for cell in mark_best([0.5004, 0.5001, None, 0.4])] == [True, True, False, False]
    assert not mark_best([0.5, None])[0].best
    found = dict(differences([parse_config({"method": m}) for m in ("partial_ce", "dfr")]))
    assert found["method"] == ["partial_ce", "dfr"]
    assert found["losses.dynamic_feature.weight"] == ["–", str(METHODS["dfr"]["dynamic_feature"]["weight"])]
    assert not [key for key in found if "sigma" in key]


def test_history_leaves_out_what_is_not_a_number(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/a,val/miou\n0,1,2.5,\n0,2,nan,0.5\n", encoding="utf-8")
    assert read_history(path) == {"train/a": [(1.0, 2.5)], "val/miou": [(2.0, 0.5)]}
    assert read_history(tmp_path / "none.csv") == {}
    path.write_text("epoch,step,train/a\n0,1,word\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"metrics\.csv"):
        read_history(path)


def test_long_curves_are_thinned_to_means():
    points = [(float(k), float(k % 2)) for k in range(4 * MAX_POINTS)]
    assert thinned(points) == [(4 * k + 1.5, 0.5) for k in range(MAX_POINTS)]
    assert thinned(points[:3]) == points[:3]
    assert thinned([]) == []


def test_curves_take_the_pages_colour_and_leave_no_style_behind():
    svg = curve_svg([(run_style(k), [(1.0, 2.0), (2.0, 1.0 + k)]) for k in range(2)], "loss (no unit)", "here")
    assert svg.startswith("<svg ")
    assert not [word for word in ("<style", "<metadata", "xmlns", "#010203") if word in svg]
    assert 'width="' not in svg[: svg.index(">")], "the page decides on the size"
    assert "currentColor" in svg
    assert run_style(0).colour in svg
    assert "loss (no unit)</text>" in svg
    assert all(name.startswith("here-") for name in re.findall(r'\bid="([^"]*)"', svg))


def test_every_run_looks_different():
    styles = {(style.colour, style.dash) for style in map(run_style, range(12))}
    assert len(styles) == 12


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def test_overlays_show_strokes_thicker_and_the_rest_not_at_all():
    labels = np.full((20, 30), 255, np.uint8)
    labels[10, 5:15] = 1
    shown = np.asarray(decoded(overlay_uri(labels, 3, grow_px=1)).convert("RGBA"))
    assert (shown[..., 3] > 0).sum() == 10 * 3 + 2
    assert tuple(shown[9, 6]) == (230, 159, 0, 255)
    assert (np.asarray(decoded(overlay_uri(np.full_like(labels, 255), 3, grow_px=1)).convert("RGBA"))[..., 3] == 0).all()


def test_large_pictures_are_shown_small():
    assert tile_size((1000, 640, 3)) == (307, 480)
    assert tile_size((10, 20)) == (20, 10)
    rgb = np.random.default_rng(0).random((600, 800, 3), dtype=np.float32)
    assert decoded(photo_uri(rgb)).size == (320, 240)
    labels = np.full((600, 800), 255, np.uint8)
    labels[300, :] = 2
    assert (np.asarray(decoded(overlay_uri(labels, 3, grow_px=1))) == 2).any(axis=0).all(), (
        "a thin stroke must not fall between pixels"
    )
