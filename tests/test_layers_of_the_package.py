"""One direction: a module imports only from lower layers, and only permitted packages."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest

ROOT = Path(__file__).parents[1]

# From the bottom to the top. A module belongs to the longest name here that it begins with, and
# imports only from its own layer or from those below; layers on one line do not know each other.
# The library comes first; the lab is above all of it, and the command line above the lab.
LIBRARY = [
    ["rtl_jax.errors", "rtl_jax.version"],
    ["rtl_jax.runtime"],
    ["rtl_jax.data"],
    ["rtl_jax.conformal"],
    ["rtl_jax.models"],
    ["rtl_jax.attacks"],
    ["rtl_jax.smoothing"],
    ["rtl_jax.train"],
    [
        "rtl_jax.transferability",
        "rtl_jax.influence_functions",
        "rtl_jax.common_corruptions",
    ],
    ["rtl_jax.api"],
    ["rtl_jax.sklearn"],
    ["rtl_jax"],
]
LAB = [
    ["rtl_jax.lab"],
    ["rtl_jax.lab.settings", "rtl_jax.lab.statistics", "rtl_jax.lab.config_files"],
    ["rtl_jax.lab.config"],
    [
        "rtl_jax.lab.settings_reference",
        "rtl_jax.lab.results",
        "rtl_jax.lab.plotting",
        "rtl_jax.lab.inputs",
        "rtl_jax.lab.cli",
        "rtl_jax.lab.memory",
        "rtl_jax.lab.trackers",
    ],
    ["rtl_jax.lab.run", "rtl_jax.lab.compatibility", "rtl_jax.lab.evaluation"],
    ["rtl_jax.lab.finetune"],
    ["rtl_jax.lab.sweep", "rtl_jax.lab.attack"],
    ["rtl_jax.lab.influence", "rtl_jax.lab.report"],
    ["rtl_jax.lab.visualize", "rtl_jax.lab.predict", "rtl_jax.lab.choose"],
    ["rtl_jax.lab.pretrain", "rtl_jax.lab.my_images"],
    ["rtl_jax.lab.tasks"],
]
DOORS = [["rtl_jax.command"], ["rtl_jax.__main__"]]
LAYERS = [*LIBRARY, *LAB, *DOORS]
RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# A new task, which no other one needs, has its place: beside those that nobody imports.
for _task in sorted((ROOT / "rtl_jax/lab").glob("*/task.py")):
    RANKS.setdefault(f"rtl_jax.lab.{_task.parent.name}", RANKS["rtl_jax.lab.my_images"])

# Which outside packages only some modules may import, wherever in the file the import stands.
ONLY_IN = {
    "torch": (),
    "torchvision": (),
    "tensorflow": (),
    "rtl_jax.convert": ("rtl_jax.command.sources",),
    "rtl_jax.configs": (),
    "tests": (),
    "run": (),
    "ml_collections": ("rtl_jax.lab.cli", "rtl_jax.lab.config.experiment", "rtl_jax.lab.settings"),
    "absl": ("rtl_jax.lab.cli", "rtl_jax.data.batches"),
    "grain": ("rtl_jax.data.batches", "rtl_jax.data.stream"),
    "orbax": ("rtl_jax.models.storage", "rtl_jax.train.checkpoints"),
    "tensorstore": ("rtl_jax.models.storage",),
    "mlflow": ("rtl_jax.lab.trackers.mlflow",),
    "tensorboardX": ("rtl_jax.lab.trackers.tensorboard",),
    "wandb": ("rtl_jax.lab.trackers.wandb",),
    "submitit": ("rtl_jax.lab.sweep.slurm",),
    "ray": ("rtl_jax.lab.sweep.executors",),
    "jinja2": ("rtl_jax.lab.report.page",),
    "tensorflow_datasets": ("rtl_jax.data.tfds",),
}

# What conversion may use of the package: conversion comes before training, and knows none of it.
FOR_CONVERT = (
    "rtl_jax.errors",
    "rtl_jax.runtime",
    "rtl_jax.models",
    "rtl_jax.data",
    "rtl_jax.attacks",
    "rtl_jax.convert",
)


def modules(package: str, folder: Path) -> dict[str, Path]:
    """Find every module of a package by its dotted name, without following links in its folder."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = (package, *path.relative_to(folder).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(module: str, source: str, known: dict[str, Path]) -> set[str]:
    """List the names that a module imports, at the top, in functions and for type checkers."""
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
    """Return the layer of a module: the longest listed prefix of its name."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in RANKS and (length == len(parts) or name not in ("rtl_jax", "rtl_jax.lab")):
            return name
    raise AssertionError(f"{module} has no place in LAYERS: give it one")


PACKAGE = modules("rtl_jax", ROOT / "rtl_jax")
IMPORTS = {name: imports(name, path.read_text(), PACKAGE) for name, path in PACKAGE.items()}
CONVERT = modules("rtl_jax.convert", ROOT / "convert")


def climbs(module: str, imported: str) -> bool:
    """Return whether an import goes up, or to another layer at the same height."""
    own, other = layer(module), layer(imported)
    return own != other and RANKS[other] >= RANKS[own]


def test_there_is_something_to_check() -> None:
    assert len(PACKAGE) > 20 and len(CONVERT) > 10
    assert "rtl_jax.train.split" in IMPORTS["rtl_jax.train.features"]
    # As in `from rtl_jax.lab import results`.
    assert "rtl_jax.lab.results" in IMPORTS["rtl_jax.lab.finetune.rows"]
    assert "sklearn.linear_model" in IMPORTS["rtl_jax.lab.finetune.baseline"]  # inside a function


def test_the_check_sees_what_is_wrong() -> None:
    assert climbs("rtl_jax.data.sources", "rtl_jax.train.step")
    assert climbs("rtl_jax.train.step", "rtl_jax.influence_functions.head")
    assert climbs("rtl_jax.influence_functions.head", "rtl_jax.lab.results")
    assert climbs("rtl_jax.data.subset", "rtl_jax.models.resnet")
    assert not climbs("rtl_jax.train.step", "rtl_jax.train.trainer")
    assert not climbs("rtl_jax.models.sources", "rtl_jax.models.storage")
    source = "def f():\n    import torch.nn\n    from rtl_jax import errors\n"
    assert imports("m", source, PACKAGE) == {"torch.nn", "rtl_jax.errors"}


def test_the_published_map_is_this_one() -> None:
    """docs/architecture.md has a table row for each layer, from top to bottom."""
    text = (ROOT / "docs/architecture.md").read_text()
    lines = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `rtl_jax")]
    published = [re.findall(r"`(rtl_jax[\w.]*)`", line) for line in lines]
    assert published == LAYERS[::-1]


def test_everything_is_where_the_map_says() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    places = re.findall(r"`(rtl_jax[\w.]*:[\w.]+)`", text)
    assert len(places) > 12
    for place in places:
        resolve_name(place)


def test_the_library_knows_nothing_of_the_lab() -> None:
    above = ("rtl_jax.lab", *(name for names in DOORS for name in names))
    library = [name for name in PACKAGE if not name.startswith(above)]
    assert len(library) > 50
    # The door leads to rows: it opens when it is knocked at.
    for module in set(library) - {"rtl_jax"}:
        assert not {name for name in IMPORTS[module] if name.startswith("rtl_jax.lab")}, module


@pytest.mark.parametrize("module", PACKAGE)
def test_no_module_imports_a_higher_one(module: str) -> None:
    # Who may import the converter, which stands beside them all, is in ONLY_IN.
    inside = {
        name
        for name in IMPORTS[module]
        if name.split(".")[0] == "rtl_jax" and not name.startswith("rtl_jax.convert")
    }
    # A package's front door leads into its own rooms.
    assert not {name for name in inside if climbs(module, name)}


@pytest.mark.parametrize("module", PACKAGE)
def test_outside_packages_are_where_they_belong(module: str) -> None:
    for name in IMPORTS[module]:
        for package, allowed in ONLY_IN.items():
            assert not f"{name}.".startswith(f"{package}.") or module in allowed, name


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


@pytest.mark.parametrize("module", PACKAGE)
def test_no_function_takes_more_than_six_arguments_by_position(module: str) -> None:
    for node in ast.walk(ast.parse(PACKAGE[module].read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
            given = [name for name in names if name not in ("self", "cls")]
            assert len(given) <= 6, f"{node.name}: {given}"


REPORT = [name for name in PACKAGE if name.startswith("rtl_jax.lab.report")]


@pytest.mark.parametrize(
    "module", [*REPORT, "rtl_jax.lab.results", "rtl_jax.lab.config", "rtl_jax.errors"]
)
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
        assert name.split(".")[0] not in ("tests", "run")


HEAVY = [
    "torch",
    "tensorflow",
    "tensorflow_datasets",
    "grain",
    "sklearn",
    "ml_collections",
    "rtl_jax.convert",
]


def test_importing_an_experiment_imports_nothing_heavy() -> None:
    script = """
import sys
from pkgutil import resolve_name
from rtl_jax.lab import tasks
from rtl_jax.lab.config import GROUPS
for name in GROUPS:
    assert callable(resolve_name(f"rtl_jax.lab.{name}.task:run_{name}"))
    assert callable(resolve_name(f"rtl_jax.lab.{name}.table:summarize"))
print(*[name for name in HEAVY if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", f"HEAVY = {HEAVY}{script}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
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
