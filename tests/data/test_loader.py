from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scribbleseg.config import RunConfig, parse_config
from scribbleseg.data import loader
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.images import read_index, read_rgb, write_png
from scribbleseg.data.kept import KeptSamples
from scribbleseg.data.loader import (
    TrainingSamples,
    collate,
    evenly,
    generator_for,
    load_sample,
    training_loader,
    training_stems,
)
from scribbleseg.errors import DataError
from scribbleseg.records import UNLABELLED, Batch, Sample
from tests.fake.datasets import make_dataset


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images, six of them for training."""
    return make_dataset(tmp_path_factory.mktemp("loader") / "data", num_images=12)


def config(root: Path, seed: int = 0, max_steps: int = 6, batch_size: int = 2, **data: Any) -> RunConfig:
    return parse_config(
        {
            "seed": seed,
            "data": {"root": root, "crop_px": 40} | data,
            "training": {"max_steps": max_steps, "batch_size": batch_size},
        }
    )


def batches(root: Path, steps_done: int = 0, **settings: Any) -> list[Batch]:
    return list(training_loader(open_dataset(root), config(root, **settings), lambda: steps_done))


def samples(root: Path, **settings: Any) -> TrainingSamples:
    return TrainingSamples(open_dataset(root), config(root, **settings))


def equal(a: Batch | Sample, b: Batch | Sample) -> bool:
    names = ("image", "rgb", "labels", "valid")
    same_files = a.stems == b.stems if isinstance(a, Batch) else a.stem == b.stem
    return same_files and all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


class TestLoadSample:
    @pytest.mark.parametrize("kind", ["scribbles", "masks"])
    def test_what_is_on_the_disk(self, root, kind):
        sample = load_sample(open_dataset(root), "image_003", kind)
        rgb = read_rgb(root / "images" / "image_003.png")
        np.testing.assert_array_equal(sample.image.permute(1, 2, 0).numpy(), rgb)
        np.testing.assert_array_equal(sample.rgb.permute(1, 2, 0).numpy(), rgb)
        np.testing.assert_array_equal(sample.labels.numpy(), read_index(root / kind / "image_003.png"))
        assert sample.valid.all()
        assert sample.stem == "image_003"
        assert sample.labels.dtype == torch.int64

    def test_without_labels(self, root):
        assert (load_sample(open_dataset(root), "image_003", None).labels == UNLABELLED).all()

    def test_labels_of_another_size(self, tmp_path):
        data = make_dataset(tmp_path / "data")
        write_png(data / "scribbles" / "image_000.png", np.full((10, 10), 255, np.uint8))
        with pytest.raises(DataError, match="the size of its image"):
            load_sample(open_dataset(data), "image_000", "scribbles")


class TestTrainingSamples:
    def test_same_seed_and_number_give_the_same_sample(self, root):
        assert equal(samples(root)[4], samples(root)[4])

    def test_a_sample_does_not_depend_on_those_before(self, root):
        used, fresh = samples(root), samples(root)
        for n in (0, 3, 1):
            used[n]
        assert equal(used[7], fresh[7])

    def test_seed_changes_order_and_variation(self, root):
        first, second = samples(root, seed=0), samples(root, seed=1)
        assert [first[n].stem for n in range(12)] != [second[n].stem for n in range(12)]
        alike = {(n, m) for n in range(6) for m in range(6) if first[n].stem == second[m].stem}
        assert len(alike) == 6
        assert not any(torch.equal(first[n].image, second[m].image) for n, m in alike)

    def test_every_image_once_an_epoch(self, root):
        items = samples(root)
        stems = [items[n].stem for n in range(18)]
        assert set(stems) == set(open_dataset(root).stems("train"))
        for epoch in range(3):
            assert set(Counter(stems[6 * epoch : 6 * epoch + 6]).values()) == {1}
        assert len({tuple(stems[6 * e : 6 * e + 6]) for e in range(3)}) > 1, "the order changes from epoch to epoch"

    @pytest.mark.parametrize(("number", "expected"), [(2, (0, 3)), (3, (0, 2, 4)), (99, range(6))])
    def test_some_of_the_images_are_enough(self, root, number, expected):
        items = samples(root, train_images=number)
        stems = open_dataset(root).stems("train")
        assert {items[n].stem for n in range(12)} == {stems[k] for k in expected}
        assert training_stems(open_dataset(root), config(root, train_images=number).data) == tuple(stems[k] for k in expected)

    def test_an_image_is_varied_anew_every_epoch(self, root):
        items = samples(root)
        first = {items[n].stem: items[n] for n in range(6)}
        again = [items[n] for n in range(6, 12)]
        assert not any(torch.equal(first[s.stem].image, s.image) for s in again)

    def test_what_is_kept_in_memory_is_read_once_and_changes_nothing(self, root, monkeypatch):
        reads: list[str] = []
        monkeypatch.setattr(loader, "load_sample", lambda data, stem, kind: reads.append(stem) or load_sample(data, stem, kind))
        kept, fresh = samples(root, longest_px=56), samples(root, longest_px=56, cache_mib=0)
        items = [kept[n] for n in range(18)]
        assert sorted(reads) == sorted(open_dataset(root).stems("train"))
        for n in range(18):
            assert equal(items[n], fresh[n])
            assert items[n].labels.dtype == torch.int64
        assert len(reads) == 6 + 18

    def test_what_does_not_fit_is_read_each_time(self, root):
        dataset, reads = open_dataset(root), Counter[str]()

        def read(stem: str) -> Sample:
            reads[stem] += 1
            return load_sample(dataset, stem, "scribbles")

        stems = dataset.stems("train")
        pixels = [read(stem).labels.numel() for stem in stems]
        reads.clear()
        kept = KeptSamples(15 * sum(pixels[:2]) + 14)  # 12 bytes of colours, 2 of labels, one of validity
        for _ in range(3):
            for stem in stems:
                assert equal(kept.get(stem, lambda stem=stem: read(stem)), load_sample(dataset, stem, "scribbles"))
        assert [reads[stem] for stem in stems] == [1, 1, 3, 3, 3, 3]

    def test_every_item_has_a_labelled_pixel(self, root):
        items = samples(root, crop_px=32, scale=(1.0, 2.0))
        assert all(bool((items[n].labels != UNLABELLED).any()) for n in range(18))

    def test_longest_side_comes_before_the_variation(self, root):
        item = samples(root, longest_px=32, crop_px=64, scale=(1.0, 1.0))[0]
        assert item.labels.shape == (64, 64)
        assert int(item.valid.sum()) == 24 * 32

    def test_dense_labels(self, root):
        item = samples(root, labels="masks")[0]
        assert torch.equal(item.labels != UNLABELLED, item.valid)

    def test_can_be_sent_to_a_worker_that_was_not_forked(self, root):
        """On macOS and Windows the loader's processes are spawned: what they work with is pickled."""
        assert equal(pickle.loads(pickle.dumps(samples(root)))[3], samples(root)[3])


class TestTrainingLoader:
    def test_shapes_and_length(self, root):
        run = batches(root)
        assert len(run) == 6
        for batch in run:
            assert batch.image.shape == batch.rgb.shape == (2, 3, 40, 40)
            assert batch.labels.shape == batch.valid.shape == (2, 40, 40)
            assert len(batch.stems) == 2

    def test_batches_are_the_items_in_order(self, root):
        items = samples(root)
        for k, batch in enumerate(batches(root)):
            assert equal(batch, collate([items[2 * k], items[2 * k + 1]]))

    @pytest.mark.filterwarnings("ignore:This DataLoader will create")
    def test_any_number_of_workers_gives_the_same_batches(self, root):
        alone, helped = batches(root, num_workers=0), batches(root, num_workers=2)
        assert len(alone) == len(helped) == 6
        assert all(equal(a, b) for a, b in zip(alone, helped, strict=True))

    @pytest.mark.parametrize("step", [1, 4, 6])
    def test_started_later_it_gives_what_a_whole_run_would(self, root, step):
        whole, rest = batches(root), batches(root, steps_done=step)
        assert len(rest) == 6 - step
        assert all(equal(a, b) for a, b in zip(whole[step:], rest, strict=True))

    def test_the_step_is_asked_for_when_iteration_begins(self, root):
        done = [0]
        loader = training_loader(open_dataset(root), config(root), lambda: done[0])
        assert len(list(loader)) == 6
        done[0] = 4
        assert len(list(loader)) == 2

    def test_a_larger_batch_than_the_data_set(self, root):
        (batch,) = batches(root, max_steps=1, batch_size=9)
        assert len(batch.stems) == 9
        assert len(set(batch.stems)) == 6


class TestGeneratorFor:
    def test_depends_on_seed_and_key_alone(self):
        def draw(*key: int) -> list[float]:
            return torch.rand(4, generator=generator_for(*key)).tolist()

        assert draw(0, 1, 2) == draw(0, 1, 2)
        others = [(0, 1, 2), (1, 1, 2), (0, 2, 1), (0, 1, 3), (0, 1), (-1, 1, 2)]
        assert len({tuple(draw(*key)) for key in others}) == len(others)


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "abcdefgh"), (8, "abcdefgh"), (99, "abcdefgh"), (1, "a"), (2, "ae"), (4, "aceg"), (3, "acf")]
)
def test_evenly(number, expected):
    assert evenly(tuple("abcdefgh"), number) == tuple(expected)
