"""README and docs/: every link is valid, and every page is on the site."""

import doctest
import importlib
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from rtl_jax.attacks import AutoAttack
from rtl_jax.lab.results import SCHEMA

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    ROOT / "benchmarks" / "README.md",
    *sorted(DOCS.glob("*.md")),
    *sorted(DOCS.glob("tutorials/*.md")),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```", re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub and MyST give to the headings of a page."""
    text = CODE.sub("", page.read_text())
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    kept = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.strip().replace(" ", "-") for title in kept}


def broken(page: Path) -> list[str]:
    """Return the links of a page that lead to no file or heading."""
    found = []
    for link in LINK.findall(CODE.sub("", page.read_text())):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert not broken(page)


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `title`, or two\n[a](#a-title-or-two) [b](#b) [c](c.md)\n```\n[d](d)\n```\n"
    )
    assert broken(page) == ["#b", "c.md"]


def test_pages_that_code_names_exist() -> None:
    """Docstrings, comments and messages that refer to a page, or to a heading in it."""
    files = [path for name in ("rtl_jax", "convert", "configs", "benchmarks", "tests")
             for path in (ROOT / name).rglob("*.py")]  # fmt: skip
    named = {
        match
        for path in files
        for match in re.findall(r"docs/[a-z_/]+\.md(?:#[\w-]+)?", path.read_text())
    }
    assert len(named) > 10
    for name in named:
        path, _, anchor = name.partition("#")
        assert (ROOT / path).exists(), name
        assert not anchor or anchor in anchors(ROOT / path), name


def test_every_page_is_on_the_site() -> None:
    blocks = re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(), re.S)
    listed = {line for block in blocks for line in block.splitlines() if re.match(r"\w", line)}
    pages = {str(page.relative_to(DOCS).with_suffix("")) for page in PAGES if DOCS in page.parents}
    assert pages - {"index"} == {
        name for name in listed if not name.startswith(("generated/", "api/"))
    }


def test_results_describes_every_column() -> None:
    rows = [f"| `{name}` | {kind} | {words} |" for name, (kind, words) in SCHEMA.items()]
    page = (DOCS / "results.md").read_text().splitlines()
    assert [line for line in page if line.startswith("| `")] == rows


def test_the_cost_of_autoattack_is_that_of_its_attacks() -> None:
    """With ten classes. Every step takes a gradient, and one of FAB an evaluation besides."""
    members: dict[str, Any] = AutoAttack("linf").members()
    queries = members.pop("square").queries
    steps = {name: each.num_restarts(10) * each.steps for name, each in members.items()}
    told = f"{sum(steps.values()):,} gradients and {steps['fab-t'] + queries:,} evaluations"
    for place in ("docs/quickstart.md", "configs/autoattack_linf.py"):
        assert told in " ".join((ROOT / place).read_text().split()), told


@pytest.mark.parametrize(
    "module",
    [
        "attacks.adversarial",
        "attacks.apgd",
        "attacks.autoattack",
        "attacks.fab",
        "attacks.pgd",
        "attacks.square",
        "data.sources",
        "data.subset",
        "influence_functions.head",
        "influence_functions.scores",
    ],
)
def test_the_examples_of_docstrings_run(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"rtl_jax.{module}"))
    assert found.attempted > 1 and found.failed == 0


def test_every_module_of_the_reference_is_listed() -> None:
    doors = runpy.run_path(str(ROOT / "docs/reference.py"))["DOORS"]
    listed = re.findall(r"^\.\./generated/(\S+)$", (ROOT / "docs/api/index.md").read_text(), re.M)
    assert sorted(listed) == sorted(doors)
