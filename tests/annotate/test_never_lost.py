from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from scribbleseg.annotate.project import Project
from scribbleseg.data.folder import open_dataset
from scribbleseg.data.vector import read_strokes
from scribbleseg.errors import DataError, StorageError
from tests.annotate.conftest import page_of
from tests.fake.drawing import add, picture_folder, send

SERVE = """
import sys
from pathlib import Path
from scribbleseg.annotate.server import serve
serve(Path(sys.argv[1]), port=int(sys.argv[2]), open_page=False)
"""


def free_port():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Running:
    """A server in a process of its own."""

    def __init__(self, folder):
        self.port = free_port()
        command = [sys.executable, "-c", SERVE, str(folder), str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line.startswith("stop with"):
                return
        pytest.fail("".join(lines))

    def call(self, path, body=None, **headers):
        told = {"X-Scribbleseg": "1", "Content-Type": "application/json", **headers}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, told)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def end(self, number):
        self.process.send_signal(number)
        output = self.process.communicate(timeout=60)[0]
        return self.process.returncode, output


def draw_until_killed(server, image, label, acknowledged):
    """Draw strokes as fast as they are acknowledged; what was not is sent no more."""
    try:
        version = server.call(f"/api/images/{image}")["version"]
        while True:
            command = add(label, ((random.uniform(0, 60), 3), (random.uniform(0, 60), 30)), 2)
            command["id"] = f"{os.getpid()}-{random.getrandbits(64):x}"
            answer = server.call(f"/api/images/{image}/commands", {"commands": [command]}, **{"If-Match": str(version)})
            version = answer["version"]
            acknowledged.append((image, command["id"]))
    except (OSError, http.client.HTTPException, json.JSONDecodeError):  # no answer, or one cut short
        pass


@pytest.mark.skipif(os.name == "nt", reason="no kill -9")
def test_a_server_killed_in_mid_write_loses_nothing_that_it_acknowledged(tmp_path):
    folder = picture_folder(tmp_path / "pictures")
    acknowledged = []
    rng = random.Random(0)
    for _ in range(5):
        server = Running(folder)
        clients = [threading.Thread(target=draw_until_killed, args=(server, 1 + k % 3, k % 2, acknowledged)) for k in range(3)]
        for client in clients:
            client.start()
        time.sleep(rng.uniform(0.3, 1.2))
        server.end(signal.SIGKILL)
        for client in clients:
            client.join()
        for kind in ("strokes", "scribbles"):  # whole files at every moment: a training could start now
            for path in (folder / kind).glob("*"):
                assert path.suffix in (".json", ".png")
        for path in (folder / "strokes").glob("*.json"):
            read_strokes(path)
    assert len(acknowledged) > 20
    server = Running(folder)
    shown = {image: server.call(f"/api/images/{image}") for image in (1, 2, 3)}
    code, output = server.end(signal.SIGINT)
    assert (code, "everything is saved" in output) == (0, True)
    for image, id_ in acknowledged:
        assert id_ in {stroke["id"] for stroke in shown[image]["strokes"]}
    dataset = open_dataset(folder)
    project = Project(folder)
    for row in project.images():
        strokes, _ = read_strokes(folder / "strokes" / f"{row.stem}.json")
        assert strokes == project.strokes(row.id)
        assert len(strokes) == len(shown[row.id]["strokes"])
        assert (dataset.labels(row.stem, "scribbles") == project.labels(row.id)).all()
    project.close()
    assert not list((folder / ".scribbleseg" / "writing").iterdir())


def test_files_that_a_killed_server_did_not_write_are_written_at_the_next_start(folder, monkeypatch):
    from scribbleseg.annotate.files import Files

    with monkeypatch.context() as dead:
        dead.setattr(Files, "flush", lambda self: None)
        with page_of(folder) as page:
            send(page, 1, add(1))
            drawn = page.project.labels(1)
    assert not (folder / "strokes" / "p0.json").exists()
    with page_of(folder):
        pass
    assert (open_dataset(folder).labels("p0", "scribbles") == drawn).all()


def test_a_kill_between_two_files_is_no_change_of_another_program(folder, monkeypatch):
    replace = Path.replace

    def dying(path, target):
        if path.name == "labels.png":
            raise OSError(5, "killed here")
        return replace(path, target)

    with page_of(folder) as page:
        send(page, 1, add(1))
        page.project.files.flush()
        send(page, 1, add(0, ((2, 30), (50, 30))))
        with monkeypatch.context() as killed:
            killed.setattr(Path, "replace", dying)
            with pytest.raises(StorageError):
                page.project.files.flush()
        assert len(read_strokes(folder / "strokes" / "p0.json")[0]) == 2  # the labels still show one
        about = page.get("/api/images/1").json()
        assert (about["version"], about["has_base"], len(about["strokes"])) == (2, False, 2)


def test_a_full_disk_refuses_the_stroke_keeps_the_others_and_goes_on_when_there_is_room(folder):
    with page_of(folder) as page:
        send(page, 1, add(1))
        (pages,) = page.project.log.rows("PRAGMA page_count")[0]
        page.project.log.rows(f"PRAGMA max_page_count={pages}")
        long = add(0, [(k % 60, k % 40) for k in range(20_000)])
        refused = send(page, 1, long, version=1)
        assert refused.status_code == 507
        assert "room" in refused.json()["expected"]
        about = page.get("/api/images/1").json()
        assert (about["version"], len(about["strokes"])) == (1, 1)
        page.project.log.rows("PRAGMA max_page_count=1000000")
        assert send(page, 1, long, version=1).status_code == 200


def test_files_that_cannot_be_written_are_told_and_written_later(folder, monkeypatch):
    import scribbleseg.annotate.files as files

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with page_of(folder) as page:
        with monkeypatch.context() as broken:
            broken.setattr(files, "write_png", full)
            assert send(page, 1, add(1)).status_code == 200  # it is in the log
            with pytest.raises(StorageError):
                page.project.files.flush()
            assert "disk with room" in page.get("/api/status").json()["storage"]
        page.project.files.flush()
        assert page.get("/api/status").json()["storage"] is None
    assert (folder / "scribbles" / "p0.png").is_file()


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path, monkeypatch):
    import tempfile

    def refused(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    folder = picture_folder(tmp_path / "pictures")
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refused)
    with pytest.raises(StorageError, match="Permission denied"):
        Project(folder)


def test_a_stroke_is_not_taken_when_the_folder_has_vanished(folder, tmp_path):
    """Into a deleted file the system writes without a word."""
    with page_of(folder) as page:
        assert send(page, 1, add(1)).status_code == 200
        page.project.files.flush()
        folder.rename(tmp_path / "elsewhere")
        refused = send(page, 1, add(0), version=1)
        assert refused.status_code == 507
        assert "it is gone" in refused.json()["got"]
        shutil.rmtree(folder, ignore_errors=True)  # what the thread that writes files has made of it
        (tmp_path / "elsewhere").rename(folder)
        assert send(page, 1, add(0), version=1).status_code == 200
        assert len(page.get("/api/images/1").json()["strokes"]) == 2


def test_a_second_server_is_told_where_the_first_one_is(folder):
    from scribbleseg.annotate.server import only_server, serve

    with only_server(folder) as listens:
        listens("http://127.0.0.1:1234/")
        with pytest.raises(StorageError, match=f"http://127.0.0.1:1234/ .process {os.getpid()}"):
            serve(folder, open_page=False)
    with only_server(folder):
        pass


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("x")])
def test_folders_without_pictures(tmp_path, make):
    make(tmp_path / "nothing")
    with pytest.raises(DataError):
        Project(tmp_path / "nothing")
