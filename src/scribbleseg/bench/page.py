"""A table's results as Markdown and pictures, written into a page between two marks."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from scribbleseg.atomic import write_text
from scribbleseg.bench.curves import curve_section
from scribbleseg.bench.picture import gap_picture, picture_path
from scribbleseg.bench.reported import reported_section
from scribbleseg.bench.run import Folder
from scribbleseg.bench.scores import Result, columns, figure, paired, rounded, shared, shares, spread, values
from scribbleseg.bench.table import Table
from scribbleseg.bench.targets import target_section
from scribbleseg.errors import ConfigError


def write_section(page: Path, folder: Folder, name: str) -> int:
    """Put a table's section into a page, between ``<!-- bench NAME: begin -->`` and ``<!-- bench NAME: end -->``.

    Its pictures go to ``images/`` beside the page. Returns the number of results.

    Raises:
        ConfigError: the marks are not in the page.
    """
    begin, end = f"<!-- bench {name}: begin -->", f"<!-- bench {name}: end -->"
    try:
        head, rest = page.read_text(encoding="utf-8").split(begin)
        _, tail = rest.split(end)
    except (OSError, ValueError) as error:
        raise ConfigError(page, f"a page with the lines {begin} and {end}, once each", str(error), "add them") from None
    results = folder.results()
    write_text(page, f"{head}{begin}\n\n{section(folder.table, results, page.parent / 'images', name)}\n{end}{tail}")
    return len(results)


def section(table: Table, results: Sequence[Result], images: Path, name: str) -> str:
    """Return a table's section: what all rows share, scores and picture of every data set and network."""
    lines = [f"## {table.title}", "", *([table.about.strip(), ""] if table.about else [])]
    points = {data for curve in table.curves.values() for data in curve.points.values()}
    for data in table.data:
        for network in table.networks:
            mine = [r for r in results if (r["data"], r["network"]) == (data, network)]
            if not mine or (data in points and not any(r["method"] == table.high for r in mine)):
                continue
            lines += [f"### {data}, {network}", "", shared(mine), ""]
            if rows := main_table(table, mine):
                lines += [*rows, ""]
            picture = picture_path(images, name, data, network)
            if gap_picture(table, mine, picture):
                lines += [f"![Share of the gap closed, {data}, {network}](images/{picture.name})", ""]
            if rows := variants(table, mine):
                lines += [*rows, ""]
    lines += target_section(table, results)
    for title in table.curves:
        lines += curve_section(table, title, results, images, name)
    lines += reported_section(table, results)
    return "\n".join(lines).rstrip() + "\n"


def main_table(table: Table, mine: Sequence[Result]) -> list[str]:
    """Return the methods that are scored on test, each score with its share of the gap; nothing without any."""
    if not any("test" in r for r in mine):
        return []
    reads = columns(mine)
    usual = next(iter(reads))
    heads = "".join(f" {name}, test | gap closed |" for name in reads)
    lines = [f"| method | {usual}, val |{heads} against {table.ours} | minutes |", "|" + "---|" * (4 + 2 * len(reads))]
    for method in table.methods:
        found = [r for r in mine if r["method"] == method and "test" in r]
        if not found:
            continue
        cells = [method, spread([figure(r["val"])[1] for r in found])]
        for read in reads.values():
            closed = shares(mine, method, table.low, table.high, read)
            cells += [spread(values(mine, method, read)), f"{rounded(100 * statistics.mean(closed))} %" if closed else "–"]
        took = [r["minutes"] for r in found if r["minutes"] is not None]
        cells += [against(table, mine, method), f"{statistics.mean(took):.1f}" if took else "–"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def against(table: Table, mine: Sequence[Result], method: str) -> str:
    """Return a method's paired difference from ours, with its p."""
    found = None if method == table.ours else paired(mine, method, table.ours)
    if found is None:
        return "–"
    difference, p = found
    return f"{difference:+.3f}, p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"


def variants(table: Table, mine: Sequence[Result]) -> list[str]:
    """Return the methods that are scored on val alone, beside the others' val scores."""
    if all("test" in r for r in mine):
        return []
    reads = columns(mine)
    lines = ["| on val |" + "".join(f" {name} |" for name in reads), "|" + "---|" * (1 + len(reads))]
    for method in table.methods:
        rows = [values(mine, method, read, "val") for read in reads.values()]
        if rows[0]:
            lines.append("| " + " | ".join([method, *map(spread, rows)]) + " |")
    return lines
