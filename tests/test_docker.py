"""The Dockerfile as far as it can be read: it is not built here."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

import scribbleseg

ROOT = Path(scribbleseg.__file__).parents[2]
FILE = ROOT / "Dockerfile"

pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="installed without its Dockerfile")

#: What a server of exported models does without.
LEFT_OUT = {"torch", "lightning", "transformers", "safetensors", "huggingface_hub", "matplotlib"}


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    parser = pytest.importorskip("dockerfile_parse").DockerfileParser(path=str(tmp_path_factory.mktemp("docker")))
    parser.content = FILE.read_text(encoding="utf-8")
    return [(step["instruction"], step["value"]) for step in parser.structure if step["instruction"] != "COMMENT"]


def stages(steps):
    found = []
    for instruction, value in steps:
        if instruction == "FROM":
            found.append((value, []))
        elif found:
            found[-1][1].append((instruction, value))
    return found


def test_the_last_stage_is_the_light_one_and_nobody_runs_as_root(steps):
    (base, shared), (torch, _), (onnx, light) = stages(steps)
    assert (base, torch, onnx) == ("python:${PYTHON} AS base", "base AS torch", "base AS onnx")
    assert any(instruction == "HEALTHCHECK" for instruction, _ in shared)
    for _, stage in stages(steps)[1:]:
        assert stage[-1] == ("USER", "10001:10001")
    assert not any("torch" in value for _, value in light)


def test_it_starts_a_server_that_asks_for_a_token(steps):
    entry = json.loads(next(value for instruction, value in steps if instruction == "ENTRYPOINT"))
    more = json.loads(next(value for instruction, value in steps if instruction == "CMD"))
    assert entry[:2] == ["scribbleseg", "serve"]
    assert "--token-file" in more
    import typer

    from scribbleseg.cli import app

    options = {word for p in typer.main.get_command(app).commands["serve"].params for word in p.opts}
    assert {word for word in [*entry, *more] if word.startswith("--")} <= options


def test_what_is_copied_is_there_and_let_through(steps):
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    for instruction, value in steps:
        if instruction == "COPY":
            for name in value.split()[:-1]:
                assert (ROOT / name).exists()
                assert f"!{name}" in ignored


def test_its_packages_are_the_projects_own_without_torch():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["serve"]]
    expected = {line for line in wanted if re.match(r"[\w-]+", line)[0] not in LEFT_OUT}
    lines = (ROOT / "docker" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert {line for line in lines if line and not line.startswith("#")} == expected
