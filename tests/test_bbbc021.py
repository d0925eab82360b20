"""BBBC021's layout: what is read is what the tables and files say, real or simulated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from gandl_lib import files
from gandl_lib.datasets import bbbc021, open_layout
from gandl_lib.evaluate import moa
from gandl_lib.shards import Shards, write
from gandl_lib.simulate import drugs as simulated_drugs
from gandl_lib.simulate import mcf7
from gandl_lib.simulate.drugs import SCREENS, DrugScreen, plan, render, simulate

SMALL = replace(SCREENS["tiny"], image_px=64, cells=3.0, mechanisms=tuple(mcf7.MECHANISMS)[:2])
TABLE = "BBBC021_v1_image.csv"


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def screen(tmp_path) -> Path:
    return simulate(tmp_path / "screen", SMALL, seed=3, jobs=1)


# ---- the loader ----


def test_files_of_other_names_in_another_order_become_dna_actin_tubulin(tmp_path):
    """Official names, written by hand: the table alone says which file is which."""
    rows, light = [], {"DAPI": 10, "Tubulin": 30, "Actin": 20}
    for well, compound, dose in (("G10", "taxol", "0.3"), ("B02", "DMSO", "0")):
        row = {}
        for stain, w in (("DAPI", 1), ("Tubulin", 2), ("Actin", 4)):
            name, folder = f"Week4_200907_{well}_s3_w{w}1BEDC-{stain}.tif", "Week4/Week4_27481"
            path = tmp_path / "images" / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, np.full((5, 7), light[stain], ">u2"), byteorder=">")
            row |= {f"Image_FileName_{stain}": name, f"Image_PathName_{stain}": folder}
        row |= {"Image_Metadata_Plate_DAPI": "Week4_27481", "Image_Metadata_Well_DAPI": well, "Replicate": 1}
        rows.append(row | {"Image_Metadata_Compound": compound, "Image_Metadata_Concentration": dose})
    pd.DataFrame(rows).to_csv(tmp_path / (TABLE + ".gz"), index=False)
    known = pd.DataFrame({"compound": ["taxol", "DMSO", "x"], "concentration": [0.3, 0, 1], "moa": ["M", "DMSO", "N"]})
    known.to_csv(tmp_path / "BBBC021_v1_moa.csv", index=False)
    assert open_layout(tmp_path).name == "bbbc021"
    wells, skipped = bbbc021.wells(tmp_path)
    assert skipped.empty and wells["site_id"].tolist() == ["Week4_27481_G10_3", "Week4_27481_B02_3"]
    assert wells[["experiment", "batch", "plate", "site", "cell_type"]].drop_duplicates().to_numpy().tolist() == [
        ["Week4", "Week4", 27481, 3, "MCF7"]
    ]
    assert wells[["compound", "moa", "role"]].to_numpy().tolist() == [
        ["taxol", "M", "treated"],
        ["DMSO", "", "untreated"],
    ]
    assert wells["concentration_uM"].iloc[0] == 0.3 and np.isnan(wells["concentration_uM"].iloc[1])
    images = bbbc021.read(tmp_path, wells.iloc[0])
    assert images.dtype == np.uint16 and images.dtype.isnative and images.shape == (3, 5, 7)
    assert images[:, 0, 0].tolist() == [10, 20, 30] and bbbc021.CHANNELS == ("DNA", "actin", "tubulin")


def test_incomplete_sites_are_named_and_skipped(screen, tmp_path):
    wells, _ = bbbc021.wells(screen)
    files = [screen / name for name in bbbc021._names(wells.iloc[0])]
    whole = files[1].read_bytes()
    for damage, reason in (
        (lambda: files[1].unlink(), "is missing"),
        (lambda: files[1].write_bytes(whole[: len(whole) // 2]), "is (?:truncated|no readable TIFF)"),
        (lambda: files[1].write_bytes(b"no"), "is no readable TIFF"),
        (
            lambda: tifffile.imwrite(files[1], np.zeros((9, 9), np.uint16)),
            "is 9x9 uint16, the site's other channels are 64x64",
        ),
        (lambda: tifffile.imwrite(files[1], np.zeros((64, 64), np.float32)), "has pixels float32"),
    ):
        damage()
        good, skipped = bbbc021.wells(screen)
        assert len(good) == len(wells) - 1 and skipped["site_id"].tolist() == [wells["site_id"][0]]
        assert skipped["reason"].str.contains(reason).all() and "_w4.tif" in skipped["reason"][0]
        files[1].unlink(missing_ok=True)
    with pytest.raises(ValueError, match="cannot be decoded.*fetch it again or drop its row"):
        bbbc021.read(screen, wells.iloc[0])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("Image_Metadata_Plate_DAPI", "22123", "must be like Week1_22123; 1 row"),
        ("Image_FileName_DAPI", "B02.tif", "must hold the field, like G10_s1_w1"),
        ("Image_Metadata_Concentration", "high", "'Image_Metadata_Concentration' must hold a number"),
        ("Image_Metadata_Well_DAPI", "2B", "column 'well' must satisfy"),
        ("Image_Metadata_Compound", None, "Image_Metadata_Compound are missing"),
    ],
)
def test_tables_that_are_wrong_say_where(screen, column, value, message):
    table = pd.read_csv(screen / TABLE, dtype=str)
    if value is None:
        table = table.drop(columns=column)
    else:
        table.loc[0, column] = value
    table.to_csv(screen / TABLE, index=False)
    with pytest.raises(ValueError, match=message):
        bbbc021.wells(screen)


def test_names_that_lead_out_of_the_folder_are_not_followed(screen):
    table = pd.read_csv(screen / TABLE, dtype=str)
    table.loc[0, "Image_PathName_Actin"] = "../../.."
    table.to_csv(screen / TABLE, index=False)
    _, skipped = bbbc021.wells(screen)
    assert len(skipped) == 1 and "is no plain path below the data folder" in skipped["reason"][0]


def test_a_well_with_two_treatments_and_a_missing_table(screen):
    table = pd.read_csv(screen / TABLE, dtype=str)
    table = pd.concat([table, table.iloc[[0]].assign(Image_Metadata_Compound="x")])
    table.to_csv(screen / TABLE, index=False)
    with pytest.raises(ValueError, match="well .* of Week1_10001 has two treatments"):
        bbbc021.wells(screen)
    (screen / TABLE).unlink()
    with pytest.raises(ValueError, match="there is no BBBC021_v1_image.csv"):
        bbbc021.wells(screen)


def test_the_real_image_table(gandl_data):
    if gandl_data is None:
        return
    table = bbbc021.parse(gandl_data / "bbbc021" / "BBBC021_v1_image.csv.gz")
    assert len(table) == 13200 and table["plate_id"].nunique() == 55 and table["batch"].nunique() == 10
    known = table[table["moa"].ne("")]
    assert len(known[["compound", "concentration_uM"]].drop_duplicates()) == 103 and known["moa"].nunique() == 12
    controls = table[table["role"].eq("untreated")]
    assert controls.groupby("plate_id")["well"].nunique().eq(6).all() and controls["moa"].eq("").all()


# ---- the simulated screen ----


def test_the_loader_reads_what_was_drawn(screen, tmp_path):
    truth, sites = plan(SMALL, seed=3)
    wells, skipped = bbbc021.wells(screen)
    assert skipped.empty and len(wells) == len(sites)
    for i in (0, len(sites) // 2, len(sites) - 1):
        images, centres = render(SMALL, 3, sites[i])
        np.testing.assert_array_equal(bbbc021.read(screen, wells.iloc[i]), images)
        assert (centres >= 0).all() and (centres < SMALL.image_px).all()
    pd.testing.assert_frame_equal(pd.read_csv(screen / "truth.csv"), truth)
    assert wells[wells["role"].eq("treated")]["moa"].isin(SMALL.mechanisms).all()
    assert json.loads((screen / "simulation.json").read_text())["simulated"] is True
    real = "TableNumber,ImageNumber,Image_FileName_DAPI,Image_PathName_DAPI,Image_FileName_Tubulin,"
    real += "Image_PathName_Tubulin,Image_FileName_Actin,Image_PathName_Actin,Image_Metadata_Plate_DAPI,"
    real += "Image_Metadata_Well_DAPI,Replicate,Image_Metadata_Compound,Image_Metadata_Concentration"
    assert (screen / TABLE).read_text().splitlines()[0] == real
    shards = Shards(write(screen, tmp_path / "s.zarr"))
    assert shards.simulated and shards.pixel_um == SMALL.pixel_um and shards.layout == "bbbc021"


def test_an_interrupted_simulation_goes_on_to_the_same_bytes(screen, tmp_path, monkeypatch):
    out, write_file, left = tmp_path / "killed", files.write, 20

    def dies(path: Path, content: bytes) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        write_file(path, content)

    monkeypatch.setattr(files, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        simulate(out, SMALL, seed=3, jobs=1)
    assert not (out / TABLE).exists()
    monkeypatch.undo()
    assert contents(simulate(out, SMALL, seed=3, jobs=1)) == contents(screen)
    with pytest.raises(ValueError, match="was begun with another seed"):
        simulate(out, SMALL, seed=4)


@pytest.mark.parametrize("name", SCREENS)
def test_every_mechanism_can_be_found_in_another_week(name):
    screen = SCREENS[name]
    truth, sites = plan(screen, seed=0)
    assert truth.groupby("moa")["compound"].nunique().eq(screen.compounds).all()
    assert truth.groupby("moa")["week"].nunique().ge(2).all()
    wells = pd.DataFrame([(s.plate_id, s.well, s.compound, s.dose_uM, s.moa, s.week) for s in sites],
                         columns=["plate_id", "well", "compound", "concentration_uM", "moa", "batch"])  # fmt: skip
    wells = wells.drop_duplicates()
    assert not wells.duplicated(["plate_id", "well"]).any()
    assert wells[wells["moa"].eq("")].groupby("plate_id").size().eq(6).all()
    _, table = moa.treatments(np.ones((len(wells), 1)), wells)
    _, possible = moa.nearest(np.ones((len(table), 1)), table, "NSCB")
    assert possible.all() and len(table) == len(truth) * len(screen.doses_uM)


def test_no_effect_is_no_difference_and_more_effect_is_more():
    """Two fields from one state of chance differ by the effect alone, and the more the greater it is."""
    for answer in mcf7.MECHANISMS.values():
        fields = [mcf7.draw(np.random.default_rng(2), 12, 128, 0.65, answer, effect)[0] for effect in (0.0, 0.3, 0.9)]
        healthy, _ = mcf7.draw(np.random.default_rng(2), 12, 128, 0.65, mcf7.Phenotype(), 0.0)
        np.testing.assert_array_equal(fields[0], healthy)
        some, much = (np.abs(field - healthy).mean() for field in fields[1:])
        assert 0 <= some < much  # a weak dose may halt none of a few cells


def test_impossible_screens_are_refused():
    for change, message in (
        ({"mechanisms": ("Magic", "DNA damage")}, "unknown mechanism Magic; known: Actin"),
        ({"compounds": 1}, "at least 2 of each"),
        ({"doses_uM": (0.0,)}, "concentrations above 0"),
        ({"weeks": 1, "doses_uM": (1.0, 2.0, 3.0)}, "72 treatments a week on 54 wells"),
        ({"pixel_um": 0.0}, "pixel_um > 0"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(DrugScreen(), **change)
    with pytest.raises(ValueError, match="unknown screen 'huge' of layout bbbc021; known are tiny, quick"):
        simulated_drugs.simulate("nowhere", "huge")
