"""The same on a real Ray of several processes, and what is left of it when they are killed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from scribbleseg.distributed import Resources, predict_many
from scribbleseg.errors import ClusterError, ConfigError, StorageError
from scribbleseg.evaluate import evaluate
from scribbleseg.predict import predict_inputs
from scribbleseg.scores import summary
from tests.distributed.labelled import make_labelled
from tests.distributed.test_blocks import contents, done
from tests.fake.models import make_pictures

pytest.importorskip("ray", reason="needs the extra ray")

pytestmark = pytest.mark.filterwarnings("ignore:::ray", "default::ResourceWarning")

#: Without the machine's address, which may change, and with little memory.
SMALL = {"num_cpus": 2, "object_store_memory": 2**27, "include_dashboard": False}


def test_on_several_processes(places: Path, truth: dict[str, bytes], tmp_path: Path) -> None:
    how: dict[str, Any] = {"outputs": ["mask", "overlay", "uncertainty", "polygons"], "device": "cpu"}
    told = list(predict_many(
        places / "model", str(places / "images"), str(tmp_path / "out"),
        resources=Resources(workers=2, block=4, started=SMALL), **how,
    ))  # fmt: skip
    assert (told[-1].done, told[-1].failed) == (22, 0)
    assert contents(tmp_path / "out") == truth
    assert len(done(tmp_path / "out")) == len(set(done(tmp_path / "out"))) == 22


def test_a_cluster_that_is_not_there(places: Path, tmp_path: Path) -> None:
    resources = Resources(address="127.0.0.1:1")
    with pytest.raises(ClusterError, match="127.0.0.1:1"):
        list(predict_many(places / "model", str(places / "images"), str(tmp_path / "out"), resources=resources))


@pytest.mark.slow
class TestErrors:
    def test_more_workers_than_fit(self, places: Path, tmp_path: Path) -> None:
        resources = Resources(workers=3, started=SMALL)
        with pytest.raises(ConfigError, match="room for 2"):
            list(predict_many(places / "model", str(places / "images"), str(tmp_path / "out"), resources=resources))

    def test_what_a_worker_says_is_our_error(self, places: Path, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "a").write_bytes(b"a file where a folder is to be")
        resources = Resources(workers=1, started=SMALL)
        with pytest.raises(StorageError, match="out/a"):
            list(predict_many(places / "model", str(places / "images"), str(tmp_path / "out"), resources=resources))


class Driver:
    """A run in a process of its own; what it says goes to files beside ``out``, for who keeps a pipe open outlives it."""

    def __init__(self, root: Path, out: Path, *cluster: str, inside: str = "", verb: str = "predict") -> None:
        inputs = root / {"predict": "images", "evaluate": "data"}[verb]
        words = [sys.executable, "-m", "tests.distributed.program", verb, root / "model", inputs, out, *cluster]
        self.out, self._said, self._err = out, out.with_suffix(".said"), out.with_suffix(".err")
        enter = ["ip", "netns", "exec", inside] if inside else []
        with self._said.open("w") as said, self._err.open("w") as err:
            self.process = subprocess.Popen([*enter, *words], stdout=said, stderr=err)

    @property
    def said(self) -> list[str]:
        """Lines that it has printed."""
        return self._said.read_text().splitlines()

    def below(self, *words: str) -> list[psutil.Process]:
        """Processes of this run whose command line has all the words."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [p for p in children if all(word in said(p) for word in words)]

    def wait_for(self, blocks: int, seconds: float = 120) -> bool:
        """Wait until so many blocks are noted; say whether the run still goes on."""
        end = time.monotonic() + seconds
        while len(noted(self.out)) < blocks and self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        return self.process.poll() is None

    def end(self, seconds: float = 240) -> int:
        """Wait for the end."""
        code = self.process.wait(timeout=seconds)
        print(self._err.read_text()[-3000:])
        return code


def said(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def noted(out: Path) -> list[Path]:
    return sorted(out.glob("*/done/*/*.jsonl"))


def times(out: Path) -> dict[str, int]:
    """When the masks of noted inputs were written."""
    files = [Path(name).with_suffix(".png").as_posix() for name in done(out)]
    return {name: (out / name).stat().st_mtime_ns for name in files}


@pytest.fixture(scope="module")
def hundreds(places: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    root = tmp_path_factory.mktemp("hundreds")
    (root / "model").symlink_to(places / "model")
    make_pictures(root / "images" / "a", 480, (90, 110))
    list(predict_inputs(root / "model", root / "images" / "a", root / "plain", outputs=["mask"], device="cpu"))
    return root, {f"a/{path.name}": path.read_bytes() for path in (root / "plain").glob("*.png")}


@pytest.mark.slow
def test_workers_are_killed(hundreds: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    root, truth = hundreds
    driver, kills, rng = Driver(root, tmp_path / "out"), 0, random.Random(0)
    for blocks in range(3, 100, 20):
        if not driver.wait_for(blocks):
            break
        workers = driver.below("MapWorker") or driver.below("ray::")
        if workers:
            rng.choice(workers).kill()
            kills += 1
    assert driver.end() == 0
    assert kills >= 3
    check(tmp_path / "out", truth)


@pytest.mark.slow
def test_the_driver_is_killed(hundreds: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    root, truth = hundreds
    out, kills = tmp_path / "out", 0
    for turn in range(8):
        before = times(out)
        driver = Driver(root, out)
        if turn < 3 and driver.wait_for(len(noted(out)) + 8):
            driver.process.kill()
            kills += 1
        code = driver.end()
        assert {name: when for name, when in times(out).items() if name in before} == before, "what is done is left alone"
        if code == 0:
            break
    assert kills == 3
    check(out, truth)


@pytest.mark.slow
def test_the_head_is_killed(hundreds: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    root, truth = hundreds
    out = tmp_path / "out"
    driver = Driver(root, out)
    assert driver.wait_for(8)
    (head,) = driver.below("gcs_server")
    head.kill()
    assert driver.end() != 0
    left = len(noted(out))
    assert 8 <= left < 120
    assert Driver(root, out).end() == 0
    check(out, truth)


def check(out: Path, truth: dict[str, bytes]) -> None:
    """Exactly one whole output for every input, and each is listed once."""
    assert contents(out) == truth
    listed = done(out)
    assert len(listed) == len(set(listed)) == len(truth)
    assert not list((out / "predictions" / "failed").rglob("*.jsonl"))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_labelled(tmp_path_factory.mktemp("labelled"), 100)


class TestEvaluation:
    @staticmethod
    def check(root: Path, out: Path) -> None:
        """The scores are the plain loop's, to the last bit."""
        truth = summary(evaluate(root / "model", root / "data", device="cpu"))
        found = json.loads((out / "scores.json").read_text())
        assert {key: found[key] for key in truth} == truth
        assert truth["num_images"] == 100

    def test_on_several_processes(self, labelled: Path, tmp_path: Path) -> None:
        driver = Driver(labelled, tmp_path / "out", verb="evaluate")
        assert driver.end() == 0
        assert len({line.split()[3] for line in driver.said if len(line.split()) == 4}) == 2
        self.check(labelled, tmp_path / "out")

    @pytest.mark.slow
    def test_worker_and_driver_are_killed(self, labelled: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        driver = Driver(labelled, out, verb="evaluate")
        assert driver.wait_for(3)
        (driver.below("MapWorker") or driver.below("ray::"))[0].kill()
        assert driver.wait_for(10)
        driver.process.kill()
        assert driver.end() != 0
        before = {path: path.stat().st_mtime_ns for path in noted(out)}
        assert 10 <= len(before) < 25
        assert Driver(labelled, out, verb="evaluate").end() == 0
        assert {path: path.stat().st_mtime_ns for path in before} == before, "what is done is left alone"
        self.check(labelled, out)
