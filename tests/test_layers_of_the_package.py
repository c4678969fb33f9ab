"""One direction: a module imports only what lies below it, and only what it may."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the bottom to the top. A module belongs to the longest name here that it begins with, and
# imports only from its own layer or from those below; layers on one line do not know each other.
LAYERS = [
    ["rtl_jax", "rtl_jax.errors"],
    ["rtl_jax.memory", "rtl_jax.paths", "rtl_jax.settings", "rtl_jax.interruption"],
    ["rtl_jax.config", "rtl_jax.models", "rtl_jax.models.architecture"],
    ["rtl_jax.results", "rtl_jax.progress", "rtl_jax.canvas"],
    ["rtl_jax.cli", "rtl_jax.data", "rtl_jax.devices", "rtl_jax.models.layers"],
    ["rtl_jax.models.resnet"],
    ["rtl_jax.checkpoint"],
    ["rtl_jax.bundled"],
    ["rtl_jax.models.zoo"],
    ["rtl_jax.attacks", "rtl_jax.transfer"],
    ["rtl_jax.analysis"],
    ["rtl_jax.pretrain", "rtl_jax.influence", "rtl_jax.sweep"],
    ["rtl_jax.report", "rtl_jax.predict"],
    ["rtl_jax.images"],
    ["rtl_jax.experiment"],
]
RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names}

# Which outside packages only some modules may import, wherever in the file the import stands.
ONLY_IN = {
    "torch": (),
    "torchvision": (),
    "tensorflow": (),
    "convert": (),
    "configs": (),
    "tests": (),
    "run": (),
    "ml_collections": ("rtl_jax.cli", "rtl_jax.config.experiment", "rtl_jax.settings"),
    "absl": ("rtl_jax.cli", "rtl_jax.data.batches"),
    "grain": ("rtl_jax.data.batches", "rtl_jax.data.stream"),
    "orbax": ("rtl_jax.checkpoint",),
    "tensorstore": ("rtl_jax.checkpoint",),
    "ray": ("rtl_jax.sweep.executors",),
    "jinja2": ("rtl_jax.report.page",),
    "tensorflow_datasets": ("rtl_jax.data.tfds",),
}

# What conversion may use of the package: conversion comes before training, and knows none of it.
FOR_CONVERT = (
    "rtl_jax.errors",
    "rtl_jax.paths",
    "rtl_jax.checkpoint",
    "rtl_jax.models",
    "rtl_jax.data",
    "rtl_jax.attacks",
)


def modules(package: str) -> dict[str, Path]:
    """Every module of a package by its dotted name."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(module: str, source: str, known: dict[str, Path]) -> set[str]:
    """The dotted names that a module imports, at its head, in functions and for type checkers."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute here"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in known else str(node.module))
    return found


def layer(module: str) -> str:
    """The layer of a module: the longest listed name that it begins with."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in RANKS and (length == len(parts) or name not in ("rtl_jax", "rtl_jax.models")):
            return name
    raise AssertionError(f"{module} has no place in LAYERS: give it one")


PACKAGE = modules("rtl_jax")
IMPORTS = {name: imports(name, path.read_text(), PACKAGE) for name, path in PACKAGE.items()}
CONVERT = modules("convert")


def climbs(module: str, imported: str) -> bool:
    """Whether an import leads up, or to a neighbour in another layer of the same height."""
    own, other = layer(module), layer(imported)
    return own != other and RANKS[other] >= RANKS[own]


def test_there_is_something_to_check() -> None:
    assert len(PACKAGE) > 20 and len(CONVERT) > 10
    assert "rtl_jax.transfer.cut" in IMPORTS["rtl_jax.transfer.prefix"]
    assert "rtl_jax.results" in IMPORTS["rtl_jax.transfer.finetune"]  # from rtl_jax import results
    assert "sklearn.linear_model" in IMPORTS["rtl_jax.transfer.baseline"]  # inside a function


def test_the_check_sees_what_is_wrong() -> None:
    assert climbs("rtl_jax.data.sources", "rtl_jax.transfer.step")
    assert climbs("rtl_jax.checkpoint", "rtl_jax.models.zoo")
    assert climbs("rtl_jax.data.subset", "rtl_jax.models.layers")
    assert not climbs("rtl_jax.transfer.step", "rtl_jax.transfer.finetune")
    assert not climbs("rtl_jax.models.zoo", "rtl_jax.checkpoint")
    source = "def f():\n    import torch.nn\n    from rtl_jax import errors\n"
    assert imports("m", source, PACKAGE) == {"torch.nn", "rtl_jax.errors"}


@pytest.mark.parametrize("module", PACKAGE)
def test_no_module_imports_a_higher_one(module: str) -> None:
    inside = {name for name in IMPORTS[module] if name.split(".")[0] == "rtl_jax"}
    # A package's front door leads into its own rooms.
    assert not {name for name in inside if climbs(module, name)}


@pytest.mark.parametrize("module", PACKAGE)
def test_outside_packages_are_where_they_belong(module: str) -> None:
    for name in IMPORTS[module]:
        allowed = ONLY_IN.get(name.split(".")[0])
        assert allowed is None or module in allowed, name


@pytest.mark.parametrize("module", PACKAGE)
def test_no_import_goes_round_in_a_circle(module: str) -> None:
    reached: set[str] = set()
    waiting = [name for name in IMPORTS[module] if name in PACKAGE]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [other for other in IMPORTS[name] if other in PACKAGE]
    assert module not in reached


REPORT = [name for name in PACKAGE if name.startswith("rtl_jax.report")]


@pytest.mark.parametrize("module", [*REPORT, "rtl_jax.results", "rtl_jax.config", "rtl_jax.errors"])
def test_a_report_and_what_it_reads_need_no_jax(module: str) -> None:
    reached, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += IMPORTS.get(name, ())
    assert not {name.split(".")[0] for name in reached} & {"jax", "flax", "optax", "orbax"}


@pytest.mark.parametrize("module", CONVERT)
def test_conversion_knows_nothing_of_training(module: str) -> None:
    known = PACKAGE | CONVERT
    for name in imports(module, CONVERT[module].read_text(), known):
        if name.split(".")[0] == "rtl_jax":
            assert name.startswith(FOR_CONVERT), name
        assert name.split(".")[0] not in ("configs", "tests", "run")


HEAVY = [
    "torch",
    "tensorflow",
    "tensorflow_datasets",
    "grain",
    "sklearn",
    "ml_collections",
    "convert",
]


def test_importing_an_experiment_imports_nothing_heavy() -> None:
    script = f"""
import sys
from pkgutil import resolve_name
from rtl_jax.experiment import TASKS
assert all(callable(resolve_name(name)) for names in TASKS.values() for name in names)
print(*[name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_run_imports_neither_torch_nor_the_converter() -> None:
    """Until there is something to convert."""
    script = f"""
import sys, run
print(*[name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
