"""Something that stands in for what learns from strokes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from scribbleseg.annotate.learning import NoLearning


class Learned:
    """Predicts the left half of image 1 as class 0 and the right half as class 1, at half its size."""

    def __init__(self):
        self.calls = []

    def strokes_changed(self, image):
        self.calls.append(("strokes", image))

    def classes_changed(self):
        self.calls.append(("classes",))

    def look_at(self, image):
        self.calls.append(("look", image))

    def prediction(self, image, kind=None):
        if image != 1 or kind == "network":
            return None
        labels = np.zeros((20, 30), np.uint8)
        labels[:, 15:] = 1
        about = {"kind": "instant", "number": 3, "version": 0, "trained_on": 1, "seen": True, "title": "a stand-in"}
        return SimpleNamespace(labels=labels, doubt=labels * 255, sure=200 + labels * 50, scores={}, **about)

    def predictions(self, images):
        return ((image, self.prediction(1)) for image in images)

    def doubts(self):
        return {1: 0.5}

    def status(self):
        return NoLearning().status()

    def train(self, action, max_steps=None):
        self.calls.append((action, max_steps))

    def places(self, limit):
        return [SimpleNamespace(image=1, x0=0, y0=0, x1=10, y1=10, doubt=0.5)][:limit]

    def close(self):
        self.calls.append(("close",))
