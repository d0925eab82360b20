"""Loaders: what the metadata means, which sites are complete, and what bad input is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gandl_lib import datasets
from gandl_lib.datasets import rxrx1, rxrx19a
from gandl_lib.wells import validate

RXRX19A = "site_id,well_id,cell_type,experiment,plate,well,site,disease_condition,treatment,treatment_conc,SMILES"
RXRX1 = "site_id,well_id,cell_type,dataset,experiment,plate,well,site,well_type,sirna,sirna_id"
ACTIVE, UV = "Active SARS-CoV-2", "UV Inactivated SARS-CoV-2"


def row19a(well: str = "AA02", site: int = 1, condition: str = ACTIVE, compound: str = "", dose: str = "") -> str:
    return f"H-1_25_{well}_{site},H-1_25_{well},HRCE,H-1,25,{well},{site},{condition},{compound},{dose},"


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


# ---- what the metadata means ----


@pytest.mark.parametrize(
    ("condition", "compound", "role"),
    [
        ("Mock", "", "C+"),
        (ACTIVE, "", "C-"),
        (UV, "", "UV"),
        (ACTIVE, "Remdesivir", "treated"),
        ("", "", "blank"),
        ("Mock", "Remdesivir", "blank"),
        (UV, "Remdesivir", "blank"),
        ("", "Remdesivir", "blank"),
    ],
)
def test_rxrx19a_roles(tmp_path, condition, compound, role):
    wells = rxrx19a.parse(write(tmp_path / "m.csv", RXRX19A, row19a("AA02", 1, condition, compound)))
    assert wells.loc[0, ["role", "condition", "compound"]].tolist() == [role, condition, compound]


@settings(max_examples=30)
@given(st.floats(min_value=1e-300, allow_infinity=False))
def test_concentrations_survive_exactly(tmp_path_factory, dose):
    path = write(tmp_path_factory.mktemp("m") / "m.csv", RXRX19A, row19a(compound="x", dose=repr(dose)))
    assert rxrx19a.parse(path)["concentration_uM"].tolist() == [dose]


def test_rxrx19a_of_the_real_vero_screen(gandl_data, make_screen):
    if gandl_data is None:
        path, sites = make_screen(plates=3, wells=10, sites=2) / "metadata.csv", 2
        expected = {"C+": 2, "C-": 2, "UV": 2, "blank": 2, "treated": 2}
    else:
        path, sites = gandl_data / "rxrx19a" / "metadata.csv", 4
        expected = {"C+": 40, "C-": 206, "UV": 40, "blank": 30, "treated": 1024}
    wells = rxrx19a.parse(path)
    assert wells.groupby("well_id").size().eq(sites).all()
    for _, plate in wells.drop_duplicates("well_id").groupby("plate_id"):
        assert plate["role"].value_counts().to_dict() == expected
    assert wells["concentration_uM"].notna().equals(wells["role"].eq("treated"))
    assert "SMILES" in wells.columns


def test_rxrx1_roles(tmp_path):
    kinds = {
        "B02": ("negative_control", "EMPTY", "untreated", ""),
        "B03": ("positive_control", "s502", "treated", "s502"),
        "B04": ("treatment", "s21", "treated", "s21"),
        "B05": ("treatment", "EMPTY", "untreated", ""),
    }
    lines = [f"R-1_2_{w}_1,R-1_2_{w},RPE,train,R-1,2,{w},1,{k[0]},{k[1]},7" for w, k in kinds.items()]
    wells = rxrx1.parse(write(tmp_path / "m.csv", RXRX1, *lines))
    assert wells["role"].tolist() == [k[2] for k in kinds.values()]
    assert wells["compound"].tolist() == [k[3] for k in kinds.values()]
    assert wells["concentration_uM"].isna().all() and wells["condition"].eq("").all()
    assert wells["sirna_id"].tolist() == ["7"] * 4


def test_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path, make_screen):
    plain = make_screen() / "metadata.csv"
    odd = tmp_path / "odd.csv"
    odd.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes().replace(b"\n", b"\r\n"))
    pd.testing.assert_frame_equal(rxrx19a.parse(odd), rxrx19a.parse(plain))


def test_layout_is_told_by_the_header(tmp_path, make_screen):
    assert datasets.open_layout(make_screen()).name == "rxrx19a"
    write(tmp_path / "metadata.csv", RXRX1)
    assert datasets.open_layout(tmp_path).name == "rxrx1"


# ---- bad metadata ----


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([RXRX19A.replace("treatment_conc", "dose")], r"RxRx19a's layout.*treatment_conc are missing.*Found .*dose"),
        ([RXRX19A], "a header and no rows"),
        ([RXRX19A, row19a(), row19a()], "'site_id' must satisfy .*unique.*H-1_25_AA02_1"),
        ([RXRX19A, row19a("a2")], "'well' must satisfy.*'a2'"),
        ([RXRX19A, row19a(condition="Infected")], "unknown disease_condition 'Infected'; known are 'Mock'"),
        ([RXRX19A, row19a(compound="x", dose="high")], "'treatment_conc' must hold a number or nothing.*'high'"),
        ([RXRX19A, row19a(compound="x", dose="-1")], "'concentration_uM' must satisfy.*-1"),
        ([RXRX19A, row19a(dose="0.1")], "a concentration_uM needs a compound"),
        ([RXRX19A, row19a().replace(",25,", ",twenty,")], "'plate' must hold a whole number.*'twenty'"),
        ([RXRX19A, row19a().replace(",25,", ",26,")], "'H-1_25_AA02_1' where the other columns say 'H-1_26_AA02_1'"),
        ([RXRX19A, row19a(site=1), row19a(site=2, compound="x")], "all sites of a well share"),
        ([RXRX19A, row19a() + ",surplus"], "not a readable CSV.*does not match length of data"),
        ([RXRX19A, row19a(compound="x", dose="inf")], "'treatment_conc' must hold a number or nothing.*'inf'"),
        ([""], "not a readable CSV"),
    ],
)
def test_bad_metadata_is_named(tmp_path, lines, message):
    path = write(tmp_path / "metadata.csv", *lines)
    with pytest.raises(ValueError, match=message) as error:
        rxrx19a.parse(path)
    assert str(path) in str(error.value)


def test_unknown_well_type(tmp_path):
    path = write(tmp_path / "m.csv", RXRX1, "R-1_2_B02_1,R-1_2_B02,RPE,train,R-1,2,B02,1,control,EMPTY,7")
    with pytest.raises(ValueError, match="unknown well_type 'control'; known are negative_control"):
        rxrx1.parse(path)


def test_a_folder_of_no_layout(tmp_path):
    with pytest.raises(ValueError, match=r"no such file.*metadata\.csv beside images/"):
        datasets.open_layout(tmp_path)
    write(tmp_path / "metadata.csv", "file,label")
    with pytest.raises(ValueError, match="Found file,label") as error:
        datasets.open_layout(tmp_path)
    assert ",".join(rxrx19a.COLUMNS) in str(error.value) and ",".join(rxrx1.COLUMNS) in str(error.value)


def test_select(make_screen):
    wells = rxrx19a.parse(make_screen() / "metadata.csv")
    some = datasets.select(wells, "plate == 2 and role in ['C+', 'C-']")
    assert some["site_id"].tolist() == [f"VERO-1_2_{w}_{s}" for w in ("A02", "A03") for s in (1, 2)]
    assert some.index.tolist() == [0, 1, 2, 3]
    for where, message in {
        "colour == 1": "colour.*The columns are site_id.*role",
        "plate": "not a yes/no question of the columns site_id",
        "plate ==": "cannot select wells where 'plate =='",
        "plate == 9": "no well satisfies 'plate == 9'; the table has 20 sites",
    }.items():
        with pytest.raises(ValueError, match=message):
            datasets.select(wells, where)


# ---- images ----


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_read_returns_the_pixels_of_the_files(make_screen, dtype):
    root = make_screen(dtype=dtype)
    wells, skipped = rxrx19a.wells(root)
    assert skipped.empty and list(skipped.columns) == ["site_id", "reason"]
    for row in wells.itertuples():
        image = rxrx19a.read(root, row)
        assert image.shape == (5, 24, 20) and image.dtype == dtype
        for channel, pixels in enumerate(image, start=1):
            path = root / f"images/VERO-1/Plate{row.plate}/{row.well}_s{row.site}_w{channel}.png"
            np.testing.assert_array_equal(pixels, np.asarray(Image.open(path)))
    np.testing.assert_array_equal(rxrx19a.read(root, wells.iloc[-1]), image)


def _remove(path):
    path.unlink()


def _grow(path):
    Image.fromarray(np.zeros((25, 20), np.uint8)).save(path)


def _deepen(path):
    Image.fromarray(np.zeros((24, 20), np.uint16)).save(path)


def _colour(path):
    Image.fromarray(np.zeros((24, 20, 3), np.uint8)).save(path)


def _cut_tail(path):
    path.write_bytes(path.read_bytes()[:-200])


def _cut_head(path):
    path.write_bytes(path.read_bytes()[:20])


def _empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_remove, "is missing"),
        (_grow, "is 25x20 uint8, the site's other channels are 24x20 uint8"),
        (_deepen, "is 24x20 uint16, the site's other channels are 24x20 uint8"),
        (_colour, "has RGB pixels, not 8- or 16-bit grey"),
        (_cut_tail, "is truncated"),
        (_cut_head, "is no readable PNG"),
        (_empty, "is no readable PNG"),
    ],
)
def test_a_damaged_site_is_skipped_by_name_and_cannot_be_read(make_screen, damage, reason):
    root = make_screen()
    whole, _ = rxrx19a.wells(root)
    name = "images/VERO-1/Plate2/A03_s1_w4.png"
    damage(root / name)
    wells, skipped = rxrx19a.wells(root)
    assert skipped.to_dict("records") == [{"site_id": "VERO-1_2_A03_1", "reason": f"{name} {reason}"}]
    pd.testing.assert_frame_equal(wells, whole[whole["site_id"] != "VERO-1_2_A03_1"].reset_index(drop=True))
    validate(wells)
    row = whole[whole["site_id"] == "VERO-1_2_A03_1"].iloc[0]
    with pytest.raises(ValueError, match=r"A03_s1_w4\.png|Plate2.*VERO-1_2_A03_1 differ"):
        rxrx19a.read(root, row)


@pytest.mark.parametrize(("damage", "kind"), [(_grow, "25x20 uint8"), (_deepen, "24x20 uint16")])
def test_a_whole_site_unlike_the_others_is_skipped(make_screen, damage, kind):
    root = make_screen()
    for channel in range(1, 6):
        damage(root / f"images/VERO-1/Plate1/A02_s1_w{channel}.png")
    _, skipped = rxrx19a.wells(root)
    reason = f"images/VERO-1/Plate1/A02_s1_w1.png is {kind}, most sites are 24x20 uint8"
    assert skipped.to_dict("records") == [{"site_id": "VERO-1_1_A02_1", "reason": reason}]


def test_a_screen_without_images(tmp_path):
    write(tmp_path / "metadata.csv", RXRX19A, row19a())
    with pytest.raises(ValueError, match=r"none of the 1 site.*images/H-1/Plate25/AA02_s1_w1\.png is missing"):
        rxrx19a.wells(tmp_path)


def test_where_looks_at_nothing_else(make_screen):
    root = make_screen()
    for path in (root / "images/VERO-1/Plate1").iterdir():
        path.unlink()
    wells, skipped = rxrx19a.wells(root, "plate == 2")
    assert len(wells) == 10 and skipped.empty


def _rxrx1_screen(root: Path) -> Path:
    """Site 1 with six channels, site 2 with four, as the sample of the real screen has them."""
    rows, rng = [RXRX1], np.random.default_rng(1)
    for experiment, cell in (("HEPG2-01", "HEPG2"), ("RPE-01", "RPE")):
        folder = root / "images" / experiment / "Plate1"
        folder.mkdir(parents=True)
        for site, channels in ((1, 6), (2, 4)):
            ids = f"{experiment}_1_B02_{site},{experiment}_1_B02"
            rows.append(f"{ids},{cell},train,{experiment},1,B02,{site},negative_control,EMPTY,1138")
            for c in range(1, channels + 1):
                pixels = rng.integers(0, 255, (16, 16), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"B02_s{site}_w{c}.png")
    write(root / "metadata.csv", *rows)
    return root


def test_rxrx1_has_five_of_six_channels_and_half_its_sites(gandl_data, tmp_path):
    root = _rxrx1_screen(tmp_path / "screen") if gandl_data is None else gandl_data / "rxrx1"
    wells, skipped = rxrx1.wells(root)
    n = len(pd.read_csv(root / "metadata.csv"))
    assert len(wells) == len(skipped) == n // 2
    assert wells["site"].eq(1).all() and wells["role"].eq("untreated").all()
    assert skipped["reason"].str.fullmatch(r"images/\S+/Plate\d/B02_s2_w6\.png is missing").all()
    row = wells.iloc[0]
    image = rxrx1.read(root, row)
    folder = root / "images" / row.experiment / f"Plate{row.plate}"
    for pixels, c in zip(image, (1, 2, 3, 4, 6), strict=True):
        np.testing.assert_array_equal(pixels, np.asarray(Image.open(folder / f"B02_s1_w{c}.png")))
    assert len(image) == len(rxrx1.CHANNELS)
