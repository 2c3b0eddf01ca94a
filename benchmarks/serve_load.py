"""The prediction server under load, over loopback: the rate it holds, and what happens past it.

    python -m benchmarks.serve_load run [--model MODEL] [--seconds 8] [--out FILE]
    python -m benchmarks.serve_load write

``run`` starts ``scribbleseg serve``, asks with eight clients that each wait for their answer (the capacity), then sends
pictures at shares and multiples of that rate whether or not there are answers. Latencies are counted from the moment at which
a request was due. ``write`` puts the outcome into docs/how-to/serve.md. Nothing but 127.0.0.1 is asked, at most ``MOST``
times a step.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import itertools
import json
import math
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from benchmarks.ops.page import number, origin, table, write
from scribbleseg.atomic import write_text
from scribbleseg.provenance import provenance

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "serve_load.json"
PAGE = ROOT / "docs" / "how-to" / "serve.md"

#: Rates, in parts of the capacity.
FACTORS = (0.5, 0.8, 1.0, 2.0, 3.0)

#: Clients that find the capacity; requests of a step at most; threads that send at fixed times.
CLIENTS, MOST, SENDERS = 8, 3000, 192

SIDE_PX, QUEUE = 256, 32


class Running:
    """A server process of the real command."""

    def __init__(self, model: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = int(listener.getsockname()[1])
        words = ["serve", str(model), "--port", str(self.port), "--queue", str(QUEUE)]
        self.process = subprocess.Popen([sys.executable, "-m", "scribbleseg", *words], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("stop with"):
                return
        raise RuntimeError("the server did not start")

    def memory_mb(self, key: str = "VmRSS") -> float:
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith(key))

    def stop(self) -> float:
        """Return how long it took to stop, in seconds."""
        begun = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=60)
        return time.perf_counter() - begun


def default_model(folder: Path) -> Path:
    """Write a network of 12 layers with weights as they were drawn: how fast it is does not depend on them."""
    import torch

    from scribbleseg.config import ModelConfig
    from scribbleseg.models.folder import TrainedModel, save_model
    from scribbleseg.models.segmenter import Segmenter

    stages = {"model_type": "resnet", "embedding_size": 32, "hidden_sizes": [32, 64, 128, 256], "depths": [2, 2, 2, 2]}
    settings = {"backbone": {**stages, "layer_type": "basic"}, "decoder": "fpn", "channels": 64, "feature_dim": 16}
    torch.manual_seed(0)
    names = ("background", "leaf", "stone", "water")
    save_model(folder, TrainedModel(Segmenter(ModelConfig.model_validate(settings), len(names)).eval(), names, SIDE_PX))
    return folder


def pictures(count: int = 16) -> list[bytes]:
    """Return pictures of one size as JPEG."""
    found = []
    for seed in range(count):
        coarse = np.random.default_rng(seed).integers(0, 255, (SIDE_PX // 16, SIDE_PX // 16, 3), dtype=np.uint8)
        file = io.BytesIO()
        Pillow.fromarray(coarse).resize((SIDE_PX, SIDE_PX), Pillow.Resampling.BICUBIC).save(file, format="JPEG", quality=90)
        found.append(file.getvalue())
    return found


class Client:
    """A connection that is kept, and made anew where it broke."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, body: bytes) -> int:
        """Return the status of an answer; 0 where there was none. A connection that idled too long is made anew."""
        kept = self._connection.sock is not None
        try:
            self._connection.request("POST", "/v1/predict", body, {"Content-Type": "image/jpeg"})
            answer = self._connection.getresponse()
            answer.read()
            return answer.status
        except (ConnectionError, http.client.RemoteDisconnected):
            self._connection.close()
            return self.ask(body) if kept else 0
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0

    def close(self) -> None:
        self._connection.close()


def together(number: int, work: Callable[[int], None]) -> None:
    """Do something in threads."""
    threads = [threading.Thread(target=work, args=(k,)) for k in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def capacity(port: int, bodies: list[bytes], seconds: float) -> float:
    """Return how many pictures a second are answered where each client waits for its answer."""
    until, counts = time.perf_counter() + seconds, [0] * CLIENTS
    begun = time.perf_counter()

    def client(k: int) -> None:
        with contextlib.closing(Client(port)) as own:
            while time.perf_counter() < until:
                counts[k] += own.ask(bodies[counts[k] % len(bodies)]) == 200

    together(CLIENTS, client)
    return sum(counts) / (time.perf_counter() - begun)


def offered(server: Running, bodies: list[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """Send pictures at a rate, and tell what came back."""
    total = min(MOST, max(1, round(rate * seconds)))
    numbers: Iterator[int] = itertools.count()
    lock, answers = threading.Lock(), []
    memory = [server.memory_mb()]
    begun = time.perf_counter() + 0.1

    def sender(_: int) -> None:
        with contextlib.closing(Client(server.port)) as own:
            while True:
                with lock:
                    k = next(numbers)
                if k >= total:
                    return
                due = begun + k / rate
                time.sleep(max(0.0, due - time.perf_counter()))
                status = own.ask(bodies[k % len(bodies)])
                answers.append((status, 1000 * (time.perf_counter() - due)))
                if k % 20 == 0:
                    memory.append(server.memory_mb())

    together(min(SENDERS, total), sender)
    took = time.perf_counter() - begun
    good = [ms for status, ms in answers if status == 200]
    refused = [ms for status, ms in answers if status == 503]
    return {
        "rate": rate,
        "sent": total,
        "answered": len(good),
        "refused": len(refused),
        "other": total - len(good) - len(refused),
        "answered_per_s": len(good) / took,
        "ms_p50": quantile(good, 0.5),
        "ms_p99": quantile(good, 0.99),
        "refused_ms_p99": quantile(refused, 0.99),
        "memory_mb": max(memory),
    }


def quantile(values: list[float], share: float) -> float | None:
    """Return the value below which a share lies; None of nothing."""
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)] if values else None


def run(model: Path | None = None, seconds: float = 8.0, factors: tuple[float, ...] = FACTORS) -> dict[str, Any]:
    """Measure everything."""
    with tempfile.TemporaryDirectory() as place:
        server = Running(model or default_model(Path(place) / "model"))
        try:
            bodies = pictures()
            capacity(server.port, bodies, min(2.0, seconds))  # until everything has been used once
            most = capacity(server.port, bodies, seconds)
            before = server.memory_mb()
            rows = []
            for factor in factors:
                rows.append({"factor": factor, **offered(server, bodies, factor * most, seconds)})
                time.sleep(min(1.0, seconds))
            highest, stopped_s = server.memory_mb("VmHWM"), server.stop()
        finally:
            server.process.kill()
    return {
        "model": "ResNet of 12 layers, FPN of 64 channels, 4 classes" if model is None else model.name,
        "side_px": SIDE_PX,
        "queue": QUEUE,
        "capacity_per_s": most,
        "memory_mb_before": before,
        "memory_mb_highest": highest,
        "stop_s": stopped_s,
        "rows": rows,
        "provenance": provenance(),
    }


def lines(result: dict[str, Any]) -> list[str]:
    """Return the page's words and table."""

    def cell(value: float | None) -> str:
        return "–" if value is None else number(value)

    rows = [
        [
            f"{row['factor']:g} ×",
            cell(row["rate"]),
            cell(row["answered_per_s"]),
            f"{row['refused'] / row['sent']:.1%}",
            str(row["other"]),
            cell(row["ms_p50"]),
            cell(row["ms_p99"]),
            cell(row["refused_ms_p99"]),
            cell(row["memory_mb"]),
        ]
        for row in result["rows"]
    ]
    side = result["side_px"]
    words = (
        f"{result['model']}; JPEGs of {side} × {side} px, a queue of {result['queue']}; server and clients share the machine. "
        f"Eight clients that wait for their answers get **{cell(result['capacity_per_s'])} a second**. Memory before: "
        f"{cell(result['memory_mb_before'])} MB; it stopped {cell(result['stop_s'])} s after SIGTERM."
    )
    head = ["rate", "sent/s", "answered/s", "503", "other", "p50 ms", "p99 ms", "p99 ms of a 503", "memory MB"]
    return [words, "", *table(head, rows), "", origin(result)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "write"])
    parser.add_argument("--model", type=Path, help="model to serve; a small one with random weights if not given")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each step")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    if given.what == "run":
        result = run(given.model, given.seconds)
        write_text(given.out, json.dumps(result, indent=1) + "\n")
        print("\n".join(lines(result)))
    else:
        write({"serve_load": lines(json.loads(given.out.read_text(encoding="utf-8")))}, PAGE)


if __name__ == "__main__":
    main()
