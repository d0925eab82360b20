"""How fast every stage goes here and now, and what a screen of another size would cost at that speed.

Four stages look at every pixel of a screen once. Each is timed on a few sites of the screen at hand:

* `decode`  files to pixels: what the image format's decoder takes, and nobody can do without.
* `shard`   `shards.write` with one worker: decoding, counting grey values, compressing, writing.
* `read`    shards to pixels.
* `embed`   `embed.embed`: reading, cropping, the network.

**What a screen of N sites costs.** The first three do the same work for every pixel, the last for every crop, so with
rates r per second and device

    seconds = N * values per site / r / devices            decode, shard, read; C H W values a site
    seconds = N * crops per site / r / devices             embed

Sites do not depend on each other, and `gandl embed --part` shares them out; so devices are taken to divide the time.
Left out are the way from a store to its readers, and what a shared machine does besides. Pixels are taken to cost what
these cost, and to be as large as those the network was made for.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from gandl_lib import datasets
from gandl_lib.embed import crop_plan, embed
from gandl_lib.shards import Shards, write

RXRX19A_SITES, RXRX19A_SHAPE = 305_520, (5, 1024, 1024)
"""Sites, and (C, H, W) of each, of the screen of Mascolini et al. 2022."""


def rates(
    data: str | Path, shards: Shards, method: nn.Module, provenance: dict[str, Any], sites: int = 24
) -> pd.DataFrame:
    """Time the four stages on this machine.

    Args:
        data: the screen's own folder, from which `shards` were made.
        shards: the same as shards.
        method, provenance: as `embed.open_method` gives them.
        sites: how many to time each stage on, spread over the screen.

    Returns:
        One row a stage: `stage`, `sites_per_second`, `per_second` (values, or crops for `embed`), `unit`, and `cores`
        that it kept busy.

    Raises:
        ValueError: `data` is not the folder that the shards were made from, or fewer than one site is asked for.
    """
    if sites < 1:
        raise ValueError(f"sites must be at least 1; found {sites}.")
    data, layout = Path(data), datasets.open_layout(data)
    chosen = np.unique(np.linspace(0, len(shards) - 1, sites).astype(int))
    rows = shards.wells.iloc[chosen].reset_index(drop=True)
    if not np.array_equal(layout.read(rows.iloc[0]), shards.read(chosen[0])):
        raise ValueError(f"{shards.path} was not made from {data}: the first image differs.")
    mask = np.zeros(len(shards), bool)
    mask[chosen] = True

    def decode() -> None:
        for row in rows.itertuples():
            layout.read(row)

    def shard() -> None:
        nothing = pd.DataFrame(columns=["site_id", "reason"])
        with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as silent:
            with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
                write(data, Path(folder, "s.zarr"), sites=(rows, nothing), workers=1)

    def read() -> None:
        for i in chosen:
            shards.read(i)

    def embedding() -> dict[str, Any]:
        return embed(method, shards, provenance=provenance, sites=mask, progress=False).uns

    embed(method, shards, provenance=provenance, sites=np.arange(len(shards)) == chosen[0], progress=False)  # warms up
    values = int(np.prod(shards.shape))
    side, _ = crop_plan(min(shards.shape[1:]), method.crop_px)
    found = []
    for stage, work, cores in (
        ("decode", decode, 1),
        ("shard", shard, 1),
        ("read", read, 1),
        ("embed", embedding, torch.get_num_threads()),
    ):
        begun = time.perf_counter()
        work()
        per_second = len(chosen) / (time.perf_counter() - begun)
        each, unit = (side**2, "crops") if stage == "embed" else (values, "values")
        found.append((stage, per_second, per_second * each, unit, cores))
    return pd.DataFrame(found, columns=["stage", "sites_per_second", "per_second", "unit", "cores"])


def cost(
    measured: pd.DataFrame,
    crop_px: int | None,
    sites: int = RXRX19A_SITES,
    shape: tuple[int, int, int] = RXRX19A_SHAPE,
    devices: tuple[int, ...] = (1, 8),
    crops_per_second: float = 0.0,
    ways: int = 1,
) -> pd.DataFrame:
    """What sharding and embedding a screen would take, by this module's two formulas.

    Args:
        measured: of `rates`.
        crop_px: side of what the network looks at; None for one that looks at whole sites.
        sites, shape: of the screen, shape (C, H, W).
        devices: numbers of them to share the work.
        crops_per_second: that one device of yours embeds; 0 for what a core did when `measured` was.
        ways: in how many ways each crop is laid (`views.lay`).

    Returns:
        One row a stage: `stage`, `device` (`core here` or `your device`), `per_second` of one of them, `unit`, and
        `hours_on_<n>` for every n of `devices`.

    Raises:
        ValueError: a negative rate, or a number of sites or devices below 1.
    """
    if crops_per_second < 0 or sites < 1 or min(devices) < 1:
        raise ValueError(
            f"rates must not be negative, sites and devices at least 1; found {crops_per_second}, {sites}, {devices}."
        )
    side, laid = crop_plan(min(shape[1:]), crop_px, ways)
    work = {"values": int(np.prod(shape)), "crops": side**2 * laid}
    rows = []
    for row in measured[measured["stage"].isin(["shard", "embed"])].itertuples():
        yours = row.stage == "embed" and crops_per_second > 0
        rate = crops_per_second if yours else row.per_second / row.cores
        hours = [sites * work[row.unit] / rate / n / 3600 for n in devices]
        rows.append((row.stage, "your device" if yours else "core here", rate, row.unit, *hours))
    return pd.DataFrame(rows, columns=["stage", "device", "per_second", "unit", *(f"hours_on_{n}" for n in devices)])


# ---- past one machine ----


class PublicScreen(NamedTuple):
    """What of a screen its cost depends on."""

    sites: int
    shape: tuple[int, int, int]
    """(C, H, W) of each site."""
    bytes_a_value: int
    """1 or 2."""
    fetched_TB: float
    """Of files as they are published."""


SCREENS = {
    "RxRx19a": PublicScreen(RXRX19A_SITES, RXRX19A_SHAPE, 1, 0.45),
    "RxRx3-core": PublicScreen(222_601, (6, 512, 512), 1, 0.018),
    "JUMP-CP": PublicScreen(9_860_000, (5, 1080, 1080), 2, 115.0),
}
"""Three public screens.

RxRx19a: rxrx.ai/rxrx19a, "nearly 450 gigabytes". RxRx3-core: Kraus et al. 2025 (arXiv 2503.20158), 222,601 images in
18 GB. JUMP-CP: Chandrasekaran et al. 2023 (bioRxiv 2023.03.23.534023), whose abstract says 115 TB but not how many
sites. Here are as many as that holds in 16 bits a pixel, uncompressed: **an estimate and no count**, likely too high,
for profiles are among the 115 TB; and the sizes of images differ between sources.
"""

PRICES = {"gpu_hour": 1.01, "node_hour": 0.65, "TB_month": 23.0}
"""US dollars: an assumption, to be replaced by one's own. An Amazon g5.xlarge (one A10G), sixteen virtual cores of the
family m7g, a TB in S3 Standard for a month; list prices on demand in us-east-1."""
PRICED_ON = "June 2026"


def packed(shards: Shards) -> float:
    """Bytes that a store's files take for a byte of its pixels."""
    files = [path for path in Path(shards.path).rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files) / (
        len(shards) * int(np.prod(shards.shape)) * shards.dtype.itemsize
    )


def plan(
    measured: pd.DataFrame,
    crop_px: int | None,
    screens: dict[str, PublicScreen] = SCREENS,
    *,
    nodes: tuple[int, ...] = (1, 8, 64),
    cores_per_node: int = 16,
    gpus: tuple[int, ...] = (1, 8, 64),
    crops_per_second: float = 0.0,
    network_MB_per_second: float = 1000.0,
    shards_per_raw_byte: float = 1.0,
    ways: int = 1,
    prices: dict[str, float] = PRICES,
    priced_on: str = PRICED_ON,
) -> pd.DataFrame:
    """Hours and money for whole screens by number of CPU nodes and of GPUs, and what each waits for.

    Fetching through one network, packing on the cores of the nodes and embedding on GPUs go on side by side, and the
    slowest decides. Without GPUs the cores pack first and then embed:

        hours = max(fetch, shard, embed)        with GPUs
        hours = max(fetch, shard + embed)       without
        fetch = bytes / network;  shard, embed as in `cost`

    Args:
        measured: of `rates`, on one machine; it says what a core does.
        crop_px: side of what the network looks at; None for whole sites.
        screens: by name.
        nodes, cores_per_node: sizes of the cluster.
        gpus: for each of `nodes`, so many of them.
        crops_per_second: that one GPU embeds, as measured on it; 0 where none was measured, and none is planned with.
        network_MB_per_second: the whole way in, shared by all nodes; an assumption: 10 Gbit/s less what is lost.
        shards_per_raw_byte: bytes of shards for a byte of pixels, as measured on the screen at hand.
        ways: in how many ways each crop is laid.
        prices: an assumption, in one currency: `gpu_hour`, `node_hour`, `TB_month`. Nodes and GPUs are paid while they
            work and not while they wait for the slowest: each part is a job that ends.
        priced_on: the date they were looked up, kept in the table.

    Returns:
        One row a screen and size: `screen, sites, nodes, gpus, fetch_hours, shard_hours, embed_hours, hours,
        bottleneck` (fetch, shard or embed), `shards_TB`, `price`, of which the shards' month, and `priced_on`.

    Raises:
        ValueError: a rate or size that is not positive, sizes that do not pair, or a price that is missing.
    """
    positive = {"network_MB_per_second": network_MB_per_second, "shards_per_raw_byte": shards_per_raw_byte}
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive; found {value}.")
    with_gpus = crops_per_second > 0
    if len(gpus) != len(nodes) or min((*gpus, *nodes, cores_per_node), default=0) < 1:
        raise ValueError(
            f"gpus and nodes are pairs from 1 on, as is cores_per_node; found {gpus}, {nodes}, {cores_per_node}."
        )
    absent = {"gpu_hour", "node_hour", "TB_month"} - set(prices)
    if absent:
        raise ValueError(f"prices of {', '.join(sorted(absent))} are missing; found {', '.join(prices) or 'none'}.")
    rows = []
    for name, screen in screens.items():
        work = {"sites": screen.sites, "shape": screen.shape, "crops_per_second": crops_per_second, "ways": ways}
        alone = cost(measured, crop_px, devices=(1,), **work).set_index("stage")["hours_on_1"]
        shards_TB = screen.sites * int(np.prod(screen.shape)) * screen.bytes_a_value * shards_per_raw_byte / 1e12
        node_hours = alone["shard"] / cores_per_node + (0 if with_gpus else alone["embed"] / cores_per_node)
        price = node_hours * prices["node_hour"] + shards_TB * prices["TB_month"]
        price += alone["embed"] * prices["gpu_hour"] if with_gpus else 0
        for n_nodes, n_gpus in zip(nodes, gpus, strict=True):
            embedders = n_gpus if with_gpus else n_nodes * cores_per_node
            hours = {
                "fetch": screen.fetched_TB * 1e6 / network_MB_per_second / 3600,
                "shard": alone["shard"] / cores_per_node / n_nodes,
                "embed": alone["embed"] / embedders,
            }
            working = max(hours["shard"], hours["embed"]) if with_gpus else hours["shard"] + hours["embed"]
            slower = "shard" if hours["shard"] > hours["embed"] else "embed"
            bottleneck = "fetch" if hours["fetch"] > working else slower
            sizes = (screen.sites, n_nodes, n_gpus if with_gpus else 0)
            rows.append(
                (name, *sizes, *hours.values(), max(hours["fetch"], working), bottleneck, shards_TB, price, priced_on)
            )
    columns = ["screen", "sites", "nodes", "gpus", "fetch_hours", "shard_hours", "embed_hours", "hours"]
    return pd.DataFrame(rows, columns=[*columns, "bottleneck", "shards_TB", "price", "priced_on"])
