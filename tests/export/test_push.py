"""Upload to the Hub, against one on this computer: no test may reach another machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scribbleseg.errors import ConfigError, ModelError, StorageError
from scribbleseg.export import push as module
from scribbleseg.export.hub import FILES, export_hub
from scribbleseg.export.push import push
from scribbleseg.models.folder import load_model
from scribbleseg.predict import predict_mask
from tests.fake.exported import make_model, picture
from tests.fake.hub import TOKEN, Hub, fake_hub


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("push")
    make_model(root / "model")
    export_hub(root / "model", root / "leaves", license="mit")
    (root / "leaves" / "notes-of-my-own.txt").write_text("not for others")
    return root / "leaves"


@pytest.fixture
def server() -> Iterator[Hub]:
    with fake_hub() as hub:
        yield hub


def test_the_files_of_the_model_and_no_others_are_uploaded(folder, server):
    address = push(folder, "me/leaves", endpoint=server.url, token=TOKEN)
    assert address == f"{server.url}/me/leaves"
    sent = server.repos["me/leaves"]
    assert set(sent) == {name for name in FILES if (folder / name).is_file()}
    assert all(sent[name] == (folder / name).read_bytes() for name in sent if name != "README.md")
    card = sent["README.md"].decode()
    assert 'snapshot_download("me/leaves")' in card
    assert "USER/NAME" not in card
    assert "USER/NAME" in (folder / "README.md").read_text(), "the folder stays as it is"
    assert "POST /api/validate-yaml" in server.asked
    assert server.created[0].get("visibility") is None


def test_private_and_again(folder, server):
    push(folder, "team/leaves", private=True, endpoint=server.url, token=TOKEN)
    assert server.created[0]["visibility"] == "private"
    assert (server.created[0]["organization"], server.created[0]["name"]) == ("team", "leaves")
    push(folder, "team/leaves", endpoint=server.url, token=TOKEN)  # a further commit


def program(words: list[str], url: str, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    environment |= {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        **more,
    }
    return subprocess.run(words, capture_output=True, text=True, env=environment, cwd=home, check=False, timeout=300)


CLI = [sys.executable, "-m", "scribbleseg"]


def test_the_example_of_the_card_runs(folder, server, tmp_path):
    """As somebody else would: upload by the command, download by the card's own words, predict."""
    done = program([*CLI, "push", str(folder), "me/leaves"], server.url, tmp_path, HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert f"model: {server.url}/me/leaves" in done.stdout
    card = server.repos["me/leaves"]["README.md"].decode()
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    Image.fromarray(picture(5, (90, 70))).save(tmp_path / "photo.png")
    code += "\nfrom PIL import Image; Image.fromarray(mask).save('mask.png')"
    done = program([sys.executable, "-c", code], server.url, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "rust on leaf" in done.stdout
    expected = predict_mask(load_model(folder), picture(5, (90, 70)))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "mask.png")), expected)
    assert len(np.unique(expected)) > 1


def test_without_a_token_nothing_is_asked(folder, server, tmp_path):
    done = program([*CLI, "push", str(folder), "me/leaves"], server.url, tmp_path)
    assert done.returncode == 2
    assert "hf auth login" in done.stderr
    assert "Traceback" not in done.stderr
    assert server.asked == []


@pytest.mark.parametrize(
    ("status", "told"), [(401, "log in again"), (403, "the right to write there"), (404, "check the name"), (429, "wait")]
)
def test_refused(folder, server, status, told):
    server.refuse["/api/repos/create"] = (status, "no")
    with pytest.raises(ConfigError, match=told) as error:
        push(folder, "me/leaves", endpoint=server.url, token=TOKEN)
    assert f"{status}" in str(error.value)
    assert server.repos == {}


def test_a_wrong_token(folder, server):
    with pytest.raises(ConfigError, match="a token that the Hub accepts"):
        push(folder, "me/leaves", endpoint=server.url, token="hf_of_somebody_else")


def test_no_rights_to_commit(folder, server):
    server.refuse["/commit/"] = (403, "this repository is not yours")
    with pytest.raises(ConfigError, match="this repository is not yours"):
        push(folder, "them/leaves", endpoint=server.url, token=TOKEN)


def test_trouble_on_the_other_side(folder, server):
    server.refuse["/api/repos/create"] = (500, "out of order")
    with pytest.raises(StorageError, match="500: .*out of order"):
        push(folder, "me/leaves", endpoint=server.url, token=TOKEN)


def test_no_network(folder, server):
    url = server.url.rpartition(":")[0] + ":9"  # a port where nobody answers
    with pytest.raises(StorageError, match="check the connection"):
        push(folder, "me/leaves", endpoint=url, token=TOKEN)


@pytest.mark.parametrize("name", ["leaves", "USER/NAME", "a/b/c", "me/le aves", "me/", "/leaves", "me/..", ""])
def test_names_that_are_none(folder, name, monkeypatch):
    monkeypatch.setattr(module, "HfApi", None)
    with pytest.raises(ConfigError, match="user/name"):
        push(folder, name, token=TOKEN)


def test_folders_that_are_none(folder, tmp_path):
    with pytest.raises(ModelError, match="no such file(.|\n)*--format hub"):
        push(make_model(tmp_path / "model"), "me/leaves", token=TOKEN)
    (tmp_path / "model" / "README.md").write_text("---\nlibrary_name: other\n---\n")
    with pytest.raises(ModelError, match="library_name: other"):
        push(tmp_path / "model", "me/leaves", token=TOKEN)
    (tmp_path / "model" / "README.md").write_text("---\n: [\n---\n")
    with pytest.raises(ModelError, match="a model card"):
        push(tmp_path / "model", "me/leaves", token=TOKEN)
    (tmp_path / "model" / "README.md").write_text((folder / "README.md").read_text())
    (tmp_path / "model" / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(ModelError, match="one scribbleseg model"):
        push(tmp_path / "model", "me/leaves", token=TOKEN)
