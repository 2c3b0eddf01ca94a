"""The table of precisions says what its file says."""

from __future__ import annotations

from benchmarks.export_variants import VARIANTS, as_dict, table
from scribbleseg.export.parity import LIMITS, Parity
from tests.test_benchmarks import MADE


def test_table():
    good = Parity("int8", 3, 0.0625, 0.00123, 0.987654, 2.39, 36.3, 41.0)
    bad = Parity("float16", 3, 0.5, 0.5, 0.1, 4.2, 50.0, 41.0)
    found = {"float32": as_dict(good), "float16": as_dict(bad)}
    row = {"run": "r", "network": "U-Net, 1.8 M weights, 128 px", "data": "leaves", "pictures": 3, "variants": found}
    text = "\n".join(table({"rows": [row], "provenance": MADE}))
    assert "| U-Net, 1.8 M weights, 128 px; leaves, 3 pictures | PyTorch | – | 41.0 |" in text
    assert "| float32 | 2.4 | 36.3 | 0.06 | 0.123% | 0.9877 | yes |" in text
    assert "| float16 | 4.2 | 50.0 | 0.5 | 50.000% | 0.1000 | **no** |" in text


def test_every_variant_is_held_to_limits_that_there_are():
    assert {precision for precision, _ in VARIANTS.values()} == set(LIMITS)
