"""The table of outputs in the docs is made from OUTPUTS: ``python -m tests.predict.test_docs`` writes it."""

from __future__ import annotations

from pathlib import Path

from scribbleseg.predict import OUTPUTS

PAGE = Path(__file__).parents[2] / "docs/how-to/predict.md"
START, END = "<!-- outputs: written by tests/predict/test_docs.py -->\n", "<!-- end of outputs -->"


def rows() -> str:
    """The table, as the page must have it."""
    lines = ["| `--outputs` | folder | what | needs |", "|---|---|---|---|"]
    for name, output in OUTPUTS.items():
        folder = f"`{output.folder}/`" if output.folder else "–"
        extra = f"`scribbleseg[{output.extra}]`" if output.extra else "–"
        lines.append(f"| `{name}` | {folder} | {output.title} | {extra} |")
    return "\n".join(lines) + "\n"


def test_the_page_has_the_table_of_outputs() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.partition(START)[2].partition(END)[0] == rows(), "run python -m tests.predict.test_docs"


if __name__ == "__main__":
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    PAGE.write_text(head + START + rows() + END + rest.partition(END)[2], encoding="utf-8")
