"""The page: self-contained, escaped, and working in a browser."""

import base64
import hashlib
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rtl_jax.errors import UserError
from rtl_jax.lab.report import axes
from rtl_jax.lab.report.charts import BOTTOM, LEFT, RIGHT, TOP, draw, legend, value_text
from rtl_jax.lab.report.curves import DIFFERENCE
from rtl_jax.lab.report.elements import (
    MISSING,
    Chart,
    Figure,
    Picture,
    Point,
    Report,
    Section,
    Series,
    Text,
)
from rtl_jax.lab.report.page import render
from rtl_jax.lab.report.palette import COLORS, Style, own, shared, styles
from tests.lab.report import chromium
from tests.lab.report.samples import DASH, NASTY, chart, nasty_report, table

VOID = {"meta", "link", "input", "img"}


class Document(HTMLParser):
    """Tags with their attributes, and texts outside style and script elements, in order."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), tag
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script") and data.strip():
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page in which every text is nasty."""
    directory = tmp_path_factory.mktemp("page")
    path = directory / "index.html"
    path.write_text(render(nasty_report(directory)))
    return path


# ---- As a file -----------------------------------------------------------------------------------


def test_nothing_is_loaded_from_elsewhere(nasty: Path) -> None:
    document = Document(nasty.read_text())
    for tag, attributes in document.tags:
        for name, value in attributes.items():
            if name in ("src", "href"):
                assert value is not None
                here = value.startswith(("data:", "#section-", "tables/", "figures/"))
                assert here, (tag, value)
    assert not document.all("iframe") and "@import" not in nasty.read_text()


def test_every_text_is_there_and_no_tag_of_its_own(nasty: Path) -> None:
    document = Document(nasty.read_text())
    everything = "\0".join(document.texts)
    for text in NASTY:
        assert text in everything
    plain = Document(render(Report("t", "s", [])))
    assert len(document.all("script")) == len(plain.all("script")) == 1
    assert len(document.all("style")) == 1 and not document.all("b")
    (image,) = document.all("img")
    assert image["alt"] == NASTY[1] and "onerror" not in image


def test_the_policy_admits_the_pages_own_script_alone(nasty: Path) -> None:
    html = nasty.read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(tag["content"] for tag in Document(html).all("meta") if "http-equiv" in tag)
    assert policy is not None and policy.startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest}';" in policy


def test_pictures_are_inside(nasty: Path) -> None:
    (image,) = Document(nasty.read_text()).all("img")
    source = image["src"]
    assert source is not None and source.startswith("data:image/png;base64,")
    assert base64.b64decode(source.partition(",")[2]) == (nasty.parent / "picture.png").read_bytes()


def test_a_picture_that_is_gone(tmp_path: Path) -> None:
    report = Report("t", "s", [Section("p", [Picture("p", "p", tmp_path / "gone.png")])])
    with pytest.raises(UserError, match=r"cannot read the image .*gone\.png"):
        render(report)


def test_contents_lead_to_every_section(nasty: Path) -> None:
    document = Document(nasty.read_text())
    links = [tag["href"] for tag in document.all("a") if str(tag["href"]).startswith("#")]
    assert links == [f"#{tag['id']}" for tag in document.all("section")] and len(links) == 4


def test_missing_cells_are_shown_as_missing() -> None:
    html = render(Report("t", "s", [Section("s", [table()])]))
    assert html.count(f'<td class="missing">{DASH}</td>') == 1
    assert html.count(f'<td class="missing number">{DASH}</td>') == 1
    assert '<td data-v="100"><strong>100.00 ± 2.00</strong></td>' in html
    assert "<td>nan</td>" in html  # a number to nobody


def test_a_report_of_nothing_is_a_page() -> None:
    assert Document(render(Report("Nothing", "no rows", []))).texts.count("Nothing") == 2


def test_30_000_points_stay_small() -> None:
    rng = np.random.default_rng(0)
    charts = [
        Chart(f"c{index}", "t", "x", "y", [
            Series(f"source {number}", [Point(x, rng.normal(50, 9), 1.0, 20) for x in range(100)])
            for number in range(5)
        ])
        for index in range(60)
    ]  # fmt: skip
    assert len(render(Report("t", "s", [Section("s", [Figure("f", "f", charts)])]))) < 6e6


# ---- Charts --------------------------------------------------------------------------------------

LOOKS = {"one": Style(0, 0), "two": Style(1, 1)}


def numbers(path: str) -> list[list[float]]:
    """Return the coordinates after every M and L of an SVG path."""
    return [[float(n) for n in pair] for pair in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)]


def test_points_lie_where_their_values_are() -> None:
    """Positions measured relative to the ticks reproduce the values."""
    points = [Point(100, 12.0, 3.0), Point(300, 55.5, 2.0), Point(900, 31.0, 1.0)]
    drawing = draw(Chart("c", "t", "x", "y", [Series("one", points)], logarithmic=True), LOOKS)
    (left, *_, right), (bottom, *_, top) = drawing.across, drawing.up
    assert (left.text, right.text) == ("100", "900")
    found = np.array(numbers(drawing.lines[0].line))
    share = (found[:, 0] - left.place) / (right.place - left.place)
    np.testing.assert_allclose(100 * 9**share, [100, 300, 900], rtol=2e-3)
    height = (found[:, 1] - bottom.place) / (top.place - bottom.place)
    values = float(bottom.text) + height * (float(top.text) - float(bottom.text))
    np.testing.assert_allclose(values, [12, 55.5, 31], atol=0.05)
    ends = np.array(re.findall(r"M[\d.]+ ([\d.]+)V([\d.]+)", drawing.lines[0].intervals), float)
    unit = (bottom.place - top.place) / (float(top.text) - float(bottom.text))
    np.testing.assert_allclose((ends[:, 1] - ends[:, 0]) / unit / 2, [3, 2, 1], atol=0.05)


def test_a_line_is_broken_where_a_value_is_missing() -> None:
    drawing = draw(chart(["one"]), LOOKS)
    assert re.sub(r"[\d. ]", "", drawing.lines[0].line) == "MML"
    assert len(numbers(drawing.lines[0].markers)) == 3
    assert drawing.lines[0].intervals.count("V") == 2  # one seed has no interval


def test_bands_tile_the_chart_and_tell_what_is_there() -> None:
    drawing = draw(chart(["one", "two"]), LOOKS)
    edges = [(band.left, band.left + band.width) for band in drawing.bands]
    assert edges[0][0] == LEFT and edges[-1][1] == pytest.approx(RIGHT)
    for (_, end), (start, _) in itertools.pairwise(edges):
        assert end == pytest.approx(start)
    assert [band.title for band in drawing.bands] == ["images: 100", "images: 400", "images: 800"]
    assert drawing.bands[0].values == [
        (0, "one", "10.00 ± 2.00 (n = 5)"),
        (1, "two", "11.00 ± 2.00 (n = 5)"),
    ]


@pytest.mark.parametrize(
    ("point", "text"),
    [
        (Point(1, 51.716, 7.614, 5), "51.72 ± 7.61 (n = 5)"),
        (Point(1, 51.716), "51.72 (n = 1)"),
        (Point(1, 46.03, number=0), "46.03"),  # published
        (Point(1, 0.12344, 0.01, 3), "0.1234 ± 0.0100 (n = 3)"),
    ],
)
def test_what_a_pointer_shows(point: Point, text: str) -> None:
    assert value_text(point) == text


@pytest.mark.parametrize(("low", "high"), [(0, 100), (47.3, 51.2), (-3e-4, 2e-3), (5, 5), (0, 0)])
def test_ticks_are_round_and_enclose(low: float, high: float) -> None:
    ticks = axes.round_ticks(low, high)
    assert ticks[0] <= low + 1e-12 and high - 1e-12 <= ticks[-1] and 3 <= len(ticks) <= 8
    steps = np.diff(ticks)
    np.testing.assert_allclose(steps, steps[0])
    digits = f"{steps[0]:.6e}".rstrip("0").partition("e")[0].rstrip("0").rstrip(".")
    assert digits in ("1", "2", "2.5", "5")


def test_accuracies_end_at_0_and_100() -> None:
    points = [Point(1, 1.0, 30.0), Point(2, 99.0, 30.0)]
    percent = Chart("c", "t", "x", "accuracy, %", [Series("one", points)])
    assert (axes.vertical_ticks(percent)[0], axes.vertical_ticks(percent)[-1]) == (0, 100)
    drawing = draw(percent, LOOKS)
    heights = [float(y) for y in re.findall(r"V([\d.]+)", drawing.lines[0].intervals)]
    assert all(TOP <= height <= BOTTOM for height in heights)


def test_intervals_of_differences_reach_below_0() -> None:
    points = [Point(1, 1.0, 3.0), Point(2, 5.0, 1.0)]
    differences = Chart("c", "t", "x", DIFFERENCE, [Series("one", points)])
    heights = axes.vertical_ticks(differences)
    assert heights[0] <= -2 and 0 in heights
    (bottom, *_) = re.findall(r"V([\d.]+)", draw(differences, LOOKS).lines[0].intervals)
    zero = axes.Axis(heights[0], heights[-1], BOTTOM, TOP).place(0)
    assert float(bottom) > zero


def test_labels_do_not_overlap() -> None:
    sizes = [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 50_000]
    points = [Point(size, 1.0) for size in sizes]
    drawing = draw(Chart("c", "t", "x", "y", [Series("one", points)], logarithmic=True), LOOKS)
    assert len(drawing.across) == 10
    shown = [tick for tick in drawing.across if tick.text]
    assert shown[0].text == "100" and shown[-1].text == "50,000" and len(shown) > 4
    for one, other in itertools.pairwise(shown):
        assert other.place - one.place > 5.6 * (len(one.text) + len(other.text)) / 2


def test_labels_may_be_named() -> None:
    named = Chart("c", "t", "x", "y", [Series("one", [Point(7, 1.0)])], ticks=[7], labels=["all"])
    drawing = draw(named, LOOKS)
    assert drawing.across[0].text == "all" and drawing.bands[0].title == "x: all"


@pytest.mark.parametrize("logarithmic", [False, True])
def test_charts_of_one_point_and_of_none(logarithmic: bool) -> None:
    one = Chart("c", "t", "x", "y", [Series("one", [Point(5, 1.0)])], logarithmic)
    assert LEFT < numbers(draw(one, LOOKS).lines[0].line)[0][0] < RIGHT
    none = Chart("c", "t", "x", "y", [Series("one", [Point(5, MISSING)])], logarithmic)
    assert not draw(none, LOOKS).bands


def test_one_name_has_one_style_throughout() -> None:
    pair = Figure("a", "a", [chart(["x", "y"]), chart(["y", "z"])])
    single = Figure("b", "b", [chart(["z", "x"])])
    third = Figure("c", "c", [chart(["z"])])
    sections = [Section("1", [Text("t"), pair]), Section("2", [single, third])]
    looks = styles(Report("t", "s", sections))
    assert len(set(looks.values())) == 3
    assert looks["z"] == Style(0, 0)  # in most charts
    assert [key.color for key in legend(shared(single), looks)] == [0, looks["x"].color]
    published = Series("x, published", [], dashed=True, like="x")
    (key,) = legend([published], looks)
    assert (key.name, key.color, key.dashed) == ("x, published", looks["x"].color, True)
    many = Figure("c", "c", [chart([str(index) for index in range(28)])])
    assert len(set(styles(Report("t", "s", [Section("1", [many])])).values())) == 28


def test_a_chart_explains_what_it_alone_has() -> None:
    charts = [chart(["x", "y"]), chart(["y", "x"]), chart(["z"])]
    figure = Figure("f", "f", charts)
    names = [[series.name for series in shown] for shown in
             (shared(figure), *(own(figure, one) for one in charts))]  # fmt: skip
    assert names == [["x", "y"], [], [], ["z"]]
    assert [series.name for series in shared(Figure("f", "f", charts[2:]))] == ["z"]


def luminance(color: str) -> float:
    """Compute WCAG's relative luminance of '#rrggbb'."""
    channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_lines_stand_out_on_their_paper() -> None:
    """WCAG requires a contrast of 3 for graphics and 4.5 for text, in light and dark mode."""
    css = (Path(axes.__file__).parent / "templates" / "page.css").read_text()
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6})", part)) for part in css.split("@media")[:2])
    assert [light[f"c{index}"] for index in range(len(COLORS))] == list(COLORS)
    for theme in (light, dark):
        for name, color in theme.items():
            pair = sorted((luminance(color), luminance(theme["paper"])))
            contrast = (pair[1] + 0.05) / (pair[0] + 0.05)
            if name in ("ink", "muted", "link"):
                assert contrast > 4.5, name
            elif name.startswith("c"):
                assert contrast > 3, (name, contrast)


# ---- In a browser --------------------------------------------------------------------------------


@chromium.needed
def test_a_browser_has_nothing_to_complain_about(nasty: Path) -> None:
    document, console = chromium.browse(nasty)
    assert not console
    assert "<html" in document and 'class="script"' in document  # the script has run


@chromium.needed
def test_complaints_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text("<script>throw new Error('seen')</script>")
    assert "seen" in chromium.browse(tmp_path / "bad.html")[1][0]


SORT = """(() => {
  const table = document.querySelector("#table-numbers table");
  const column = (index) => [...table.tBodies[0].rows].map((row) => row.cells[index].textContent);
  const [name, accuracy] = table.querySelectorAll("th button");
  const found = [column(1)];
  for (const button of [accuracy, accuracy, accuracy, name, name]) {
    button.click();
    found.push(column(button === name ? 0 : 1));
  }
  const filter = document.querySelector("#table-numbers input");
  for (const text of ["  00 100 ", "C", "nothing", ""]) {
    filter.value = text;
    filter.dispatchEvent(new Event("input"));
    found.push([...table.tBodies[0].rows].filter((row) => row.checkVisibility()).length);
  }
  filter.value = "c";
  filter.dispatchEvent(new Event("input"));
  found.push(document.querySelector("#table-numbers .count").textContent);
  found.push([...table.querySelectorAll("th")].map((th) => th.getAttribute("aria-sort")));
  const bands = document.querySelectorAll("#figure-plain .band");
  const tip = document.getElementById("tip");
  found.push(tip.checkVisibility());
  bands[1].dispatchEvent(new PointerEvent("pointerenter"));
  found.push(tip.checkVisibility(), tip.innerText);
  const svg = bands[0].closest("svg");
  svg.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
  found.push(tip.querySelector("b").textContent);
  svg.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape"}));
  found.push(tip.checkVisibility());
  const nasty = document.querySelector("#figure-nasty .band");
  nasty.dispatchEvent(new PointerEvent("pointerenter"));
  found.push(tip.querySelectorAll("img, script").length, [...tip.querySelectorAll("em")].length);
  found.push(document.querySelectorAll("main script, main b").length);
  return found;
})()"""


@chromium.needed
def test_tables_sort_and_filter_and_charts_tell_their_values(nasty: Path) -> None:
    found: list[Any] = chromium.evaluate(nasty, SORT)
    rising, falling = (
        ["-5.00", "9.00 ± 1.00", "100.00 ± 2.00", "nan", DASH],
        ["nan", "100.00 ± 2.00", "9.00 ± 1.00", "-5.00", DASH],
    )
    assert found[0] == ["9.00 ± 1.00", DASH, "100.00 ± 2.00", "nan", "-5.00"]
    assert found[1:4] == [rising, falling, rising]
    assert found[4:6] == [["a", "b", "c", "d", DASH], ["d", "c", "b", "a", DASH]]
    assert found[6:10] == [1, 1, 0, 5]
    assert found[10] == "1 of 5 rows" and found[11] == ["descending", None]
    assert found[12:14] == [False, True]
    expected = "images: 400 natural: 20.00 ± 1.00 (n = 5) robust: 21.00 ± 1.00 (n = 5)"
    assert found[14].split() == expected.split()
    assert found[15:17] == ["images: 800", False]
    assert found[17:] == [0, len(NASTY), 0]


@chromium.needed
def test_it_can_be_looked_at(nasty: Path, tmp_path: Path) -> None:
    flags = (f"--screenshot={tmp_path / 'screen.png'}", "--window-size=1280,1200")
    chromium.browse(nasty, *flags, "--hide-scrollbars")
    with Image.open(tmp_path / "screen.png") as image:
        assert image.size == (1280, 1200)
        colors = image.convert("RGB").getcolors(1 << 24)
    assert colors is not None and len(colors) > 50


@chromium.needed
def test_nothing_sticks_out_of_a_phone(nasty: Path) -> None:
    """In a frame, since browser windows have a minimum width."""
    widths = """(() => {
      const frame = document.createElement("iframe");
      frame.style = "width: 390px; height: 800px; border: 0";
      const page = document.documentElement.cloneNode(true);
      for (const script of page.querySelectorAll("script")) script.remove();
      document.body.replaceChildren(frame);
      frame.contentDocument.write(page.outerHTML);
      frame.contentDocument.close();
      const root = frame.contentDocument.documentElement;
      return [root.clientWidth, root.scrollWidth, root.scrollHeight];
    })()"""
    inside, needed, height = chromium.evaluate(nasty, widths)
    assert 350 < inside <= 390 and needed <= inside and height > 3000
