"""The table of formats in the docs is made from FORMATS: ``python -m tests.data.formats.test_docs`` writes it."""

from __future__ import annotations

from pathlib import Path

from scribbleseg.data.formats import FORMATS

DOCS = Path(__file__).parents[3] / "docs"
PAGE = DOCS / "reference/formats.md"
START, END = "<!-- formats: written by tests/data/formats/test_docs.py -->\n", "<!-- end of formats -->"


def rows() -> str:
    """The table, as the page must have it."""
    lines = [
        '| `--from`, `--to` | what it is | means "not annotated" | reads | writes | extra | source |',
        "|---|---|---|---|---|---|---|",
    ]
    for name, each in FORMATS.items():
        source = (
            f"[source]({each.source})"
            if each.source.startswith("https://")
            else f"[{Path(each.source).name}]({Path(each.source).name})"
        )
        extra = f"`{each.extra}`" if each.extra else "–"
        lines.append(
            f"| `{name}` | {each.title} | {each.unlabelled} | {each.holds} | {each.writes or '–'} | {extra} | {source} |"
        )
    return "\n".join(lines) + "\n"


def test_the_page_has_the_table_of_formats():
    text = PAGE.read_text(encoding="utf-8")
    assert text.split(START)[1].split(END)[0] == rows(), "run: python -m tests.data.formats.test_docs"


def test_the_guide_has_an_example_of_every_format():
    text = (DOCS / "how-to/convert.md").read_text(encoding="utf-8")
    for each in FORMATS.values():
        assert f"## {each.title}" in text, each.title


if __name__ == "__main__":
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    PAGE.write_text(before + START + rows() + END + rest.split(END)[1], encoding="utf-8")
