"""What a screen past one machine would take: the slowest of three decides, and says which it is."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gandl_book import narrate, throughput

from gandl_lib import shards

MEASURED = pd.DataFrame(
    [("shard", 1.0, 1e6, "values", 1), ("embed", 1.0, 4.0, "crops", 2)],
    columns=["stage", "sites_per_second", "per_second", "unit", "cores"],
)
SCREEN = {"mine": throughput.PublicScreen(3600, (2, 100, 100), 2, 0.36)}
OPTIONS = {
    "gpus": (1, 4),
    "nodes": (1, 2),
    "cores_per_node": 1,
    "crops_per_second": 100.0,
    "network_MB_per_second": 100.0,
    "shards_per_raw_byte": 0.5,
    "prices": {"gpu_hour": 2.0, "node_hour": 0.1, "TB_month": 20.0},
    "priced_on": "2026-11-25",
}
FAST = {"network_MB_per_second": 1e6}


def test_hours_bottleneck_and_price_are_those_worked_out_by_hand():
    table = throughput.plan(MEASURED, None, SCREEN, **OPTIONS)
    # 3600 sites: 0.36 TB at 100 MB/s are an hour; 7.2e7 values at 1e6/s 72 s; a crop each at 100/s 36 s.
    assert table["fetch_hours"].tolist() == pytest.approx([1, 1])
    assert table["shard_hours"].tolist() == pytest.approx([0.02, 0.01])
    assert table["embed_hours"].tolist() == pytest.approx([0.01, 0.0025])
    assert table["hours"].tolist() == pytest.approx([1, 1]) and set(table["bottleneck"]) == {"fetch"}
    assert table["shards_TB"].tolist() == pytest.approx([7.2e-5] * 2)
    assert table["price"].tolist() == pytest.approx([0.01 * 2 + 0.02 * 0.1 + 7.2e-5 * 20] * 2)


def test_the_bottleneck_moves():
    found = [
        throughput.plan(MEASURED, None, SCREEN, **OPTIONS | change)["bottleneck"][0]
        for change in ({}, {"network_MB_per_second": 1e6}, {"network_MB_per_second": 1e6, "crops_per_second": 1.0})
    ]
    assert found == ["fetch", "shard", "embed"]


def test_without_a_gpu_the_cores_pack_and_then_embed():
    options = OPTIONS | FAST | {"crops_per_second": 0.0, "cores_per_node": 4}
    table = throughput.plan(MEASURED, None, SCREEN, **options)
    # 72 s to pack; a crop each at 4 / 2 a second and core is half an hour; four cores, then eight.
    assert table["shard_hours"].tolist() == pytest.approx([0.02 / 4, 0.02 / 8])
    assert table["embed_hours"].tolist() == pytest.approx([0.5 / 4, 0.5 / 8])
    assert table["hours"].tolist() == pytest.approx([0.52 / 4, 0.52 / 8])
    assert set(table["bottleneck"]) == {"embed"} and set(table["gpus"]) == {0}
    assert table["price"].tolist() == pytest.approx([0.52 / 4 * 0.1 + 7.2e-5 * 20] * 2)


def test_public_screens_take_the_same_road():
    table = throughput.plan(MEASURED, 64, **OPTIONS)
    assert table["screen"].tolist() == [name for name in throughput.SCREENS for _ in OPTIONS["gpus"]]
    assert (table["hours"] > 0).all() and "JUMP-CP" in set(table["screen"])
    # What the sites of JUMP-CP are taken to be: as many as its 115 TB hold in 16 bits.
    jump = throughput.SCREENS["JUMP-CP"]
    raw_TB = jump.sites * jump.bytes_a_value * math.prod(jump.shape) / 1e12
    assert raw_TB == pytest.approx(jump.fetched_TB, rel=0.001)
    # RxRx19a's PNGs are smaller than its pixels, and not by so much that a site or a channel was miscounted.
    rxrx19a = throughput.SCREENS["RxRx19a"]
    assert 0.2 < rxrx19a.fetched_TB * 1e12 / (rxrx19a.sites * math.prod(rxrx19a.shape)) < 0.8


def test_more_nodes_cost_the_same_and_take_less_until_something_else_is_slowest():
    table = throughput.plan(MEASURED, None, SCREEN, **OPTIONS | {"gpus": (1, 1, 1), "nodes": (1, 10, 1000)} | FAST)
    assert table["price"].nunique() == 1 and table["bottleneck"].tolist() == ["shard", "embed", "embed"]
    halves = throughput.plan(MEASURED, None, SCREEN, **OPTIONS | FAST | {"cores_per_node": 2})
    whole = throughput.plan(MEASURED, None, SCREEN, **OPTIONS | FAST)
    assert (whole["shard_hours"] / halves["shard_hours"]).tolist() == pytest.approx([2, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network_MB_per_second": 0.0}, "network_MB_per_second must be positive; found 0.0"),
        ({"gpus": (1,)}, "pairs"),
        ({"prices": {"gpu_hour": 1.0}}, "prices of TB_month, node_hour are missing; found gpu_hour"),
    ],
)
def test_what_cannot_be_planned_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        throughput.plan(MEASURED, None, SCREEN, **OPTIONS | change)


def test_packed_is_below_one_where_a_screen_compresses_and_counts_every_file(make_screen, tmp_path):
    store = Path(shards.write(make_screen(size=(32, 32)), tmp_path / "s.zarr"))
    opened = shards.Shards(store)
    raw = opened.read_many(np.arange(len(opened))).nbytes
    found = throughput.packed(opened)
    (store / "more").write_bytes(bytes(raw))
    assert throughput.packed(opened) == pytest.approx(found + 1) and found > 0


def test_words_say_what_was_not_measured_and_what_each_size_waits_for():
    said = repr(narrate.plan(throughput.plan(MEASURED, None, SCREEN, **OPTIONS | FAST | {"crops_per_second": 0.0})))
    assert "No GPU was measured" in said and "31 minutes on 1 node (it waits for embedding)" in said
    said = repr(narrate.plan(throughput.plan(MEASURED, None, SCREEN, **OPTIONS)))
    assert "No GPU" not in said and "1.0 hours on 2 nodes and 4 GPUs (it waits for the network)" in said
