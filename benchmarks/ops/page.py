"""Tables and pictures of docs/performance.md, made from the JSON files and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.ops.measure import RESULTS, ROOT
from benchmarks.ops.record import Target
from scribbleseg.atomic import write_text

PAGE = ROOT / "docs" / "performance.md"
IMAGES = ROOT / "docs" / "images"

AXES = {
    "size": "side of the map (px)",
    "classes": "classes",
    "features": "deep features",
    "radius": "radius (px)",
    "batch": "images",
    "threads": "threads",
}

#: Sides that do not say by themselves whose they are.
NAMES = {
    "compiled": "ours, compiled",
    "torch": "ours, portable",
    "low_rank": "ours, low rank",
    "low_rank_torch": "ours, low rank, portable",
    "lattice": "ours, lattice",
    "lattice_torch": "ours, lattice, portable",
    "exact": "ours, exact",
    "exact_torch": "ours, exact, portable",
    "loop": "plain PyTorch loop",
    "unfold": "WSL4MIS (unfold)",
    "rloss": "rloss (lattice)",
    "scipy": "SciPy + loop over levels",
}

#: One colour a side, in every picture, told apart by people who see no red or green as well; and a mark of its own.
STYLES = {
    "compiled": ("#0072b2", "o", "-"),
    "torch": ("#e69f00", "s", "-"),
    "loop": ("#009e73", "^", "-"),
    "unfold": ("#d55e00", "D", "-"),
    "rloss": ("#d55e00", "D", "-"),
    "scipy": ("#d55e00", "D", "-"),
    "low_rank": ("#0072b2", "o", "-"),
    "low_rank_torch": ("#0072b2", "o", ":"),
    "lattice": ("#009e73", "^", "-"),
    "lattice_torch": ("#009e73", "^", ":"),
    "exact": ("#e69f00", "s", "-"),
    "exact_torch": ("#e69f00", "s", ":"),
}


def origin(result: Mapping[str, Any]) -> str:
    """Return machine, threads, commit, versions and peers in a sentence or two."""
    made = result["provenance"]
    machine, packages = made["machine"], made["packages"]
    peers = {path.split("/")[0]: sha for path, sha in result.get("peers", {}).items()}
    there = [f"{name} ({sha})" for name, sha in peers.items() if sha]
    absent = [name for name, sha in peers.items() if not sha]
    device = machine["accelerator"] or f"{machine['processor']}, {machine['cores']} cores, {threads(result)}"
    words = f"{device}; PyTorch {packages['torch']}, "
    words += f"Python {made['python']}; commit {made['commit']}, {made['date'][:10]}."
    if there:
        words += f" Peers (first digits of their file's SHA-256): {', '.join(there)}."
    if absent:
        words += f" Not at hand, so left out: {', '.join(absent)}."
    return words


def checked(result: Mapping[str, Any]) -> str:
    """Return what our sides were held to, and what they showed on a small map against the definition."""
    small = result["definition"]
    worst = max(error for side in small["errors"].values() for error in side.values())
    return (
        f"Bound on a relative error: {result['tolerance']:.0e}. Against the definition, all our sides on {small['case']}: "
        f"{worst:.0e} at most. Times are medians [quartiles]."
    )


def threads(result: Mapping[str, Any]) -> str:
    """Return the number of threads in words."""
    count = result["provenance"]["machine"]["threads"]
    return "1 thread" if count == 1 else f"{count} threads"


def number(value: float) -> str:
    """Return two or three digits that matter."""
    if value == float("inf"):
        return "∞"
    return (
        f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2g}" if value < 1 else f"{value:.2f}"
    )


def spread(quartiles: Sequence[float]) -> str:
    """Return a median and, in brackets, its quartiles."""
    low, middle, high = (number(q) for q in quartiles)
    return f"{middle} [{low}, {high}]"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    return ["| " + " | ".join(cells) + " |" for cells in (headings, ["---"] * len(headings), *rows)]


def rows_table(result: Mapping[str, Any]) -> list[str]:
    """Return a line for each case and side: time, ratio to the first side, memory, errors."""
    lines = []
    for row in result["rows"]:
        for i, (name, side) in enumerate(row["sides"].items()):
            memory = f"{number(side['extra_mib'])} ({number(side['extra_copies'])})" if "extra_mib" in side else "–"
            wrong = ", ".join(f"{error:.0e}" for error in side["errors"].values()) if side["errors"] else "–"
            by = "1" if i == 0 else spread(side["to_first"])
            lines.append([row["case"] if i == 0 else "", NAMES.get(name, name), spread(side["ms"]), by, memory, wrong])
    first = next(iter(result["rows"][0]["sides"]))
    memory = "extra memory in MiB (in copies of what gets a gradient)"
    return table(
        ["case", "side", "ms", f"× the time of *{NAMES.get(first, first)}*", memory, "relative error: value, gradients"], lines
    )


def bound(target: Target) -> str:
    """Return a promised bound as it was written."""
    return str(target.bound) if isinstance(target.bound, int) else number(target.bound)


def targets_table(targets: Sequence[Target]) -> list[str]:
    """Return a line for each promise."""
    lines = [
        [
            target.text,
            f"{'≥' if target.at_least else '≤'} {bound(target)}{' ' if target.unit else ''}{target.unit}",
            f"{number(target.measured)}{' ' if target.unit else ''}{target.unit}",
            "yes" if target.met else "**no**",
        ]
        for target in targets
    ]
    return table(["target", "bound", "measured", "met"], lines)


def short(targets: Sequence[Target]) -> list[str]:
    """Return the promises that are not kept, as a list."""
    missed = [t for t in targets if not t.met]
    if not missed:
        return [f"Nothing: all {len(targets)} targets are met."]
    said = [
        f"- {t.text}: {number(t.measured)} instead of {'≥' if t.at_least else '≤'} {bound(t)} {t.unit}".rstrip() for t in missed
    ]
    return [f"{len(missed)} of {len(targets)} targets:", "", *said]


def draw(result: Mapping[str, Any], title: str, path: Path) -> None:
    """Draw one panel for each axis of a result's curves: milliseconds against size, both logarithmic."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FormatStrFormatter, NullFormatter

    axes = result["curves"]
    wide = min(3, len(axes))
    high = -(-len(axes) // wide)
    figure = Figure(figsize=(3.4 * wide, 2.9 * high + 0.5), layout="constrained", facecolor="white")
    panels = figure.subplots(high, wide, squeeze=False).flatten()
    sides = list(dict.fromkeys(name for axis in axes.values() for name in axis["sides"]))
    for panel, (axis, found) in zip(panels, axes.items(), strict=False):
        shift = 1 if 0 in found["x"] else 0  # a logarithmic axis has no zero: it stands at the left end
        for name, line in found["sides"].items():
            points = [(x + shift, y) for x, y in zip(found["x"], line, strict=True) if y is not None]
            colour, mark, dash = STYLES.get(name, ("#555555", "x", "-"))
            at = [x for x, _ in points]
            panel.plot(
                at,
                [y[1] for _, y in points],
                color=colour,
                marker=mark,
                linestyle=dash,
                markersize=4,
                linewidth=1.4,
                label=name,
            )
            panel.fill_between(at, [y[0] for _, y in points], [y[2] for _, y in points], color=colour, alpha=0.2, linewidth=0)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xticks([x + shift for x in found["x"]], [str(x) for x in found["x"]])
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        panel.tick_params(labelsize=8)
        panel.minorticks_off()
        panel.set_xlabel(AXES[axis], fontsize=9)
        panel.grid(color="#dddddd", linewidth=0.6)
        panel.set_axisbelow(True)
    for panel in panels[len(axes) :]:
        panel.set_visible(False)
    for i in range(0, len(panels), wide):
        panels[i].set_ylabel("forward + backward (ms)", fontsize=9)
    handles = {label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(
        [handles[name] for name in sides],
        [NAMES.get(n, n) for n in sides],
        loc="outside lower center",
        ncols=min(4, len(sides)),
        fontsize=9,
        frameon=False,
    )
    base = next(iter(axes.values()))["case"]
    figure.suptitle(f"{title}; where not varied: {base}, {threads(result)}", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "scribbleseg"}):  # the same picture is the same file
        figure.savefig(path, facecolor="white", metadata={"Date": None} if path.suffix == ".svg" else None)


def read(op: str, results: Path = RESULTS) -> dict[str, Any] | None:
    """Return an op's result, or None where it has not been measured."""
    path = results / f"{op}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def put(page: str, name: str, body: Sequence[str]) -> str:
    """Return a page with the text between the two marks of a name replaced."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    head, rest = page.split(begin)
    return f"{head}{begin}\n\n" + "\n".join(body) + f"\n\n{end}{rest.split(end)[1]}"


def write(pages: Mapping[str, Sequence[str]], page: Path = PAGE) -> None:
    """Put every part into the page."""
    text = page.read_text(encoding="utf-8")
    for name, body in pages.items():
        text = put(text, name, body)
    write_text(page, text)


def agreement(result: Mapping[str, Any]) -> list[str]:
    """Return the table of agree.py."""

    def cell(row: Mapping[str, Any], name: str) -> str:
        bounded = name in row.get("bound", {})
        return f"{row[name]:.0e}{' (bound)' if bounded else ''}" if name in row else "–"

    lines = [[row["what"], cell(row, "value"), cell(row, "gradient"), row["why"]] for row in result["rows"]]
    bound = f"*(bound)*: the definitions coincide, and the command fails above {result['tolerance']:.0e}."
    return [origin(result), "", bound, "", *table(["losses compared", "value", "gradient", "why they differ"], lines)]


def gpu(result: Mapping[str, Any]) -> list[str]:
    """Return the tables of windowed_gpu.py."""
    lines = []
    for row in result["rows"]:
        for i, (name, side) in enumerate(row["sides"].items()):
            cells = (
                [spread(side["ms"]), number(side["to_triton"]), number(side["extra_mib"])]
                if side
                else ["out of memory", "–", "–"]
            )
            lines.append([row["case"] if i == 0 else "", name, *cells])
        worst = max(error for each in row["errors"].values() for error in each.values())
        floor = f"floor {number(row['floor_ms'])} ms; largest error of Triton {worst:.0e}"
        lines[-len(row["sides"])][0] += f" ({floor})"
    return [
        origin(result),
        "",
        *table(["case", "side", "ms", "× the time of Triton", "extra memory in MiB"], lines),
        "",
        *targets_table(gpu_targets(result)),
    ]


def gpu_targets(result: Mapping[str, Any]) -> list[Target]:
    """Return what was promised of the GPU, and what its first case says."""
    found = []
    row, case = result["rows"][0], result["rows"][0]["case"]
    sides, sizes = row["sides"], row["sizes"]
    found.append(Target(f"{case}: Triton over the floor", row["triton_over_floor"], 4, False))
    if sides["unfold"]:
        found.append(Target(f"{case}: faster than the unfold", sides["unfold"]["to_triton"], 30))
    else:
        found.append(Target(f"{case}: faster than the unfold, which does not fit into the memory", float("inf"), 30))
    gradients = (
        sizes["batch"] * sizes["size"] ** 2 * 4 / 2**20 * (sizes["classes"] + bool(sizes["features"]) * (3 + sizes["features"]))
    )
    held = (row["inputs_mib"] + sides["triton"]["extra_mib"] - gradients) / row["inputs_mib"]
    found.append(Target(f"{case}: memory without the gradients, in copies of the inputs", round(held, 2), 2, False, ""))
    return found
