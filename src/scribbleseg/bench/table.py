"""A table of results as one YAML file: data sets × networks × methods × seeds, and how each method's numbers are chosen."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scribbleseg.config import RunConfig, parse_config
from scribbleseg.errors import ConfigError, nearest
from scribbleseg.training.settings import completed
from scribbleseg.trees import from_yaml, merge, nested


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(_Section):
    """A data set or a network.

    Attributes:
        settings: of a run; ``$data/`` and ``$weights/`` at the start of a text stand for the folders given on the command line.
        only: names of the data sets this is for; all if None.
        protocols: settings that a protocol changes for this part alone, by the protocol's name.
    """

    settings: dict[str, Any] = Field(default_factory=dict)
    only: tuple[str, ...] | None = None
    protocols: dict[str, dict[str, Any]] = Field(default_factory=dict)


class Method(Part):
    """A row.

    Attributes:
        tune: dotted keys and the values to try, every combination of them, on ``val``. Where several methods are tuned, all try
            equally many.
        tuned_as: a method whose choice this one takes: what is taken from a method is compared with it as it was tuned.
        splits: what the finished model is scored on; a variant that is looked at while the method is made has ``val`` alone.
    """

    tune: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    tuned_as: str | None = None
    splits: tuple[str, ...] = ("val", "test")

    def choices(self) -> list[dict[str, Any]]:
        """Return what there is to try, as dotted keys with one value each; nothing where nothing is tuned."""
        if not self.tune:
            return []
        return [dict(zip(self.tune, values, strict=True)) for values in itertools.product(*self.tune.values())]


class Tuning(_Section):
    """How methods are tuned: ``settings`` over those of the table (fewer steps, mostly), and the seed."""

    seed: int = 0
    settings: dict[str, Any] = Field(default_factory=dict)


class Protocol(_Section):
    """Smaller settings for machines that cannot run the whole table.

    Attributes:
        settings: over those of table, data set and network.
        tune: whether methods are tuned; otherwise each runs with its own settings as they stand.
        seeds: in place of the table's.
        networks: the ones a data set is run with, by its name; a data set that is not named is run with all it has.
    """

    settings: dict[str, Any] = Field(default_factory=dict)
    tune: bool = True
    seeds: tuple[int, ...] | None = None
    networks: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class Reported(_Section):
    """What a paper reports for a row of the table, to stand beside what was measured.

    Attributes:
        method: the row, a name of ``methods``; None for a method that the table does not have.
        data: the data set, a name of ``data``; None for the mean over all of them (folds, say).
        title: of the row as the paper has it.
        score: name of the figure.
        value, full: of the method, and of full supervision in the same source, in percent.
        source: of the number.
        differs: how that training differs from this table's.
    """

    title: str
    score: str
    value: float
    source: str
    method: str | None = None
    data: str | None = None
    full: float | None = None
    differs: str = ""


class Asked(_Section):
    """What is asked, in percent.

    Attributes:
        gap: share of the gap that is closed.
        lead: how much more of it than the best rival.
        ratio: share of full supervision's figure.
    """

    gap: float
    lead: float
    ratio: float


class Target(Asked):
    """What is asked of a method, everywhere or, with other numbers, on a data set.

    Attributes:
        method: a name of ``methods``.
        rivals: those whose best it is to be before.
        data: other numbers, by data set.
    """

    method: str
    rivals: tuple[str, ...]
    data: dict[str, Asked] = Field(default_factory=dict)

    def on(self, data: str) -> Asked:
        """Return what is asked on a data set."""
        return self.data.get(data, self)


class Curve(_Section):
    """Scores against a number that differs between data sets of the table: how much is drawn, how many images there are.

    Attributes:
        axis: what the number is, with its unit.
        points: data sets by the number.
    """

    axis: str
    points: dict[float, str]


class Table(_Section):
    """The file. A run's settings are laid over each other in this order: the table's, the data set's, the network's, the
    protocol's (those of the whole table, then the data set's and the network's for it), the method's (and those for the
    protocol), the tuned ones, the seed.

    Attributes:
        title, about: head of its section of the page, and a paragraph below it.
        settings: of every run.
        data, networks, methods: by name.
        low, high: the methods at the ends of the gap: what a regularizer starts from, and full supervision.
        ours: the method that every other is tested against.
        seeds: of the runs.
        protocols: by name; their rows are marked.
        reported: what papers report.
        targets: what was asked, to stand beside what was reached.
        curves: by title; data sets that are points of a curve get a table of their own only where full supervision was run.
    """

    title: str
    about: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    data: dict[str, Part]
    networks: dict[str, Part]
    methods: dict[str, Method]
    low: str
    high: str
    ours: str
    seeds: tuple[int, ...] = (0,)
    tuning: Tuning = Tuning()
    protocols: dict[str, Protocol] = Field(default_factory=dict)
    reported: tuple[Reported, ...] = ()
    targets: tuple[Target, ...] = ()
    curves: dict[str, Curve] = Field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One training of a table: names, seed, what is tried where this is tuning, and the run's configuration."""

    data: str
    network: str
    method: str
    seed: int
    protocol: str
    choice: Mapping[str, Any] | None
    splits: tuple[str, ...]
    config: RunConfig

    @property
    def key(self) -> str:
        """Its name on the command line and in messages."""
        tried = [] if self.choice is None else [", ".join(f"{k}={v}" for k, v in self.choice.items())]
        return " / ".join([self.data, self.network, self.method, f"seed {self.seed}", *tried])

    @property
    def stem(self) -> str:
        """Its name as a file."""
        parts = [self.data, self.network, self.method, str(self.seed)]
        if self.choice is not None:
            parts.append("tune-" + "-".join(f"{k.rpartition('.')[2]}={v}" for k, v in self.choice.items()))
        return "--".join(re.sub(r"[^\w.=+-]+", "_", part) for part in parts)


@dataclass(frozen=True)
class Places:
    """Folders that a table's ``$data/`` and ``$weights/`` stand for."""

    data: Path = Path()
    weights: Path = Path()

    def put_in(self, tree: Any) -> Any:
        """Return a tree of settings with the folders written out."""
        if isinstance(tree, Mapping):
            return {key: self.put_in(value) for key, value in tree.items()}
        if isinstance(tree, str):
            for name in ("data", "weights"):
                if tree.startswith(f"${name}/"):
                    return str(getattr(self, name) / tree.removeprefix(f"${name}/"))
        return tree


def read_table(path: Path) -> Table:
    """Read and check a table.

    Raises:
        ConfigError: it cannot be read, names something that is not there, or does not tune its methods equally.
    """
    try:
        tree = from_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(path, "a YAML file with a table", str(error), "check the path and the text") from None
    try:
        table = Table.model_validate(tree)
    except ValidationError as error:
        raise ConfigError.from_pydantic(error, path, Table) from None
    for where, section, name in _named(table):
        if name not in getattr(table, section):
            hint = nearest(name, getattr(table, section))
            raise ConfigError(f"{path}: {where}", f"a name of `{section}`", f"'{name}'", hint)
    for name, method in table.methods.items():
        if method.tuned_as is not None and not table.methods.get(method.tuned_as, Method()).tune:
            tuned = [other for other, m in table.methods.items() if m.tune]
            hint = nearest(method.tuned_as, tuned)
            raise ConfigError(f"{path}: {name}: tuned_as", "a method with `tune`", f"'{method.tuned_as}'", hint)
    budgets = {name: len(method.choices()) for name, method in table.methods.items() if method.tune}
    if len(set(budgets.values())) > 1:
        got = ", ".join(f"{name} {number}" for name, number in budgets.items())
        raise ConfigError(f"{path}: methods: tune", "equally many choices for every method", got, "give all the same budget")
    return table


def _named(table: Table) -> Iterator[tuple[str, str, str]]:
    """Yield every name that a table refers to: where it stands, the section it must be in, and the name."""
    for role in ("low", "high", "ours"):
        yield role, "methods", getattr(table, role)
    for name, part in (table.networks | table.methods).items():
        yield from ((f"{name}: only", "data", data) for data in part.only or ())
    for name, protocol in table.protocols.items():
        for data, networks in protocol.networks.items():
            yield f"protocols: {name}: networks", "data", data
            yield from ((f"protocols: {name}: networks: {data}", "networks", network) for network in networks)
    for title, curve in table.curves.items():
        yield from ((f"curves: {title}", "data", data) for data in curve.points.values())
    for row in table.reported:
        found = (("data", row.data), ("methods", row.method))
        yield from ((f"reported: {row.title}", section, name) for section, name in found if name is not None)
    for target in table.targets:
        yield from ((f"targets: {target.method}: data", "data", data) for data in target.data)
        yield from ((f"targets: {target.method}", "methods", name) for name in (target.method, *target.rivals))


def cells(
    table: Table,
    places: Places,
    *,
    protocol: str = "",
    tuning: bool = False,
    chosen: Mapping[tuple[str, str, str], Mapping[str, Any]] | None = None,
) -> Iterator[Cell]:
    """Yield the trainings of a table in the order they are run, seed by seed.

    Args:
        tuning: those that try choices, instead of those of the table.
        chosen: what tuning chose, by data set, network and method; a method without an entry is left out if it is tuned.

    Raises:
        ConfigError: an unknown protocol, or a setting that a run cannot use.
    """
    if protocol and protocol not in table.protocols:
        raise ConfigError("protocol", "a name of `protocols`", f"'{protocol}'", nearest(protocol, table.protocols))
    how = table.protocols.get(protocol, Protocol())
    for seed in (table.tuning.seed,) if tuning else how.seeds or table.seeds:
        for data, network, name in itertools.product(table.data, table.networks, table.methods):
            method = table.methods[name]
            if any(part.only is not None and data not in part.only for part in (table.networks[network], method)):
                continue
            if network not in how.networks.get(data, (network,)):
                continue
            choices: list[Mapping[str, Any] | None] = [None]
            if tuning:
                choices = [*method.choices()] if how.tune else []
            elif how.tune and (method.tune or method.tuned_as):
                choices = [c for c in [(chosen or {}).get((data, network, method.tuned_as or name))] if c is not None]
            for choice in choices:
                tree = table.settings
                parts = (table.data[data], table.networks[network])
                over = [*(part.settings for part in parts), how.settings, *(part.protocols.get(protocol, {}) for part in parts)]
                over += [method.settings, method.protocols.get(protocol, {}), *([table.tuning.settings] if tuning else [])]
                over += [*(nested(key, value) for key, value in (choice or {}).items()), {"seed": seed}]
                for settings in over:
                    tree = merge(tree, settings)
                config = completed(parse_config(places.put_in(tree), f"{data} / {network} / {name}"))
                splits = ("val",) if tuning else method.splits
                yield Cell(data, network, name, seed, protocol, choice if tuning else None, splits, config)
