"""What the learner knows: strokes and what they taught, the classifier, the network, and which of the two is better."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scribbleseg.annotate.background import Network, Training, latest, new_folder, settings
from scribbleseg.annotate.feature_cache import FeatureCache, Picture
from scribbleseg.annotate.features import Encoder, Features
from scribbleseg.annotate.holdout import Score, better, instant_shares, network_shares, score
from scribbleseg.annotate.instant import PER_STROKE, Classifier, Samples, fit, labels_and_doubt, smoothed
from scribbleseg.annotate.owned import Owned, owned
from scribbleseg.annotate.places import Place, Seen, rank
from scribbleseg.annotate.prediction import NO_TRAINING, Prediction
from scribbleseg.annotate.small import small_rgb
from scribbleseg.annotate.snapshot import write_snapshot
from scribbleseg.errors import ScribblesegError, TrainingError
from scribbleseg.predict import pick_device, probabilities

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
        self.project, self.backbone = project, backbone
        self.device = pick_device(device)
        encoder = None if backbone is None else Encoder(backbone, self.device)
        source = "" if backbone is None else f"{backbone.resolve().name} {_stamp(backbone / 'model.safetensors')}"
        self.cache = FeatureCache(project.state / "instant", encoder, source)
        self.runs = project.state / "runs"
        self.training: Training | None = latest(self.runs)
        self.dataset = project.dataset()
        self.rows = {row.id: row for row in project.images()}
        self.todo = [row.id for row in self.rows.values() if row.num_strokes or row.has_base]
        self.scanned = 0.0
        self.own: dict[int, list[Owned]] = {}
        self.samples: dict[int, dict[str, tuple[int, Samples]]] = {}
        self.versions: dict[int, int] = {}
        self.classifier: Classifier | None = None
        self.numbers = {"instant": 0, "network": 0}
        self.last = 0
        self.net: Network | None = None
        self.scores: dict[str, Score | None] = {"instant": None, "network": None}
        self.weighed: tuple[str, int] = ("", 0)
        self.weighing: Iterator[bool] | None = None
        self.seen: dict[int, tuple[int, Seen]] = {}
        self.ranked: tuple[int, list[Place]] = (-1, [])

    # Strokes and the instant classifier

    def learn(self, images: set[int], everything: bool = False) -> bool:
        """Read the strokes of images again and learn from all; say whether there is a classifier."""
        if everything:
            self.samples.clear()
            self.own.clear()
            self.seen.clear()
            self._forget_network()
            self._load()  # again, for its classes may be no longer those of the project
            self.todo = [row.id for row in self.project.images() if row.num_strokes or row.has_base]
            images = images | set(self.todo[:8])
        for image in sorted(images):
            self._sample(image)
        return self._fit()

    def _fit(self) -> bool:
        self.classifier = fit([each for own in self.samples.values() for _, each in own.values()])
        self.last += 1
        self.numbers["instant"] = self.last if self.classifier is not None else 0
        return self.classifier is not None

    def _read(self, image: int) -> list[Owned]:
        """Return the strokes of an image with the pixels that they still have."""
        if image not in self.rows:
            self.rows = {row.id: row for row in self.project.images()}
        self.versions[image] = self.project.version(image)
        self.own[image] = owned(self.project.strokes(image), self.project.labels(image))
        return self.own[image]

    def _sample(self, image: int) -> None:
        """Take samples of an image's strokes; those that did not change are kept."""
        if image in self.todo:
            self.todo.remove(image)
        before, now = self.samples.get(image, {}), {}
        own = self._read(image)
        features = self._features(image) if own else None
        for each in own:
            known = before.get(each.key)
            if known is not None and known[0] == len(each.pixels):
                now[each.key] = known
            elif features is not None:
                cells = features.cells(each.pixels)
                rng = np.random.default_rng(len(each.pixels))
                cells = cells if len(cells) <= PER_STROKE else np.sort(rng.choice(cells, PER_STROKE, replace=False))
                now[each.key] = (len(each.pixels), Samples(each.label, features.at(cells)))
        self.samples[image] = now

    def _features(self, image: int) -> Features:
        stem = self.rows[image].stem
        picture = Picture(self.project.size(image), lambda: small_rgb(self.project, self.dataset, image, stem))
        return self.cache.get(f"{stem} {self._file_stamp(stem)}", picture)

    def _file_stamp(self, stem: str) -> str:
        with contextlib.suppress(ScribblesegError):
            path = self.dataset.image_path(stem)
            return _stamp(path) if isinstance(path, Path) else ""
        return ""

    def instant(self, image: int) -> Prediction | None:
        """Predict an image with the classifier."""
        if self.classifier is None:
            return None
        features = self._features(image)
        probs = self.classifier.probabilities(features)
        probs = smoothed(probs, np.asarray(features.filters[..., :3], np.float32).mean(axis=-1))
        labels, doubt, sure = labels_and_doubt(probs, self.classifier.classes)
        self._remember(image, features, labels, doubt)
        taught = [key for key, own in self.samples.items() if own]
        title = f"instant, {sum(map(len, self.samples.values()))} strokes"
        version = self.versions.get(image, self.project.version(image))
        number = self.numbers["instant"]
        return Prediction(labels, doubt, "instant", number, version, len(taught), image in taught, title, sure)

    def _remember(self, image: int, features: Features, labels: np.ndarray, doubt: np.ndarray) -> None:
        step = max(1, -(-max(labels.shape) // SEEN_PX))
        part = np.s_[step // 2 :: step, step // 2 :: step]
        size = self.project.size(image)
        some = [each.pixels[:: max(1, len(each.pixels) // 50)] for each in self.own.get(image, [])]
        pixels = np.concatenate(some) if some else np.zeros(0, int)
        places = np.stack(np.divmod(pixels, size[1]), axis=1)
        colours = np.asarray(features.filters[..., :3][part], np.float32)
        seen = Seen(image, size, labels[part], doubt[part], places, colours)
        self.seen[image] = (self.numbers["instant"], seen)

    def number(self, kind: str) -> int:
        """Return the number of the newest model of a kind, 0 without one."""
        return self.numbers[kind]

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
            if self.seen.get(image, (0,))[0] != self.numbers["instant"]:
                return image, self.instant(image)
        return None

    def _scan(self) -> None:
        """Look for images whose strokes came without a word: imported, or changed on disk."""
        self.scanned = time.monotonic()
        self.rows = {row.id: row for row in self.project.images()}
        for row in self.rows.values():
            if (row.num_strokes or row.has_base) and self.versions.get(row.id) != row.version:
                self.todo.append(row.id)

    def places(self) -> list[Place]:
        """Return frames in which a stroke would help most."""
        key = hash(tuple(sorted((image, number) for image, (number, _) in self.seen.items())))
        if self.ranked[0] != key:
            self.ranked = (key, rank([seen for _, seen in self.seen.values()], PLACES))
        return self.ranked[1]

    # The network

    def train(self, action: str, max_steps: int | None) -> None:
        """Start, stop or resume a training.

        Raises:
            TrainingError: there is none to stop or resume, or one is running.
            DataError: too few strokes.
        """
        running = self.training is not None and self.training.state() == "running"
        if action == "stop":
            if self.training is not None and running:
                self.training.stop()
        elif action == "resume":
            if self.training is None:
                raise TrainingError("training", "a training that was stopped", "none", "start one")
            self.training.resume()
        elif running:
            raise TrainingError("training", "none that is running", "one is", "stop it first")
        else:
            self._start(max_steps)

    def _start(self, max_steps: int | None) -> None:
        strokes = {}
        self.rows = {row.id: row for row in self.project.images()}
        for image, row in self.rows.items():
            if row.num_strokes or row.has_base or self.own.get(image):
                own = self._read(image)
                if own:
                    strokes[row.stem] = (self.project.size(image), own)
        folder = new_folder(self.runs)
        training = Training(folder)
        root = write_snapshot(folder, self.project.dataset(), strokes, np.random.default_rng(training.number))
        longest = max(max(size) for size, _ in strokes.values())
        training.start(settings(root, longest, self.backbone, self.device.type != "cpu", max_steps))
        self.training = training
        self._forget_network()

    def _forget_network(self) -> None:
        self.net, self.weighing, self.weighed = None, None, ("", 0)
        self.numbers["network"] = 0
        self.scores = {"instant": None, "network": None}

    def training_status(self) -> dict[str, Any]:
        """Return ``training`` of /api/status."""
        if self.training is None:
            return dict(NO_TRAINING)
        seen = self.training.seen()
        known = {"number": self.training.number, "images": len(seen.get("stems", [])), "strokes": seen.get("strokes", 0)}
        return self.training.status() | known | {"held_out": len(seen.get("keys", []))}

    def network(self, image: int) -> Prediction | None:
        """Predict an image with the network."""
        if self.net is None or self.training is None:
            return None
        probs = self._network_probs(image)
        labels, doubt, sure = labels_and_doubt(probs, np.arange(probs.shape[-1]))
        seen = self.training.seen().get("stems", [])
        title = f"network {self.training.number}, step {self.net.step} of {self.training.max_steps()}"
        version, number = self.project.version(image), self.numbers["network"]
        return Prediction(labels, doubt, "network", number, version, len(seen), self.rows[image].stem in seen, title, sure)

    def _network_probs(self, image: int) -> np.ndarray:
        assert self.net is not None
        return (
            probabilities(self.net.model, small_rgb(self.project, self.dataset, image, self.rows[image].stem))
            .permute(1, 2, 0)
            .cpu()
            .numpy()
        )

    def _load(self) -> None:
        """Read the network again where the training has written a newer one."""
        if self.training is None:
            return
        stamp = self.training.stamp()
        if not stamp or (self.net is not None and self.net.stamp == stamp):
            return
        self.net = self.training.network()
        if self.net is not None and self.net.model.names != self.project.names:
            self.net, self.numbers["network"] = None, 0
        elif self.net is not None:
            self.net.model.segmenter.to(self.device)
            self.last += 1
            self.numbers["network"] = self.last

    # Which is better

    def weigh(self) -> bool:
        """Do a part of the comparison on held-out strokes; say whether there was one to do."""
        if self.todo:
            return False
        if self.weighing is None:
            self._load()
            state = (self.net.stamp if self.net else "", self.numbers["instant"])
            if self.net is None or state == self.weighed:
                return False
            self.weighed = state
            self.weighing = self._weigh()
        if next(self.weighing, None) is None:
            self.weighing = None
        return True

    def _weigh(self) -> Iterator[bool]:
        assert self.training is not None
        held = self.training.held_out()
        judged: dict[int, list[tuple[str, int, np.ndarray]]] = {}
        for image, own in self.own.items():
            stem = self.rows[image].stem
            found = [(f"{stem}/{each.key}", each.label, each.pixels) for each in own if f"{stem}/{each.key}" in held]
            if found:
                judged[image] = found
        label = {key: each for found in judged.values() for key, each, _ in found}
        shares: dict[str, float] = {}
        for image, strokes in judged.items():
            if self.net is None:
                return
            shares |= network_shares({image: strokes}, self._network_labels)
            yield True
        network = score([(label[key], share) for key, share in shares.items()])
        samples = {
            f"{self.rows[image].stem}/{key}": each for image, own in self.samples.items() for key, (_, each) in own.items()
        }
        instant = instant_shares(samples, [key for key in shares if key in samples])
        self.scores = {"network": network, "instant": score([(label[key], share) for key, share in instant.items()])}

    def _network_labels(self, image: int) -> np.ndarray:
        """Return the network's classes at the image's own size."""
        labels, (height, width) = self._network_probs(image).argmax(axis=-1), self.project.size(image)
        rows = np.arange(height) * labels.shape[0] // height
        columns = np.arange(width) * labels.shape[1] // width
        return labels[rows][:, columns]

    def choice(self) -> tuple[str, str]:
        """Return which overlay is shown, and why."""
        kind, why = better(self.scores["network"] if self.net is not None else None, self.scores["instant"])
        if self.net is None and self.training is not None and self.training.stamp():
            return "instant", "the classes were changed after the network was begun: train again"
        if kind == "network" and self.training is not None:
            note = self.training.seen()
            new = sum(map(len, self.own.values())) - note.get("strokes", 0) - len(note.get("keys", []))
            since = f"; it has not seen {new} strokes drawn since" if new > 0 else ""
            why += f". It learnt from {note.get('strokes', 0)} strokes of {len(note.get('stems', []))} images{since}"
        return kind, why

    def told_scores(self) -> dict[str, Any]:
        """Return the scores of both models on held-out strokes, where there are any."""
        return {kind: each.tree() for kind, each in self.scores.items() if each is not None}


def _stamp(path: Path) -> str:
    with contextlib.suppress(OSError):
        found = path.stat()
        return f"{found.st_size} {found.st_mtime_ns}"
    return ""
