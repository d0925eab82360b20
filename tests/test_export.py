"""What leaves the house is what was in it, in a form that others read."""

from __future__ import annotations

import importlib
import json
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from plates import small
from synthetic_profiles import make_profiles

from gandl_lib import cli, profiles
from gandl_lib.datasets import own
from gandl_lib.screen import export
from gandl_lib.shards import Shards, write

ROOT = Path(__file__).parents[1]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# ---- tables ----


@pytest.fixture
def some(tmp_path) -> Path:
    found = make_profiles(compounds={"remdesivir": (1.0, 1.0, 1.0), 'a "b", c': (0.1, 1.0, 1.0)})
    found.X[0, :3] = [np.float32(0.1), np.float32(1e-30), np.float32(16777217)]
    profiles.write(profiles.aggregate(found), tmp_path / "profiles.h5ad")
    return tmp_path / "profiles.h5ad"


def read(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, float_precision="round_trip")


@pytest.mark.parametrize("ending", export.TABLES)
def test_a_table_has_every_bit_and_every_word(some, tmp_path, monkeypatch, ending):
    monkeypatch.setattr(profiles, "CHUNK_ROWS", 7)
    out, found = tmp_path / f"table{ending}", profiles.read(some)
    cli.export(str(some), out)
    table = read(out)
    features = [c for c in table if not c.startswith("Metadata_")]
    assert features == [f"feature_{k}" for k in range(found.n_vars)]
    assert table[features].to_numpy(np.float32).tobytes() == found.X.tobytes()
    for column in found.obs:
        told, kept = table[f"Metadata_{column}"], found.obs[column]
        assert told.fillna("").tolist() == kept.fillna("").tolist(), column
    assert set(table["Metadata_method"]) == {"synthetic"}
    before = out.read_bytes()
    export.write_table(found, out)
    assert out.read_bytes() == before, "the same table, the same bytes"
    assert not list(tmp_path.glob("*.partial"))


def test_features_with_names_keep_them_and_simulations_say_so():
    found = make_profiles()
    found.var_names = ["Cells_AreaShape_Area", *map(str, range(1, found.n_vars))]
    found.uns["provenance"] = json.dumps({"method": "m", "simulated": True})
    table = export.wide(found)
    assert table.columns[-found.n_vars :].tolist()[:2] == ["Cells_AreaShape_Area", "feature_1"]
    assert table["Metadata_simulated"].all()


def test_a_prefix_that_is_there_is_not_doubled():
    """Beside ours, somebody's own `Metadata_Plate` stays that; where ours has the name, both are told apart."""
    found = make_profiles()
    found.obs = found.obs.assign(Metadata_Plate="BR1", Metadata_plate="x")
    table = export.wide(found)
    assert table.columns.is_unique and set(table["Metadata_Plate"]) == {"BR1"}
    assert table["Metadata_plate"].equals(found.obs["plate"].reset_index(drop=True))
    assert set(table["Metadata_Metadata_plate"]) == {"x"}


@pytest.mark.parametrize("name", ["pycytominer", "copairs", "scanpy"])
def test_the_three_lines_of_chapter_09_run(some, tmp_path, monkeypatch, name):
    """What the book shows of each is taken from the book and run."""
    lines = re.search(
        rf"^#     # {name}\b.*\n((?:#     .+\n)+)", (ROOT / "notebooks/09_own_screen.py").read_text(), re.M
    )
    code = re.sub(r"^#     ", "", lines[1], flags=re.M)
    assert len(code.splitlines()) <= 3
    export.export(some, tmp_path / "profiles.csv")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = importlib.import_module(name)
        if name == "copairs":
            importlib.import_module("copairs.map")
        found = {"pandas": pd, name: package}
        exec(code, found)
    result = found["result"]
    if name == "pycytominer":
        controls = result[result["Metadata_role"] == "C-"].filter(like="feature_")
        np.testing.assert_allclose(controls.mean(), 0, atol=1e-6)
    elif name == "copairs":
        assert len(result) == (profiles.read(some).obs["role"] == "treated").sum()
        assert result["average_precision"].between(0, 1).all()
    else:
        assert result.obsm["X_umap"].shape == (result.n_obs, 2)


# ---- a folder of TIFFs ----


@pytest.fixture(params=["rxrx19a", "own"])
def store(request, make_screen, tmp_path) -> Shards:
    """RxRx19a's layout has all roles; the simulated plate of somebody's own has four channels and other columns."""
    if request.param == "own":
        return Shards(write(small(tmp_path / "own"), tmp_path / "s.zarr"))
    return Shards(write(make_screen(dtype="uint16"), tmp_path / "s.zarr"))


def test_a_folder_comes_back_as_the_same_screen(store, tmp_path):
    cli.export(str(store.path), tmp_path / "folder")
    back = Shards(write(tmp_path / "folder", tmp_path / "back.zarr"))
    assert (back.channels, back.pixel_um, back.simulated) == (store.channels, store.pixel_um, store.simulated)
    assert back.dtype == store.dtype and back.shape == store.shape and len(back.skipped) == 0
    for i in range(len(store)):
        assert np.array_equal(back.read(i), store.read(i))
    assert np.array_equal(back.histograms, store.histograms)
    same = [c for c in store.wells if c not in ("condition", "files")]
    pd.testing.assert_frame_equal(back.wells[same], store.wells[same])
    assert back.wells["condition"].equals(store.wells["role"])


def test_tiffs_open_by_themselves_and_are_the_same_bytes_each_time(store, tmp_path):
    folders = [export.export(store.path, tmp_path / name) for name in ("a", "b")]
    assert files(folders[0]) == files(folders[1])
    path = next((folders[0] / "images").rglob("*.ome.tif"))
    with tifffile.TiffFile(path) as tiff:
        assert tiff.series[0].axes == "CYX"
        for channel in store.channels:
            assert f'Name="{channel}"' in tiff.ome_metadata
        assert f'PhysicalSizeX="{store.pixel_um}"' in tiff.ome_metadata


def test_plates_with_names_that_no_folder_should_have(store, tmp_path, monkeypatch):
    names = store.wells["plate_id"].unique()
    odd = {name: f"{name}/../€ {k}" for k, name in enumerate(names)}
    wells = store.wells.assign(plate_id=store.wells["plate_id"].map(odd), experiment="screen")
    wells["well_id"] = wells["plate_id"] + "_" + wells["well"]
    wells["site_id"] = wells["well_id"] + "_" + wells["site"].astype(str)
    store.wells = wells
    folder = export.write_folder(store, tmp_path / "folder")
    plates = export.write_ome_zarr(store, tmp_path / "plates.ome.zarr")
    for above in (folder / "images", plates):
        assert {path.name for path in above.iterdir() if path.is_dir()} == {"plate-1", "plate-2"}
    back = own.open_folder(tmp_path / "folder").parse()
    assert back["site_id"].equals(wells["site_id"])


# ---- OME-Zarr ----


def test_ome_zarr_holds_what_the_specification_requires(store, tmp_path):
    """The keys that https://ngff.openmicroscopy.org/0.5/ says MUST be there, and the pixels behind them."""
    out = tmp_path / "screen.ome.zarr"
    cli.export(str(store.path), out)
    seen = {}
    for plate_id, on_plate in store.wells.groupby("plate_id"):
        root = zarr.open_group(out / plate_id, mode="r")
        ome = root.attrs["ome"]
        assert ome["version"] == "0.5" and root.metadata.zarr_format == 3
        plate = ome["plate"]
        for kind in ("rows", "columns"):
            names = [one["name"] for one in plate[kind]]
            assert len(set(names)) == len(names) and all(re.fullmatch("[A-Za-z0-9]+", name) for name in names)
        assert plate["field_count"] == on_plate.groupby("well").size().max()
        assert {well["path"].replace("/", "") for well in plate["wells"]} == set(on_plate["well"])
        for well in plate["wells"]:
            row, column = well["path"].split("/")
            assert plate["rows"][well["rowIndex"]]["name"] == row
            assert plate["columns"][well["columnIndex"]]["name"] == column
            fields = root[well["path"]].attrs["ome"]
            assert fields["version"] == "0.5"
            for one in fields["well"]["images"]:
                assert re.fullmatch("[A-Za-z0-9]+", one["path"])
                image = root[f"{well['path']}/{one['path']}"]
                check_image(image, store)
                (multiscale,) = image.attrs["ome"]["multiscales"]
                seen[multiscale["name"]] = image["0"][:]
    assert seen.keys() == set(store.wells["site_id"])
    for i, site_id in enumerate(store.wells["site_id"]):
        assert np.array_equal(seen[site_id], store.read(i)) and seen[site_id].dtype == store.dtype
    assert len(pd.read_csv(out / "wells.csv")) == len(store)
    assert zarr.open_group(out, mode="r").attrs["gandl"]["simulated"] == store.simulated


def check_image(image: zarr.Group, store: Shards) -> None:
    ome = image.attrs["ome"]
    assert ome["version"] == "0.5"
    (multiscale,) = ome["multiscales"]
    axes = multiscale["axes"]
    assert [axis["name"] for axis in axes] == ["c", "y", "x"]
    assert [axis["type"] for axis in axes] == ["channel", "space", "space"]
    assert [axis.get("unit") for axis in axes[1:]] == ["micrometer", "micrometer"]
    (level,) = multiscale["datasets"]
    (transformation,) = level["coordinateTransformations"]
    assert transformation == {"type": "scale", "scale": [1.0, store.pixel_um, store.pixel_um]}
    array = image[level["path"]]
    assert array.metadata.dimension_names == ("c", "y", "x") and array.shape == store.shape
    channels = ome["omero"]["channels"]
    assert [channel["label"] for channel in channels] == list(store.channels)
    for channel, (low, high) in zip(channels, store.limits, strict=True):
        assert re.fullmatch("[0-9A-F]{6}", channel["color"])
        window = channel["window"]
        assert (window["start"], window["end"]) == (low, high)
        assert window["min"] == 0 and window["max"] == np.iinfo(store.dtype).max


# ---- what cannot be written ----


def test_mistakes_are_explained_and_leave_nothing(make_screen, some, tmp_path, monkeypatch):
    store = write(make_screen(plates=1, wells=5, sites=1), tmp_path / "s.zarr")
    before = set(tmp_path.iterdir())

    def refused(why: str, source: Path, name: str, error: type[Exception] = ValueError) -> None:
        with pytest.raises(error, match=why):
            export.export(source, tmp_path / name)
        assert set(tmp_path.iterdir()) == before

    refused("profiles are exported as .csv, .csv.gz, .parquet", some, "out.xlsx")
    refused("a table is made of profiles .*holds images", store, "out.csv")
    refused("not shards written by", tmp_path / "nothing", "out")
    refused("there is no such file", tmp_path / "nothing.h5ad", "out.csv")
    refused("screen is there already; delete it", store, "screen")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused("needs the package pyarrow", some, "out.parquet")
    monkeypatch.setattr(pd.DataFrame, "to_csv", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    refused("No space left", some, "out.csv", OSError)


def test_what_a_folder_cannot_say_is_refused(make_screen, tmp_path):
    store = Shards(write(make_screen(plates=1, wells=5, sites=1), tmp_path / "s.zarr"))
    store.wells = store.wells.assign(compound=store.wells["compound"].mask(store.wells["role"] == "treated", "NA"))
    with pytest.raises(
        ValueError, match="does not fit a plain folder: its compound would not come back.*Export it as .ome.zarr"
    ):
        export.write_folder(store, tmp_path / "folder")
    assert not (tmp_path / "folder").exists() and not (tmp_path / "folder.partial").exists()


def test_a_folder_appears_whole_or_not_at_all(make_screen, tmp_path, monkeypatch):
    store = Shards(write(make_screen(plates=1, wells=5, sites=1), tmp_path / "s.zarr"))
    read, seen = store.read, []

    def stop_at_the_third(i: int) -> np.ndarray:
        seen.append(i)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return read(i)

    for name in ("folder", "plates.ome.zarr"):
        seen.clear()
        monkeypatch.setattr(store, "read", stop_at_the_third)
        write_it = export.write_ome_zarr if "zarr" in name else export.write_folder
        with pytest.raises(KeyboardInterrupt):
            write_it(store, tmp_path / name)
        assert not (tmp_path / name).exists()
        monkeypatch.setattr(store, "read", read)
        assert write_it(store, tmp_path / name).exists() and not list(tmp_path.glob("*.ome.zarr.partial"))
