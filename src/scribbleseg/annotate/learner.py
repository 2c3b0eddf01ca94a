"""What learns behind the page: one thread that keeps the instant overlay fresh, and a training in a process of its own."""

from __future__ import annotations

import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scribbleseg.annotate.prediction import NO_TRAINING, Prediction
from scribbleseg.errors import DataError, ScribblesegError

if TYPE_CHECKING:
    from scribbleseg.annotate.drawn import Drawn
    from scribbleseg.annotate.mind import Mind
    from scribbleseg.annotate.places import Place

#: Predictions kept in memory.
KEPT = 64

#: Seconds between two looks at the training's files.
WATCH_S = 2.0


class Learner:
    """Learns from a project's strokes; threads inside, every method but :meth:`predictions` returns at once.

    Args:
        project: what is drawn on.
        device: for backbone and network: ``auto``, ``cpu``, ``cuda``.
        backbone: folder of a pretrained backbone.
    """

    def __init__(self, project: Drawn, device: str = "auto", backbone: Path | None = None) -> None:
        self.project, self.device, self.backbone = project, device, backbone
        self._lock = threading.Condition()
        self._dirty: set[int] = set()
        self._shown: int | None = None
        self._classes_changed = False
        self._orders: list[tuple[str, int | None]] = []
        self._questions: list[tuple[Callable[[Mind], Any], Future[Any]]] = []
        self._closed = False
        self._since: float | None = None
        self._instant: dict[str, Any] = {"state": "waiting", "seconds": None, "message": "draw strokes of two classes"}
        self._training: dict[str, Any] = dict(NO_TRAINING)
        self._choice, self._why = "instant", "there is no trained network yet"
        self._scores: dict[str, Any] = {}
        self._predictions: OrderedDict[tuple[int, str], Prediction] = OrderedDict()
        self._doubts: dict[int, float] = {}
        self._places: list[Place] = []
        self._mind: Mind | None = None
        self._wait_until = 0.0
        self._refused = ""
        self._thread = threading.Thread(target=self._run, name="learner", daemon=True)
        self._thread.start()

    def strokes_changed(self, image: int) -> None:
        """Take note that an image was drawn on."""
        with self._lock:
            self._dirty.add(image)
            self._since = self._since or time.monotonic()
            self._lock.notify_all()

    def classes_changed(self) -> None:
        """Take note that classes were added, taken away or put in another order: everything is learnt again."""
        with self._lock:
            self._classes_changed = True
            self._predictions.clear()
            self._since = self._since or time.monotonic()
            self._lock.notify_all()

    def look_at(self, image: int) -> None:
        """Take note that the page shows this image."""
        with self._lock:
            if self._shown != image:
                self._shown = image
                self._lock.notify_all()

    def prediction(self, image: int, kind: str | None = None) -> Prediction | None:
        """Return the overlay of an image: of the model that is shown, or of ``kind``; None where there is none yet."""
        with self._lock:
            kinds = [kind] if kind else [self._choice, "instant"]
            found = next((found for k in kinds if (found := self._predictions.get((image, k)))), None)
            return found and replace(found, scores=self._scores)

    def predictions(self, images: Sequence[int]) -> Iterator[tuple[int, Prediction | ScribblesegError]]:
        """Predict images with the model that is shown now, see :meth:`scribbleseg.annotate.learning.Learning.predictions`."""
        with self._lock:
            kind = self._choice
        predict = self._ask(lambda mind: mind.frozen(kind))
        if predict is None:
            raise DataError("predictions", "a model", "none yet", "draw strokes of two classes and wait for the overlay")

        def each() -> Iterator[tuple[int, Prediction | ScribblesegError]]:
            for image in images:
                try:
                    yield image, self._ask(lambda _, image=image: predict(image))
                except ScribblesegError as error:
                    yield image, error

        return each()

    def _ask(self, work: Callable[[Mind], Any]) -> Any:
        """Let the thread do something in idle time, and wait for what comes of it.

        Raises:
            ScribblesegError: the thread has ended; or as ``work``.
        """
        future: Future[Any] = Future()
        with self._lock:
            if self._closed:
                raise _stopped()
            self._questions.append((work, future))
            self._lock.notify_all()
        return future.result()

    def doubts(self) -> dict[int, float]:
        """Return the mean doubt of each image that was predicted, from 0 to 1."""
        with self._lock:
            return dict(self._doubts)

    def status(self) -> dict[str, Any]:
        """Return ``instant``, ``training`` and ``shown`` of /api/status."""
        with self._lock:
            instant = dict(self._instant)
            if self._since is not None and instant["state"] in ("ready", "waiting"):
                instant["state"] = "working"
            current = self._predictions.get((self._shown, self._choice)) if self._shown is not None else None
            number = current.number if current else None
            shown = {"kind": self._choice, "number": number, "why": self._why}
            return {"instant": instant, "training": dict(self._training), "shown": shown}

    def train(self, action: str, max_steps: int | None = None) -> None:
        """Start, stop or resume the background training; what comes of it is in :meth:`status`."""
        with self._lock:
            self._orders.append((action, max_steps))
            if action != "stop":
                self._training = {**self._training, "state": "running", "message": "it is getting ready"}
            self._lock.notify_all()

    def places(self, limit: int) -> list[Place]:
        """Return frames in which a stroke would help most, the best first."""
        with self._lock:
            return self._places[:limit]

    def close(self, keep_training: bool = False) -> None:
        """Stop the thread; and the training, to be resumed, unless it is to go on by itself."""
        with self._lock:
            if not keep_training:
                self._orders.append(("stop", None))
            self._closed = True
            self._lock.notify_all()
        self._thread.join(timeout=30)

    def wait(self, seconds: float) -> bool:
        """Wait until everything drawn so far is learnt and shown, and say whether it is; for tests and scripts."""
        end = time.monotonic() + seconds
        with self._lock:
            while time.monotonic() < end:
                if self._since is None and not self._dirty and not self._orders and not self._classes_changed:
                    return True
                self._lock.wait(0.05)
        return False

    # What follows runs in the thread.

    def _run(self) -> None:
        try:
            self._work()
        finally:
            with self._lock:
                self._closed = True
                for _, future in self._questions:
                    future.set_exception(
                        ScribblesegError("the learner", "one that runs", "it has stopped", "start the server again")
                    )

    def _work(self) -> None:
        from scribbleseg.annotate.mind import Mind  # torch and all that

        try:
            self._mind = Mind(self.project, self.device, self.backbone)
        except Exception as error:
            self._fail(error)
            return
        while self._step():
            pass

    def _step(self) -> bool:
        """Do the most urgent thing; say whether there is to be another step."""
        mind = self._mind
        assert mind is not None
        with self._lock:
            orders, self._orders = self._orders, []
            dirty, self._dirty = self._dirty, set()
            classes, self._classes_changed = self._classes_changed, False
            shown, closed = self._shown, self._closed
        try:
            for action, max_steps in orders:
                self._order(action, max_steps)
            if closed:
                return False
            if classes or dirty:
                self._learn(dirty, classes, shown)
            elif not self._show(shown) and not self._answer() and not self._look_on():
                self._rest()
        except Exception as error:
            self._fail(error)
            self._rest()
        return True

    def _learn(self, dirty: set[int], classes: bool, shown: int | None) -> None:
        mind = self._mind
        assert mind is not None
        with self._lock:
            since = self._since
        ready = mind.learn(dirty, everything=classes)
        if classes:
            self._choose()
        image = shown if shown is not None else next(iter(sorted(dirty)), None)
        made = mind.instant(image) if ready and image is not None else None
        with self._lock:
            if made is not None and image is not None:
                self._keep(image, made)
            if not self._dirty and not self._classes_changed:
                self._since = None
            seconds = None if since is None else round(time.monotonic() - since, 2)
            self._tell_instant(ready, seconds)
            self._lock.notify_all()

    def _tell_instant(self, ready: bool, seconds: float | None) -> None:
        """Tell the page how the instant classifier is; without one there are no overlays of it. The lock is held."""
        message = "" if ready else "draw strokes of two classes"
        self._instant = {"state": "ready" if ready else "waiting", "seconds": seconds, "message": message}
        if not ready:
            self._forget("instant")

    def _show(self, shown: int | None) -> bool:
        """Predict the image that is looked at where its overlays are not those of the newest models."""
        mind = self._mind
        assert mind is not None
        if shown is None:
            return False
        with self._lock:
            have = {kind: self._predictions.get((shown, kind)) for kind in ("instant", "network")}
        for kind, make in (("instant", mind.instant), ("network", mind.rival.predict)):
            number, old = mind.number(kind), have[kind]
            if number and (old is None or old.number != number):
                made = make(shown)
                with self._lock:
                    if made is not None:
                        self._keep(shown, made)
                return made is not None
        return False

    def _answer(self) -> bool:
        """Answer one question, if there is any."""
        assert self._mind is not None
        with self._lock:
            if not self._questions:
                return False
            work, future = self._questions.pop(0)
        try:
            future.set_result(work(self._mind))
        except BaseException as error:
            future.set_exception(error)
        return True

    def _look_on(self) -> bool:
        """In idle time: watch the training, weigh the models, look at the other images, one thing at a time."""
        mind = self._mind
        assert mind is not None
        if time.monotonic() >= self._wait_until:
            self._wait_until = time.monotonic() + WATCH_S
            self._watch()
        if mind.weigh():
            self._choose()
            return True
        found = mind.look_on()
        places = mind.places()
        with self._lock:
            if found is not None and (made := found[1]) is not None:
                self._keep(found[0], made)
            ready = mind.number("instant") > 0  # of what was drawn before the start, or changed without a word
            if self._instant["state"] == ("waiting" if ready else "ready"):
                self._tell_instant(ready, None)
            self._places = places
        return found is not None

    def _order(self, action: str, max_steps: int | None) -> None:
        """Do what the page asked of the training; what it cannot do is told there."""
        assert self._mind is not None
        self._refused = ""
        try:
            self._mind.train(action, max_steps)
        except ScribblesegError as error:
            self._refused = " ".join(str(error).split())
        self._choose()
        self._watch()

    def _choose(self) -> None:
        """Take over which model is the better one; overlays of a network that is no more are forgotten."""
        assert self._mind is not None
        with self._lock:
            (self._choice, self._why), self._scores = self._mind.choice(), self._mind.rival.told_scores()
            if not self._mind.number("network"):
                self._forget("network")

    def _forget(self, kind: str) -> None:
        """Forget the overlays of a kind; the lock is held."""
        self._predictions = OrderedDict((k, v) for k, v in self._predictions.items() if k[1] != kind)

    def _watch(self) -> None:
        assert self._mind is not None
        told = self._mind.rival.status()
        with self._lock:
            if not self._orders:
                self._training = told | ({"message": self._refused} if self._refused else {})

    def _keep(self, image: int, made: Prediction) -> None:
        """Keep a prediction; the lock is held."""
        self._predictions[image, made.kind] = made
        self._predictions.move_to_end((image, made.kind))
        if made.kind == "instant":
            self._doubts[image] = float(made.doubt.mean()) / 255
        while len(self._predictions) > KEPT:
            self._predictions.popitem(last=False)

    def _rest(self) -> None:
        with self._lock:
            if not (self._dirty or self._orders or self._closed or self._classes_changed or self._questions):
                self._lock.wait(WATCH_S)

    def _fail(self, error: Exception) -> None:
        """Tell the page what went wrong; the thread goes on."""
        told = str(error) if isinstance(error, ScribblesegError) else traceback.format_exception_only(error)[-1].strip()
        with self._lock:
            self._instant = {"state": "failed", "seconds": None, "message": " ".join(told.split())}
            self._since = None
            self._lock.notify_all()


def _stopped() -> ScribblesegError:
    return ScribblesegError("the learner", "one that runs", "it has stopped", "start the server again")
