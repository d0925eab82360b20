"""Which hits to believe: chapter 11."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gandl_lib.evaluate.hits import ALPHA, CALLERS
from gandl_lib.plots.page import CYCLE, GREY, PALE, canvas, drawn, empty, name

MARKS = "osD^vP*Xh<>pd"
EFFECTS = {"slight": "10 to 35 %", "half": "35 to 65 %", "strong": "more than 65 %", "kills": "kills cells"}
"""How much of the infection is gone at a dose, as `benchmarks/hit_calling.py` sorts doses."""


def look(caller: str) -> dict[str, str]:
    """The same colour and marker of a caller in every figure."""
    k = CALLERS.index(caller)
    return {"color": CYCLE[k % len(CYCLE)], "marker": MARKS[k]}


@drawn
def called_by_all(table: pd.DataFrame, what: str = "q_value") -> Figure:
    """A line a compound and dose, the least q first; a column a caller, dark where q is small. One method."""
    if table.empty:
        return empty("No compound was judged.")
    label = table["compound"] + np.where(
        table["concentration_uM"].notna(), " " + table["concentration_uM"].map("{:g}".format) + " µM", ""
    )
    callers = [c for c in CALLERS if c in set(table["caller"])]
    wide = (
        table.assign(label=label)
        .pivot_table(index="label", columns="caller", values=what, sort=False)
        .reindex(
            columns=callers  # one that could not be asked is all NaN, and a pivot drops it
        )
    )
    wide = wide.loc[wide.min(axis=1).sort_values(kind="stable").index]
    figure, ((axes,),) = canvas(0.9 + 0.19 * len(wide))
    shown = -np.log10(np.clip(wide.to_numpy(float), 1e-4, 1))
    image = axes.imshow(shown, aspect="auto", cmap="Greys", vmin=0, vmax=4)
    for i, j in np.argwhere(wide.to_numpy(float) < ALPHA):
        axes.plot(j, i, "o", color="white", markersize=3)
    axes.set_xticks(range(len(callers)), callers, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(len(wide)), wide.index, fontsize=7)
    figure.colorbar(image, label="-log10 q", shrink=0.6)
    counts = [f"{c} {int((wide[c] < ALPHA).sum())}" for c in callers]
    figure.alt = f"q of {len(wide)} doses by each caller; hits: {', '.join(counts)}."
    return figure


@drawn
def false_positives(table: pd.DataFrame, method: str, replicates: int = 3) -> Figure:
    """Share of what does nothing that is called at 5 %, by the number of controls; a line a caller."""
    part = table[(table["measure"] == "fpr") & (table["method"] == method) & (table["replicates"] == replicates)]
    if part.empty:
        return empty()
    figure, ((axes,),) = canvas(2.8)
    said, callers = [], [c for c in CALLERS if c in set(part["caller"])]
    for k, caller in enumerate(callers):
        one = part[part["caller"] == caller].sort_values("controls")
        x = np.log2(one["controls"]) + 0.07 * (k - len(callers) / 2)
        axes.errorbar(x, one["value"], [one["value"] - one["low"], one["high"] - one["value"]], label=caller,
                      linestyle="", linewidth=1, markersize=4, **look(caller))  # fmt: skip
        said.append(f"{caller} {one['value'].iloc[-1]:.2f}")
    axes.axhline(ALPHA, color=GREY, linestyle=":")
    ticks = sorted(part["controls"].unique())
    axes.set_xticks(np.log2(ticks), [f"{t:g}" for t in ticks])
    axes.set(xlabel="C- wells on each plate", ylabel="called, of what\ndoes nothing", ylim=(0, None))
    figure.legend(loc="outside right center", fontsize=8)
    figure.alt = f"False-positive rate at 5 % by {name(method)}, with most controls: {', '.join(said)}."
    return figure


@drawn
def power_by_effect(table: pd.DataFrame, methods: list[str], controls: int = 32, replicates: int = 3) -> Figure:
    """A panel a method: power at equal error by the size of the effect; a line a caller."""
    part = table[(table["measure"] == "power") & (table["controls"] == controls) & (table["replicates"] == replicates)]
    methods = [m for m in methods if m in set(part["method"])]
    if not methods:
        return empty()
    figure, grid = canvas(3.0, 1, len(methods), sharey=True)
    said = []
    for axes, method in zip(grid[0], methods, strict=True):
        one = part[part["method"] == method]
        axes.axhline(ALPHA, color=PALE, linestyle=":")
        callers = [c for c in CALLERS if c in set(one["caller"])]
        for k, caller in enumerate(callers):
            row = one[one["caller"] == caller].set_index("effect").reindex(EFFECTS)
            x = np.arange(len(EFFECTS)) + 0.07 * (k - len(callers) / 2)
            axes.errorbar(x, row["value"], [row["value"] - row["low"], row["high"] - row["value"]], linewidth=0.8,
                          linestyle="", markersize=3.5, label=caller, **look(caller))  # fmt: skip
            said.append(f"{name(method)}, {caller}: {row['value'].get('strong', np.nan):.2f}")
        axes.set_xticks(range(len(EFFECTS)), list(EFFECTS), rotation=30, ha="right", fontsize=8)
        axes.set_title(name(method), fontsize=9)
    grid[0, 0].set(ylabel="found", ylim=(-0.03, 1.03))
    handles = {line.get_label(): line for axes in grid[0] for line in axes.get_legend_handles_labels()[0]}
    figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=4, fontsize=8)
    figure.alt = f"Power at equal error for strong effects: {'; '.join(said)}."
    return figure


@drawn
def power_by_design(table: pd.DataFrame, method: str, effect: str = "strong") -> Figure:
    """Power for one class of effects, by controls on a plate (three wells a dose) and by wells a dose."""
    part = table[(table["measure"] == "power") & (table["method"] == method) & (table["effect"] == effect)]
    if part.empty:
        return empty()
    most = part["controls"].max()
    figure, grid = canvas(2.9, 1, 2, sharey=True)
    said = []
    for axes, along, kept in ((grid[0, 0], "controls", part["replicates"] == 3),
                              (grid[0, 1], "replicates", part["controls"] == most)):  # fmt: skip
        for caller in [c for c in CALLERS if c in set(part["caller"])]:
            one = part[kept & (part["caller"] == caller)].sort_values(along)
            axes.plot(one[along], one["value"], label=caller, markersize=4, linewidth=1, **look(caller))
            if along == "controls":
                said.append(f"{caller} {one['value'].iloc[0]:.2f} to {one['value'].iloc[-1]:.2f}")
        axes.set_xticks(sorted(part[kept][along].unique()))
    grid[0, 0].set(xlabel="C- wells on each plate", ylabel="found", ylim=(-0.03, 1.03))
    grid[0, 1].set_xlabel("wells of a dose")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    figure.alt = f"Power for {effect} effects by {name(method)} from fewest to most controls: {', '.join(said)}."
    return figure
