"""The tables of docs/how-to/predict-many.md say what the file of the benchmark says."""

from __future__ import annotations

import json

import pytest

from benchmarks import predict_ray
from benchmarks.ops.page import put

RESULT = {
    "images": 320,
    "size": 256,
    "window": 256,
    "block": 16,
    "sides": {
        predict_ray.PLAIN: [{"images": 100, "seconds": 10.0, "cpu_seconds": 10.0}] * 3,
        predict_ray.ONE: [{"images": 100, "seconds": 10.0 + n, "cpu_seconds": 12.5, "first_block_s": 5.0} for n in range(3)],
        predict_ray.TWO: [{"images": 100, "seconds": 5.5, "cpu_seconds": 10.0, "first_block_s": 5.0}] * 3,
    },
    "different": 0.0,
    "mask_bytes": 1000.0,
    "ledger_bytes": 100.0,
    "load_before": 0.0,
    "load_after": 0.0,
    "provenance": {"machine": {"processor": "a processor", "cores": 2}, "commit": "abc"},
}


def test_rates_and_ratios() -> None:
    text = "\n".join(predict_ray.speed(RESULT))
    assert "images a second | ≥ 0.9 | 0.91 [0.83, 1.00] |" in text
    assert "one core: Ray ÷ plain loop, images a second of processor time | ≥ 0.9 | 0.8 [0.8, 0.8] |" in text
    assert "1 → 2 workers, images a second | – | 2.00 [1.82, 2.18] |" in text


def test_costs_follow_the_formulas_of_the_page() -> None:
    lines = predict_ray.cost(RESULT)
    million = next(line for line in lines if line.startswith("| 10⁶"))
    blocks, hours = -(-(10**6) // 64), 10**6 / 10 / 3600
    cells = [cell.strip() for cell in million.split("|")[1:-1]]
    assert cells[1] == f"{blocks:,}"
    assert cells[3] == f"{3 * 10**6 + 8 * blocks:,}"
    assert cells[4:] == ["1.10", f"{hours:.1f}", f"{hours / 64:.2g}", f"{hours:.1f} × p", "278 ÷ g"]


def test_the_page_is_made_from_the_file() -> None:
    if not predict_ray.RESULT.is_file():
        pytest.skip("not measured yet")
    found = json.loads(predict_ray.RESULT.read_text(encoding="utf-8"))
    text = predict_ray.PAGE.read_text(encoding="utf-8")
    for name, lines in {"ray speed": predict_ray.speed(found), "ray cost": predict_ray.cost(found)}.items():
        assert put(text, name, lines) == text, "run python -m benchmarks.predict_ray write"
