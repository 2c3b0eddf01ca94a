"""What the learner knows: strokes and what they taught, the classifier, what it thinks of the images, and its rival."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scribbleseg.annotate.feature_cache import FeatureCache, Picture
from scribbleseg.annotate.features import Encoder, Features
from scribbleseg.annotate.instant import PER_STROKE, Classifier, Samples, fit, labels_and_doubt, smoothed
from scribbleseg.annotate.owned import Owned, owned
from scribbleseg.annotate.places import Place, Seen, rank
from scribbleseg.annotate.prediction import Prediction
from scribbleseg.annotate.rival import Rival
from scribbleseg.annotate.small import small_rgb
from scribbleseg.annotate.store import file_stamp
from scribbleseg.errors import ScribblesegError
from scribbleseg.predict import pick_device

if TYPE_CHECKING:
    from scribbleseg.annotate.drawn import Drawn

#: Images without strokes that are looked at in idle time, for their doubt and for places.
LOOK_AHEAD = 24

#: Seconds between two looks at the list of images.
SCAN_S = 10.0

#: Frames that are kept ready, and the side of the maps that they are chosen on.
PLACES, SEEN_PX = 32, 192


class Mind:
    """Called by one thread alone; every method does one thing and returns within seconds."""

    def __init__(self, project: Drawn, device: str, backbone: Path | None) -> None:
        self.project = project
        where = pick_device(device)
        encoder = None if backbone is None else Encoder(backbone, where)
        source = "" if backbone is None else f"{backbone.resolve().name} {file_stamp(backbone / 'model.safetensors')}"
        self.cache = FeatureCache(project.state / "instant", encoder, source)
        self.dataset = project.dataset()
        self.rows = {row.id: row for row in project.images()}
        self.todo = [row.id for row in self.rows.values() if row.num_strokes or row.has_base]
        self.scanned = 0.0
        self.own: dict[int, list[Owned]] = {}
        self.samples: dict[int, dict[str, tuple[object, Samples]]] = {}
        self.versions: dict[int, int] = {}
        self.stamps: dict[int, str] = {}
        self.classifier: Classifier | None = None
        self.instant_number = self.last = 0
        self.rival = Rival(project, self.dataset, where, backbone, lambda image: self.rows[image].stem, self._count)
        self.seen: dict[int, tuple[int, Seen]] = {}
        self.ranked: tuple[int, list[Place]] = (-1, [])

    # Strokes and the instant classifier

    def learn(self, images: set[int], everything: bool = False) -> bool:
        """Read the strokes of images again and learn from all; say whether there is a classifier."""
        if everything:
            self.samples.clear()
            self.own.clear()
            self.seen.clear()
            self.rival.forget()
            self.rival.load()  # again, for its classes may be no longer those of the project
            self.todo = [row.id for row in self.project.images() if row.num_strokes or row.has_base]
            images = images | set(self.todo[:8])
        for image in sorted(images):
            self._sample(image)
        return self._fit()

    def _fit(self) -> bool:
        self.classifier = fit([each for own in self.samples.values() for _, each in own.values()])
        self.instant_number = self._count() if self.classifier is not None else 0
        return self.classifier is not None

    def _count(self) -> int:
        self.last += 1
        return self.last

    def _read(self, image: int) -> list[Owned]:
        """Return the strokes of an image with the pixels that they still have."""
        if image not in self.rows:
            self.rows = {row.id: row for row in self.project.images()}
        self.versions[image] = self.project.version(image)
        self.stamps[image] = self._file_stamp(self.rows[image].stem)
        resized = self.project.resized(image)
        self.own[image] = [] if resized else owned(self.project.strokes(image), self.project.labels(image))
        return self.own[image]

    def _sample(self, image: int) -> None:
        """Take samples of an image's strokes; those that did not change are kept."""
        if image in self.todo:
            self.todo.remove(image)
        before, now = self.samples.get(image, {}), {}
        own = self._read(image)
        features = self._features(image) if own else None
        for each in own:
            known, state = before.get(each.key), (len(each.pixels), self.stamps[image])
            if known is not None and known[0] == state:
                now[each.key] = known
            elif features is not None:
                cells = features.cells(each.pixels)
                rng = np.random.default_rng(len(each.pixels))
                cells = cells if len(cells) <= PER_STROKE else np.sort(rng.choice(cells, PER_STROKE, replace=False))
                now[each.key] = (state, Samples(each.label, features.at(cells)))
        self.samples[image] = now

    def _features(self, image: int) -> Features:
        stem = self.rows[image].stem
        picture = Picture(self.project.size(image), lambda: small_rgb(self.project, self.dataset, image, stem))
        return self.cache.get(f"{stem} {self._file_stamp(stem)}", picture)

    def _file_stamp(self, stem: str) -> str:
        with contextlib.suppress(ScribblesegError):
            path = self.dataset.image_path(stem)
            return file_stamp(path) if isinstance(path, Path) else ""
        return ""

    def instant(self, image: int) -> Prediction | None:
        """Predict an image with the classifier, and remember where it doubts."""
        predict = self.frozen("instant")
        if predict is None:
            return None
        made = predict(image)
        self._remember(image, self._features(image), made.labels, made.doubt)
        return made

    def frozen(self, kind: str) -> Callable[[int], Prediction] | None:
        """Return what predicts images with a model as it is now, whatever is learnt later; None where there is none."""
        if kind == "network":
            return self.rival.frozen()
        classifier, number = self.classifier, self.instant_number
        if classifier is None:
            return None
        taught = {key for key, own in self.samples.items() if own}
        title, versions = f"instant, {sum(map(len, self.samples.values()))} strokes", dict(self.versions)

        def predict(image: int) -> Prediction:
            features = self._features(image)
            probs = classifier.probabilities(features)
            probs = smoothed(probs, np.asarray(features.filters[..., :3], np.float32).mean(axis=-1))
            labels, doubt, sure = labels_and_doubt(probs, classifier.classes)
            version = versions.get(image, self.project.version(image))
            return Prediction(labels, doubt, "instant", number, version, len(taught), image in taught, title, sure)

        return predict

    def _remember(self, image: int, features: Features, labels: np.ndarray, doubt: np.ndarray) -> None:
        step = max(1, -(-max(labels.shape) // SEEN_PX))
        part = np.s_[step // 2 :: step, step // 2 :: step]
        size = self.project.size(image)
        some = [each.pixels[:: max(1, len(each.pixels) // 50)] for each in self.own.get(image, [])]
        pixels = np.concatenate(some) if some else np.zeros(0, int)
        places = np.stack(np.divmod(pixels, size[1]), axis=1)
        colours = np.asarray(features.filters[..., :3][part], np.float32)
        seen = Seen(image, size, labels[part], doubt[part], places, colours)
        self.seen[image] = (self.instant_number, seen)

    def number(self, kind: str) -> int:
        """Return the number of the newest model of a kind, 0 without one."""
        return self.instant_number if kind == "instant" else self.rival.number

    # Idle time

    def look_on(self) -> tuple[int, Prediction | None] | None:
        """Look at one more image, drawn on or not; None when all that are to be looked at are."""
        if self.todo:
            image = self.todo[0]
            self._sample(image)
            if not self.todo or len(self.samples) % 8 == 0:
                self._fit()
            return image, None
        if time.monotonic() > self.scanned + SCAN_S:
            self._scan()
        if self.classifier is None:
            return None
        drawn = [image for image, own in self.own.items() if own]
        others = [image for image in self.rows if image not in set(drawn)]
        ahead = [others[n * len(others) // LOOK_AHEAD] for n in range(LOOK_AHEAD)] if len(others) > LOOK_AHEAD else others
        for image in drawn[:LOOK_AHEAD] + ahead:
            if self.seen.get(image, (0,))[0] != self.instant_number:
                return image, self.instant(image)
        return None

    def _scan(self) -> None:
        """Look for images whose strokes came without a word, imported or changed on disk, or whose pictures are others."""
        self.scanned = time.monotonic()
        self.rows = {row.id: row for row in self.project.images()}
        for row in self.rows.values():
            drawn = row.num_strokes or row.has_base
            if drawn and (self.versions.get(row.id), self.stamps.get(row.id)) != (row.version, self._file_stamp(row.stem)):
                self.todo.append(row.id)

    def places(self) -> list[Place]:
        """Return frames in which a stroke would help most."""
        key = hash(tuple(sorted((image, number) for image, (number, _) in self.seen.items())))
        if self.ranked[0] != key:
            self.ranked = (key, rank([seen for _, seen in self.seen.values()], PLACES))
        return self.ranked[1]

    # The rival

    def train(self, action: str, max_steps: int | None) -> None:
        """Start, stop or resume a training, see :meth:`Rival.order`."""
        self.rival.order(action, max_steps, self._drawn)

    def _drawn(self) -> dict[str, tuple[tuple[int, int], list[Owned]]]:
        """Return all strokes as they are now, by stem, with their images' sizes."""
        drawn = {}
        self.rows = {row.id: row for row in self.project.images()}
        for image, row in self.rows.items():
            if row.num_strokes or row.has_base or self.own.get(image):
                own = self._read(image)
                if own:
                    drawn[row.stem] = (self.project.size(image), own)
        return drawn

    def weigh(self) -> bool:
        """Do a part of the comparison on held-out strokes; say whether there was one to do."""
        return not self.todo and self.rival.weigh(self.own, self.samples, self.instant_number)

    def choice(self) -> tuple[str, str]:
        """Return which overlay is shown, and why."""
        return self.rival.choice(sum(map(len, self.own.values())))
