"""Cells that a generator moves along an axis (`gandl_lib.explain`): strips of them, and what these show and do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gandl_lib.plots.images import composite, picture, shown
from gandl_lib.plots.page import PALE, WIDTH, canvas, drawn, empty, maybe_simulated
from gandl_lib.plots.words import Output, count, hundredths, listing, points, thousands

SAME, AGAINST, MISSED, ONLY = "as in the wells", "the other way", "not drawn", "drawn only"
STYLEGAN2_CROPS = 25_000_000
"""Images that the published StyleGAN2 was shown (Karras et al. 2020)."""


# ---- pictures ----


@drawn
def axis_strip(
    images: np.ndarray | None, channels: Sequence[str], pixel_um: float | None = None, what: str = "One generated cell"
) -> Figure:
    """One cell moved along the axis, a row a channel, and its last less its first.

    Args:
        images: (5, C, R, R) in [-1, 1].
        pixel_um: for a scale bar, in the first picture.
        what: what it is a picture of, for the words.
    """
    if images is None:
        return empty("No strip in this build: its controls set no axis, or its generator does not move along it.")
    images = shown(images)
    figure, grid = canvas(WIDTH / (len(images) + 1) * len(channels) + 0.3, len(channels), len(images) + 1)
    for row, (axes_row, channel) in enumerate(zip(grid, channels, strict=True)):
        for axes, image, place in zip(axes_row, images[:, row], np.linspace(-1, 1, len(images)), strict=False):
            picture(axes, image, pixel_um if axes is grid[0, 0] else None)
            if row == 0:
                axes.set_title(_place(place), fontsize=9)
        axes_row[-1].imshow(images[-1, row] - images[0, row], cmap="RdBu_r", vmin=-0.3, vmax=0.3)
        axes_row[-1].set(xticks=[], yticks=[])
        axes_row[-1].spines[:].set(visible=True, color=PALE)
        axes_row[0].set_ylabel(channel)
    grid[0, -1].set_title("difference", fontsize=9)
    figure.alt = f"{what} moved along the axis from -1 to +1, rows {', '.join(channels)}, and the difference."
    return figure


@drawn
def composite_strips(
    groups: Mapping[str, np.ndarray],
    real: Mapping[str, np.ndarray],
    channels: Sequence[str],
    pixel_um: float,
    simulated: bool,
) -> Figure:
    """Colour composites of several cells moved along the axis, a row a cell. The first picture has a scale bar.

    Args:
        groups: label -> (N, 5, C, R, R) in [-1, 1].
        real: label -> the N real cells (N, C, R, R) that the group's began as, where there are any.
    """
    rows = [(label, k, strip) for label, strips in groups.items() for k, strip in enumerate(strips)]
    n = len(rows[0][2])
    figure, grid = canvas(WIDTH / (n + 1) * len(rows) + 0.2, len(rows), n + 1)
    figure.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    for axes_row, (label, k, strip) in zip(grid, rows, strict=True):
        for axes, image in zip(axes_row[1:], strip, strict=True):
            picture(axes, composite(shown(image), channels), pixel_um if axes is grid[0, 1] else None)
        if label in real:
            picture(axes_row[0], composite(shown(real[label][k]), channels))
        else:
            axes_row[0].set(xticks=[], yticks=[])
            axes_row[0].set_box_aspect(1)
            axes_row[0].spines[:].set_visible(False)
        axes_row[0].set_ylabel(label, fontsize=9)
    grid[0, 0].set_title("as it is", fontsize=9)
    for axes, place in zip(grid[0, 1:], np.linspace(-1, 1, n), strict=True):
        axes.set_title(_place(place), fontsize=9)
    what = " and ".join(f"{len(strips)} {label}" for label, strips in groups.items())
    figure.alt = maybe_simulated(
        simulated,
        f"Colour composites of {', '.join(channels)}: cells moved along the axis in {n} steps from C- to C+, a row "
        f"each, {what}.",
    )
    return figure


def _place(on_axis: float) -> str:
    return f"{on_axis:+g}" if on_axis else "0"


# ---- words ----


def measure_name(measure: str) -> str:
    """How a measure of `gandl_lib.explain.measure` is called: without its unit, for changes are given in deviations."""
    return measure.removesuffix("_um").removesuffix("_um2").replace("_", " ")


def measure_names(measures: Iterable[str]) -> str:
    return listing([measure_name(m) for m in measures]) or "none"


def surely(rows: pd.DataFrame) -> dict[str, bool]:
    """Measures whose interval leaves out zero, and whether they rise."""
    sure = rows[(rows["low"] > 0) | (rows["high"] < 0)]
    return dict(zip(sure["measure"], sure["change"] > 0, strict=True))


def verdicts(effects: pd.DataFrame) -> dict[str, str]:
    """What cells drawn along the axis show of a measure beside wells, for those that change in either.

    Args:
        effects: of one axis, with columns `explain.HEADER`.
    """
    real, made = (surely(effects[effects["what"] == what]) for what in ("real", "generated"))

    def verdict(measure: str) -> str:
        if measure not in made:
            return MISSED
        return ONLY if measure not in real else SAME if made[measure] == real[measure] else AGAINST

    return {measure: verdict(measure) for measure in dict.fromkeys([*real, *made])}


def deviations(rows: pd.DataFrame) -> list[str]:
    """Changes with their intervals in standard deviations of crops of C- wells, as text."""
    change, low, high = (rows[c] / rows["spread"] for c in ("change", "low", "high"))
    return [f"{c:+.2f} ({a:+.2f} to {b:+.2f})" for c, a, b in zip(change, low, high, strict=True)]


def what_changes(effects: pd.DataFrame, moves: pd.DataFrame) -> Output:
    """How far cells went on the axis, what changed in them and in the wells, whether they stayed themselves.

    Args:
        effects, moves: of one axis, from `explain.explain`.
    """
    ways = moves.assign(reached=moves["score_after"] - moves["score_before"]).set_index("what")

    def way(what: str) -> str:
        before, after = (hundredths(ways.loc[what, f"score_{end}"]) for end in ("before", "after"))
        return f"{hundredths(ways.loc[what, 'reached'])} (from {before} to {after})"

    asked = ways.loc["generated", "predicted"]
    moved = f"**How far.** Asked to move by {asked:g} along the axis of {effects['cell_type'].iloc[0]}, from C- to C+,"
    moved += f" drawn cells moved by {way('generated')}, and C- cells of the screen, drawn again, by {way('inverted')}."
    names = {"generated": "drawn cells", "inverted": "cells drawn again"}
    short = [name for what, name in names.items() if ways.loc[what, "reached"] < asked / 2]
    if short:
        moved += (
            f" **{listing(short).capitalize()} came less than half of the way: what tells the controls apart is not"
        )
        moved += " in their pictures.**"
    found = verdicts(effects)
    by = {verdict: [m for m, v in found.items() if v == verdict] for verdict in (SAME, AGAINST, MISSED, ONLY)}
    n_real = len(found) - len(by[ONLY])
    differ = f"**What changes.** C+ wells differ from C- wells beyond chance in {n_real} of "
    differ += count(effects["measure"].nunique(), "measure")
    if n_real:
        same = f"change {len(by[SAME])} of them the same way"
        if by[SAME]:
            change = effects[effects["measure"].isin(by[SAME])].pivot(index="measure", columns="what", values="change")
            part = (change["generated"] / change["real"]).median()
            same += f" ({measure_names(by[SAME])}; by {100 * part:.0f} % of the true difference, in the median)"
        against = f"{len(by[AGAINST])} the other way" + f" ({measure_names(by[AGAINST])})" * bool(by[AGAINST])
        missed = f"{len(by[MISSED])} by no more than chance" + f" ({measure_names(by[MISSED])})" * bool(by[MISSED])
        differ += f". Drawn cells {listing([same, against, missed])}"
    control = len(surely(effects[effects["what"] == "control"]))
    only = f"**What is only drawn.** {count(len(by[ONLY]), 'measure')} that the wells do not change; a direction that"
    only += f" should change none changes {control}."
    kept = [f"{100 * ways.loc[what, 'identity']:.0f} %" for what in names]
    itself = f"**Still itself.** After the move {kept[0]} of the drawn cells and {kept[1]} of those drawn again are"
    itself += " most like themselves in what the axis does not measure"
    itself += ", as cells that hardly move must be." if short else "."
    return points(moved, differ + ".", only, itself)


def change_table(effects: pd.DataFrame) -> pd.DataFrame:
    """Measures that change between real controls or along the axis, the largest differences of wells first."""
    found = verdicts(effects)
    titles = {"real": "wells, C+ less C-", "generated": "drawn cells", "inverted": "cells drawn again"}
    titles |= {"control": "control direction"}
    real = effects[effects["what"] == "real"].set_index("measure")
    size = (real["change"] / real["spread"]).abs().reindex(list(found)).sort_values(ascending=False)
    columns = {}
    for what, title in titles.items():
        rows = effects[effects["what"] == what]
        columns[title] = pd.Series(deviations(rows), rows["measure"], dtype=object).reindex(size.index)
    table = pd.DataFrame(columns).astype(object).where(lambda known: known.notna(), None)
    table.insert(0, "measure", [measure_name(m) for m in size.index])
    table.insert(1, "the generator shows it", [found[m] for m in size.index])
    return table.reset_index(drop=True)


def what_to_distrust(moves: pd.DataFrame, n_seen: int) -> Output:
    """What no strip shows, and what is weak about this one.

    Args:
        n_seen: crops that the generator was trained on.
    """
    doubts = [
        "**A phenotype that the generator dropped in training shows nowhere.** What these cells do not show may be in"
        " the wells all the same.",
        f"**Little training.** This generator has seen {thousands(n_seen)} crops, StyleGAN2 as published"
        f" {thousands(STYLEGAN2_CROPS)}: what it has not learnt to draw it cannot move.",
    ]
    before = moves.set_index("what").loc["generated", "score_before"]
    if abs(before + 1) > 1:
        doubts.append(
            f"**Drawn cells do not begin at C-.** Before the move they lie at {hundredths(before)}, where C- wells have"
            " -1: to the network they are drawings, and the axis was not made for these."
        )
    doubts.append(
        "**A moved score is not a moved cell.** Where score and measures disagree, believe the measures; and of twenty"
        " 95 % intervals one leaves out zero by chance."
    )
    return points(*doubts)
