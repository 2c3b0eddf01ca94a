"""Several hosts: network namespaces with a bridge between them, nothing of which leaves them; one dies in mid-run."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.distributed.test_ray import Driver, check, noted
from tests.fake.models import make_pictures

pytest.importorskip("ray", reason="needs the extra ray")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("ip") is None or os.geteuid() != 0, reason="only root makes network namespaces"),
]

RAY = [sys.executable, "-m", "ray.scripts.scripts"]


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


class Hosts:
    """Namespaces ``NAME-0`` (the head), ``NAME-1`` …, with the addresses 10.77.0.1, 10.77.0.2 …"""

    def __init__(self, number: int) -> None:
        self.names = [f"ray{os.getpid()}-{n}" for n in range(number)]
        for name in self.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        head = self.names[0]
        ip("-n", head, "link", "add", "bridge", "type", "bridge")
        ip("-n", head, "addr", "add", "10.77.0.1/24", "dev", "bridge")
        ip("-n", head, "link", "set", "bridge", "up")
        for n, name in enumerate(self.names[1:], 1):
            ip("-n", head, "link", "add", f"to{n}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("-n", head, "link", "set", f"to{n}", "master", "bridge", "up")
            ip("-n", name, "addr", "add", f"10.77.0.{n + 1}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")

    def start(self, number: int) -> None:
        """Start Ray on a host: the head without a core for workers, the others with one each."""
        own = ["--node-ip-address", f"10.77.0.{number + 1}", "--object-store-memory", str(2**27), "--disable-usage-stats"]
        how = (
            ["--head", "--port", "6379", "--num-cpus", "0", "--include-dashboard", "false"]
            if number == 0
            else ["--address", "10.77.0.1:6379", "--num-cpus", "1"]
        )
        words = ["ip", "netns", "exec", self.names[number], *RAY, "start", *own, *how]
        for _ in range(4):  # Ray gives up after half a minute, which is short where others work
            done = subprocess.run(words, capture_output=True, text=True, timeout=180)
            if done.returncode == 0:
                return
            self.kill(number)
        pytest.fail(done.stdout[-2000:] + done.stderr[-2000:])

    def kill(self, number: int) -> int:
        """Kill every process of a host at once, and say how many there were."""
        found = 0
        for word in ip("netns", "pids", self.names[number]).split():
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(int(word)).kill()
                found += 1
        return found

    def close(self) -> None:
        for n, name in enumerate(self.names):
            while self.kill(n):
                time.sleep(0.2)
            ip("netns", "del", name)
        noted_by_ray = Path(tempfile.gettempdir()) / "ray" / "ray_current_cluster"
        if noted_by_ray.is_file() and noted_by_ray.read_text().startswith("10.77.0.1:"):
            noted_by_ray.unlink()  # or `ray.init()` would look for this cluster


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # a machine that joins does not take it from the head
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        made = Hosts(3)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
    try:
        yield made
    finally:
        made.close()


def test_a_host_is_lost_and_comes_back(places: Path, hosts: Hosts, tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(places / "model")
    make_pictures(tmp_path / "images" / "a", 320, (90, 110))
    from scribbleseg.predict import predict_inputs

    list(predict_inputs(tmp_path / "model", tmp_path / "images" / "a", tmp_path / "plain", outputs=["mask"], device="cpu"))
    truth = {f"a/{path.name}": path.read_bytes() for path in (tmp_path / "plain").glob("*.png")}
    for number in range(3):
        hosts.start(number)
    driver = Driver(tmp_path, tmp_path / "out", "10.77.0.1:6379", inside=hosts.names[0])
    assert driver.wait_for(10)
    assert hosts.kill(1) > 2
    assert driver.wait_for(20), "the other host goes on"
    hosts.start(1)
    assert driver.end(400) == 0
    workers = {line.split()[3] for line in driver.said if len(line.split()) == 4}
    assert len(workers) >= 2
    assert len(noted(tmp_path / "out")) == 80
    check(tmp_path / "out", truth)
