"""Wells on the axes from sick to healthy, and the efficacy scores made of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gandl_lib.plots.page import BLACK, CYCLE, GREY, ROLES, canvas, drawn, empty, name


def span(values: pd.Series, limit: float) -> tuple[float, float]:
    """Ends of an axis that shows all but the outermost values, and nothing beyond +-`limit`."""
    low, high = np.quantile(values, [0.005, 0.995])
    margin = 0.08 * (high - low)
    return max(low - margin, -limit), min(high + margin, limit)


@drawn
def efficacy_plot(efficacy: pd.DataFrame, method: str) -> Figure:
    """Efficacy scores of all wells, a panel a cell type: a dot a well, a bar the mean of its role.

    Args:
        efficacy: efficacy.csv: method, cell_type, role, efficacy.
    """
    part = efficacy[efficacy["method"] == method].dropna(subset=["efficacy"])
    if part.empty:
        return empty(f"{name(method)} has no efficacy scores: it does not order control wells it has not seen.")
    cell_types = sorted(part["cell_type"].unique())
    roles = [role for role in ("C+", "UV", "C-", "treated") if (part["role"] == role).any()]
    figure, grid = canvas(1.75 * len(cell_types) + 0.5, len(cell_types), 1, sharex=True)
    rng, words = np.random.default_rng(0), []
    for axes, cell_type in zip(grid[:, 0], cell_types, strict=True):
        for y, role in enumerate(roles):
            x = part.loc[(part["cell_type"] == cell_type) & (part["role"] == role), "efficacy"].to_numpy()
            if len(x):
                axes.scatter(x, y + rng.uniform(-0.28, 0.28, len(x)), s=7, color=ROLES[role], alpha=0.5, linewidth=0)
                axes.plot([x.mean()] * 2, [y - 0.36, y + 0.36], color=BLACK, linewidth=1.6)
                words.append(f"{cell_type}, {role} mean {x.mean():.2f} of {len(x)} wells")
        axes.axvline(0, color=GREY, linewidth=0.9)
        axes.set_yticks(range(len(roles)), roles)
        axes.set_ylim(len(roles) - 0.5, -0.5)
        axes.set_title(cell_type, loc="left")
        axes.grid(axis="x")
    axes.set(xlim=span(part["efficacy"], 6), xlabel="efficacy score (C- at -1, C+ at +1, threshold 0)")
    figure.alt = f"Efficacy scores of wells by {name(method)}: {'; '.join(words)}."
    return figure


@drawn
def trend(controls: pd.DataFrame) -> Figure:
    """Z' from plate to plate.

    Args:
        controls: rows of controls.csv, a plate each, of one method: cell_type, plate_id, z_prime.
    """
    figure, ((axes,),) = canvas(2.2)
    ids = list(dict.fromkeys(controls["plate_id"]))
    words = []
    for k, (cell_type, part) in enumerate(controls.groupby("cell_type", sort=False)):
        at = [ids.index(plate) for plate in part["plate_id"]]
        axes.plot(at, part["z_prime"], "o-", color=CYCLE[k % len(CYCLE)], label=cell_type)
        ends = f"{part['z_prime'].iloc[0]:.2f} on the first to {part['z_prime'].iloc[-1]:.2f} on the last"
        words.append(f"{cell_type} from {ends} of {len(part)} plates")
    axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes.axhline(0, color=GREY, linewidth=0.8)
    few = range(0, len(ids), max(1, len(ids) // 8))
    axes.set_xticks(few, [ids[i] for i in few], rotation=20, ha="right")
    axes.set(ylabel="Z′", ylim=(min(-0.2, 1.1 * controls["z_prime"].min()), 1))
    axes.legend()
    figure.alt = f"Z′ by plate: {'; '.join(words)}. Dotted is 0.5, above which single wells can be trusted."
    return figure
