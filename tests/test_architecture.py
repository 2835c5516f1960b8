"""Imports point down, there is no circle, and ``import halopy`` is light."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import pytest

FLOORS = [
    ["errors", "image", "own_fits", "tables", "cutouts", "labels", "survey", "model", "registry"],
    ["io"],
    ["preprocess"],
    ["simulate"],
    ["learning"],
    ["generative", "classify"],
    ["uvshapelets"],
    ["detect", "compare"],
    ["report", "evaluation_page", "evaluation_tables", "page", "plot", "plot_axes", "plot_evaluation", "scan",
     "cli_fetch", "cli_simulate", "cli_models", "cli_evaluate", "cli_generate", "cli_parser", "plot_gallery",
     "plot_quality", "quality_page", "plot_comparison", "comparison_page", "cli_compare", "cli_uvdetect", "plot_uv",
     "uv_page", "scan_parts"],
    ["", "cli", "__main__", "testing"],
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
"""Rooms of one floor may not import each other, but for the ground and the pairs below."""

# The pages are made of plots in one frame; the module form of the command line calls it.
SIDEWAYS = {("scan", "scan_parts"), ("report", "plot"), ("report", "page"), ("evaluation_page", "page"),
            ("evaluation_page", "plot_evaluation"), ("evaluation_page", "evaluation_tables"),
            ("evaluation_tables", "page"), ("plot", "plot_axes"), ("plot_evaluation", "plot_axes"),
            ("cli_evaluate", "evaluation_page"), ("cli_evaluate", "cli_models"),
            ("cli_generate", "cli_models"), ("cli_generate", "plot_gallery"), ("cli_generate", "quality_page"),
            ("plot_gallery", "plot_axes"), ("quality_page", "page"), ("quality_page", "plot_quality"),
            ("quality_page", "evaluation_tables"), ("plot_quality", "plot_axes"),
            ("comparison_page", "page"), ("comparison_page", "plot_comparison"), ("comparison_page", "plot_quality"),
            ("comparison_page", "evaluation_tables"), ("plot_comparison", "plot_axes"),
            ("cli_compare", "comparison_page"), ("cli_compare", "cli_models"),
            ("cli_uvdetect", "cli_models"), ("cli_uvdetect", "uv_page"), ("uv_page", "page"), ("uv_page", "plot_uv"),
            ("plot_uv", "plot_axes"), ("__main__", "cli")}

GROUND_THIRD_PARTY = {"numpy", "astropy", "safetensors"}

HEAVY = {"torch", "photutils", "reproject", "astroquery", "sklearn", "matplotlib", "numba", "dask"}


def _modules(repository):
    files = sorted((repository / "halopy").rglob("*.py"))
    return {".".join(f.relative_to(repository).with_suffix("").parts).removesuffix(".__init__"): f for f in files}


def _imports(name, file, known):
    """Every module of halopy, and every other top-level package, that a file imports anywhere in it."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            # ``from package import module`` imports the module, not the package's __init__ alone.
            yield from (f"{base}.{a.name}" if f"{base}.{a.name}" in known else base for a in node.names)


@pytest.fixture(scope="module")
def imports(repository):
    modules = _modules(repository)
    return {name: set(_imports(name, file, modules)) for name, file in modules.items()}


def _room(module):
    return [*module.split("."), ""][1]


def test_every_room_has_a_floor(imports):
    assert {_room(name) for name in imports} <= set(FLOOR)


def test_imports_point_down(imports):
    wrong = []
    for name, targets in imports.items():
        for target in targets:
            if target.split(".")[0] != "halopy":
                continue
            room, other = _room(name), _room(target)
            same_floor = FLOOR[room] == FLOOR[other]
            if room == other or (same_floor and (FLOOR[room] == 0 or (room, other) in SIDEWAYS)):
                continue
            if FLOOR[other] >= FLOOR[room]:
                wrong.append(f"{name} imports {target}")
    assert wrong == []


def test_there_is_no_circle(imports):
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name):], name])
        if name in done or name not in imports:
            return
        path.append(name)
        for target in sorted(imports[name]):
            visit(target)
        path.pop()
        done.add(name)

    for name in imports:
        visit(name)


def test_the_ground_stands_on_numpy_and_astropy(imports):
    for name, targets in imports.items():
        if FLOOR[_room(name)] == 0:
            roots = {t.split(".")[0] for t in targets} - {"halopy"} - set(sys.stdlib_module_names)
            assert roots <= GROUND_THIRD_PARTY, name


def test_the_first_floor_needs_no_torch(imports):
    for name, targets in imports.items():
        if _room(name) in ("io", "preprocess", "simulate"):
            assert "torch" not in {t.split(".")[0] for t in targets}, name


def test_no_file_is_long(repository):
    long = {str(f): n for f in _modules(repository).values() if (n := len(f.read_text("utf-8").splitlines())) > 400}
    assert long == {}


@pytest.fixture(scope="module")
def loaded():
    """The modules that a fresh Python holds after ``import halopy``, and after its yardstick."""
    code = "import sys, json; {}; print(json.dumps(sorted(sys.modules)))"
    return {
        statement: json.loads(subprocess.run([sys.executable, "-c", code.format(statement)], check=True,
                                             capture_output=True, text=True).stdout)
        for statement in ("import halopy", "import astropy.io.fits, astropy.wcs, astropy.table")
    }


def test_import_loads_nothing_heavy(loaded):
    assert HEAVY & {name.split(".")[0] for name in loaded["import halopy"]} == set()


def test_import_is_light(loaded):
    # Counted in modules: processor time differs from run to run, see benchmarks/import_cost.py.
    halopy, yardstick = loaded.values()
    assert len(halopy) <= 1.5 * len(yardstick)


def test_listing_models_imports_none():
    code = ("import sys; from halopy import classifiers, generators; list(classifiers), list(generators); "
            "print([m for m in sys.modules if m.startswith(('halopy.classify.', 'halopy.generative.'))])")
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    # The contracts are no models: Detector checks what it is given against one.
    assert set(ast.literal_eval(out)) <= {"halopy.classify.base", "halopy.classify.domain", "halopy.generative.base",
                                          "halopy.generative.conditions"}
