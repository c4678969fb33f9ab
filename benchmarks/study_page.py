"""The page of the study: `python -m benchmarks.study_page [--runs runs]`.

Gathers the results of `make study` in RUNS/study and in RUNS/study_PART, for every part of `Rows`,
as rows of docs/study and its parts, for cells whose seeds have all finished; --rebuild keeps the
published rows. Then rewrites every table of docs/study.md and docs/study_tables.md, from its line
`<!-- NAME -->` to the next empty one, and draws the figures of docs/study. Trains nothing.
"""

import argparse
import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Self

import pandas as pd
from etils import epath

from benchmarks import study_heads, study_sources
from benchmarks.study_tables import (
    AGAINST,
    NATURAL,
    NEARLY_ALL,
    PAIR,
    SHALLOW,
    accuracy,
    advantage,
    adversarial,
    against_others,
    ahead,
    autoattack,
    blocks_gained,
    by_blocks,
    by_epochs,
    by_rates,
    epochs_saved,
    influence_ahead,
    modes,
    modes_advantage,
    robustness,
)
from rtl_jax.lab.report import cells, curves, influence
from rtl_jax.lab.report.drawings import draw_figure
from rtl_jax.lab.report.elements import Chart, Figure, Report, Section, Series, Table
from rtl_jax.lab.report.formats import to_markdown
from rtl_jax.lab.report.names import target_name
from rtl_jax.lab.report.palette import styles
from rtl_jax.lab.report.runs import EVERY, Finetunings, blocks_name, finetunings
from rtl_jax.lab.results import read_rows

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "study.md", ROOT / "docs" / "study_tables.md"
ROWS = ROOT / "docs" / "study"
# The number of seeds of a complete cell, by number of blocks, and of any cell of some parts.
SEEDS = {**dict.fromkeys(SHALLOW, 10), NEARLY_ALL: 3, EVERY: 3}
PART_SEEDS = {"modes": 5, "adversarial": 5}


class Rows(NamedTuple):
    """The published rows: the study's grid, and its parts outside the grid."""

    study: pd.DataFrame
    modes: pd.DataFrame  # BatchNorm in frozen blocks, and augmentation
    epochs: pd.DataFrame  # evaluated more often
    rates: pd.DataFrame  # at other learning rates
    heads: pd.DataFrame  # heads alone, fitted in several ways, and classifiers on pixels
    adversarial: pd.DataFrame  # on perturbed images, and attacked
    autoattack: pd.DataFrame  # the first seed's networks of these, under stronger attacks
    source_epochs: pd.DataFrame  # from sources trained for other epochs, and those sources
    source_eps: pd.DataFrame  # from sources trained with other eps, and those sources

    @classmethod
    def read(cls, directory: Path = ROWS) -> Self:
        """Read a directory's own rows and those of its parts."""
        return cls(read_rows(directory), *(read_rows(directory / part) for part in cls._fields[1:]))


def main() -> None:
    """Gather the rows and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where `make study` worked")
    parser.add_argument("--rebuild", action="store_true", help="from the rows that are published")
    options = parser.parse_args()
    if not options.rebuild:
        publish(complete(read_rows(options.runs / "study")), ROWS / "rows" / "study.parquet")
        for part in Rows._fields[1:]:
            rows = complete(read_rows(options.runs / f"study_{part}"), PART_SEEDS.get(part))
            if part in study_sources.PARTS:
                sources = study_sources.PARTS[part].read_sources(options.runs / "sources")
                rows = pd.concat([rows, *sources])
            publish(rows, ROWS / part / "rows" / f"{part}.parquet")
    rows = Rows.read()
    texts = filled([page.read_text(encoding="utf8") for page in PAGES], made(rows))
    for page, text in zip(PAGES, texts, strict=True):
        page.write_text(text, encoding="utf8")
    draw(rows, ROWS)


def complete(rows: pd.DataFrame, seeds: int | None = None) -> pd.DataFrame:
    """Keep the rows of cells that have all their seeds, without the fine-tunings of influence.

    `seeds` is their number in every cell, by default that of `SEEDS`.
    """
    rows = rows[rows["task"] != "finetune"]
    blocks = rows["blocks"].fillna(EVERY).astype(int)
    wanted = blocks.map(SEEDS) if seeds is None else pd.Series(seeds, rows.index)
    settings = rows["config"].str.replace(r'"seed":\d+', "", regex=True)
    found = rows.groupby([settings, "source", "dataset", blocks])["seed"].transform("nunique")
    return rows[(found == wanted) | (rows["task"] != "sweep")]


def publish(rows: pd.DataFrame, path: Path) -> None:
    """Write rows in place of the earlier ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for older in path.parent.glob("*.parquet"):
        older.unlink()
    rows.to_parquet(path, index=False, compression="zstd", compression_level=19,
                    write_page_checksum=True)  # fmt: skip


def filled(pages: Iterable[str], contents: Mapping[str, Iterable[Table]]) -> list[str]:
    """Fill every table in below its name, which must occur exactly once on all pages."""
    texts = list(pages)
    for name, found in contents.items():
        text = "\n\n".join("\n".join(_lines(table)) for table in found)
        marker = re.compile(rf"(<!-- {re.escape(name)} -->\n)((?:\|.*\n|\n(?=\|))*)")
        done = [marker.subn(lambda match, text=text: f"{match[1]}{text}\n", page) for page in texts]
        if (count := sum(number for _, number in done)) != 1:
            raise SystemExit(f"the pages name the table {name!r} {count} times, expected once")
        texts = [page for page, _ in done]
    return texts


def _lines(table: Table) -> list[str]:
    return [line for line in to_markdown(table).splitlines() if line.startswith("|")]


def made(every: Rows) -> dict[str, list[Table]]:
    """Make all tables of the page, by name."""
    rows = every.study
    plain, variants = rows[rows["variant"].isna()], rows[rows["variant"].notna()]
    found, often = finetunings(plain), finetunings(every.epochs)
    return {
        **_by_blocks(found),
        "adversarial": [adversarial(every.adversarial)],
        "autoattack": [autoattack(every.autoattack)],
        "advantage": [advantage(found)],
        "ahead": [ahead(found, [(name, NATURAL) for name in found.sources if name != NATURAL])],
        "against others": [against_others(found)],
        "each against others": [ahead(found, AGAINST)],
        "converged heads": [study_heads.accuracy(every.heads)],
        "converged heads, L2 - natural": [study_heads.advantage(every.heads)],
        "blocks gained": [blocks_gained(found)],
        "by blocks": [by_blocks(found)],
        "by epochs": [by_epochs(often)],
        "epochs saved": [epochs_saved(often)],
        "by rates": [by_rates(every.rates)],
        **by_sources(every),
        "variants": accuracy(finetunings(variants)),
        **{f"modes of {source}": modes(every.modes, source) for source in reversed(PAIR)},
        "modes, L2 - natural": [modes_advantage(every.modes)],
        "robustness": [robustness(rows)],
        "influence": [table for table in influence.tables(rows) if isinstance(table, Table)],
        "influence, L2 - natural": [influence_ahead(rows)],
    }


def _by_blocks(found: Finetunings) -> dict[str, list[Table]]:
    """Make a table of accuracies for each number of blocks, by its name."""
    made = zip(map(blocks_name, found.blocks), accuracy(found), strict=True)
    return {name: [table] for name, table in made}


def by_sources(every: Rows) -> dict[str, list[Table]]:
    """Make the tables of the parts on other sources, by name."""
    found = {}
    for name, part in study_sources.PARTS.items():
        rows, others = _rows_and_others(part, every)
        found[f"by {name}"] = [study_sources.by_number(part, _joined(part, every))]
        found[f"own {name}"] = [study_sources.own_accuracy(part, rows, others)]
    return found


def _joined(part: study_sources.Part, every: Rows) -> pd.DataFrame:
    return study_sources.joined(part, *_rows_and_others(part, every))


def _rows_and_others(part: study_sources.Part, every: Rows) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a part's rows, and those of the sources that it shares with another part."""
    if part is study_sources.EPOCHS:
        return every.source_epochs, every.study
    return every.source_eps, study_sources.of_epochs(every.source_epochs, study_sources.BRIEF)


def draw(rows: Rows, directory: Path) -> None:
    """Draw the figures: differences, epochs, robustness, and those of parts on other sources."""
    plain = rows.study[rows.study["variant"].isna()]
    figures = [differences(finetunings(plain)), epochs_figure(finetunings(rows.epochs)),
               robustness_figure(rows.study)]  # fmt: skip
    for part in study_sources.PARTS.values():
        figures.append(study_sources.figure(part, _joined(part, rows)))
    looks = styles(Report("", "", [Section("", figures)]))
    for figure in figures:
        draw_figure(epath.Path(directory), figure, looks)
        (directory / f"{figure.name}.png").unlink()


def differences(found: Finetunings) -> Figure:
    """Plot L2 - natural over the number of images, one chart per number of blocks."""
    charts = [
        _titled(curves.differences(found, f"differences_{blocks}", *_robust_and_natural(blocks)),
                blocks)
        for blocks in SHALLOW
    ]  # fmt: skip
    return Figure("differences", "The L2 source against the natural one", charts)


def epochs_figure(found: Finetunings) -> Figure:
    """Plot L2 - natural over the epochs on 100 images, one chart per number of blocks."""
    charts = [
        _titled(curves.differences_over_epochs(found, f"epochs_{blocks}",
                                               *_robust_and_natural(blocks), 100, ()), blocks)
        for blocks in SHALLOW
    ]  # fmt: skip
    return Figure("epochs", "The L2 source against the natural one", charts)


def _robust_and_natural(blocks: int) -> list[curves.Curve]:
    return [curves.Curve(name, name, blocks) for name in reversed(PAIR)]


def _titled(chart: Chart, blocks: int) -> Chart:
    return dataclasses.replace(chart, title=f"{chart.title}, {blocks_name(blocks)}")


def robustness_figure(rows: pd.DataFrame) -> Figure:
    """Plot accuracy over the radius for networks from the natural and the L2 source, by target."""
    rows, charts = rows[(rows["task"] == "attack") & rows["source"].isin(PAIR)], []
    for dataset, group in rows.groupby("dataset"):
        series = []
        for (source, blocks), cell in group.groupby(["source", "blocks"]):
            points = [cells.point(eps, values) for eps, values in cell.groupby("eps")["accuracy"]]
            name = f"{source}, {blocks_name(blocks)}"
            series.append(Series(name, points, dashed=source == NATURAL))
        name, title = f"robustness_{len(charts)}", target_name(str(dataset))
        charts.append(Chart(name, title, "eps of PGD(10), L2", "accuracy, %", series))
    return Figure("robustness", "Robustness after transfer", charts)


if __name__ == "__main__":
    main()
