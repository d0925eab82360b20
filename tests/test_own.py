"""Somebody's own plate: whatever is thrown at the loader, it reads it, leaves it out with a reason, or says why."""

from __future__ import annotations

import json
import os
import re
import tomllib
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gandl_lib import datasets
from gandl_lib import wells as names
from gandl_lib.datasets import own, rxrx19a
from gandl_lib.datasets.own import decoders, description, units
from gandl_lib.screen import quality, run
from gandl_lib.shards import Shards
from gandl_lib.shards import write as write_shards
from gandl_lib.simulate import screens as simulated
from gandl_lib.wells import validate

DESCRIPTION = {
    "columns": {"plate": "Barcode", "well": "Pos", "site": "F", "compound": "Drug", "concentration": "Dose"},
    "concentration": {"unit": "nM"},
    "images": {"files": "i/{Barcode}/{Pos}_{F}_{channel}.png", "channels": ["DNA", "actin"], "pixel_um": 0.5},
}
ROWS = [("P1", "A1", "1", "DMSO", ""), ("P1", "A1", "2", "DMSO", ""), ("P1", "B2", "1", "aspirin", "300")]
COLUMNS = ["Barcode", "Pos", "F", "Drug", "Dose"]


def pixels(seed: int = 0, n: int = 2, size: tuple[int, int] = (8, 10), dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (n, *size), dtype, endpoint=True)


def plate(root: Path, rows=ROWS, written: bool = True, **changes) -> Path:
    """A folder with those rows; `changes` replace sections of the description."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "screen.json").write_text(json.dumps(DESCRIPTION | changes))
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.to_csv(root / "metadata.csv", index=False)
    if written:
        for k, row in enumerate(table.drop_duplicates(["Barcode", "Pos", "F"]).itertuples()):
            (root / "i" / row.Barcode).mkdir(parents=True, exist_ok=True)
            for channel, image in zip(("DNA", "actin"), pixels(k), strict=True):
                Image.fromarray(image).save(root / "i" / row.Barcode / f"{row.Pos}_{row.F}_{channel}.png")
    return root


def parsed(root: Path, content: bytes | str, **changes) -> pd.DataFrame:
    plate(root, written=False, **changes)
    (root / "metadata.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return own.open_folder(root).parse()


# ---- what is read ----


def test_one_file_a_channel(tmp_path):
    root = plate(tmp_path / "p")
    layout = datasets.open_layout(root)
    wells, skipped, _ = layout.wells()
    assert wells["site_id"].tolist() == ["P1_A01_1", "P1_A01_2", "P1_B02_1"] and skipped.empty
    assert wells["concentration_uM"].tolist()[2] == 0.3 and wells["role"].tolist() == ["treated"] * 3
    assert (layout.channels, layout.pixel_um) == (("DNA", "actin"), 0.5)
    for k, row in enumerate(wells.itertuples()):
        np.testing.assert_array_equal(layout.read(row), pixels(k))
    shards = Shards(write_shards(root, tmp_path / "s.zarr"))
    assert shards.layout == "own" and shards.channels == ("DNA", "actin") and not shards.simulated
    np.testing.assert_array_equal(shards.read(1), pixels(1))
    assert shards.wells.loc[2, "Drug"] == "aspirin"


SAVERS = {
    "TIFF planes": lambda path, x: tifffile.imwrite(path, x, photometric="minisblack"),
    "big-endian": lambda path, x: tifffile.imwrite(path, x, photometric="minisblack", byteorder=">"),
    "BigTIFF": lambda path, x: tifffile.imwrite(path, x, photometric="minisblack", bigtiff=True),
    "LZW": lambda path, x: tifffile.imwrite(path, x, photometric="minisblack", compression="lzw"),
    "tiles": lambda path, x: tifffile.imwrite(path, x, photometric="minisblack", tile=(16, 16)),
    "OME": lambda path, x: tifffile.imwrite(path, x, ome=True, photometric="minisblack", metadata={"axes": "CYX"}),
    "OME, Z and T of 1": lambda path, x: tifffile.imwrite(
        path, x[None, :, None], ome=True, photometric="minisblack", metadata={"axes": "TCZYX"}
    ),
    "ImageJ": lambda path, x: tifffile.imwrite(path, x, imagej=True, metadata={"axes": "CYX"}),
    "planar": lambda path, x: tifffile.imwrite(path, x, photometric="minisblack", planarconfig="separate"),
    "interleaved": lambda path, x: tifffile.imwrite(
        path, np.moveaxis(x, 0, -1), photometric="minisblack", planarconfig="contig", extrasamples=[0]
    ),
}


@pytest.mark.parametrize("saver", SAVERS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_one_file_a_site(tmp_path, saver, dtype):
    images = {"files": "{Pos}_{F}", "channels": ["DNA", "actin"], "pixel_um": 1}
    root = plate(tmp_path, written=False, images=images)
    for k, name in enumerate(("A1_1", "A1_2", "B2_1")):
        SAVERS[saver](root / name, pixels(k, dtype=dtype))
    layout = own.open_folder(root)
    wells, skipped, _ = layout.wells()
    assert skipped.empty
    np.testing.assert_array_equal(layout.read(wells.iloc[1]), pixels(1, dtype=dtype))
    assert layout.read(wells.iloc[1]).dtype == np.dtype(dtype)


def test_lzw_without_imagecodecs(tmp_path, monkeypatch):
    """The lock has no imagecodecs; Pillow then does what tifffile cannot."""
    SAVERS["LZW"](tmp_path / "x.tif", pixels())

    def refusing(self, *args, **kwargs):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", refusing)
    np.testing.assert_array_equal(decoders.decode(tmp_path / "x.tif", 2, ("DNA", "actin")), pixels())


def test_the_colours_of_a_png(tmp_path):
    rgb = pixels(n=3, dtype="uint8")
    Image.fromarray(np.moveaxis(rgb, 0, -1)).save(tmp_path / "x.png")
    np.testing.assert_array_equal(decoders.decode(tmp_path / "x.png", 3, ("a", "b", "c")), rgb)


def test_a_table_of_file_names_and_a_column_a_channel(tmp_path):
    files = {"DNA": "{Drug}_{F:03}.png", "actin": "{Dose}/{Pos}.png"}
    root = plate(tmp_path, ROWS[2:], written=False, images={"files": files, "pixel_um": 1})
    (row,) = own.open_folder(root).parse().itertuples()
    assert json.loads(row.files) == ["aspirin_001.png", "300/B2.png"]


def test_binning_averages(tmp_path):
    root = plate(tmp_path, images=DESCRIPTION["images"] | {"bin": 2})
    layout = own.open_folder(root)
    wells = layout.wells().wells
    small = layout.read(wells.iloc[0])
    assert small.shape == (2, 4, 5) and layout.pixel_um == 1.0
    assert small[1, 2, 3] == np.rint(pixels(0)[1, 4:6, 6:8].mean())


def test_an_ome_tiff_says_how_large_its_pixels_are(tmp_path):
    images = {"files": "{Pos}_{F}.ome.tif", "channels": ["DNA", "actin"]}
    root = plate(tmp_path, ROWS[2:], written=False, images=images)
    said = {"axes": "CYX", "PhysicalSizeX": 325.0, "PhysicalSizeXUnit": "nm"}
    tifffile.imwrite(root / "B2_1.ome.tif", pixels(), photometric="minisblack", metadata=said)
    assert own.open_folder(root).pixel_um == pytest.approx(0.325)
    SAVERS["TIFF planes"](root / "B2_1.ome.tif", pixels())
    with pytest.raises(ValueError, match="how large is a pixel.*pixel_um"):
        assert own.open_folder(root).pixel_um


# ---- the table ----

TABLE = "Barcode,Pos,F,Drug,Dose\nPé,A1,1,µ-drug,0.5\nPé,A2,1,b,1500\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", ",;\t|")
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings_separators_and_line_ends_change_nothing(tmp_path, encoding, separator, end):
    expected = parsed(tmp_path / "a", TABLE)
    table = TABLE.replace(",", separator).replace("\n", end).encode(encoding)
    pd.testing.assert_frame_equal(parsed(tmp_path / "b", table), expected)
    assert expected["compound"].tolist() == ["µ-drug", "b"]
    assert expected["concentration_uM"].tolist() == [0.0005, 1.5]


@pytest.mark.parametrize(
    ("doses", "expected"),
    [
        (["0,5", "1500"], [0.5, 1500.0]),
        (["0,100", "1,000"], [0.1, 1.0]),  # a thousand does not begin with 0
        (["1,000.5", "2"], [1000.5, 2.0]),
        (["1.000,5", "2"], [1000.5, 2.0]),
        (["1e-3", "2E2"], [0.001, 200.0]),
        (["10 nM", "1 µM"], [0.01 / 1e-3, 1000.0]),  # in nM
        (["1 μM", "2uM"], [1000.0, 2000.0]),
        (["3 mM", "5pM"], [3e6, 0.005]),
    ],
)
def test_numbers_as_people_write_them(tmp_path, doses, expected):
    table = "Barcode;Pos;F;Drug;Dose\n" + "".join(f"P;A{k};1;x;{d}\n" for k, d in enumerate(doses, 1))
    found = parsed(tmp_path, table)["concentration_uM"]
    np.testing.assert_allclose(found, np.array(expected) / 1000, rtol=1e-15)


@pytest.mark.parametrize("unit", units.UNITS)
def test_units(tmp_path, unit):
    wells = parsed(tmp_path, TABLE, concentration={"unit": unit})
    assert wells["concentration_uM"].tolist() == [float(f"{n}e{units.UNITS[unit]}") for n in ("0.5", "1500")]


def test_a_number_that_may_be_either_is_asked_for(tmp_path):
    table = "Barcode;Pos;F;Drug;Dose\nP;A1;1;x;1,000\n"
    with pytest.raises(ValueError, match=r"'1,000' a thousand.*decimal = \",\""):
        parsed(tmp_path, table)
    for decimal, expected in ((",", 0.001), (".", 1.0)):
        wells = parsed(tmp_path, table, concentration={"unit": "nM", "decimal": decimal})
        assert wells["concentration_uM"].tolist() == [expected]


@pytest.mark.parametrize("text", ["A1", "a01", "A-01", "A 1", "r1c1", "R01C01", "A001", "A_1"])
def test_wells_as_people_write_them(text):
    assert names.name(text) == "A01"


@pytest.mark.parametrize(("text", "well"), [("AF48", "AF48"), ("r32c48", "AF48"), ("r27c1", "AA01"), ("h12", "H12")])
def test_large_plates(text, well):
    assert names.name(text) == well


@pytest.mark.parametrize("text", ["", "1A", "A0", "A100", "ABC1", "A", "12", "r0c1", "A1/../..", "Ä1"])
def test_no_wells(text):
    assert names.name(text) == ""


def test_roles_come_from_the_description(tmp_path):
    rows = [("P", f"A{k}", "1", drug, dose) for k, (drug, dose) in enumerate(
        [("virus", ""), ("mock", ""), ("mock", "0"), ("x", "5"), ("", "")], 1)]  # fmt: skip
    columns = DESCRIPTION["columns"] | {"control": "Drug"}
    controls = {"C+": "mock", "C-": ["virus", "typo"]}
    root = plate(tmp_path, rows, written=False, columns=columns, controls=controls)
    parsed = own.parse(root)
    wells, unusable = parsed.wells, parsed.unusable
    assert wells["role"].tolist() == ["C-", "C+", "C+", "treated", "blank"] and unusable.empty
    assert wells["concentration_uM"].notna().tolist() == [False] * 3 + [True, False]
    assert "no row has the control 'typo'" in str(parsed.notes)


def test_sites_may_count_from_zero_and_plates_get_numbers(tmp_path):
    table = "Barcode,Pos,F,Drug,Dose\nQ7,A1,f00,x,1\nQ7,A1,f01,x,1\nB3,A1,f00,x,1\n"
    wells = parsed(tmp_path, table)
    assert wells["site"].tolist() == [1, 2, 1]
    assert wells[["plate_id", "plate"]].to_numpy().tolist() == [["Q7", 2], ["Q7", 2], ["B3", 1]]


# ---- what is left out ----


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("", "C3", "1", "x", "1"), "line 5: no plate"),
        (("P1", "3C", "1", "x", "1"), "line 5: no well like A01.*'3C'"),
        (("P1", "C3", "one", "x", "1"), "line 5: no number of a site; found 'one'"),
        (("P1", "C3", "1", "x", "-1"), "line 5: a concentration must be above 0"),
        (("P1", "C3", "1", "x", "0"), "line 5: a concentration must be above 0"),
        (("P1", "C3", "1", "x", "high"), "line 5: the concentration is no number; found 'high'"),
        (("P1", "C3", "1", "x", "1e999"), "line 5: the concentration is no number"),
        (("P1", "C3", "1", "x", "5 %"), "line 5: the concentration has the unit '%', which is not molar"),
        (("P1", "C3", "1", "x", "5 ug/ml"), "unit 'ug/ml'"),
        (("P1", "B2", "1", "aspirin", "300"), "line 5: repeats line 4"),
        (("P1", "C3", "9", "x", "1"), "i/P1/C3_9_DNA.png is missing"),
        (("../..", "C3", "1", "x", "1"), r"i/\.\./\.\./C3_1_DNA.png is no plain path"),
        (("P1\\..\\x", "C3", "1", "x", "1"), "is no plain path"),
        (("P1", "C3", "1\x07", "x", "1"), "line 5: no number of a site"),
    ],
)
def test_unusable_rows_are_counted_with_a_reason(tmp_path, row, reason):
    root = plate(tmp_path, ROWS)
    pd.DataFrame([*ROWS, row], columns=COLUMNS).to_csv(root / "metadata.csv", index=False)
    wells, skipped, _ = own.open_folder(root).wells()
    assert len(wells) == 3 and len(skipped) == 1
    assert re.search(reason, skipped["reason"][0])


def test_rows_that_contradict_each_other_are_all_left_out(tmp_path):
    rows = [*ROWS, ("P1", "B2", "1", "morphine", "300"), ("P1", "C1", "1", "x", "1"), ("P1", "C1", "2", "x", "2")]
    wells, skipped, _ = own.open_folder(plate(tmp_path, rows)).wells()
    assert wells["well_id"].unique().tolist() == ["P1_A01"]
    assert skipped["reason"].str.contains("more than once, and differently").sum() == 2
    assert skipped["reason"].str.contains("sites of well P1_C01 disagree on concentration_uM").sum() == 2


def _as(save):
    return lambda path: save(path)


IMAGES = {
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-20]), "is truncated"),
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "text": (lambda p: p.write_bytes(b"hello, world; " * 9), "neither PNG nor TIFF nor BMP"),
    "a folder": (lambda p: (p.unlink(), p.mkdir()), "cannot be read"),
    "palette": (lambda p: Image.fromarray(pixels(dtype="uint8")[0]).convert("RGB").quantize(16).save(p), "palette"),
    "transparent": (lambda p: Image.new("RGBA", (10, 8)).save(p), "colour with transparency"),
    "colour": (lambda p: Image.new("RGB", (10, 8)).save(p), "3 plane"),
    "8-bit": (lambda p: Image.fromarray(pixels(dtype="uint8")[0]).save(p), "differ in size or type"),
    "another size": (lambda p: Image.fromarray(pixels(size=(9, 10))[0]).save(p), "differ in size or type"),
    "float": (lambda p: tifffile.imwrite(p, np.full((8, 10), np.nan, "f4")), "pixels of float32"),
    "signed": (lambda p: tifffile.imwrite(p, np.zeros((8, 10), "i2")), "pixels of int16"),
    "stack": (lambda p: tifffile.imwrite(p, pixels(n=3), photometric="minisblack"), "has 3 plane"),
    "film": (lambda p: tifffile.imwrite(p, pixels(n=70), photometric="minisblack"), "a stack or a film"),
    "OME stack": (
        lambda p: tifffile.imwrite(p, pixels(n=3), ome=True, photometric="minisblack", metadata={"axes": "ZYX"}),
        "has 3 layers",
    ),
    "TIFF cut off": (
        lambda p: (tifffile.imwrite(p, pixels()[0]), p.write_bytes(p.read_bytes()[:-20])),
        "is truncated",
    ),
    "a link outside": (lambda p: (p.unlink(), p.symlink_to("/etc/hostname")), "is a link that leads out"),
    "a link to itself": (lambda p: (p.unlink(), p.symlink_to(p.name)), "is a link that leads out|is missing|cannot"),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_unusable_images_are_counted_with_a_reason(tmp_path, kind):
    spoil, reason = IMAGES[kind]
    root = plate(tmp_path / "p")
    spoil(root / "i" / "P1" / "A1_2_actin.png")
    wells, skipped, _ = own.open_folder(root).wells()
    assert len(wells) == 2 and skipped["site_id"].tolist() == ["P1_A01_2"]
    assert re.search(reason, skipped["reason"][0]) and "i/P1/A1_2" in skipped["reason"][0]


def test_a_site_of_another_kind_is_left_out(tmp_path):
    root = plate(tmp_path)
    for channel in ("DNA", "actin"):
        Image.fromarray(pixels(dtype="uint8")[0]).save(root / "i" / "P1" / f"B2_1_{channel}.png")
    wells, skipped, _ = own.open_folder(root).wells()
    assert len(wells) == 2 and "is 8x10 uint8, most sites are 8x10 uint16" in skipped["reason"][0]


def test_channels_that_an_image_names_otherwise(tmp_path):
    images = {"files": "{Pos}_{F}.tif", "channels": ["DNA", "actin"], "pixel_um": 1}
    root = plate(tmp_path, ROWS[1:], written=False, images=images)
    for name, order in (("A1_2", ["DNA", "actin"]), ("B2_1", ["actin", "DNA"])):
        said = {"axes": "CYX", "Channel": {"Name": order}}
        tifffile.imwrite(root / f"{name}.tif", pixels(), ome=True, photometric="minisblack", metadata=said)
    wells, skipped, _ = own.open_folder(root).wells()
    assert wells["well"].tolist() == ["A01"] and "names its channels actin, DNA" in skipped["reason"][0]


def test_an_image_that_would_fill_the_memory_is_refused(tmp_path):
    root = plate(tmp_path)
    path = root / "i" / "P1" / "A1_1_DNA.png"
    content = bytearray(path.read_bytes())
    content[16:24] = (60000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    skipped = own.open_folder(root).wells().skipped
    assert "60000 x 60000 pixels" in skipped["reason"][0]


def test_black_and_saturated_channels_are_odd_and_kept(tmp_path):
    root = plate(tmp_path)
    Image.fromarray(np.zeros((8, 10), np.uint16)).save(root / "i" / "P1" / "A1_1_DNA.png")
    Image.fromarray(np.where(pixels()[0] > 2**15, 4095, 7).astype(np.uint16)).save(root / "i/P1/A1_2_actin.png")
    layout = own.open_folder(root)
    wells, _, odd = layout.wells()
    assert len(wells) == 3
    assert odd["what"].str.contains("channel DNA has a single grey value").any()
    assert odd["what"].str.contains("channel actin is saturated").any()


def test_an_ome_tiff_cannot_have_other_files_read(tmp_path):
    """An OME-TIFF may name files that hold its other planes; those are nobody's business."""
    tifffile.imwrite(tmp_path / "secret.tif", pixels()[0])
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        'DimensionOrder="XYCZT" Type="uint16" SizeX="10" SizeY="8" SizeC="2" SizeZ="1" SizeT="1">'
        '<Channel ID="C:0"/><Channel ID="C:1"/><TiffData FirstC="0" IFD="0" PlaneCount="1"/>'
        '<TiffData FirstC="1" IFD="0" PlaneCount="1"><UUID FileName="../secret.tif">urn:uuid:0</UUID></TiffData>'
        "</Pixels></Image></OME>"
    )
    (tmp_path / "p").mkdir()
    tifffile.imwrite(tmp_path / "p" / "x.ome.tif", pixels()[1], description=xml, metadata=None)
    with pytest.raises(ValueError, match="has 1 plane"):
        decoders.decode(tmp_path / "p" / "x.ome.tif", 2, ("DNA", "actin"))


# ---- what is refused at once ----


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a readable table"),
        ("Barcode,Pos,F,Drug,Dose\n", "a header and no rows"),
        ("Barcode,Pos,F,Drug\nP,A1,1,x\n", "concentration is 'Dose', but the table has no such column; it has Barcode"),
        ("Barcode,Pos,F,Drug,Dose,Dose\nP,A1,1,x,1,1\n", "the column 'Dose' occurs twice"),
        ("Barcode,Pos,F,Drug,Dose\nP,A1,1,x,1,surplus\n", "not a readable table"),
        ("Barcode,Pos,F,Drug,Dose\nP,nowhere,1,x,1\n", "none of the 1 row.*line 2: no well"),
        (b"\xff\xfeB\x00a", "begins like UTF-16"),
        ("Barcode,Pos,F,Drug,Dose\nP\0,A1,1,x,1\n", "zero bytes"),
    ],
)
def test_tables_that_make_no_sense(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        parsed(tmp_path, content)
    assert "metadata.csv" in str(caught.value) or "screen.json" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"column": {}}, r"unknown section \[column\]; known are columns"),
        ({"columns": {"plate": "P", "wells": "W"}}, r"unknown name 'wells'; known are plate, well"),
        ({"columns": {"plate": "P"}}, r"\[columns\] lacks well"),
        ({"columns": {"plate": "P", "well": 3}}, r"\[columns\] well must be the name of a column"),
        ({"concentration": {}}, "concentrations of which unit"),
        ({"concentration": {"unit": "ug/ml"}}, "'ug/ml' is no molar unit"),
        ({"concentration": {"unit": "nM", "decimal": "x"}}, "decimal must be"),
        ({"controls": {"C+": ["a"]}}, r"name it in \[columns\] control"),
        ({"controls": {"Cplus": ["a"]}}, "unknown name 'Cplus'; known are C.*"),
        ({"controls": {"C+": ["a"], "C-": ["a"]}}, "'a' cannot mean both C. and C-"),
        ({"controls": {"C+": [3]}}, "must be a list of texts; found 3"),
        ({"images": {"channels": ["a"]}}, "needs files"),
        ({"images": {"files": "x", "channels": []}}, "needs files"),
        ({"images": {"files": "x{channel}", "channels": ["a", "a "]}}, "must have different names"),
        ({"images": {"files": {"a": "x", "b": "x"}}}, "two channels have the same files"),
        ({"images": {"files": "x", "channels": ["a"], "pixel_um": -1}}, "pixel_um must be a length"),
        ({"images": {"files": "x", "channels": ["a"], "bin": 0.5}}, "bin must be a whole number"),
    ],
)
def test_descriptions_that_make_no_sense(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        own.open_folder(plate(tmp_path, written=False, **changes))
    assert "screen.json" in str(caught.value)


def test_templates_name_their_columns(tmp_path):
    for files, message in (("{Nope}.png", "no column 'Nope'"), ("{Pos!r}", "only a width"), ("{Pos", "no template")):
        plate(tmp_path, written=False, images={"files": files, "channels": ["a"]})
        with pytest.raises(ValueError, match=message):
            own.open_folder(tmp_path).parse()


def test_no_image_at_all(tmp_path):
    root = plate(tmp_path, written=False)
    with pytest.raises(ValueError, match="none of the 3 site.*A1_1_DNA.png is missing"):
        own.open_folder(root).wells()


def test_without_a_description_the_error_says_how_to_write_one(tmp_path):
    (tmp_path / "metadata.csv").write_text("Barcode,Well position,Compound,Conc\nP,A1,x,1\n")
    with pytest.raises(ValueError, match="screen.toml"):
        datasets.open_layout(tmp_path)
    guess = tomllib.loads(own.draft(tmp_path / "metadata.csv"))
    assert guess["columns"] == {
        "plate": "Barcode",
        "well": "Well position",
        "compound": "Compound",
        "concentration": "Conc",
    }


def test_toml_and_json_say_the_same(tmp_path):
    root = plate(tmp_path, written=False)
    json_ = own.describe(root / "screen.json")
    lines = []
    for section, values in DESCRIPTION.items():
        lines += [f"[{section}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items())]
    (root / "screen.toml").write_text("\n".join(lines))
    toml = own.describe(root / "screen.toml")
    assert toml.__dict__ | {"path": None} == json_.__dict__ | {"path": None}
    (root / "screen.toml").write_text("[columns\n")
    with pytest.raises(ValueError, match="screen.toml: not readable as TOML"):
        own.open_folder(root)


# ---- never a silent change of result ----


def test_two_sites_that_name_one_file_are_refused(tmp_path):
    for files, lacking in (("i/P1/{Pos}_1_{channel}.png", "{F}"), ("i/{Barcode}/A1_{F}_{channel}.png", "{Pos}")):
        root = plate(
            tmp_path, [*ROWS[:2], ("P1", "B2", "2", "x", "3")], images=DESCRIPTION["images"] | {"files": files}
        )
        try:
            reasons = own.parse(root).unusable["reason"]
        except ValueError as error:
            reasons = pd.Series([str(error)])
        assert reasons.str.contains(re.escape(lacking)).all() and reasons.str.contains("and so does line").all()


NAMED = [
    ("P1", "A1", "1", "DMSO", ""),
    ("P1", "B2", "1", "x", "3"),
    ("P1", "B2", "2", "x", "3"),
    ("P1", "C3", "1", "y", "5"),
]
SPELLINGS = ("as it is", "from Windows", "from here", "doubled", "in full")
"""Ways in which a table may write a name that all mean the same file."""
DAMAGES = ("upper", "suffix", "uuid", "gone", "thumb only", "elsewhere", "space")
"""What may have become of a file that a table still names as it was."""


def spelled(name: str, how: str, root: Path) -> str:
    windows, doubled = name.replace("/", "\\"), name.replace("/", "//")
    return dict(zip(SPELLINGS, (name, windows, f"./{name}", doubled, f"{root}/{name}"), strict=True))[how]


def damaged(path: Path, how: str) -> Path | None:
    """Rename a file so that its name in the table no longer fits; where it is then, None if nowhere."""
    to = {
        "upper": path.with_name(path.name.upper()),
        "suffix": path.with_suffix(".tiff"),
        "uuid": path.with_name(f"{path.stem}0B5E6A4C-7D2E-4E56-9C8B-0A1B2C3D4E5F{path.suffix}"),
        "thumb only": path.with_name(f"{path.stem}_thumb{path.suffix}"),
        "elsewhere": path.parent / "old" / path.name,
        "space": path.with_name(f"{path.stem} {path.suffix}"),
    }.get(how)
    if to is None:
        path.unlink()
        return None
    to.parent.mkdir(exist_ok=True)
    return path.rename(to)


@settings(max_examples=20)
@given(data=st.data())
def test_renamed_files_never_change_a_result_silently(tmp_path_factory, data):
    """The table against the disk: a site has the very pixels it had, or is left out by name; strays are counted.

    The table writes names in ways that mean the same; files are renamed behind its back, named by two rows, or lie
    there without a row.
    """
    root, sites = tmp_path_factory.mktemp("renamed"), range(len(NAMED))
    files = [f"im/{well}_s{site}_w1.tif" for _, well, site, *_ in NAMED]
    site_ids = [f"P1_{names.name(well)}_{site}" for _, well, site, *_ in NAMED]
    (root / "im").mkdir()
    for k in sites:
        tifffile.imwrite(root / files[k], pixels(k, 1)[0])
    ways = data.draw(st.tuples(*[st.sampled_from(SPELLINGS)] * len(sites)))
    means = data.draw(st.permutations(sites).map(lambda p: {p[0]: p[1]}) | st.just({}))  # a row to another row's file
    damage = data.draw(st.dictionaries(st.sampled_from(sites), st.sampled_from(DAMAGES), max_size=3))
    strays = data.draw(st.sets(st.sampled_from(["im/Z9_s1_w1.tif", "im/note.png", "a.bmp"])))
    for name in strays:
        (root / name).touch()
    for k, how in damage.items():
        moved = damaged(root / files[k], how)
        strays |= {str(moved.relative_to(root))} if moved and how != "thumb only" else set()
    strays |= {files[k] for k in means if k not in damage}
    columns = DESCRIPTION["columns"] | {"site": "S"}
    plate(root, written=False, columns=columns, images={"files": "{F}", "channels": ["DNA"], "pixel_um": 1})
    written = [spelled(files[means.get(k, k)], ways[k], root) for k in sites]
    table = pd.DataFrame([(*row, name) for row, name in zip(NAMED, written, strict=True)])
    table.set_axis(["Barcode", "Pos", "S", "Drug", "Dose", "F"], axis=1).to_csv(root / "metadata.csv", index=False)

    shared = {*means, *means.values()}
    lost = shared | damage.keys()
    layout = own.open_folder(root)
    if len(lost) == len(sites):
        with pytest.raises(ValueError, match=r"none of the \d"):
            layout.wells()
        return
    wells, skipped, odd = layout.wells()
    assert set(wells["site_id"]) == {site_ids[k] for k in sites if k not in lost}
    for row in wells.itertuples():
        np.testing.assert_array_equal(layout.read(row), pixels(site_ids.index(row.site_id), 1))
    said = dict(zip(skipped["site_id"], skipped["reason"], strict=True))
    assert set(said) == {site_ids[k] for k in lost}
    for k in lost:
        assert files[means.get(k, k)] in said[site_ids[k]]
        assert ("and so does line" if k in shared else "is missing") in said[site_ids[k]]
        if damage.get(k) in ("upper", "uuid") and k not in shared:
            assert re.search("is there: capital letters count|near it li", said[site_ids[k]])
    unnamed = odd["what"].eq("images in the folder that no row of the table names")
    assert odd.loc[unnamed, "count"].sum() == len(strays)


def test_a_table_under_another_name_is_named(tmp_path):
    root = plate(tmp_path)
    (root / "metadata.csv").rename(root / "platemap.csv")
    with pytest.raises(ValueError, match=r"metadata.csv: no such file.*platemap.csv.*call it metadata.csv"):
        own.open_folder(root).parse()
    (root / "platemap.csv").rename(root / "plate.xlsx")
    with pytest.raises(ValueError, match=r"plate.xlsx is there: save it as CSV"):
        own.open_folder(root).parse()


def test_what_spreadsheets_make_of_whole_numbers(tmp_path):
    """2.0 for 2: in a well's name always, in a file's where only the other is there, in a channel's column."""
    columns = DESCRIPTION["columns"] | {"well": "{Pos}{F}", "site": "Dose"}
    columns.pop("concentration")
    for there, expected in (("A_2", "A_2"), ("A_2.0", "A_2.0")):
        root = tmp_path / there
        images = {"files": "i/{Pos}_{F}.tif", "channels": ["DNA"], "pixel_um": 1}
        plate(root, [("P1", "A", "2.0", "x", "1.0")], written=False, columns=columns, images=images)
        (root / "i").mkdir()
        tifffile.imwrite(root / "i" / f"{there}.tif", pixels(0, 1)[0])
        wells, _, odd = own.open_folder(root).wells()
        assert wells["well"].tolist() == ["A02"] and json.loads(wells["files"][0]) == [f"i/{expected}.tif"]
        assert odd["what"].str.contains("2.0").any() == (there == "A_2")
    columns = {"plate": "Barcode", "well": "Pos", "compound": "Drug", "channel": "F"}
    images = {"files": "{Dose}", "channels": {"DNA": "1", "actin": "2"}, "pixel_um": 1}
    rows = [("P1", "A1", "1.0", "x", "a.tif"), ("P1", "A1", "2.0", "x", "b.tif")]
    wells = own.parse(plate(tmp_path / "long", rows, written=False, columns=columns, images=images)).wells
    assert json.loads(wells["files"][0]) == ["a.tif", "b.tif"]


def test_letters_with_accents_may_lie_there_in_two_parts(tmp_path):
    """A Mac decomposes the letters of file names (NFD); a table is read in composed ones (NFC)."""
    name = "Zürich.tif"
    images = {"files": "{Drug}", "channels": ["DNA"], "pixel_um": 1}
    for form in ("NFC", "NFD"):
        for k, table in enumerate(("NFC", "NFD")):
            row = ("P", "A1", "1", unicodedata.normalize(table, name), "")
            root = plate(tmp_path / f"{form}{k}", [row], written=False, images=images)
            tifffile.imwrite(root / unicodedata.normalize(form, name), pixels(0, 1)[0])
            wells, _, odd = own.open_folder(root).wells()
            assert len(wells) == 1 and not odd["what"].str.contains("no row").any()


def test_a_barcode_that_a_spreadsheet_has_shortened_is_noted(tmp_path):
    for name, noted in (("1.23E+11", True), ("1,2e+9", True), ("123000000001", False), ("P1E+1", False)):
        root = plate(tmp_path / name, [(name, "A1", "1", "x", "1")], written=False)
        assert any("shortened" in what for what, _ in own.parse(root).notes) == noted


def test_a_unit_in_the_name_of_a_column_that_says_otherwise_is_noted(tmp_path):
    for column, noted in (("Dose_nM", False), ("Dose_uM", True), ("Dose [µM]", True), ("Dose", False)):
        root = plate(tmp_path / column, written=False, columns=DESCRIPTION["columns"] | {"concentration": column})
        table = (root / "metadata.csv").read_text().replace(",Dose\n", f",{column}\n")
        (root / "metadata.csv").write_text(table)
        notes = own.parse(root).notes
        assert any("is taken for nM, as screen.json says" in what for what, _ in notes) == noted
        assert tomllib.loads(own.draft(root / "metadata.csv"))["concentration"]["unit"] == (
            "nM" if "nM" in column else "uM"
        )


def test_a_dim_well_is_judged_beside_its_own_cell_line():
    """Two lines of very different brightness on one plate are no fault; a well at a third of its own line's is."""
    sites = pd.DataFrame(
        {"plate_id": "P1", "cell_type": [*"aaaaaabbbbbb"], "well_id": [f"P1_{k}" for k in range(12)], "role": "treated"}
    )
    bright = pd.Series([100.0] * 6 + [1000.0] * 6)
    assert own.dim_wells(sites, bright) == []
    assert own.dim_wells(sites.drop(columns="cell_type"), bright) == [f"P1_{k}" for k in range(6)]
    bright[8] = 330.0
    assert own.dim_wells(sites, bright) == ["P1_8"]
    assert own.dim_wells(sites.assign(role="blank"), bright) == [], "where nothing is to be seen, nothing is dim"
    assert own.dim_wells(sites[6:9], bright[6:9]) == [], "of three wells none is usual"


def test_what_is_left_out_or_odd_is_printed_in_full(tmp_path, capsys):
    """A dry run writes nothing, so that a reason cut short there is lost."""
    layout, why = own.open_folder(plate(tmp_path)), "so and so, " * 30 + "and this is what to do"
    skipped = pd.DataFrame({"site_id": ["P1_A01_1"], "reason": [why]})
    odd = pd.DataFrame({"what": [why, "plain"], "count": [3, 12], "first": ["P1", ""]})
    run._print(run.Found(layout, layout.parse(), skipped, odd, (2, 8, 10), "uint16", 0.5))
    lines = capsys.readouterr().out.splitlines()
    assert f"P1_A01_1  {why}" in lines and f"3 x   {why} (first: P1)" in lines and "12 x  plain" in lines


def test_dim_wells_of_public_layouts_are_named_too(tmp_path, make_screen):
    """RxRx19a's: a well at a quarter of its brightness is named, and without one nothing is said."""
    root = make_screen(plates=2, wells=9)
    quality.pictures(Shards(write_shards(root, tmp_path / "as it is.zarr")))  # a warning would be an error
    for path in (root / "images" / "VERO-1" / "Plate2").glob("A03_s*_w1.png"):
        Image.fromarray(np.asarray(Image.open(path)) // 4).save(path)
    with pytest.warns(UserWarning, match=r"1 well\(s\) have nuclei \(DNA\).*: VERO-1_2_A03$"):
        quality.pictures(Shards(write_shards(root, tmp_path / "dim.zarr")))


@settings(max_examples=40)
@given(spelled=st.sampled_from(["dmso", "Dmso", "DMSO (0.1%)", "0.1 % DMSO", "DMSO control", "d-mso", "DMSO 1%"]))
def test_a_control_in_another_spelling_is_asked_about(tmp_path_factory, spelled):
    rows = [("P1", "A1", "1", "DMSO", ""), ("P1", "A2", "1", spelled, ""), ("P1", "A3", "1", "x", "3")]
    columns, root = DESCRIPTION["columns"] | {"control": "Drug"}, tmp_path_factory.mktemp("spelled")
    plate(root, rows, written=False, columns=columns, controls={"C-": ["DMSO"]})
    with pytest.raises(ValueError, match=re.escape(repr(spelled))):
        own.parse(root)
    plate(root, rows, written=False, columns=columns, controls={"C-": ["DMSO"], "treated": [spelled]})
    assert own.parse(root).wells["role"].tolist() == ["C-", "treated", "treated"]


@settings(max_examples=40)
@given(
    white=st.booleans(), order=st.sampled_from("<>"), packed=st.sampled_from([None, "deflate", "lzw"]),
    dtype=st.sampled_from(["uint8", "uint16"]), seed=st.integers(0, 99),
)  # fmt: skip
def test_tiff_tags_change_no_pixel(tmp_path_factory, white, order, packed, dtype, seed):
    image, path = pixels(seed, 1, dtype=dtype), tmp_path_factory.mktemp("tags") / "x.tif"
    stored = np.iinfo(dtype).max - image if white else image
    photometric = "miniswhite" if white else "minisblack"
    tifffile.imwrite(path, stored[0], photometric=photometric, byteorder=order, compression=packed)
    np.testing.assert_array_equal(decoders.decode(path, 1, ("DNA",)), image)


# ---- fuzz ----

CELLS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.sampled_from(["A1", "b02", "1", "0", "-1", "1,5", "1.5", "1,000", "1e3", "1e999", "NaN", "inf", "10 nM", "5 %",
                     "..", "../x", "/etc/passwd", "C:\\x", "a\0b", "=1+1", "<b>", "µ", "\ufeff", "\"", "a;b", "\r\n",
                     "٣", "１", "1_000", "0x10", "+1", "1.", ".5", "1 000"]),
)  # fmt: skip


@settings(max_examples=100)
@given(rows=st.lists(st.tuples(*[CELLS] * 5), min_size=1, max_size=6), separator=st.sampled_from(",;\t|"))
def test_any_table_is_read_or_refused(tmp_path_factory, rows, separator):
    """Every row becomes a site or a reason, or the table is refused by name; nothing else ever happens."""
    root = tmp_path_factory.mktemp("fuzz")
    plate(root, written=False)
    rows = [ROWS[2], *rows]
    # Lines that end as spreadsheets end them, so that a carriage return in a cell is quoted and ends no row.
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.to_csv(root / "metadata.csv", index=False, sep=separator, lineterminator="\r\n")
    layout = own.open_folder(root)
    try:
        parsed = own.parse(root)
        wells, unusable = parsed.wells, parsed.unusable
    except ValueError as error:
        assert "metadata.csv" in str(error)
        return
    assert unusable["reason"].str.match(r"line \d+: ").all()
    validate(wells)
    blank = sum(all(not cell.strip() for cell in row) for row in rows)
    assert len(rows) - blank <= len(wells) + len(unusable) <= len(rows)
    with pytest.raises(ValueError, match=re.escape(str(root))):  # there is no image, and no name led to one elsewhere
        layout.wells()


@settings(max_examples=60)
@given(content=st.binary(max_size=200))
def test_any_bytes_for_a_table(tmp_path_factory, content):
    root = plate(tmp_path_factory.mktemp("fuzz"), written=False)
    (root / "metadata.csv").write_bytes(b"Barcode,Pos,F,Drug,Dose\nP,A1,1,x,1\n" + content)
    try:
        own.open_folder(root).parse()
    except ValueError as error:
        assert "metadata.csv" in str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
SECTIONS = {section: st.dictionaries(st.sampled_from(keys), JSON) | JSON for section, keys in description.KEYS.items()}


@settings(max_examples=150)
@given(changes=st.fixed_dictionaries({}, optional=SECTIONS) | JSON)
def test_any_description_is_understood_or_refused(tmp_path_factory, changes):
    root = tmp_path_factory.mktemp("fuzz")
    (root / "screen.json").write_text(json.dumps(DESCRIPTION | changes if isinstance(changes, dict) else changes))
    try:
        own.describe(root / "screen.json")
    except ValueError as error:
        assert "screen.json" in str(error)


@pytest.fixture(scope="module")
def good_files(tmp_path_factory) -> dict[str, bytes]:
    folder, files = tmp_path_factory.mktemp("good"), {}
    for name, save in SAVERS.items():
        save(folder / "x", pixels(size=(5, 6)))
        files[name] = (folder / "x").read_bytes()
    Image.fromarray(pixels()[0]).save(folder / "x.png")
    return files | {"PNG": (folder / "x.png").read_bytes()}


@settings(max_examples=60)
@given(data=st.data())
def test_damaged_images_are_refused_by_name_or_read(tmp_path_factory, good_files, data):
    """Bytes overwritten, cut out and doubled: an array of the right kind comes out, or a sentence about the file."""
    for name, good in good_files.items():
        content = bytearray(good)
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, max(0, len(content) - 1)))
            kind = data.draw(st.sampled_from(["set", "cut", "double", "head"]))
            if kind == "set":
                content[at : at + 1] = data.draw(st.binary(min_size=1, max_size=4))
            elif kind == "cut":
                del content[at : at + data.draw(st.integers(1, 40))]
            elif kind == "double":
                content[at:at] = content[at : at + 16]
            else:  # where the directories are
                content[at % 60 : at % 60 + 1] = data.draw(st.binary(min_size=1, max_size=2))
        path = tmp_path_factory.mktemp("damaged") / "x"
        path.write_bytes(content)
        planes = 1 if name == "PNG" else 2
        try:
            found = decoders.decode(path, planes, ("DNA", "actin")[:planes])
        except ValueError as error:
            assert str(error)
        else:
            assert found.ndim == 3 and len(found) == planes and found.dtype in ("uint8", "uint16")
        os.unlink(path)


# ---- neighbours ----


def test_an_experiment_cannot_lead_out_of_the_folder(tmp_path, make_screen):
    root = make_screen()
    for name in ("../../elsewhere", "/etc", "a/b", "a\\b", ".."):
        text = (root / "metadata.csv").read_text().replace("VERO-1", name)
        (tmp_path / "m.csv").write_text(text)
        with pytest.raises(ValueError, match=re.escape(f"first {name!r}")):
            rxrx19a.parse(tmp_path / "m.csv")


def test_a_simulation_killed_in_its_first_write_goes_on(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "simulation.json.partial").write_text("{")
    screen = simulated.Screen(image_px=32, sites=1, experiments=(("HRCE-1", 1),), mock=1, uv=0, blank=0, untreated=1,
                              compounds=1, doses_uM=(1.0,), replicates=1)  # fmt: skip
    simulated.simulate(tmp_path / "s", screen, layout="own", jobs=1)
    root = tmp_path / "s"
    assert not list(root.rglob("*.partial"))
    wells, skipped, _ = own.open_folder(root).wells()
    assert skipped["reason"].str.contains("truncated|no number|repeats").all()
    assert own.open_folder(root).pixel_um == 1.3 and own.open_folder(root).channels == ("DNA", "mito", "actin", "ER")
