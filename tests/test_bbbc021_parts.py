"""Parts of BBBC021 as others passed them on: stains in our order, cells as CytoGAN takes them, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gandl_lib import datasets
from gandl_lib.cells import to_own_range
from gandl_lib.datasets import bbbc021, bbbc021_parts

ROWS = [
    {"plate": "Week1_22123", "well": "B02", "site": 1, "compound": "taxol", "concentration": 0.3, "moa": "stabilizers"},
    {"plate": "Week2_24121", "well": "C03", "site": 2, "compound": "DMSO", "concentration": 0, "moa": "DMSO"},
]


@pytest.fixture
def fields(tmp_path: Path, rng) -> Path:
    root = tmp_path / "fields"
    root.mkdir()
    pixels = rng.integers(0, 256, (2, 16, 16, 3), np.uint8)
    for k, image in enumerate(pixels):
        Image.fromarray(image).save(root / f"{k}.png")
    np.save(root / "pixels.npy", pixels)
    table = pd.DataFrame(ROWS).assign(file=["0.png", "1.png"], replicate=1, unit="uM", role="treatment")
    table.to_csv(root / "metadata.csv", index=False)
    return root


@pytest.fixture
def cells(tmp_path: Path, rng) -> Path:
    root = tmp_path / "cells"
    root.mkdir()
    np.savez(root / bbbc021_parts.PIXELS, cells=rng.integers(0, 5000, (2, 68, 68, 3)).astype(np.uint16))
    table = pd.DataFrame(ROWS).assign(index=[1, 0], cell=["a_7", "b_9"], replicate=1, role="treatment")
    table.to_csv(root / "metadata.csv", index=False)
    return root


def test_a_field_has_its_stains_in_our_order(fields):
    layout = datasets.open_layout(fields)
    wells = layout.wells().wells
    assert layout.channels == bbbc021.CHANNELS and layout.name == "bbbc021-fields"
    red, green, blue = np.moveaxis(np.load(fields / "pixels.npy")[1], 2, 0)  # actin, tubulin, DNA
    np.testing.assert_array_equal(layout.read(wells.iloc[1]), [blue, red, green])
    assert list(wells["moa"]) == ["stabilizers", ""] and list(wells["role"]) == ["treated", "untreated"]
    assert list(wells["batch"]) == ["Week1", "Week2"] and np.isnan(wells["concentration_uM"][1])


def test_a_cell_is_scaled_to_its_own_range_and_found_by_its_number(cells):
    layout = datasets.open_layout(cells)
    wells = layout.wells().wells
    assert list(wells["site_id"]) == ["Week1_22123_B02_1_7", "Week2_24121_C03_2_9"] and layout.name == "bbbc021-cells"
    pixels = np.load(cells / bbbc021_parts.PIXELS)["cells"]
    for row, place in zip(wells.itertuples(), (1, 0), strict=True):
        planes = [Image.fromarray(c.astype(np.float32)).resize((48, 48), 2) for c in np.moveaxis(pixels[place], 2, 0)]
        expected = to_own_range(np.stack(planes).astype(np.float64)[None])[0]
        np.testing.assert_allclose(layout.read(row), expected, atol=1)
        assert (layout.read(row).min((1, 2)) == 0).all() and (layout.read(row).max((1, 2)) == 255).all()
    assert layout.pixel_um == pytest.approx(0.32 * 68 / 48)


def test_what_cannot_be_read_is_said(fields, cells):
    (fields / "0.png").unlink()
    found = datasets.open_layout(fields).wells()
    assert len(found.wells) == 1 and "0.png is missing" in found.skipped["reason"][0]
    Image.new("L", (16, 16)).save(fields / "1.png")
    with pytest.raises(ValueError, match="none of the 2 site"):
        datasets.open_layout(fields).wells()
    table = pd.read_csv(cells / "metadata.csv")
    table.assign(index=[0, 2]).to_csv(cells / "metadata.csv", index=False)
    with pytest.raises(ValueError, match="lists cell 2; .* has 2"):
        datasets.open_layout(cells).wells()
    table.assign(plate=["22123", "1"]).to_csv(cells / "metadata.csv", index=False)
    with pytest.raises(ValueError, match="plate must be like Week1_22123; found '22123'"):
        datasets.open_layout(cells).parse()
    with pytest.raises(ValueError, match="no part of BBBC021"):
        bbbc021_parts.layout(fields.parent)


def test_the_real_tables_are_read_and_agree_with_the_official_mechanisms():
    home = Path(os.environ.get("GANDL_DATA", "GANDL_DATA"), "bbbc021")
    if not (home / "fields").is_dir():
        pytest.skip("no GANDL_DATA/bbbc021/fields")
    official = pd.read_csv(home / bbbc021.MECHANISMS)
    official = official[official["compound"] != "DMSO"].set_index(["compound", "concentration"])["moa"]
    for part, (rows, treatments, mechanisms) in {"fields": (660, 55, 6), "cells": (1996, 103, 12)}.items():
        wells = bbbc021_parts.layout(home / part).parse()
        known = wells[wells["moa"] != ""].drop_duplicates(["compound", "concentration_uM"])
        assert (len(wells), len(known), known["moa"].nunique()) == (rows, treatments, mechanisms)
        assert (
            official.loc[list(zip(known["compound"], known["concentration_uM"], strict=True))] == known["moa"].values
        ).all()
