"""BBBC013: fetched whole or not at all, read in both its forms, and held against the published design."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from server import Server

from gandl_lib import datasets
from gandl_lib.datasets import bbbc013
from gandl_lib.fetch import screens as fetch
from gandl_lib.fetch.transfer import Patience

ARCHIVE, PLATE_MAP = "BBBC013_v1_images_bmp.zip", bbbc013.PLATE_MAP


def images() -> dict[str, np.ndarray]:
    """File name without its end -> simulated (16, 24) uint8, all different."""
    wells = bbbc013.design()["well"]
    names = [bbbc013.files(Path(), well)[k].stem for well in wells for k in (0, 1)]
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 256, (16, 24), np.uint8) for name in names}


def bmp(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    return buffer.getvalue()


def plate_map(**changed: float) -> bytes:
    plate = bbbc013.design()
    doses = [changed.get(well, dose) for well, dose in zip(plate["well"], plate["listed"], strict=True)]
    return ("Doses, row by row\r\n" + "".join(f"{dose:g}\r\n" for dose in doses)).encode()


def packed(without: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, pixels in images().items():
            if name != without:
                archive.writestr(zipfile.ZipInfo(f"BBBC013_v1_images_bmp/{name}.BMP"), bmp(pixels))
    return buffer.getvalue()


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch):
    """A server of a small archive of the same form; its sums are the published ones."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def serve(archive: bytes) -> Server:
        content = {ARCHIVE: archive, PLATE_MAP: plate_map()}
        sums = {"metadata": hashlib.sha256(plate_map()).hexdigest(), "archive": hashlib.sha256(archive).hexdigest()}
        monkeypatch.setitem(fetch.SUMS, "bbbc013", sums)
        return Server(content)

    return serve


def get(server: Server, out: Path, **options) -> fetch.Report:
    urls = {"bbbc013": {"metadata": f"{server.url}/{PLATE_MAP}", "archive": f"{server.url}/{ARCHIVE}"}}
    return fetch.fetch("bbbc013", out, urls=urls, patience=Patience(retries=1, sleep=lambda _: None), **options)


def test_the_published_sums_and_size_are_those_of_the_collection():
    assert fetch.SUMS["bbbc013"]["archive"].startswith("c059b569") and len(fetch.SUMS["bbbc013"]["archive"]) == 64
    assert fetch.url_table("bbbc013")["archive"].endswith("/BBBC013/BBBC013_v1_images_bmp.zip")


def test_fetched_once_and_read_as_it_was_sent(tmp_path, published, capsys):
    with published(packed()) as server:
        planned = get(server, tmp_path / "out", dry_run=True)
        assert planned.bytes_expected == len(packed()) and not server.gets(ARCHIVE)
        report = get(server, tmp_path / "out")
        again = get(server, tmp_path / "out")
        assert server.gets(ARCHIVE)[ARCHIVE] == 1
    assert (report.sites, report.images, report.fetched, report.failed) == (96, 192, 192, {})
    assert (again.fetched, again.present) == (0, 192)
    assert datasets.open_layout(tmp_path / "out").name == "bbbc013"
    capsys.readouterr()
    wells, skipped = bbbc013.wells(tmp_path / "out")
    assert "E01-H01 are taken as 150 nM Wortmannin" in capsys.readouterr().out
    assert len(wells) == 96 and skipped.empty
    sent = images()
    for row in wells.itertuples():
        dna, egfp = bbbc013.files(Path(), row.well)
        assert np.array_equal(bbbc013.read(tmp_path / "out", row), [sent[dna.stem], sent[egfp.stem]])


def test_a_part_of_the_plate(tmp_path, published):
    with published(packed()) as server:
        report = get(server, tmp_path / "out", where="compound == 'LY294002' and concentration_uM > 30")
    assert (report.sites, report.fetched) == (8, 16)
    wells, skipped = bbbc013.wells(tmp_path / "out")
    assert wells["well"].tolist() == [f"{row}{column}" for row in "EFGH" for column in (10, 11)]
    assert len(skipped) == 88 and skipped["reason"].str.contains("is missing").all()


def test_an_archive_of_another_sum_is_refused_and_nothing_is_lost(tmp_path, published):
    with published(packed()) as server:
        get(server, tmp_path / "out")
        (tmp_path / "out/images/Channel1-05-A-05.BMP").unlink()
        (tmp_path / "out/originals" / ARCHIVE).unlink()
        server.files[ARCHIVE] = packed()[:-100] + bytes(100)
        with pytest.raises(fetch.FetchError, match=r"its sha256 is [0-9a-f]{64}, it must be"):
            get(server, tmp_path / "out")
        wells, skipped = bbbc013.wells(tmp_path / "out")
        assert len(wells) == 95 and skipped["reason"].tolist() == ["images/Channel1-05-A-05.BMP is missing"]
        server.files[ARCHIVE] = packed()
        assert get(server, tmp_path / "out").fetched == 1
    assert len(bbbc013.wells(tmp_path / "out")[0]) == 96


def test_a_damaged_transfer_is_tried_again(tmp_path, published):
    with published(packed()) as server:
        server.faults[ARCHIVE] = ["corrupt"]
        assert get(server, tmp_path / "out").fetched == 192


def test_a_well_that_the_archive_lacks_is_named(tmp_path, published):
    with published(packed(without="Channel2-14-B-02")) as server:
        report = get(server, tmp_path / "out")
    assert report.fetched == 191 and list(report.failed) == ["images/Channel2-14-B-02.BMP"]
    assert "holds 0 files called Channel2-14-B-02.BMP" in report.failed["images/Channel2-14-B-02.BMP"]
    wells, skipped = bbbc013.wells(tmp_path / "out")
    assert len(wells) == 95 and skipped["site_id"].tolist() == ["BBBC013_1_B02_1"]


def test_a_plate_map_of_something_else_is_refused(tmp_path):
    for content, message in (
        (plate_map(C05=7.8), "well C05 has dose 7.8, where BBBC013v1 has 3.91"),
        (plate_map()[:-10], "lists 9[0-9] wells; BBBC013 has 96"),
        (plate_map().replace(b"31.25", b"much"), "a dose a line"),
    ):
        (tmp_path / PLATE_MAP).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            bbbc013.parse(tmp_path / PLATE_MAP)


def test_the_plate_is_the_published_one():
    wells = bbbc013.design()
    by_role = wells.groupby("role")["well"].agg(list)
    assert by_role["C-"] == [f"{r}{c:02}" for r in "ABCD" for c in (1, 2)] + [
        f"{r}{c:02}" for r in "EFGH" for c in (2, 12)
    ]
    assert by_role["C+"] == ["A12", "B12", "C12", "D12", "E01", "F01", "G01", "H01"]
    assert wells.loc[wells["disputed"], "well"].tolist() == ["E01", "F01", "G01", "H01"]
    dose = wells.set_index("well")["concentration_uM"]
    assert dose["A03"] == pytest.approx(0.00098) and dose["D11"] == 0.25 and dose["A12"] == 0.15  # nM is written as uM
    assert dose["E03"] == 0.31 and dose["H11"] == 80


@pytest.mark.parametrize("form", ["bmp", "tif"])
def test_a_palette_is_read_if_it_is_a_ramp_of_grey(tmp_path, form):
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    ramp = np.repeat(np.arange(256)[:, None], 3, axis=1)
    odd = ramp.copy()
    odd[7] = 7, 7, 9
    for palette, good in ((ramp, True), (odd, False)):
        path = tmp_path / f"{good}.{form}"
        if form == "bmp":
            image = Image.fromarray(pixels)
            image.putpalette(palette.astype(np.uint8).tobytes())
            image.save(path)
        else:
            colours = (palette.T * 257).astype(np.uint16)
            tifffile.imwrite(path, pixels, photometric="palette", colormap=colours)
        if good:
            assert np.array_equal(bbbc013._decode(path), pixels)
        else:
            with pytest.raises(ValueError, match=r"palette that is no ramp of grey \(entry 7 is 7, 7, 9\)"):
                bbbc013._decode(path)


def test_the_copy_of_cellprofiler_agrees_with_the_design(gandl_data):
    if gandl_data is None or not (gandl_data / "bbbc013").is_dir():
        pytest.skip("no real BBBC013 (GANDL_DATA)")
    wells, skipped = bbbc013.wells(gandl_data / "bbbc013")
    assert len(wells) == 96 and skipped.empty
    said = pd.read_csv(gandl_data / "bbbc013/metadata.csv", keep_default_na=False)
    assert said["well"].tolist() == wells["well"].tolist()
    roles = {"negative control": "C-", "positive control": "C+", "sample": "treated"}
    assert said["role"].map(roles).tolist() == wells["role"].tolist()
    uM = said["concentration"].astype(float) * said["unit"].map({"nM": 1e-3, "uM": 1.0, "": 0.0})
    assert np.allclose(uM, wells["concentration_uM"].fillna(0))
    images = bbbc013.read(gandl_data / "bbbc013", wells.iloc[0])
    assert images.shape == (2, 640, 640) and images.dtype == np.uint8
