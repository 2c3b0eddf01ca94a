"""The rules of the house that a machine can check."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import scribbleseg

ROOT = Path(scribbleseg.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

#: Which floor each module or folder of the package stands on. Imports go down, or stay in their own folder.
FLOORS: tuple[set[str], ...] = (
    {
        "records",
        "config",
        "environment",
        "methods",
        "errors",
        "extras",
        "atomic",
        "memory",
        "provenance",
        "palette",
        "trees",
        "reading",
        "stopping",
    },
    {"ops", "data", "models"},
    {"losses"},
    {
        "training",
        "predict",
        "refine",
        "metrics",
        "runner",
        "evaluate",
        "scores",
        "compare",
        "explain",
        "export",
        "report",
        "audit",
        "check",
    },
    {"annotate", "bench", "distributed", "serve", "web", "napari", "demo", "doctor", "api", "verbs", "cli"},
)
FLOOR = {name: n for n, names in enumerate(FLOORS) for name in names}

#: Floors on which modules know of each other: those below are built to be used alone.
SHARED = {0, 3, 4}

MAX_LINES = 350


def module_of(path: Path) -> str:
    """``models/folder.py`` is ``models.folder``."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    """Yield the full name of every import of a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written out in full"
            assert node.module is not None
            # `from scribbleseg import metrics` imports the module, `from scribbleseg.records import Batch` a name of it.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> Iterator[str]:
    """Yield ``models.folder`` for every import of the package."""
    modules = {module_of(p) for p in FILES}
    for name in imports(path):
        if name.split(".")[0] != "scribbleseg":
            continue
        inner = name.removeprefix("scribbleseg").removeprefix(".")
        while inner and inner not in modules:
            inner = inner.rpartition(".")[0]
        yield inner


def floor(name: str) -> int:
    """Return the floor of a module or folder."""
    assert name in FLOOR, f"say in FLOORS of {Path(__file__).name} where '{name}' stands"
    return FLOOR[name]


def identify(path: Path) -> str:
    return module_of(path) or "__init__"


every_file = pytest.mark.parametrize("path", FILES, ids=identify)
inner_files = pytest.mark.parametrize(
    "path", [p for p in FILES if module_of(p) not in ("__init__", "", "__main__")], ids=identify
)


@inner_files
def test_every_module_has_its_floor(path):
    assert floor(module_of(path).split(".")[0]) in range(len(FLOORS))


@inner_files
def test_imports_go_one_way(path):
    here = module_of(path).split(".")[0]
    for name in own_imports(path):
        there = name.split(".")[0]
        if there in ("", here):  # the package itself (its version), or a neighbour of the same folder
            continue
        assert floor(there) <= floor(here), f"{identify(path)} imports {name}, which stands above it"
        alone = floor(there) == floor(here) and floor(here) not in SHARED
        assert not alone, f"{identify(path)} imports {name}: {here} and {there} are built to be used alone"


@pytest.mark.parametrize(
    ("one", "other"), [("losses", "models"), ("models", "losses"), ("losses", "data"), ("metrics", "models")]
)
def test_rooms_without_a_door(one, other):
    for path in FILES:
        if module_of(path).split(".")[0] == one:
            assert not [name for name in own_imports(path) if name.split(".")[0] == other], identify(path)


def test_no_circles():
    graph = {module_of(p): {n for n in own_imports(p) if n != module_of(p)} for p in FILES}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"a circle of imports: {' → '.join([*above, name])}"
        if name not in done:
            for below in graph.get(name, ()):
                visit(below, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_ops_stand_on_torch_alone():
    allowed = {"torch", "triton", "jaxtyping"} | set(sys.stdlib_module_names)
    for path in (ROOT / "ops").rglob("*.py"):
        foreign = {n.split(".")[0] for n in imports(path)} - allowed - {"scribbleseg"}
        assert not foreign, f"{identify(path)} imports {foreign}"
        assert all(n == "errors" or n.startswith("ops.") for n in own_imports(path)), identify(path)


@every_file
def test_a_library_is_known_in_one_place(path):
    libraries = {name.split(".")[0] for name in imports(path)}
    if "lightning" in libraries or "pytorch_lightning" in libraries:
        assert module_of(path).split(".")[0] == "training", f"{identify(path)} imports lightning"
    if "transformers" in libraries:
        assert module_of(path) == "models.backbone", f"{identify(path)} imports transformers"
    if {"PIL", "tifffile"} & libraries and module_of(path).split(".")[0] == "models":
        pytest.fail(f"{identify(path)} reads pictures: networks get tensors")


@every_file
def test_files_are_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{identify(path)} has {lines} lines, at most {MAX_LINES} are allowed: split it"


@every_file
def test_names_say_what_is_inside(path):
    banned = {"utils", "util", "helpers", "misc", "common", "manager"}
    assert not banned & set(module_of(path).split(".")), identify(path)


@every_file
def test_every_file_says_what_it_is(path):
    text = path.read_text(encoding="utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text)), f"{identify(path)} has no docstring"


def test_no_environment_is_read_outside_its_file():
    for path in FILES:
        if module_of(path) == "environment":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            read = isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
            assert not read, f"{identify(path)}, line {node.lineno}: an environment variable"


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


def test_importing_the_package_is_light():
    loaded = run_python("import scribbleseg, sys; print(*sorted({m.split('.')[0] for m in sys.modules}))").split()
    assert "scribbleseg" in loaded
    assert not {"torch", "transformers", "lightning", "numpy", "PIL"} & set(loaded)


def test_configuration_can_be_read_without_torch():
    loaded = run_python("import scribbleseg.config, sys; print(*sorted({m.split('.')[0] for m in sys.modules}))").split()
    assert not {"torch", "transformers", "lightning"} & set(loaded)
