"""Files around the code: metadata, CONTRIBUTING, CHANGELOG, workflows and hooks."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from rtl_jax.attacks import registry
from rtl_jax.version import __version__
from tests.contracts import attacks as contract

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = {*re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE), "docs"}
YAML = [ROOT / ".pre-commit-config.yaml", *sorted((ROOT / ".github").rglob("*.yml"))]
TEXTS = [
    path
    for folder in ("rtl_jax", "convert", "docs", "benchmarks", "examples", ".")
    for path in sorted((ROOT / folder).glob("*" if folder == "." else "**/*"))
    if path.suffix in (".py", ".md") and path.is_file()
]


def blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def test_the_metadata_is_that_of_the_citation() -> None:
    assert PROJECT["authors"] == CITATION["authors"]
    assert (CITATION["version"], CITATION["license"]) == (__version__, PROJECT["license"])


def test_extras_that_are_named_exist() -> None:
    """Everywhere, under the name that pip knows."""
    found = []
    for path in TEXTS:
        for package, extra in re.findall(r"(rtl[-_]jax|\.)\[(\w+)\]['\"`]", path.read_text()):
            found.append((path.name, package, extra))
            assert extra in PROJECT["optional-dependencies"], found[-1]
            assert package != "rtl_jax", found[-1]
    assert len(found) >= 5


# ---- CONTRIBUTING --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_example_of_an_attack_keeps_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "ATTACKS", dict(registry.ATTACKS))
    names: dict[str, Any] = {}
    code, checks = blocks(ROOT / "CONTRIBUTING.md")
    exec(compile(code, "random_search.py", "exec"), names)
    exec(checks, names)
    # It is what its description says: more queries, more harm.
    arguments = contract.MODEL, contract.IMAGES, contract.LABELS, 1.0
    losses = [
        float(
            contract.attack(
                *arguments, names["RandomSearch"]("l2", queries=queries), contract.KEY
            ).losses.mean()
        )
        for queries in (1, 40)
    ]
    assert losses[0] < losses[1]


def test_places_that_it_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for place in re.findall(r"`((?:tests|rtl_jax|convert)[./][\w/.:]+)`", text):
        path, _, name = place.partition(":")
        file = ROOT / (path if "/" in path else f"{path.replace('.', '/')}.py")
        if "NAME" not in path and file.name != "random_search.py":
            assert file.exists(), place
            assert not name or f"def {name}(" in file.read_text(), place


# ---- CHANGELOG, workflows, hooks -----------------------------------------------------------------


def test_the_changelog_keeps_its_format() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert versions[0] == "Unreleased" or versions[0] == __version__
    assert __version__ in text
    kinds = set(re.findall(r"^### (\w+)", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_yaml_is_read(path: Path) -> None:
    assert yaml.safe_load(path.read_text())


def test_workflows_run_what_the_makefile_has() -> None:
    commands = []
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            commands += [step["run"] for step in job["steps"] if "run" in step]
    targets = {shlex.split(line)[1] for line in commands if line.startswith("make ")}
    assert {"check", "test", "wheel"} <= targets <= TARGETS


def test_hooks_are_the_linters_of_the_makefile() -> None:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    programs = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in local["hooks"]}
    lint = MAKEFILE.split("\nlint:")[1].split("\n\n")[0]
    assert programs == {line.split()[0].removeprefix("$(BIN)/") for line in lint.splitlines()[1:]}
