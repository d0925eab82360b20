"""Figures say what they show, colours mean one thing, and sentences follow the numbers they are made from."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from gandl_book import chapters, figures, narrate
from gandl_book.figures import paradigms
from gandl_book.figures.cover import overview
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from PIL import Image
from synthetic_profiles import DOSES, log_logistic, make_profiles

from gandl_lib.evaluate import leaks
from gandl_lib.evaluate.dose_response import HEADER as CURVES
from gandl_lib.evaluate.dose_response import Fit
from gandl_lib.evaluate.scores import explained
from gandl_lib.evaluate.separability import HEADER as SCORES
from gandl_lib.evaluate.separability import TASKS
from gandl_lib.plots import doses, words
from gandl_lib.plots import page as style
from gandl_lib.wells import letters

CHANNELS = ("DNA", "ER", "actin", "RNA", "golgi")
METHODS = ("gandl", "gandl-random", "intensity", "shuffled labels")


# ---- tables as the workflow writes them ----


def scores(accuracy: dict[str, float], half: float = 0.05, n_wells: int = 80, split: str = "well") -> pd.DataFrame:
    rows = []
    for task in TASKS:
        for method, value in accuracy.items():
            ends = max(0.0, value - half), min(1.0, value + half)
            kind = "none" if task == "HRCE vs VERO" else "all"
            rows.append((method, task, split, kind, value, *ends, value, value, 0.6, 3 * n_wells, n_wells, n_wells, 0))
    return pd.DataFrame(rows, columns=SCORES)


def positions() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for task in ("E2", "C2"):
        for cell_type in ("HRCE", "VERO"):
            for role, on in {"C+": 1.0, "C-": -1.0, "UV": 0.8, "treated": -0.9}.items():
                for k in range(12):
                    split = "other" if role in ("UV", "treated") else "test" if k < 3 else "train"
                    on_off = on + 0.2 * rng.standard_normal(), rng.standard_normal()
                    rows.append(("gandl", task, f"{cell_type}_{role}_{k}", role, cell_type, *on_off, split))
    return pd.DataFrame(rows, columns=["method", "task", "well_id", "role", "cell_type", "on", "off", "split"])


def dose_tables() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Curves, points and truth of three compounds: one that helps, one that helps and kills, one that does nothing."""
    known = {"sim-antiviral-01": (1.0, 1.5, 0.9), "sim-narrow-03": (0.3, 1.2, 0.8), "sim-inert-02": (1.0, 1.0, -1.0)}
    curves, points, truth = [], [], []
    for method in ("gandl", "intensity"):
        for compound, (ec50, hill, top) in known.items():
            helps, toxic = top > 0, 10.0 if "narrow" in compound else np.nan
            row = dict.fromkeys(CURVES, np.nan) | {"method": method, "cell_type": "HRCE", "compound": compound}
            row |= {"efficacy_max": top, "p_value": 1e-4, "q_value": 1e-3 if helps else 0.9, "hit": helps}
            row |= {"toxic_from_uM": toxic, "n_wells": 24, "n_doses": 8, "ec50_censored": ""}
            if helps:
                row |= {"ec50_uM": ec50, "ec50_low": ec50 / 2, "ec50_high": np.inf, "hill": hill, "emax": top}
                row |= {"bottom": -1.0}
            curves.append(row)
            effect = log_logistic(DOSES, ec50, hill, top)
            points += [
                (method, "HRCE", compound, c, e, e - 0.2, e + 0.2, 3) for c, e in zip(DOSES, effect, strict=True)
            ]
            truth.append(("HRCE", compound, helps, ec50 if helps else np.nan, hill, top, toxic))
    names = ["method", "cell_type", "compound", "concentration_uM", "efficacy", "ci_low", "ci_high", "n_wells"]
    columns = ["cell_type", "compound", "effective", "ec50_uM", "hill", "emax", "toxic_uM"]
    return pd.DataFrame(curves), pd.DataFrame(points, columns=names), pd.DataFrame(truth[:3], columns=columns)


def statistics() -> pd.DataFrame:
    rows = [(f"HRCE-1_{p}", c, 10.0 * p + k) for p in (1, 2, 3) for k, c in enumerate(CHANNELS)]
    return pd.DataFrame(rows, columns=["plate_id", "channel", "mean"])


def stats(*accuracies: float) -> pd.DataFrame:
    n = len(accuracies)
    terms = ("loss_d", "loss_g", "logit_real", "logit_fake", "r1", "lipschitz", "path_length")
    table = pd.DataFrame({"n_seen": 1000 * np.arange(n), "probe_accuracy": accuracies} | {t: 0.5 for t in terms})
    return table.assign(probe_balanced_accuracy=table["probe_accuracy"])


def wells() -> pd.DataFrame:
    rows = [("C+", "B08"), ("C-", "C09"), ("UV", "AA16"), ("treated", "AE47"), ("blank", "D24")]
    table = pd.DataFrame(rows, columns=["role", "well"])
    return table.assign(plate_id="HRCE-1_1", well_id="HRCE-1_1_" + table["well"])


def images(n: int = 2, size: int = 16) -> np.ndarray:
    return np.random.default_rng(0).random((n, len(CHANNELS), size, size), np.float32)


def variants(**accuracy: tuple[float, float]) -> pd.DataFrame:
    """As benchmarks/what_matters.py writes it; a variant's accuracies before its first step and after training."""
    rows = [("intensity", 0, "", 0.7)]
    for variant, both in accuracy.items():
        for tap in ("penultimate", "blocks"):
            rows += [(variant, n, tap, value) for n, value in zip((0, 1000), both, strict=True)]
    table = pd.DataFrame(rows, columns=["variant", "n_seen", "tap", "accuracy"]).assign(split="plate", n_test_wells=80)
    return table.assign(ci_low=table["accuracy"] - 0.03, ci_high=table["accuracy"] + 0.03)


def two_precisions(fp32: float, bf16: float) -> pd.DataFrame:
    rows = [(p, n, a if n else 0.7) for p, a in (("fp32", fp32), ("bf16", bf16)) for n in (0, 1000, 2000)]
    table = pd.DataFrame(rows, columns=["precision", "n_seen", "probe_accuracy"])
    return table.assign(n_test_wells=77, majority_rate=0.6)


CURVE_TABLE, POINT_TABLE, TRUTH = dose_tables()
EFFICACY = positions().query("task == 'E2'").rename(columns={"on": "efficacy"})
CONFUSION = pd.DataFrame(
    [("gandl", t, p, 9 if t == p else 1) for t in ("RPE", "U2OS") for p in ("RPE", "U2OS")],
    columns=["method", "true", "predicted", "count"],
)
SITES = dict(zip(("C+", "C-"), images(2), strict=True))
PAIRS = [("HRCE", "sim-antiviral-01"), ("HRCE", "sim-narrow-03"), ("HRCE", "sim-inert-02")]


COST = pd.DataFrame(
    [
        ("gandl", 38.0, 80000, np.nan, 512, np.nan),
        ("gandl-random", 0.0, 0, 0.0, 512, ""),
        ("intensity", 0.0, 0, 0.0, 55, ""),
    ]
    + [("supervised", 9.0, 80000, 900.0, 128, "compound")],
    columns=["method", "minutes", "images", "peak_memory_MB", "dimensions", "labels"],
)
SIZE_TABLE = pd.DataFrame(
    [("gandl", 8, 0.6, 0.5), ("gandl", 64, 0.8, 0.75), ("intensity", 8, 0.55, 0.5), ("intensity", 64, 0.6, 0.55)],
    columns=["method", "n_wells", "accuracy", "lowest"],
).assign(highest=0.9, majority_rate=0.62)
PAIRED = pd.DataFrame(
    [("gandl", "intensity", 0.1, 0.05, 0.15, 0.0005), ("supervised", "gandl", 0.08, 0.03, 0.12, 0.004)]
    + [("gandl", "convae", 0.01, -0.04, 0.06, 0.6)],
    columns=["method", "other", "difference", "ci_low", "ci_high", "p_value"],
).assign(task="C+ vs C-", split="well", normalisation="all", n_wells=156)
REPLICATES = pd.DataFrame(
    [("gandl", c, 0.2 + c / 100) for c in (1.0, 10.0)] + [("intensity", c, 0.1) for c in (1.0, 10.0)],
    columns=["method", "concentration_uM", "mean_average_precision"],
).assign(by_chance=0.12)


def drawings() -> dict[str, Figure]:
    accuracy = dict.fromkeys(METHODS, 0.8)
    both = pd.concat([scores(accuracy), scores(accuracy, split="plate")])
    paper = pd.DataFrame({"task": list(TASKS), "method": "GAN-DL", "accuracy": 0.914})
    profiles = make_profiles("gandl")
    groups = {"C+": images(), "C-": images()}
    return {
        "channel_strip": figures.channel_strip(images(1)[0], CHANNELS, 0.65, True),
        "site_grid": figures.site_grid(groups, CHANNELS, 0.65, True),
        "montage": figures.montage(groups, CHANNELS, 0.65, True),
        "plate_map": figures.plate_map(wells(), "HRCE-1_1"),
        "plate_effects": figures.plate_effects(statistics()),
        "grey_values": figures.grey_values(np.ones((5, 256), int), CHANNELS, np.tile([0, 200], (5, 1))),
        "probe_curve": figures.probe_curve(stats(0.6, 0.7), 0.6, 0.914),
        "precisions": figures.precisions(two_precisions(0.9, 0.88)),
        "what_matters": figures.what_matters(variants(default=(0.7, 0.9), narrow=(0.6, 0.8)), "blocks", "plate"),
        "loss_curves": figures.loss_curves(stats(0.6, 0.7)),
        "pca_views": figures.pca_views({"raw": profiles}),
        "accuracy_plot": figures.accuracy_plot(both, paper),
        "confusion": figures.confusion(CONFUSION),
        "axes_plot": figures.axes_plot(positions(), "gandl"),
        "axes_plot C2": figures.axes_plot(positions(), "gandl", "C2"),
        "efficacy_plot": figures.efficacy_plot(EFFICACY, "gandl"),
        "ranking": figures.ranking(CURVE_TABLE, "gandl", TRUTH),
        "dose_curves": figures.dose_curves(POINT_TABLE, CURVE_TABLE, "gandl", PAIRS, TRUTH),
        "ec50_plot": figures.ec50_plot(CURVE_TABLE, TRUTH, ["gandl", "intensity"]),
        "accuracy_against_compute": figures.accuracy_against_compute(both, COST),
        "probe_sizes": figures.probe_sizes(SIZE_TABLE),
        "differences": figures.differences(PAIRED, "gandl"),
        "axes_of_all": figures.axes_of_all(positions(), "E2"),
        "axes_of_all C2": figures.axes_of_all(positions(), "C2"),
        "replicate_precision": figures.replicate_precision(REPLICATES),
        "overview": overview(SITES, CHANNELS, 0.65, EFFICACY, POINT_TABLE, CURVE_TABLE, True),
    }


@pytest.fixture(scope="module")
def drawn() -> dict[str, Figure]:
    return drawings()


def colours(figure: Figure) -> set[str]:
    """Every colour of a figure's lines, dots, patches and outlines."""
    found = set()
    for axes in figure.axes:
        for line in axes.get_lines():
            found.add(to_hex(line.get_color()))
        for collection in axes.collections:
            found |= {to_hex(c) for c in (*collection.get_facecolor(), *collection.get_edgecolor())}
        for patch in axes.patches:
            found |= {to_hex(patch.get_facecolor()), to_hex(patch.get_edgecolor())}
    return found


# ---- figures ----


def test_every_figure_is_described_and_shown(drawn, monkeypatch):
    monkeypatch.setattr(style, "DPI", 30)
    kinds = set()
    for name, figure in drawn.items():
        assert len(figure.alt) > 30, name
        assert figure.get_figwidth() <= (12 if name == "overview" else 6), name
        output = figures.show(figure, "How to read it <&>.")
        page = BeautifulSoup(output.bundle["text/html"], "html.parser")
        (shown,) = page.select(".fig-drawn > svg[role=img], .fig-drawn > img")
        said = shown.get("alt") or shown.get("aria-label")
        assert said[:20] == figure.alt[:20] and len(said) <= style.ALT_LIMIT, name
        assert said == figure.alt or page.select_one("details p").text == figure.alt, name
        assert page.select_one("figcaption").text == "this buildHow to read it <&>.", name
        assert figure.alt in repr(output), name
        kinds.add(shown.name)
        assert (shown.name == "img") >= any(axes.images for axes in figure.axes if not hasattr(figure, "told")), name
        if shown.name == "img":
            data = shown["src"].split("base64,")[1]
            size = Image.open(io.BytesIO(base64.b64decode(data))).size
            assert size[0] == round(figure.get_figwidth() * style.DPI), name
    assert kinds == {"svg", "img"}


def test_drawings_are_the_pages_own(drawn):
    """Two on a page share no id, refer to nothing that is not there, and are black and white only where the page is."""
    several = [style.svg(figure, figure.alt) for name, figure in drawn.items() if name in ("dose_curves", "ec50_plot")]
    assert len(several) == 2
    known = [re.findall(r'\bid="([^"]+)"', text) for text in several]
    assert not set(known[0]) & set(known[1])
    for text, ids in zip(several, known, strict=True):
        assert len(ids) == len(set(ids))
        assert set(re.findall(r'(?:url\(#|href="#)([\w-]+)', text)) <= set(ids)
        alone = re.sub(r"var\([^)]*\)", "", text).lower()
        assert not re.search(r"#000000|#ffffff|:black|:white", alone)


def test_what_a_dark_page_shows_can_be_told_from_it():
    """Every colour that means something has a contrast of 3 at least with a dark page, as WCAG wants of graphics."""
    css = (Path(__file__).parents[1] / "book" / "_static" / "custom.css").read_text()
    assert "\n".join(f"  {line};" for line in style.DARK_STYLE.split("; ")) in css, "as the report"

    def luminance(colour: str) -> float:
        x = np.array(to_rgb(colour))
        return float(np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])

    for colour in {*style.METHODS.values(), *style.ROLES.values(), *style.CYCLE, style.GREY} - {style.BLACK}:
        shown = style.DARK.get(colour.lower(), colour)
        assert (luminance(shown) + 0.05) / (luminance("#15171a") + 0.05) >= 3, colour


def test_marks_say_their_words():
    figure, ((axes,),) = style.canvas(2)
    words = ["a <b>", "c & d", "e"]
    style.tell(axes.scatter([1, 2, 3], [1, 2, 3]), words, ["0 0 9", "9 0 9", "18 0 9"], "sheet")
    style.tell(axes.scatter([1], [3]), ["alone"])
    svg = BeautifulSoup(style.svg(figure, "alt"), "html.parser").svg
    assert [m.title.text for m in svg.select("[data-mark]")] == [*words, "alone"]
    assert [m.get("data-at") for m in svg.select("[data-mark]")] == ["0 0 9", "9 0 9", "18 0 9", None]
    assert svg["data-sheet"] == "sheet"
    with pytest.raises(ValueError, match="3 marks with words, but 1 places"):
        style.tell(axes.scatter([1, 2, 3], [1, 2, 3]), words, ["0 0 9"])
    output = figures.show(figure, "caption", alt="three dots and one more").bundle["text/html"]
    assert output.count("<script>") == 1 and "src=" not in output.partition("<script>")[2]


def test_a_curve_a_compound_is_chosen_from_a_list():
    page = BeautifulSoup(
        doses.compounds(POINT_TABLE, CURVE_TABLE, "gandl", PAIRS, "Pick.").bundle["text/html"], "html.parser"
    )
    titles = [summary.text for summary in page.select("details[data-one] > summary")]
    assert titles[0] == "sim-antiviral-01 in HRCE, a hit" and titles[2] == "sim-inert-02 in HRCE"
    assert [d.has_attr("open") for d in page.select("details[data-one]")] == [True, False, False]
    panels = page.select("details[data-one]")
    assert all(len(p.select("[data-mark]")) == len(DOSES) for p in panels), "a mean a dose"
    assert "1 µM, 3 wells" in panels[0].text


def test_tables_that_sort_have_a_name_and_heads_with_scope():
    frame = pd.DataFrame({"a": [1.5], "": ["x"]})
    plain, named = (
        BeautifulSoup(figures.table(frame, "About.", **k).bundle["text/html"], "html.parser")
        for k in ({}, {"name": "t"})
    )
    assert not plain.script and named.script and named.table["data-name"] == "t"
    assert [th["scope"] for th in named.select("th")] == ["col"], "no head without words"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.123"),
        (130.0, "130"),
        (1300.0, "1300"),
        (305520.0, "306,000"),
        (2.1e-7, "2.1e-07"),
        (12.0, "12"),
    ]
    + [(0.0, "0"), (-0.5, "-0.5"), (99.99, "100"), (np.nan, "–"), (np.inf, "∞")],
)
def test_numbers_are_written_one_way(value, text):
    assert words.number(value) == text == words.cell(value)


def test_what_carries_numbers_has_labelled_axes(drawn):
    for name in ("plate_effects", "probe_curve", "ec50_plot", "accuracy_plot", "efficacy_plot", "ranking", "axes_plot"):
        last = drawn[name].axes[-1]
        assert last.get_xlabel(), name
    for name in ("dose_curves", "ec50_plot"):
        assert any("µM" in axes.get_xlabel() for axes in drawn[name].axes), name


def test_simulated_images_are_called_simulated():
    for simulated in (True, False):
        for figure in (
            figures.channel_strip(images(1)[0], CHANNELS, 0.65, simulated),
            figures.site_grid({"C+": images()}, CHANNELS, 0.65, simulated),
            figures.montage({"C+": images()}, CHANNELS, 0.65, simulated),
            overview(SITES, CHANNELS, 1.0, EFFICACY, POINT_TABLE, CURVE_TABLE, simulated),
        ):
            assert ("imulated" in figure.alt) == simulated


def test_every_channel_is_named(drawn):
    for name in ("channel_strip", "site_grid"):
        titles = " ".join(axes.get_title() for axes in drawn[name].axes)
        assert all(channel in titles for channel in (*CHANNELS, "composite")), name
    labels = [axes.get_ylabel() for axes in drawn["grey_values"].axes]
    assert labels == list(CHANNELS)
    legend = {text.get_text() for text in drawn["plate_effects"].legends[0].get_texts()}
    assert legend == set(CHANNELS)


def test_roles_and_methods_have_one_colour_everywhere(drawn):
    assert len({to_hex(c) for c in figures.ROLES.values()}) == len(figures.ROLES)
    assert len({to_hex(c) for c in figures.METHODS.values()}) == len(figures.METHODS)
    assert figures.METHODS.keys() == figures.MARKERS.keys()
    for name in ("axes_plot", "efficacy_plot", "overview"):
        assert {to_hex(figures.ROLES[r]) for r in ("C+", "C-")} <= colours(drawn[name]), name
    for name in ("axes_plot", "efficacy_plot", "dose_curves", "overview"):
        assert to_hex(figures.ROLES["treated"]) in colours(drawn[name]), name
    assert {to_hex(figures.METHODS[m]) for m in METHODS} <= colours(drawn["accuracy_plot"])
    assert {to_hex(figures.METHODS[m]) for m in ("gandl", "intensity")} <= colours(drawn["ec50_plot"])
    drawn["plate_map"].draw_without_rendering()  # only then have squares their colours
    (axes,) = drawn["plate_map"].axes
    squares = {to_hex(c) for c in axes.collections[0].get_facecolor()}
    assert {to_hex(figures.ROLES[r]) for r in wells()["role"]} <= squares
    marked = {line.get_marker(): len(line.get_xdata()) for line in axes.lines}
    at = wells().query("plate_id == 'HRCE-1_1'").drop_duplicates("well_id")["role"].value_counts()
    assert [marked[m] for m in "+_x"] == [at.get(role, 0) for role in ("C+", "C-", "UV")]


@settings(max_examples=25)
@given(pixel_um=st.floats(0.05, 5), width_px=st.integers(16, 2048), um=st.none() | st.sampled_from([1.0, 10.0, 50.0]))
def test_a_scale_bar_is_as_long_as_it_says(pixel_um, width_px, um):
    figure = Figure()
    axes = figure.subplots()
    said_um, length_px = figures.scale_bar(axes, pixel_um, width_px, um)
    (bar,) = axes.patches
    assert bar.get_width() == length_px == pytest.approx(said_um / pixel_um)
    assert axes.texts[0].get_text() == f"{said_um:g} µm"
    if um is None:
        assert width_px / 3 / 2.5 <= length_px <= width_px / 3 * (1 + 1e-9)


def test_composite_keeps_black_bounds_and_order(rng):
    assert figures.composite(np.zeros((5, 4, 4)), CHANNELS).max() == 0
    bright = figures.composite(np.ones((5, 4, 4)), CHANNELS)
    assert 0.9 < bright.min() and bright.max() <= 1
    dim = images(1)[0]
    assert (figures.composite(dim, CHANNELS) >= figures.composite(dim * 0.5, CHANNELS)).all()
    for c, channel in enumerate(CHANNELS):  # one channel alone shines in its own colour
        alone = np.zeros((5, 1, 1))
        alone[c] = 1
        assert to_hex(figures.composite(alone, CHANNELS)[0, 0]) == to_hex(figures.CHANNELS[channel])
    twin = 1 - np.prod(
        [1 - dim[c][..., None] * np.array(_rgb(figures.CHANNELS[k])) for c, k in enumerate(CHANNELS)], axis=0
    )
    np.testing.assert_allclose(figures.composite(dim, CHANNELS), twin, atol=1e-6)
    assert figures.composite(rng.random((3, 7, 4, 4)), [f"stain {k}" for k in range(7)]).shape == (3, 4, 4, 3)
    with pytest.raises(ValueError, match="5 channels of images, but 2 names"):
        figures.composite(dim, CHANNELS[:2])


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))


def test_unit_and_shown_clip_to_zero_and_one():
    grey = np.array([0, 10, 60, 110, 255]).reshape(1, 1, 5)
    np.testing.assert_allclose(figures.unit(grey, np.array([[10, 110]])).ravel(), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(figures.shown(np.array([-2, -1, 0, 1, 3.0])), [0, 0, 0.5, 1, 1])


def test_the_drawn_curve_is_the_fitted_one():
    fit = Fit(ec50_uM=0.7, ec50_low=0.5, ec50_high=1.0, hill=1.3, emax=0.9, bottom=-1.1, p_flat=0.0)
    np.testing.assert_allclose(figures.curve(fit, np.array(DOSES)), fit(np.array(DOSES)))


def test_rows_and_wells_go_back_and_forth():
    for row in range(40):
        assert leaks.place(f"{letters(row)}07") == (row, 6)
    assert leaks.place("AA02") == (26, 1)


def test_samples_are_cut_as_they_were_drawn(tmp_path: Path):
    made = (images(3, 8) * 255).astype(np.uint8)  # [NCHW]
    for seen in (0, 500, 1000, 1500, 2000):
        grid = made.transpose(1, 2, 0, 3).reshape(5 * 8, 3 * 8)
        Image.fromarray(grid).save(tmp_path / f"{seen:09d}.png")
    found = figures.samples(tmp_path, CHANNELS, stages=3, columns=2)
    assert list(found) == ["0 images", "1,000 images", "2,000 images"]
    np.testing.assert_allclose(found["0 images"] * 255, made[:2], atol=1e-4)


def test_what_a_run_does_not_have_is_said_and_not_drawn():
    without = CURVE_TABLE.assign(efficacy_max=np.nan, ec50_uM=np.nan)
    nothing = positions().assign(on=np.nan, efficacy=np.nan)
    for figure in (
        figures.accuracy_plot(None),
        figures.confusion(None),
        figures.ec50_plot(CURVE_TABLE, None, ["gandl"]),
        figures.ec50_plot(without, TRUTH, ["gandl"]),
        figures.axes_plot(nothing, "gandl"),
        figures.efficacy_plot(nothing, "gandl"),
        figures.ranking(without, "gandl", TRUTH),
        figures.dose_curves(POINT_TABLE, without, "gandl", PAIRS),
        figures.dose_curves(POINT_TABLE, CURVE_TABLE, "gandl", []),
        overview(SITES, CHANNELS, 1.0, EFFICACY, POINT_TABLE, without, True),
        figures.cell_types(None),
        figures.probe_sizes(None),
        figures.differences(None, "gandl"),
        figures.replicate_precision(None),
        figures.axes_of_all(positions().iloc[:0]),
        figures.accuracy_against_compute(scores({"gandl": 0.8}), COST.iloc[:0]),
    ):
        assert figures.show(figure, "caption").bundle["text/plain"].endswith(figure.alt)
        assert figure.axes[0].texts[0].get_text().replace("\n", " ") == figure.alt
    assert figures.ABSENT in repr(figures.table(None, "caption"))


def test_show_wants_words_and_tables_say_what_is_missing():
    bare = Figure()
    with pytest.raises(ValueError, match="alt text"):
        figures.show(bare, "caption")
    with pytest.raises(ValueError, match="caption"):
        figures.show(bare, " ", alt="what it shows")
    frame = pd.DataFrame({"a": [0.12345, np.nan, np.inf], "b": [True, False, True], "c": ["<x>", "y", "z"]})
    output = figures.table(frame, "caption")
    assert "&lt;x&gt;" in output.bundle["text/html"]
    assert [figures.cell(v) for v in frame["a"]] == ["0.123", "–", "∞"]
    assert figures.cell(-np.inf) == "-∞"
    assert [figures.cell(v) for v in frame["b"]] == ["yes", "no", "yes"]
    with pytest.raises(ValueError, match="no plate 'X'"):
        figures.plate_map(wells(), "X")


def test_the_same_figure_is_the_same_file():
    assert figures.png(figures.plate_effects(statistics())) == figures.png(figures.plate_effects(statistics()))
    assert style.svg(figures.plate_effects(statistics()), "x") == style.svg(figures.plate_effects(statistics()), "x")


# ---- sentences ----

values = st.floats(0.05, 0.95)
halves = st.floats(0.001, 0.3)


@given(values, halves, values, halves)
def test_a_verdict_turns_round_when_its_sides_do(a, half_a, b, half_b):
    x, y = narrate.Score(a, a - half_a, a + half_a), narrate.Score(b, b - half_b, b + half_b)
    opposite = {narrate.BEATS: narrate.BELOW, narrate.SAME: narrate.SAME, narrate.BELOW: narrate.BEATS}
    assert narrate.verdict(y, x) == opposite[narrate.verdict(x, y)]
    assert narrate.verdict(x, x) == narrate.SAME
    differs = abs(a - b) > np.hypot(half_a, half_b) * (1 + 1e-9)
    if differs:
        assert narrate.verdict(x, y) == (narrate.BEATS if a > b else narrate.BELOW)
    if x.low > y.high:  # intervals apart always suffice
        assert narrate.verdict(x, y) == narrate.BEATS


def test_a_perfect_score_on_few_wells_is_no_certainty():
    perfect = narrate.Score(1.0, 1.0, 1.0, n_wells=20)
    assert narrate.verdict(perfect, 0.9) == narrate.SAME  # 3/20 = 0.15 down
    assert narrate.verdict(perfect, 0.8) == narrate.BEATS
    assert narrate.verdict(narrate.Score(1.0, 1.0, 1.0), 0.999) == narrate.BEATS


@pytest.mark.parametrize(
    ("trained", "said", "not_said"),
    [
        (0.95, "beats untrained GAN-DL", "bought nothing"),
        (0.72, "cannot be told from untrained GAN-DL", "done harm"),
        (0.50, "falls below untrained GAN-DL", "bought nothing"),
    ],
)
def test_training_that_bought_nothing_is_called_so(trained, said, not_said):
    accuracy = {"gandl": trained, "gandl-random": 0.7, "intensity": 0.8, "shuffled labels": 0.5}
    text = repr(narrate.separability(scores(accuracy)))
    assert said in text and not_said not in text
    assert ("bought nothing" in text) == (trained == 0.72)
    assert ("done harm" in text) == (trained == 0.50)
    unseen = scores(accuracy).rename(columns={"n_test_wells": "n_wells"}).iloc[:4]
    assert ("bought nothing" in repr(narrate.zero_shot(unseen, "simulated unseen cells"))) == (trained <= 0.72)


def test_shuffled_labels_that_score_are_an_alarm():
    accuracy = {"gandl": 0.9, "gandl-random": 0.7}
    assert "as it should" in repr(narrate.separability(scores(accuracy | {"shuffled labels": 0.52})))
    assert "labels leak" in repr(narrate.separability(scores(accuracy | {"shuffled labels": 0.8})))


def test_the_probe_sentence_follows_the_curve():
    assert "taught the network" in repr(narrate.probe(stats(0.6, 0.95), 200))
    assert "bought nothing" in repr(narrate.probe(stats(0.6, 0.63), 50))
    assert "made the features worse" in repr(narrate.probe(stats(0.9, 0.55), 200))


def test_a_longer_run_has_its_own_panel_and_its_own_sentence():
    """One axis for both would press the short run against its left edge, and one verdict would hide the other."""
    short, long = stats(0.6, 0.62), stats(0.75, 0.95).assign(n_seen=lambda s: s["n_seen"] * 20)
    said = repr(narrate.probe(short, 75, long))
    assert said.index("bought nothing") < said.index("shipped run") < said.index("taught the network")
    figure = figures.probe_curve(short, 0.6, 0.914, long)
    reach = [max(axes.lines[0].get_xdata()) for axes in figure.axes]
    assert reach == [short["n_seen"].max() / 1000, long["n_seen"].max() / 1000]
    assert "75.0 % untrained, 95.0 %" in figure.alt


def test_half_precision_is_judged_over_the_whole_curve():
    """Both start alike, and the start does not count: 10 points at 77 wells are more than chance, 2 are not."""
    assert "cost nothing" in repr(narrate.precisions(two_precisions(0.9, 0.88)))
    lost = repr(narrate.precisions(two_precisions(0.9, 0.8)))
    assert "has cost accuracy" in lost and "10.0 points below" in lost
    assert "was ahead" in repr(narrate.precisions(two_precisions(0.8, 0.95)))


def test_longer_training_is_told_by_variant_and_screen():
    table = pd.concat([variants(default=(0.7, 0.9), narrow=(0.6, 0.8)).assign(screen=s) for s in ("near", "far")])
    table = table[table["tap"] == "blocks"]
    told = narrate.trained_longer(table)
    assert list(told["variant"]) == ["default", "default", "narrow", "narrow"] and "0" in list(told["images seen"])
    for screen in ("near", "far"):
        shown = told[f"{screen}; plates held out"]
        of = table[(table["screen"] == screen) & (table["split"] == "plate")]
        assert list(shown) == [str(narrate.Score.of(row)) for row in of.itertuples()]


def test_ways_are_columns_and_what_they_cost_the_last_row():
    rows = [
        (m, s, w, a, 0.03 * w)
        for m, a in (("gandl", 0.9), ("gandl-random", 0.7))
        for s in ("well", "plate")
        for w in (1, 2)
    ]
    table = pd.DataFrame(rows, columns=["method", "split", "ways", "accuracy", "cpu_seconds_a_site"])
    table = table.assign(ci_low=table["accuracy"] - 0.03, ci_high=table["accuracy"] + 0.03 / table["ways"])
    told = narrate.eight_ways(table)
    assert list(told.columns) == ["method", "held out", "as they lie", "2 ways"]
    for row in table.itertuples():
        of = told[(told["method"] == figures.name(row.method)) & (told["held out"] == f"{row.split}s")]
        assert of[{1: "as they lie", 2: "2 ways"}[row.ways]].item() == str(narrate.Score.of(row))
    assert list(told.iloc[-1][["as they lie", "2 ways"]]) == ["1.0", "2.0"]


def test_what_matters_sorts_the_variants_by_the_default():
    table = variants(default=(0.7, 0.9), narrow=(0.6, 0.8), wide=(0.95, 0.97), same=(0.88, 0.91))
    first, second = repr(narrate.what_matters(table, "plate")).splitlines()
    assert "The default reaches 90.0 % (87 to 93), untrained 70.0 %" in first
    assert "Worse: narrow (80.0 %). Better: wide (97.0 %). Not to be told from it: same (91.0 %)." in first
    assert "bought nothing sure with: wide and same." in first and second.startswith("- All layers")


def test_held_out_plates_position_and_normalisation_follow_theirs():
    known = scores({"gandl": 0.9})
    for new, said in ((0.6, "less than"), (0.9, "not to be told from"), (1.0, "more than")):
        table = pd.concat([known, scores({"gandl": new}, split="plate", half=0.01)])
        assert said in repr(narrate.held_out_plates(table))
    assert "too few plates" in repr(narrate.held_out_plates(known))
    hrce = positions().query("task == 'E2'")
    for drawn in (figures.axes_plot(hrce, "gandl", "C2"), figures.axes_of_all(hrce, "C2")):
        assert "both HRCE and VERO" in drawn.alt
    blind = positions().assign(on=np.nan)
    assert "does not order control wells" in figures.axes_plot(blind, "gandl", "C2").alt
    position, zones = scores({"position": 1.0}).iloc[:1], scores({"gandl": 0.95}).iloc[:1]
    assert "known to some degree" in repr(narrate.leaks(position, zones, zones))
    unseen = zones.assign(accuracy=0.6, ci_low=0.5, ci_high=0.7)
    assert repr(narrate.leaks(position, unseen, unseen)).count("no sign") == 2
    assert "lie farthest out" in repr(narrate.leaks(position, zones[:0], zones))
    assert "first vs last site of a well: not asked" in repr(narrate.leaks(position, zones, zones[:0]))
    right, wrong = scores({"gandl": 0.95}).iloc[:1], scores({"gandl": 0.5}).iloc[:1]
    assert "removed the very thing" in repr(narrate.cell_types_normalised(right, wrong))
    assert "goes unnoticed" in repr(narrate.cell_types_normalised(right, right))
    assert "no controls of both" in repr(narrate.cell_types_normalised(right[:0], wrong[:0]))


def test_an_axis_that_orders_nothing_is_called_noise():
    good = pd.concat([positions()] * 10)  # six test wells alone would prove nothing
    assert "60 of 60 test wells" in repr(narrate.axes(good)) and "noise" not in repr(narrate.axes(good))
    rng = np.random.default_rng(0)
    bad = good.assign(on=rng.standard_normal(len(good)))
    assert repr(narrate.axes(bad)).count("stretched noise") == 2
    scores_ = good.query("task == 'E2'").rename(columns={"on": "efficacy"})
    assert repr(narrate.efficacy(scores_)) == repr(narrate.axes(good))
    assert "no axis" in repr(narrate.axes(good.assign(on=np.nan)))


def test_tables_name_methods_as_figures_do_and_keep_the_paper_beside():
    ours = scores({"gandl": 0.8, "gandl-random": 0.7, "shuffled labels": 0.5})
    published = pd.DataFrame({"task": list(TASKS), "method": "GAN-DL", "accuracy": 0.914})
    unseen = ours.iloc[:3].rename(columns={"n_test_wells": "n_wells"}).drop(columns=["task", "split"])
    unseen_paper = pd.DataFrame({"method": ["GAN-DL"], "accuracy": [0.9268]})
    assert list(narrate.percents(unseen)["method"]) == ["GAN-DL", "untrained GAN-DL", "shuffled labels"]
    summary = narrate.summary(ours, published, None, {"unseen": unseen, "absent": None}, unseen_paper)
    assert list(summary.columns[:3]) == ["what", "GAN-DL", "paper"]
    assert summary.set_index("what").loc["unseen", ["GAN-DL", "paper"]].tolist() == ["80.0 % (75 to 85)", "92.7 %"]
    assert list(summary["what"]) == [*(f"{task}, wells held out" for task in TASKS), "unseen"]
    wide = narrate.beside_paper(ours, published)
    assert list(wide.columns) == ["method", *TASKS]
    wide = wide.set_index("method")
    assert (wide.loc["GAN-DL"] == "80.0 % (75 to 85) [91.4 %]").all() and (wide.loc["majority rate"] == "60.0 %").all()
    theirs = pd.concat([unseen_paper, pd.DataFrame({"method": ["DenseNet"], "accuracy": [0.8]})])
    beside = narrate.zero_shot_table({"unseen": unseen, "absent": None}, theirs).set_index("method")
    assert list(beside.columns) == ["unseen", "the paper, real RxRx1 cells"] and beside.index[-1] == "DenseNet"
    assert beside.loc["GAN-DL"].tolist() == ["80.0 % (75 to 85)", "92.7 %"]


def test_calibration_says_which_limit_broke():
    good = scores({"intensity": 0.7, "supervised": 0.97, "position": 1.0})
    assert "keeps to" in repr(narrate.calibration(good)) and "above" in repr(narrate.calibration(good))
    bad = repr(narrate.calibration(scores({"intensity": 0.9, "supervised": 0.9})))
    assert "breaks" in bad and "short of" in bad and "row and column" not in bad
    assert "no calibration table" in repr(narrate.calibration(None))


def test_hits_are_counted_against_the_truth():
    text = repr(narrate.hits(CURVE_TABLE, truth=TRUTH))
    assert "2 hits among 3 compounds, 2 of them rightly" in text and "misses 0 of 2" in text
    wrong = CURVE_TABLE.assign(hit=CURVE_TABLE["compound"].eq("sim-inert-02"))
    text = repr(narrate.hits(wrong, truth=TRUTH))
    assert "1 hit among 3 compounds, 0 of them rightly" in text and "misses 2 of 2" in text
    assert "no efficacy" in repr(narrate.hits(CURVE_TABLE.assign(efficacy_max=np.nan)))


def test_one_compound_in_words():
    text = repr(narrate.compounds_in_words(CURVE_TABLE, "sim-narrow-03", TRUTH))
    assert "is a hit" in text and "EC50 is 0.3 µM (from 0.15)" in text and "From 10 µM on it looks toxic" in text
    text = repr(narrate.compounds_in_words(CURVE_TABLE, "sim-inert-02", TRUTH))
    assert "no hit" in text and "do not make a curve" in text and "does nothing for infected cells" in text
    censored = CURVE_TABLE.assign(ec50_uM=np.nan, ec50_censored=">max")
    assert "above the highest dose" in repr(narrate.compounds_in_words(censored, "sim-narrow-03"))


def test_compounds_are_found_by_name_beginning_or_not_at_all():
    def find(wanted: str) -> str:
        return narrate.find_compound(wanted, CURVE_TABLE)

    assert find("sim-narrow-03") == find("SIM-Narrow-03") == find("sim-n") == "sim-narrow-03"
    assert find("") == "sim-antiviral-01"
    with pytest.raises(ValueError, match="'sim-' is not one compound but several; nearest of its 3: sim-antiviral-01"):
        find("sim-")
    with pytest.raises(ValueError, match="'narow-03' is no compound of this screen; nearest of its 3: sim-narrow-03"):
        find("narow-03")
    with pytest.raises(ValueError, match="Remdesivir.*no compound"):
        find("Remdesivir")


def test_rise_and_fall_are_those_that_pass_the_threshold_and_turn_toxic():
    assert narrate.rise_and_fall(CURVE_TABLE) == [("HRCE", "sim-narrow-03")]
    assert "1 rise and fall, among 3 compounds: sim-narrow-03 in HRCE" in repr(narrate.turned(CURVE_TABLE))
    assert "no compound" in repr(narrate.turned(CURVE_TABLE.assign(toxic_from_uM=np.nan)))
    assert narrate.top(CURVE_TABLE, 2) == [("HRCE", "sim-antiviral-01"), ("HRCE", "sim-narrow-03")]


def test_ranking_sentences_name_who_is_ahead():
    def compared(gandl: float, intensity: float) -> pd.DataFrame:
        rows = [("gandl", "HRCE", 20, gandl), ("intensity", "HRCE", 20, intensity)]
        return pd.DataFrame(rows, columns=["method", "cell_type", "n_compounds", "auroc"])

    assert "ahead of" in repr(narrate.against_truth(compared(0.9, 0.6)))
    assert "behind" in repr(narrate.against_truth(compared(0.6, 0.9)))
    assert "no ranking" in repr(narrate.against_truth(compared(np.nan, 0.9)))
    assert "Nobody knows" in repr(narrate.against_truth(None))


def test_explained_variance_is_that_of_the_groups(rng):
    profiles = make_profiles(plate_effect=3.0, seed=1)
    X = profiles.X - profiles.X.mean(0)
    X = X / X.std(0)
    means = {p: X[(profiles.obs["plate_id"] == p).to_numpy()].mean(0) for p in set(profiles.obs["plate_id"])}
    between = sum((means[p] ** 2).sum() for p in profiles.obs["plate_id"])
    assert explained(profiles, "plate_id") == pytest.approx(between / (X**2).sum(), rel=1e-4)


def test_batch_mates():
    x = np.random.default_rng(0).standard_normal((4, 3))
    assert "does not depend" in repr(narrate.batch_mates(x, x * (1 + 1e-7)))
    assert "verdict of an image depends" in repr(narrate.batch_mates(x, x + 0.1, "verdict"))


# ---- leaks ----


def test_position_gives_confounded_labels_away_and_nothing_else():
    profiles = make_profiles("gandl", roles={"C+": 16, "C-": 32}, seed=2)
    column = np.where(profiles.obs["role"] == "C+", 8, 9 + profiles.obs.groupby("plate_id").cumcount() % 20)
    row = [letters(k) for k in profiles.obs.groupby("plate_id").cumcount() // 2 % 26]
    confounded = profiles.copy()
    confounded.obs["well"] = [f"{r}{c:02d}" for r, c in zip(row, column, strict=True)]
    # Sites of a well must share its place.
    confounded.obs["well"] = confounded.obs.groupby("well_id")["well"].transform("first")
    table = leaks.position(confounded)
    assert set(table["method"]) == {"position"} and (table["accuracy"] > 0.95).all()
    assert set(np.unique(leaks.position_only(confounded).X)) == {0, 1}


def test_zones_see_position_only_where_features_hold_it():
    profiles = make_profiles("gandl", roles={"C+": 8, "C-": 60}, plate_effect=0, seed=3)
    blind = leaks.zones([profiles])
    assert blind["ci_low"].item() < blind["majority_rate"].item()
    at = np.array([leaks.place(well) for well in profiles.obs["well"]], float)
    middle = (at.min(0) + at.max(0)) / 2
    outward = (np.abs(at - middle) / np.maximum(at.max(0) - middle, 1)).max(1)
    knowing = profiles.copy()
    knowing.X[:, 0] = 10 * outward
    seen = leaks.zones([knowing])
    assert seen["accuracy"].item() > 0.9
    assert set(seen["task"]) == {leaks.ZONE}


def test_normalising_plates_destroys_cell_types():
    right, wrong = leaks.cell_types(make_profiles("gandl", seed=4))
    assert right["accuracy"].item() > 0.95
    assert wrong["accuracy"].item() < 0.75
    assert all(table.empty for table in leaks.cell_types(make_profiles("gandl", plates={"HRCE": 1})))


# ---- comparison of methods ----


def test_differences_are_the_others_lead_whichever_way_they_were_written():
    turned = figures.against(PAIRED, "gandl", "C+ vs C-").set_index("other")["difference"]
    assert turned.to_dict() == pytest.approx({"intensity": -0.1, "convae": -0.01, "supervised": 0.08})
    assert (figures.against(PAIRED, "intensity", "C+ vs C-")["difference"] == 0.1).all()


def test_pairs_say_better_worse_and_noise():
    said = repr(narrate.pairs(PAIRED))
    assert "Better than it: supervised baseline (+8.0 points, p = 0.004)" in said
    assert "Worse than it: intensity statistics (-10.0 points, p < 0.001)" in said
    assert "neither: ConvAE (-1.0 points, p = 0.6)" in said
    assert "Of 3 comparisons of equals, 0.2 would" in said
    assert "nothing to compare" in repr(narrate.pairs(None)) and "nothing" in repr(narrate.pairs(PAIRED, "position"))
    assert "no plate could be held out" in repr(narrate.pairs(PAIRED, split="plate"))


def test_a_second_seed_keeps_unsettles_or_reverses_a_comparison():
    now, then = scores({"gandl": 0.9}), scores({"gandl": 0.8})
    again = PAIRED.assign(difference=[0.1, -0.08, 0.03], p_value=[0.001, 0.001, 0.01])  # here GAN-DL leads all three
    said = repr(narrate.second_seed(now, PAIRED, then, again))
    assert "GAN-DL reads 90.0 % (85 to 95) here, 80.0 % (75 to 85) there. 1 of 3 comparisons" in said
    assert "Sure in one screen only: ConvAE (within noise here, worse there)." in said
    assert "Reversed: supervised baseline." in said and "Plates" not in said
    same = repr(narrate.second_seed(now, PAIRED, then, PAIRED))
    assert "3 of 3 comparisons" in same and "No sure difference turns round" in same and "only" not in same
    turned = PAIRED.rename(columns={"method": "other", "other": "method"}).assign(difference=-PAIRED["difference"])
    assert repr(narrate.second_seed(now, PAIRED, then, turned)) == same
    assert "nothing to compare" in repr(narrate.second_seed(now, None, then, PAIRED))


def test_few_labels_are_enough_where_the_worst_draw_beats_the_majority():
    table = narrate.few_labels(SIZE_TABLE).set_index("method")
    assert table.loc["GAN-DL"].tolist() == ["64", "80.0 %", "80.0 %"]
    assert table.loc["intensity statistics"].tolist() == ["never", None, "60.0 %"]
    assert narrate.few_labels(None) is None


def test_costs_that_nobody_recorded_are_called_so():
    shown = narrate.cost_table(COST).set_index("method")
    assert shown.loc["GAN-DL", "peak memory (MB)"] == "not recorded"
    assert shown.loc["untrained GAN-DL", "training (minutes)"] == "–"
    assert shown.loc["supervised baseline", "labels learnt"] == "compound"


def test_missing_rows_are_named_and_random_weights_are_no_substitute():
    p = [make_profiles("gandl"), make_profiles("convae")]
    assert "All of them" in repr(narrate.counterparts(p, ("gandl", "convae")))
    said = repr(narrate.counterparts(p, ("convae", "imagenet-collapsed")))
    assert "lacks ImageNet-collapsed" in said and "Random weights under that name would be a lie" in said


def test_replicates_stand_beside_chance():
    shown = narrate.replicates(REPLICATES).set_index("method").round(2)
    assert shown.loc["GAN-DL"].to_dict() == {"all doses": 0.26, "highest dose": 0.30, "random ranking": 0.12}
    assert list(shown.index) == [figures.name(m) for m in REPLICATES["method"].unique()]
    assert narrate.replicates(None) is None


def test_ranks_follow_the_intervals():
    table = scores({"gandl": 0.8, "supervised": 0.99, "convae": 0.6, "intensity": 0.79, "shuffled labels": 0.3}).iloc[
        :5
    ]
    said = repr(narrate.ranks(table[table["task"] == table["task"].iloc[0]], "simulated cells"))
    assert "Above it: supervised baseline" in said and "Below it: ConvAE" in said
    assert "Not to be told from it: intensity statistics" in said and "shuffled" not in said
    assert "no simulated cells" in repr(narrate.ranks(None, "simulated cells"))


def test_no_line_of_prose_ends_between_a_number_and_its_percent_sign():
    for output in (words.say("94.6 % and", "70 %."), words.points("94.6 % and", "70 %.")):
        said = output.bundle["text/markdown"]
        assert said.count("\N{NO-BREAK SPACE}%") == 2 and " %" not in said
        assert repr(output).count(" %") == 2  # a terminal breaks lines anyway


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("multi_crop", [False, True])
@pytest.mark.parametrize("paradigm", ["weak", "autoencoder", "regularised", "byol"])
def test_a_setup_is_called_the_same_by_its_name_as_by_its_row(paradigm, augment, multi_crop):
    method = "-".join([paradigm, *["augment"] * augment, *["crops"] * multi_crop])
    row = SimpleNamespace(paradigm=paradigm, augment=augment, multi_crop=multi_crop, published=False)
    assert paradigms.run_name(method) == paradigms.setup_name(row)
    assert paradigms.run_name("gandl") == "GAN-DL"


def test_measures_of_the_axis_are_named_in_words():
    """No column's name stands on a page: neither in the figure nor in the sentences."""
    effects = chapters.recorded("axis_effects")
    said = repr(narrate.axis_effects(effects)) + narrate.beside_axis(effects).to_string()
    said += str([t.get_text() for t in figures.axis_effects(effects, "simulated").axes[0].get_yticklabels()])
    assert "ER grain" in said and "_" not in said
