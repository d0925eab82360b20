"""Single cells: those that the simulator drew are found, and a crop is what lies around its nucleus."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gandl_lib import cells, shards
from gandl_lib.datasets import rxrx1
from gandl_lib.shards import Shards
from gandl_lib.simulate import mcf7
from gandl_lib.simulate.drugs import SCREENS, plan, render, simulate

SCREEN = replace(SCREENS["tiny"], doses_uM=(20.0,))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:  # noqa: ANN001
    root = tmp_path_factory.mktemp("cells")
    return shards.write(simulate(root / "screen", SCREEN, seed=1, jobs=1), root / "sites.zarr")


def tree(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


def discs(centres: list[tuple[int, int]], radius: int, px: int = 96, light: float = 1000.0) -> np.ndarray:
    y, x = np.mgrid[:px, :px]
    return sum(light * (np.hypot(y - cy, x - cx) <= radius) for cy, cx in centres)


# ---- against truth ----


@pytest.mark.parametrize("dimmer", [3, 6])
def test_a_dim_well_has_as_many_nuclei(dimmer, rng):
    """A third or a sixth of the light over the same background and camera noise: the count stays within 15 %."""
    y, x = np.mgrid[:384, :384]
    light = np.zeros((384, 384))
    for i in range(24, 384, 48):
        for j in range(24, 384, 48):
            height, wide = rng.uniform(25, 60), rng.uniform(7, 9)
            light += height / (1 + np.exp(np.hypot(y - i - rng.uniform(-6, 6), x - j - rng.uniform(-6, 6)) - wide))
            light += 0.06 * height * np.exp(-np.hypot(y - i, x - j) / 12)  # the haze around it

    def count(image: np.ndarray) -> int:
        seen = np.clip(np.rint(image + 2 + rng.normal(0, 1.5, image.shape)), 0, 255).astype(np.uint8)
        return int(cells.segment(seen[None], 0, 0.65)[0].max())

    assert abs(count(light) - 64) <= 0.15 * 64
    assert abs(count(light / dimmer) - 64) <= 0.15 * 64


@pytest.mark.parametrize("moa", ["", *mcf7.MECHANISMS])
def test_the_cells_that_were_drawn_are_found(moa):
    """Of nuclei that lie whole inside the field, nearly all, within 4 um of where they were drawn; and few others."""
    screen = SCREENS["quick"]
    _, sites = plan(screen, seed=5)
    hits = drawn = found = right = 0
    for site in [s for s in sites if s.moa == moa and s.dose_uM != 1.0][:4]:
        image, centres = render(screen, 5, site)
        nuclei, bodies = cells.segment(image, 0, screen.pixel_um)
        table, _ = cells.cut(image, nuclei, bodies, 48, screen.pixel_um)
        far = np.hypot(*(table[["y_px", "x_px"]].to_numpy().T[:, :, None] - centres[:, None, :])) * screen.pixel_um
        whole = (np.minimum(centres, screen.image_px - centres) * screen.pixel_um > 8).all(0)
        near = far < 4
        hits, drawn = hits + near.any(0)[whole].sum(), drawn + whole.sum()
        right, found = right + near.any(1).sum(), found + len(table)
    assert drawn > 12 and hits / drawn > 0.9 and right / found > 0.9


def test_touching_nuclei_are_parted_and_cells_belong_to_the_nearest():
    dna = discs([(40, 36), (40, 50)], 8) + 20
    body = discs([(40, 36), (40, 50)], 14) + 20
    nuclei, bodies = cells.segment(np.stack([dna, body]), 0, 1.0)
    assert nuclei.max() == 2 and nuclei[40, 36] != nuclei[40, 50]
    assert ((nuclei == 0) | (nuclei == bodies)).all()  # a nucleus lies in its own cell
    assert bodies[40, 25] == nuclei[40, 36] and bodies[40, 61] == nuclei[40, 50] and bodies[5, 5] == 0


def test_sizes_are_in_micrometres():
    image = np.stack([discs([(48, 48)], radius, light=200) + 100 for radius in (10, 20)])
    for pixel_um in (0.5, 1.0):
        nuclei, bodies = cells.segment(image, 0, pixel_um)
        table, _ = cells.cut(image, nuclei, bodies, 32, pixel_um)
        assert len(table) == 1
        assert table["nucleus_area_um2"][0] == pytest.approx(np.pi * (10 * pixel_um) ** 2, rel=0.15)
        assert table["cell_area_um2"][0] == pytest.approx(np.pi * (20 * pixel_um) ** 2, rel=0.15)


@pytest.mark.parametrize("image", [np.zeros((2, 64, 64)), np.full((2, 64, 64), 7)], ids=["black", "even"])
def test_a_field_without_nuclei_has_no_cells(image):
    nuclei, bodies = cells.segment(image, 0, 0.65)
    assert not nuclei.any() and not bodies.any()


def test_noise_is_no_nucleus(rng):
    assert not cells.segment(rng.poisson(100, (2, 128, 128)), 0, 0.65)[0].any()


def test_without_another_channel_cells_are_their_nuclei():
    nuclei, bodies = cells.segment(discs([(48, 48)], 10)[None] + 20, 0, 1.0)
    np.testing.assert_array_equal(nuclei, bodies)


# ---- crops ----


def test_a_crop_is_what_its_slow_twin_copies_pixel_by_pixel(rng):
    image = rng.integers(1, 1000, (3, 60, 50)).astype(np.uint16)
    nuclei, bodies = np.zeros((60, 50), np.int32), np.zeros((60, 50), np.int32)
    nuclei[2:7, 20:25], bodies[0:12, 15:30] = 1, 1  # near the top: padded there
    nuclei[30:35, 0:4], bodies[28:38, 0:9] = 2, 2  # touches the border: left out
    nuclei[50:53, 40:47], bodies[45:60, 35:50] = 3, 3
    for masks in (True, False):
        table, crops = cells.cut(image, nuclei, bodies, 16, 2.0, masks)
        assert table["cell"].tolist() == [1, 2] and crops.shape == (2, 3, 16, 16) and crops.dtype == np.uint16
        assert table[["y_px", "x_px"]].to_numpy().tolist() == [[4, 22], [51, 43]]
        assert table["nucleus_area_um2"].tolist() == [100, 84] and table["cell_area_um2"].tolist() == [720, 900]
        for crop, number, (cy, cx) in zip(crops, (1, 3), ((4, 22), (51, 43)), strict=True):
            for i in range(16):
                for j in range(16):
                    y, x = cy - 8 + i, cx - 8 + j
                    inside = 0 <= y < 60 and 0 <= x < 50 and (not masks or bodies[y, x] == number)
                    np.testing.assert_array_equal(crop[:, i, j], image[:, y, x] if inside else 0)


def test_own_range_forgets_gain_and_offset_and_nothing_else(rng):
    crops = rng.integers(0, 500, (4, 3, 8, 8)).astype(np.uint16)
    scaled = cells.to_own_range(crops)
    assert scaled.dtype == np.uint8 and (scaled.min((2, 3)) == 0).all() and (scaled.max((2, 3)) == 255).all()
    np.testing.assert_array_equal(cells.to_own_range(7 * crops + 100), scaled)
    np.testing.assert_array_equal(cells.to_own_range(np.full((1, 1, 4, 4), 9, np.uint16)), 0)
    order = crops[0, 0].ravel().argsort(kind="stable")
    assert (np.diff(scaled[0, 0].ravel()[order].astype(int)) >= 0).all()


# ---- the store ----


def test_a_store_of_cells_is_a_store(store, tmp_path):
    sites = Shards(store)
    found = Shards(cells.write(store, tmp_path / "cells.zarr", size=40, jobs=1))
    assert found.shape == (3, 40, 40) and found.dtype == sites.dtype and found.simulated
    assert (found.channels, found.pixel_um, found.layout) == (sites.channels, sites.pixel_um, sites.layout)
    assert list(found.wells["plate_id"].unique()) == list(sites.wells["plate_id"].unique())
    assert found.wells["site_id"].eq(found.wells["site_of"] + "_" + found.wells["cell"].astype(str)).all()
    place = {site: i for i, site in enumerate(sites.wells["site_id"])}
    for i in (0, len(found) // 2, len(found) - 1):
        row = found.wells.iloc[i]
        image = sites.read(place[row["site_of"]])
        table, crops = cells.cut(image, *cells.segment(image, 0, sites.pixel_um), 40, sites.pixel_um)
        np.testing.assert_array_equal(found.read(i), crops[row["cell"] - 1])
        assert table["nucleus_area_um2"][row["cell"] - 1] == row["nucleus_area_um2"]
        same = [c for c in sites.wells if c != "site_id"]
        pd.testing.assert_series_equal(row[same], sites.wells.iloc[place[row["site_of"]]][same], check_names=False)


def test_stopped_at_any_place_it_ends_in_the_same_bytes(store, tmp_path, monkeypatch):
    whole = tree(cells.write(store, tmp_path / "a.zarr", size=16, jobs=1))
    out, segment, left = tmp_path / "b.zarr", cells.segment, 5

    def stops(*args):  # noqa: ANN002
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return segment(*args)

    monkeypatch.setattr(cells, "segment", stops)
    with pytest.raises(KeyboardInterrupt):
        cells.write(store, out, size=16, jobs=1)
    with pytest.raises(ValueError, match="writing was interrupted"):
        Shards(out)
    with pytest.raises(ValueError, match="left by an interrupted run over other sites or settings"):
        cells.write(store, out, size=24, jobs=1)
    left = len(Shards(store)) - 5  # what was found is not looked for again
    assert tree(cells.write(store, out, size=16, jobs=1)) == whole
    assert cells.write(store, out, size=16, jobs=1) == out and left == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]
    with pytest.raises(ValueError, match="made from something else"):
        cells.write(store, out, size=16, masks=False, jobs=1)


def test_a_site_without_a_cell_is_counted_and_too_few_cells_are_refused(tmp_path, make_screen, capsys):
    root = make_screen(size=(96, 96), plates=1)
    light = discs([(30, 30), (60, 60), (30, 66)], 8) + 20

    def read(root, row):  # noqa: ANN001, ARG001
        image = np.repeat(light[None], 5, 0) / 10
        return (image if row.well == "A02" else np.full_like(image, 5)).astype(np.uint8)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gandl_lib.datasets.rxrx19a.read", read)
        some = shards.write(root, tmp_path / "some.zarr", where="well in ['A02', 'A03']")
        none = shards.write(root, tmp_path / "none.zarr", where="well != 'A02'")
    found = Shards(cells.write(some, tmp_path / "cells.zarr", size=24, jobs=1))
    assert len(found) == 6 and found.skipped["reason"].eq("no cell found").all() and len(found.skipped) == 2
    assert "6 cells in 4 sites" in capsys.readouterr().out
    with pytest.raises(ValueError, match="only 0 cells in 8 sites. Is 'DNA' the channel of nuclei"):
        cells.write(none, tmp_path / "no-cells.zarr", size=24, jobs=1)
    with pytest.raises(ValueError, match="has no channel 'Hoechst' to find nuclei in; it has DNA, ER"):
        cells.write(some, tmp_path / "x.zarr", nucleus="Hoechst")
    for size in (4, 97):
        with pytest.raises(ValueError, match=f"a crop must be 8 to 96 pixels.*got {size}"):
            cells.write(some, tmp_path / "x.zarr", size=size)
    with pytest.raises(ValueError, match="holds single cells already"):
        cells.write(found.path, tmp_path / "x.zarr", size=16)


def test_real_nuclei_have_the_size_of_nuclei(gandl_data):
    """Sanity only: nobody drew these outlines by hand."""
    if gandl_data is None:
        return
    wells, _ = rxrx1.wells(gandl_data / "rxrx1", "plate == 1 and cell_type == 'U2OS'")
    image = rxrx1.read(gandl_data / "rxrx1", wells.iloc[0])[:, :256, :256]
    table, _ = cells.cut(image, *cells.segment(image, 0, rxrx1.PIXEL_UM), 48, rxrx1.PIXEL_UM)
    assert 10 < len(table) < 60 and 100 < table["nucleus_area_um2"].median() < 350
