"""What a screen of hundreds of thousands of sites would cost, in words."""

from __future__ import annotations

import pandas as pd

from gandl_lib.plots.page import Output
from gandl_lib.plots.words import count, listing, say


def throughput(rates: pd.DataFrame) -> Output:
    """How the stages compare with the decoder alone (`throughput.rates`)."""
    by_stage = rates.set_index("stage")
    speed, cores = by_stage["per_second"] / by_stage["cores"], int(by_stage.loc["embed", "cores"])
    return say(
        "On one core of the machine that made this page, decoding alone went through",
        f"{speed['decode'] / 1e6:.1f} million pixels a second, packing through {speed['shard'] / 1e6:.1f} million",
        f"({100 * speed['shard'] / speed['decode']:.0f} % of the decoder's speed), and reading what is packed through",
        f"{speed['read'] / 1e6:.1f} million. The network embedded {speed['embed']:.0f} crops a second",
        "on one core." if cores == 1 else f"and core, with {cores} at work.",
        "These are timings of a few sites, on a machine that may have done other things as well.",
    )


def cost_of_screen(cost: pd.DataFrame, sites: int) -> Output:
    """What `throughput.cost` comes to, and what stands behind it."""
    by_stage = cost.set_index("stage")
    yours = by_stage.loc["embed", "device"] == "your device"
    if yours:
        source = f"The rate of embedding, {by_stage.loc['embed', 'per_second']:.0f} crops a second, is the one given."
    else:
        source = (
            "**No GPU was measured**: these are cores of this machine, and the rate of a GPU of yours goes into the "
            "parameter `crops_per_second`."
        )
    return say(
        f"At these rates, {sites:,} sites take {_times(by_stage.loc['shard'], 'core')} to pack, and",
        f"{_times(by_stage.loc['embed'], 'device' if yours else 'core')} to embed. {source}",
        "Both are divided by the number of devices, as no site waits for another. Training is not in it: it costs what",
        "one chooses to show it.",
    )


def plan(table: pd.DataFrame) -> Output:
    """What `throughput.plan` comes to for each screen at its sizes, and what it rests on."""
    said = []
    for name, rows in table.groupby("screen", sort=False):
        sizes = [f"{_time(r.hours)} on {_size(r.nodes, r.gpus)} ({WAITS[r.bottleneck]})" for r in rows.itertuples()]
        first = rows.iloc[0]
        said.append(f"**{name}**, {first['sites']:,} sites: {listing(sizes)}, for about ${first['price']:,.0f}.")
    no_gpu = "**No GPU was measured, so none is in it**: the nodes' cores embed. " if (table["gpus"] == 0).all() else ""
    return say(
        *said,
        f"{no_gpu}Rates are those above; the network's speed and the prices ({table['priced_on'].iloc[0]}) are",
        "assumptions, and the number of JUMP-CP's sites is an estimate from its size. Eight nodes cost as much as one,",
        "for each works an eighth as long. Training is not in it.",
    )


WAITS = {"fetch": "it waits for the network", "shard": "it waits for packing", "embed": "it waits for embedding"}


def _size(nodes: int, gpus: int) -> str:
    return count(nodes, "node") + (f" and {count(gpus, 'GPU')}" if gpus else "")


def _times(row: pd.Series, device: str) -> str:
    """`3.0 hours on 1 core and 23 minutes on 8 cores`."""
    hours = {int(name.removeprefix("hours_on_")): h for name, h in row.items() if str(name).startswith("hours_on_")}
    return listing([f"{_time(h)} on {n} {device}{'s' if n > 1 else ''}" for n, h in hours.items()])


def _time(hours: float) -> str:
    """Hours as people say them."""
    if hours < 1:
        return f"{max(1, round(60 * hours))} minutes"
    return f"{hours:.1f} hours" if hours < 72 else f"{hours / 24:.0f} days"
