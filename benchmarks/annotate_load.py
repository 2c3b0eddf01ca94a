"""The drawing page's server under load, over loopback: twenty clients at once, many images, many strokes, one large picture.

    python -m benchmarks.annotate_load            # writes benchmarks/results/annotate_load.json

Nothing may be lost: every acknowledged stroke is asked for again after the server was stopped and started.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from scribbleseg.atomic import write_text
from scribbleseg.provenance import provenance

RESULT = Path(__file__).parent / "results" / "annotate_load.json"
SERVE = """
import sys
from pathlib import Path
from scribbleseg.annotate.server import serve
serve(Path(sys.argv[1]), port=int(sys.argv[2]), open_page=False)
"""


class Running:
    """A server process."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = int(listener.getsockname()[1])
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(folder), str(self.port)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("stop with"):
                break
        self.start_s = time.perf_counter() - begun

    def memory_mb(self, key: str = "VmHWM") -> float:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith(key))

    def anonymous_mb(self) -> float:
        return self.memory_mb("RssAnon")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=600)


class Client:
    """One page: a connection that is kept."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def call(self, path: str, body: Any = None, version: int = 0) -> tuple[int, bytes, float]:
        headers = {"X-Scribbleseg": "1", "Content-Type": "application/json", "If-Match": str(version)}
        begun = time.perf_counter()
        data = None if body is None else json.dumps(body)
        self.connection.request("GET" if data is None else "POST", path, data, headers)
        answer = self.connection.getresponse()
        content = answer.read()
        return answer.status, content, time.perf_counter() - begun


def stroke(rng: np.random.Generator, size: int, id_: str) -> dict[str, Any]:
    """Return the command of a stroke of 60 points, as long as a hand draws in a second."""
    points = np.cumsum(rng.normal(0, size / 60, (60, 2)), axis=0) + rng.uniform(0, size, 2)
    line = {"class": int(rng.integers(2)), "width_px": 8.0, "tool": "brush", "points": points.round(2).tolist()}
    return {"id": id_, "op": "add", "stroke": line}


def together(folder: Path, clients: int, strokes: int) -> dict[str, Any]:
    """Let clients draw at once, two on each image, and count what is there after a restart."""
    server, times, acknowledged, conflicts = Running(folder), [], [], []

    def draw(number: int) -> None:
        client, rng, image = Client(server.port), np.random.default_rng(number), 1 + number // 2
        version = 0
        for k in range(strokes):
            command = stroke(rng, 800, f"{number}-{k}")
            while True:
                status, content, seconds = client.call(f"/api/images/{image}/commands", {"commands": [command]}, version)
                told = json.loads(content)
                if status == 200:
                    break
                conflicts.append(number)
                version = told["image"]["version"]
            version = told["version"]
            times.append(seconds)
            acknowledged.append((image, command["id"]))

    begun = time.perf_counter()
    threads = [threading.Thread(target=draw, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - begun
    server.stop()
    again = Running(folder)
    there = set()
    for image in sorted({image for image, _ in acknowledged}):
        told = json.loads(Client(again.port).call(f"/api/images/{image}")[1])
        there |= {(image, each["id"]) for each in told["strokes"]}
    again.stop()
    return {
        "clients": clients,
        "strokes": len(acknowledged),
        "lost": len(set(acknowledged) - there),
        "conflicts": len(conflicts),
        "strokes_per_s": len(acknowledged) / took,
        "ms_median": 1000 * float(np.median(times)),
        "ms_p95": 1000 * float(np.percentile(times, 95)),
    }


def many_strokes(folder: Path, number: int) -> dict[str, Any]:
    """Time one stroke more, and its labels, where there are many."""
    server = Running(folder)
    client, rng, times, labels = Client(server.port), np.random.default_rng(0), [], []
    for k in range(0, number, 100):
        client.call("/api/images/1/commands", {"commands": [stroke(rng, 800, f"s{k + j}") for j in range(100)]}, k)
    client.call("/api/images/1/labels")
    for k in range(30):
        times.append(client.call("/api/images/1/commands", {"commands": [stroke(rng, 800, f"m{k}")]}, number + k)[2])
        labels.append(client.call("/api/images/1/labels")[2])
        time.sleep(0.05)
    server.stop()
    return {"strokes": number, "ms_commit": 1000 * float(np.median(times)), "ms_labels": 1000 * float(np.median(labels))}


def many_images(folder: Path, number: int) -> dict[str, Any]:
    """Time the first start and the list of a folder of many pictures."""
    folder.mkdir()
    Pillow.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "first.png")
    data = (folder / "first.png").read_bytes()
    for k in range(number - 1):
        (folder / f"picture-{k:05d}.png").write_bytes(data)
    server = Running(folder)
    client = Client(server.port)
    seconds = [client.call("/api/images")[2] for _ in range(5)]
    size = len(client.call("/api/images")[1])
    server.stop()
    second = Running(folder)
    second.stop()
    start = {"start_s": server.start_s, "again_s": second.start_s}
    return {"images": number, **start, "list_ms": 1000 * float(np.median(seconds)), "list_bytes": size}


def large(folder: Path, side: int) -> dict[str, Any]:
    """Read every tile of a large picture, all levels; tell times and the server's memory afterwards."""
    import tifffile

    folder.mkdir()
    picture = np.random.default_rng(0).integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    Pillow.fromarray(picture).save(folder / "large.png", compress_level=1)
    tifffile.imwrite(folder / "tiled.tif", picture, tile=(512, 512), compression="zlib", photometric="rgb")
    del picture
    server = Running(folder)
    client, rows = Client(server.port), {}
    before = server.anonymous_mb()
    for image, name in ((2, "tiled TIFF"), (1, "PNG")):
        about = json.loads(client.call(f"/api/images/{image}")[1])
        first = client.call(f"/api/images/{image}/tiles/0/3/3")[2]
        times = []
        for level in range(about["levels"]):
            across = -(-side // (512 << level))
            times += [
                client.call(f"/api/images/{image}/tiles/{level}/{x}/{y}")[2] for y in range(across) for x in range(across)
            ]
        row = {"tiles": len(times), "ms_first": 1000 * first, "ms_median": 1000 * float(np.median(times))}
        rows[name] = {**row, "ms_worst": 1000 * max(times), "mb_more_afterwards": server.anonymous_mb() - before}
    rows["highest_mb"] = server.memory_mb()
    server.stop()
    return {"side_px": side, **rows}


def pictures(folder: Path, number: int, side: int) -> Path:
    """Make a folder of pictures."""
    folder.mkdir()
    for k in range(number):
        Pillow.fromarray(np.random.default_rng(k).integers(0, 255, (side, side, 3), dtype=np.uint8)).save(
            folder / f"{k:03d}.png"
        )
    return folder


def run(clients: int = 20, strokes: int = 50, many: int = 500, images: int = 10_000, side: int = 8000) -> dict[str, Any]:
    """Measure everything."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        return {
            "provenance": provenance(),
            "together": together(pictures(root / "together", -(-clients // 2), 800), clients, strokes),
            "many_strokes": many_strokes(pictures(root / "strokes", 1, 800), many),
            "many_images": many_images(root / "images", images),
            "large": large(root / "large", side),
        }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    result = run()
    write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "provenance"}, indent=1))
