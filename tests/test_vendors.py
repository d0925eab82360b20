"""A folder as an instrument left it becomes a table and a description that need only what no instrument knows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from gandl_lib import cli
from gandl_lib.datasets import open_layout, own

EXPORTS = {
    "ImageXpress": ("901/TimePoint_1/Exp1_{row}{column:02}_s{site}_w{channel}.TIF", {}),
    "ImageXpress with UUIDs": (
        "TimePoint_1/Exp1_{row}{column:02}_s{site}_w{channel}0B5E6A4C-7D2E-4E56-9C8B-0A1B2C3D4E5F.tif",
        {"Exp1.HTD": '"NWavelengths", 2\r\n"WaveName1", "Hoechst"\r\n"WaveName2", "FITC"\r\n'},
    ),
    "Opera": (
        "Images/r{row_number:02}c{column:02}f{site:02}p01-ch{channel}sk1fk1fl1.tiff",
        {
            "Images/Index.idx.xml": "<Plate><PlateID>HP7</PlateID></Plate>"
            "<Image><ChannelID>1</ChannelID><ChannelName>Hoechst</ChannelName>"
            '<ImageResolutionX Unit="m">5.98E-07</ImageResolutionX></Image>'
            "<Image><ChannelID>2</ChannelID><ChannelName>Alexa 488</ChannelName></Image>"
        },
    ),
    "Yokogawa": (
        "P_{row}{column:02}_T0001F{site:03}L01A0{channel}Z01C0{channel}.tif",
        {
            "MeasurementDetail.mrf": '<bts:MeasurementChannel bts:Ch="1" bts:HorizontalPixelDimension="0.325"/>'
            '<bts:MeasurementChannel bts:Ch="2" bts:HorizontalPixelDimension="0.325"/>'
        },
    ),
    "IN Cell": ("{row} - {column:02}(fld {site} wv {channel} - {channel}).tif", {}),
    "a flat folder": ("{row}{column:02}_s{site}_w{channel}.tif", {}),
    "a flat folder of BMP": ("{row}{column:02}_{site}_{channel}.bmp", {}),
}
PIXEL_UM = {"Opera": 0.598, "Yokogawa": 0.325}
CHANNELS = {"ImageXpress with UUIDs": ["Hoechst", "FITC"], "Opera": ["Hoechst", "Alexa 488"]}
WELLS = ("A01", "A02", "B01", "B12")


def picture(well: str, site: int, channel: int) -> np.ndarray:
    return np.random.default_rng([*well.encode(), site, channel]).integers(0, 250, (32, 32)).astype(np.uint8)


def export(root: Path, name: str) -> Path:
    pattern, others = EXPORTS[name]
    for well in WELLS:
        for site in (1, 2):
            for channel in (1, 2):
                place = {"row": well[0], "row_number": "AB".index(well[0]) + 1, "column": int(well[1:])}
                path = root / pattern.format(**place, site=site, channel=channel)
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.suffix == ".bmp":
                    Image.fromarray(picture(well, site, channel)).save(path)
                else:
                    tifffile.imwrite(path, picture(well, site, channel))
                path.with_name(f"{path.stem}_thumb.tif").write_bytes(b"a small copy")
    for other, text in others.items():
        (root / other).write_text(text)
    return root


def completed(root: Path) -> None:
    """What the draft leaves to be filled in: controls, compounds, and how large a pixel is where nobody says it."""
    table = pd.read_csv(root / "metadata.csv", dtype=str, keep_default_na=False)
    vehicle = table["well"].str.startswith("A")
    table = table.assign(control=np.where(vehicle, "v", ""), compound=np.where(vehicle, "", "x"))
    table.assign(concentration=np.where(vehicle, "", "3")).to_csv(root / "metadata.csv", index=False)
    text = (root / "screen.toml").read_text().replace('"C-" = []', '"C-" = ["v"]')
    (root / "screen.toml").write_text(text.replace("# pixel_um = 0.65", "pixel_um = 0.65"))


@pytest.mark.parametrize("name", EXPORTS)
def test_a_draft_needs_only_what_no_instrument_knows(tmp_path, name, capsys):
    root = export(tmp_path / "plate", name)
    with pytest.raises(ValueError, match=r"metadata.csv: no such file.*look like those of .*--draft"):
        open_layout(root)
    cli.screen(root, draft=True)
    assert "to be completed" in capsys.readouterr().out
    completed(root)
    layout = open_layout(root)
    wells, skipped, odd = layout.wells()
    assert skipped.empty and not odd["what"].str.contains("no row").any()
    assert sorted(zip(wells["well"], wells["site"], strict=True)) == [(w, s) for w in WELLS for s in (1, 2)]
    assert wells["role"].tolist() == np.where(wells["well"].str.startswith("A"), "C-", "treated").tolist()
    for row in wells.itertuples():
        expected = [picture(row.well, row.site, channel) for channel in (1, 2)]
        np.testing.assert_array_equal(layout.read(row), expected)
    assert layout.pixel_um == PIXEL_UM.get(name, 0.65)
    if name in CHANNELS:
        assert list(layout.channels) == CHANNELS[name]
    with pytest.raises(ValueError, match="nothing is left to draft"):
        cli.screen(root, draft=True)


def test_of_several_layers_and_times_one_is_taken_and_said(tmp_path):
    for t in (1, 2):
        for z in (1, 2, 3):
            tifffile.imwrite(tmp_path / f"P_A01_T{t:04}F001L01A01Z{z:02}C01.tif", picture("A01", z, t))
    own.write_draft(tmp_path)
    assert pd.read_csv(tmp_path / "metadata.csv")["file_1"].tolist() == ["P_A01_T0001F001L01A01Z02C01.tif"]
    said = (tmp_path / "screen.toml").read_text()
    assert "2 times lie there" in said and "3 layers lie there" in said


def metaxpress(**changes: str) -> str:
    said = {"state": "on", "x": "0.3375", "y": "0.3375", "units": "um"} | changes
    return "<MetaData>" + "".join(
        f'<prop id="spatial-calibration-{k}" type="float" value="{v}"/>' for k, v in said.items()
    )


def test_images_say_how_large_a_pixel_is_or_the_draft_asks(tmp_path):
    """MetaXpress calibrations count if they are on, in micrometres and square; OME-TIFFs as they are."""
    for k, (changes, size) in enumerate(
        [({}, 0.3375), ({"state": "off"}, None), ({"units": "pixel"}, None), ({"y": "0.7"}, None), ({"x": "0"}, None)]
    ):
        root = tmp_path / str(k)
        root.mkdir()
        tifffile.imwrite(root / "A01_s1_w1.tif", picture("A01", 1, 1), description=metaxpress(**changes), metadata=None)
        own.write_draft(root)
        found = re.search(r"^pixel_um = (.*)", (root / "screen.toml").read_text(), re.M)
        assert (found and float(found[1])) == size, changes
    root = tmp_path / "ome"
    root.mkdir()
    ome = {"axes": "YX", "PhysicalSizeX": 650.0, "PhysicalSizeXUnit": "nm"}
    tifffile.imwrite(root / "A01_s1_w1.ome.tif", picture("A01", 1, 1), ome=True, metadata=ome)
    tifffile.imwrite(root / "A01_s2_w1.tif", picture("A01", 2, 1), ome=True, metadata=ome)
    own.write_draft(root)
    assert "pixel_um = 0.65\n" in (root / "screen.toml").read_text()


def test_a_plate_map_beside_an_export_is_named_and_so_is_the_draft(tmp_path):
    root = export(tmp_path / "plate", "a flat folder")
    (root / "layout.csv").write_text("Well,Drug\nA01,x\n")
    with pytest.raises(ValueError, match=r"layout.csv; if that is the table.*look like those of a flat folder"):
        open_layout(root)
    (root / "screen.json").write_text(json.dumps({"columns": {"plate": "P", "well": "Well"}}))
    with pytest.raises(ValueError, match=r"\[images\] needs files"):
        open_layout(root)
