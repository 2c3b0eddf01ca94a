"""The network of the background training, and whether it is better than the instant classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scribbleseg.annotate.background import Network, Training, latest, new_folder, settings
from scribbleseg.annotate.holdout import Score, better, instant_shares, network_shares, score
from scribbleseg.annotate.instant import Samples, labels_and_doubt
from scribbleseg.annotate.owned import Owned
from scribbleseg.annotate.prediction import NO_TRAINING, Prediction
from scribbleseg.annotate.small import small_rgb
from scribbleseg.annotate.snapshot import write_snapshot
from scribbleseg.data.folder import Dataset
from scribbleseg.errors import TrainingError
from scribbleseg.predict import probabilities

if TYPE_CHECKING:
    from scribbleseg.annotate.drawn import Drawn


#: What a training learns from: by stem (height, width) of the image, and its strokes.
Taught = dict[str, tuple[tuple[int, int], list[Owned]]]


class Rival:
    """Called by one thread alone.

    Args:
        project: what is drawn on.
        dataset: of it.
        device: for the network.
        backbone: folder of a pretrained backbone.
        stem: gives an image's stem.
        count: gives the next model's number.

    Attributes:
        training: that was begun last, if any was.
        net: what it has made so far, if its classes are the project's.
        number: of that model, 0 without one.
        scores: of both models on held-out strokes.
    """

    def __init__(
        self,
        project: Drawn,
        dataset: Dataset,
        device: torch.device,
        backbone: Path | None,
        stem: Callable[[int], str],
        count: Callable[[], int],
    ) -> None:
        self.project, self.dataset, self.device, self.backbone = project, dataset, device, backbone
        self.stem, self.count = stem, count
        self.runs = project.state / "runs"
        self.training: Training | None = latest(self.runs)
        self.forget()

    def forget(self) -> None:
        """Forget the network and all scores: it is loaded and judged again, if it still fits."""
        self.net: Network | None = None
        self.number = 0
        self.scores: dict[str, Score | None] = {"instant": None, "network": None}
        self._weighed: tuple[str, int] = ("", 0)
        self._weighing: Iterator[bool] | None = None

    # The training

    def order(self, action: str, max_steps: int | None, strokes: Callable[[], Taught]) -> None:
        """Start, stop or resume a training.

        Args:
            action: which.
            max_steps: of a new one.
            strokes: gives what a new one learns from.

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
            self._begin(strokes(), max_steps)

    def _begin(self, strokes: Taught, max_steps: int | None) -> None:
        folder = new_folder(self.runs)
        training = Training(folder)
        root = write_snapshot(folder, self.project.dataset(), strokes, np.random.default_rng(training.number))
        longest = max(max(size) for size, _ in strokes.values())
        training.start(settings(root, longest, self.backbone, self.device.type != "cpu", max_steps))
        self.training = training
        self.forget()

    def status(self) -> dict[str, Any]:
        """Return ``training`` of /api/status."""
        if self.training is None:
            return dict(NO_TRAINING)
        seen = self.training.seen()
        known = {"number": self.training.number, "images": len(seen.get("stems", [])), "strokes": seen.get("strokes", 0)}
        return self.training.status() | known | {"held_out": len(seen.get("keys", []))}

    # The network

    def load(self) -> None:
        """Read the network again where the training has written a newer one."""
        if self.training is None:
            return
        stamp = self.training.stamp()
        if not stamp or (self.net is not None and self.net.stamp == stamp):
            return
        self.net = self.training.network()
        if self.net is not None and self.net.model.names != self.project.names:
            self.net, self.number = None, 0
        elif self.net is not None:
            self.net.model.segmenter.to(self.device)
            self.number = self.count()

    def predict(self, image: int) -> Prediction | None:
        """Predict an image with the network, if there is one."""
        predict = self.frozen()
        return None if predict is None else predict(image)

    def frozen(self) -> Callable[[int], Prediction] | None:
        """Return what predicts images with the network as it is now; None without one."""
        if self.net is None or self.training is None:
            return None
        net, number, seen = self.net, self.number, set(self.training.seen().get("stems", []))
        title = f"network {self.training.number}, step {net.step} of {self.training.max_steps()}"

        def predict(image: int) -> Prediction:
            probs, stem = self._probs(net, image), self.stem(image)
            labels, doubt, sure = labels_and_doubt(probs, np.arange(probs.shape[-1]))
            version = self.project.version(image)
            return Prediction(labels, doubt, "network", number, version, len(seen), stem in seen, title, sure)

        return predict

    def _probs(self, net: Network, image: int) -> np.ndarray:
        rgb = small_rgb(self.project, self.dataset, image, self.stem(image))
        return np.asarray(probabilities(net.model, rgb).permute(1, 2, 0).cpu().numpy())

    def _labels(self, image: int) -> np.ndarray:
        """Return the network's classes at the image's own size."""
        assert self.net is not None
        labels, (height, width) = self._probs(self.net, image).argmax(axis=-1), self.project.size(image)
        rows = np.arange(height) * labels.shape[0] // height
        columns = np.arange(width) * labels.shape[1] // width
        return labels[rows][:, columns]

    # Which is better

    def weigh(
        self, own: Mapping[int, list[Owned]], samples: Mapping[int, dict[str, tuple[Any, Samples]]], instant: int
    ) -> bool:
        """Do a part of the comparison on held-out strokes; say whether there was one to do.

        Args:
            own: strokes by image.
            samples: what they taught the instant classifier, by image and the stroke's key.
            instant: number of that classifier.
        """
        if self._weighing is None:
            self.load()
            state = (self.net.stamp if self.net else "", instant)
            if self.net is None or state == self._weighed:
                return False
            self._weighed = state
            self._weighing = self._weigh(own, samples)
        if next(self._weighing, None) is None:
            self._weighing = None
        return True

    def _weigh(self, own: Mapping[int, list[Owned]], samples: Mapping[int, dict[str, tuple[Any, Samples]]]) -> Iterator[bool]:
        assert self.training is not None
        held = self.training.held_out()
        judged: dict[int, list[tuple[str, int, np.ndarray]]] = {}
        for image, strokes in own.items():
            stem = self.stem(image)
            found = [(f"{stem}/{each.key}", each.label, each.pixels) for each in strokes if f"{stem}/{each.key}" in held]
            if found:
                judged[image] = found
        label = {key: each for found in judged.values() for key, each, _ in found}
        shares: dict[str, float] = {}
        for image, judges in judged.items():
            if self.net is None:
                return
            shares |= network_shares({image: judges}, self._labels)
            yield True
        network = score([(label[key], share) for key, share in shares.items()])
        taught = {f"{self.stem(image)}/{key}": each for image, some in samples.items() for key, (_, each) in some.items()}
        instant = instant_shares(taught, [key for key in shares if key in taught])
        self.scores = {"network": network, "instant": score([(label[key], share) for key, share in instant.items()])}

    def choice(self, num_strokes: int) -> tuple[str, str]:
        """Return which overlay is shown, and why, where so many strokes are drawn by now."""
        kind, why = better(self.scores["network"] if self.net is not None else None, self.scores["instant"])
        if self.net is None and self.training is not None and self.training.stamp():
            return "instant", "the classes were changed after the network was begun: train again"
        if kind == "network" and self.training is not None:
            note = self.training.seen()
            new = num_strokes - note.get("strokes", 0) - len(note.get("keys", []))
            since = f"; it has not seen {new} strokes drawn since" if new > 0 else ""
            why += f". It learnt from {note.get('strokes', 0)} strokes of {len(note.get('stems', []))} images{since}"
        return kind, why

    def told_scores(self) -> dict[str, Any]:
        """Return the scores of both models on held-out strokes, where there are any."""
        return {kind: each.tree() for kind, each in self.scores.items() if each is not None}
