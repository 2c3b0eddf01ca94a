"""The load benchmark runs, asks nothing but its own server, and its page says what its file says. No times are asserted."""

from __future__ import annotations

import pytest

from benchmarks import serve_load
from tests.serve.serving import make_model


@pytest.mark.skipif(not serve_load.PAGE.is_file(), reason="installed without its docs")
def test_every_request_is_answered_or_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(serve_load, "SIDE_PX", 64)
    monkeypatch.setattr(serve_load, "CLIENTS", 2)
    monkeypatch.setattr(serve_load, "MOST", 40)
    result = serve_load.run(make_model(tmp_path / "model"), 0.3, (1.0, 3.0))
    for row in result["rows"]:
        assert row["answered"] + row["refused"] == row["sent"] <= 40
        assert row["other"] == 0
        assert row["answered"]
    text = serve_load.lines(result)
    assert sum(line.startswith("| ") for line in text) == 4
    assert serve_load.PAGE.read_text(encoding="utf-8").count("<!-- serve_load: ") == 2


def test_quantiles():
    assert serve_load.quantile([], 0.5) is None
    assert serve_load.quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert serve_load.quantile(list(range(1, 101)), 0.99) == 99
