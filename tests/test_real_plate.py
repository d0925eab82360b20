"""The real plate: a ratio that is known, an evaluation that finds it, nuclei counted in dim sites too."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from gandl_book import real_plate

from gandl_lib.datasets import bbbc013
from gandl_lib.evaluate.axes import fit_axis
from gandl_lib.methods.count import CellCount, CountConfig


def discs(seed: int, n_side: int, step: int = 32, nucleus: float = 100.0, cytoplasm: float = 20.0) -> np.ndarray:
    """(2, H, W) simulated: n_side^2 round nuclei of 7 pixels, and a protein brighter or darker in them than around."""
    rng = np.random.default_rng(seed)
    side = n_side * step
    y, x = np.mgrid[:side, :side]
    dna, protein = np.zeros((side, side)), np.zeros((side, side))
    for i in range(n_side):
        for j in range(n_side):
            r = np.hypot(y - (i + 0.5) * step, x - (j + 0.5) * step)
            dna[r <= 7] = 100
            protein[r <= 13] = cytoplasm
            protein[r <= 7] = nucleus
    return np.stack([dna, protein]) + rng.normal(0, 1, (2, side, side))


@pytest.mark.parametrize(("nucleus", "cytoplasm"), [(100.0, 20.0), (20.0, 60.0)])
def test_the_ratio_is_that_of_the_cells_drawn(nucleus, cytoplasm):
    value, nuclei = real_plate.ratio(discs(0, 5, nucleus=nucleus, cytoplasm=cytoplasm))
    assert nuclei == 25
    # Blur and threshold move the border by a pixel: a few percent, more where the ring is the brighter.
    assert value == pytest.approx(nucleus / cytoplasm, rel=0.15)


@pytest.mark.parametrize("dimmer", [1, 3, 10])
def test_a_dim_site_has_as_many_nuclei(dimmer):
    image = torch.from_numpy(discs(1, 6)).float()[None] / dimmer / 50 - 1
    count = CellCount(CountConfig(pixel_um=1.0), 2).embed(image)
    assert count.shape == (1, 1) and abs(count.item() - 36) <= 1


def test_an_empty_site_has_none_and_batch_mates_do_not_matter():
    method = CellCount(CountConfig(pixel_um=1.0), 1)
    flat = torch.full((1, 1, 96, 96), -1.0)
    full = torch.from_numpy(discs(2, 3)[:1]).float()[None] / 50 - 1
    assert method.embed(flat).item() == 0
    assert torch.equal(method.embed(torch.cat([flat, full]))[1], method.embed(full)[0])


def test_an_axis_of_one_feature_has_nothing_beside_it():
    rng = np.random.default_rng(0)
    positive = np.arange(40) % 2 == 0
    X = rng.normal(0, 0.2, (40, 1)) + positive[:, None]
    axis, seen = fit_axis(X, positive, np.array([f"W{k:02}" for k in range(40)]))
    assert np.isfinite(axis.half) and (axis.off(X) == 0).all()
    assert seen["on"][positive].mean() > 0.8 > -0.8 > seen["on"][~positive].mean()


def plate(ec50: dict[str, float], seed: int = 0) -> tuple[AnnData, AnnData]:
    """Simulated, in BBBC013's design: the classical measurement, and a method that sees the same with more noise."""
    rng = np.random.default_rng(seed)
    wells = bbbc013.design().drop(columns="listed")
    dose, half = wells["concentration_uM"], wells["compound"].map(ec50)
    effect = np.where(wells["role"] == "C+", 1.0, np.where(dose.isna(), 0.0, 1 / (1 + (half / dose) ** 2)))
    ids = {
        "well_id": "BBBC013_1_" + wells["well"],
        "plate_id": "BBBC013_1",
        "cell_type": "U2OS",
        "experiment": "BBBC013",
    }
    obs = wells.assign(**ids, site_id=ids["well_id"] + "_1", plate=1, site=1, condition="")
    obs = obs.set_axis(obs.index.astype(str))
    log_ratio = np.log(8) * effect + rng.normal(0, 0.05, 96)
    X = np.stack([np.exp(log_ratio), np.full(96, 150.0)], axis=1).astype(np.float32)
    seen = (effect[:, None] * rng.normal(0, 1, 5) + rng.normal(0, 0.1, (96, 5))).astype(np.float32)
    return tuple(
        AnnData(x, obs=obs, uns={"provenance": json.dumps({"method": name, "simulated": True})})
        for x, name in ((X, "classical"), (seen, "gandl"))
    )


def test_both_find_the_ec50_that_was_put_in_and_the_disputed_wells_can_be_left_out():
    truth = {"Wortmannin": 0.012, "LY294002": 4.0}
    table, wells = real_plate.real_plate(list(plate(truth)))
    assert list(table.columns) == list(real_plate.HEADER) and list(wells.columns) == list(real_plate.WELLS_HEADER)
    assert table["method"].unique().tolist() == ["classical", "classical-ratio", "gandl"]
    for row in table[table["method"] != "classical-ratio"].itertuples():
        assert row.ec50_uM == pytest.approx(truth[row.compound], rel=0.15), row
    # Half of the ratio's rise, (1 + 8) / 2 = 4.5, is 0.72 of its logarithm's: at 1.6 times the dose of half effect.
    ratio = table[table["method"] == "classical-ratio"].set_index("compound")["ec50_uM"]
    assert ratio["LY294002"] == pytest.approx(4.0 * 1.62, rel=0.1)
    best = table.set_index("method").loc["classical"].iloc[0]
    assert best["spearman_classical"] == 1 and best["z_prime"] > 0.7 and np.isfinite(best["z_prime_undisputed"])
    assert (table["z_prime_low"] <= table["z_prime"]).all() and (table["z_prime"] <= table["z_prime_high"]).all()


def test_without_the_measurement_or_with_other_wells_it_says_so():
    classical, method = plate({"Wortmannin": 0.01, "LY294002": 4.0})
    with pytest.raises(ValueError, match="classical measurement is missing; found gandl"):
        real_plate.real_plate([method])
    with pytest.raises(ValueError, match="gandl has other wells"):
        real_plate.real_plate([classical, method[:90].copy()])


def test_the_recorded_tables_have_the_header_of_fresh_ones():
    from gandl_book.chapters import recorded

    table, wells = recorded("real_plate"), recorded("real_plate_wells")
    assert list(table.columns) == list(real_plate.HEADER) and list(wells.columns) == list(real_plate.WELLS_HEADER)
    assert {"gandl", "gandl-random", "intensity", "cell-count", "classical"} <= set(table["method"])
    assert isinstance(table, pd.DataFrame) and wells.groupby("method").size().eq(96).all()
