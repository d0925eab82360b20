"""Shards: what is read back is what was on disk, however often the writing was stopped."""

from __future__ import annotations

import errno
import json
import multiprocessing
import pickle
import resource
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from zarr.codecs import ZstdCodec

from gandl_lib import chunks, datasets
from gandl_lib.datasets import rxrx1, rxrx19a
from gandl_lib.shards import Shards, write


def tree(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


def pixels(root: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """The slow twin: every site's files, one by one."""
    wells, _ = rxrx19a.wells(root)
    return wells, np.stack([rxrx19a.read(root, row) for row in wells.itertuples()])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_what_is_read_is_what_was_on_disk(make_screen, tmp_path, dtype):
    root = make_screen(dtype=dtype)
    shards = Shards(write(root, tmp_path / "s.zarr", sites_per_shard=3))
    wells, images = pixels(root)
    pd.testing.assert_frame_equal(shards.wells, wells)
    assert shards.shape == images.shape[1:] and shards.dtype == dtype and len(shards) == len(images)
    for i in range(len(images)):
        np.testing.assert_array_equal(shards.read(i), images[i])
    np.testing.assert_array_equal(shards.read_many([7, 0, 7]), images[[7, 0, 7]])
    np.testing.assert_array_equal(zarr.open_group(shards.path, mode="r")["images"][:], images)
    assert (shards.channels, shards.pixel_um, shards.simulated) == (rxrx19a.CHANNELS, rxrx19a.PIXEL_UM, False)
    assert shards.layout == "rxrx19a" and shards.skipped.empty


def test_preloading_changes_nothing_but_where_images_lie(make_screen, tmp_path):
    shards = Shards(write(make_screen(), tmp_path / "s.zarr"))
    _, images = pixels(tmp_path / "screen")
    assert not shards.preload(images.nbytes - 1)
    assert shards.preload(images.nbytes)
    shutil.rmtree(shards.path / "images")
    np.testing.assert_array_equal(shards.read_many([3, 1]), images[[3, 1]])
    assert len(pickle.dumps(shards)) < 500


def test_other_processes_read_the_same(make_screen, tmp_path):
    shards = Shards(write(make_screen(plates=1), tmp_path / "s.zarr", sites_per_shard=4))
    _, images = pixels(tmp_path / "screen")
    shards.read(0)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        for image, expected in zip(pool.map(shards.read, range(len(shards))), images, strict=True):
            np.testing.assert_array_equal(image, expected)


# ---- chunks ----


def in_format_1(store: Path, sites_per_shard: int) -> Path:
    """The same store as it was written before there were chunks smaller than a site: by Zarr, zeros left out."""
    images = zarr.open_group(store, mode="r")["images"][:]
    shutil.rmtree(store / "images")
    site, zstd = images.shape[1:], ZstdCodec(level=3)
    array = zarr.open_group(store).create_array(
        "images", shape=images.shape, chunks=(1, *site), shards=(sites_per_shard, *site), dtype=images.dtype,
        compressors=zstd,
    )  # fmt: skip
    array[:] = images
    text = (store / "zarr.json").read_text()
    assert '"format": 2' in text
    (store / "zarr.json").write_text(text.replace('"format": 2', '"format": 1'))
    return store


@pytest.mark.parametrize("format", [1, 2])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("size", [(128, 130), (193, 300), (257, 64)])  # one chunk, two by two, two by one
def test_a_window_is_that_part_of_its_site(make_screen, tmp_path, rng, size, dtype, format):
    root = make_screen(size=size, dtype=dtype, plates=1, wells=3)
    store = write(root, tmp_path / "s.zarr", sites_per_shard=4)
    shards = Shards(in_format_1(store, 4) if format == 1 else store)
    _, images = pixels(root)
    np.testing.assert_array_equal(zarr.open_group(store, mode="r")["images"][:], images)
    np.testing.assert_array_equal(shards.read_many([1, 2, 3, 4, 5]), images[1:])  # a run across two files
    np.testing.assert_array_equal(shards.read_many([5, 0, 3]), images[[5, 0, 3]])
    np.testing.assert_array_equal(shards.read(-1), images[-1])
    for preloaded in (False, True):
        for _ in range(40):
            side = int(rng.integers(1, min(size) + 1))
            i, y, x = (int(rng.integers(n)) for n in (len(images), size[0] - side + 1, size[1] - side + 1))
            np.testing.assert_array_equal(shards.read_crop(i, y, x, side), images[i, :, y : y + side, x : x + side])
        assert preloaded or shards.preload(images.nbytes)
    for y, x, side in ((-1, 0, 8), (0, size[1] - 7, 8), (0, 0, 0)):
        with pytest.raises(ValueError, match=f"a crop of {side} pixels from .* does not lie in images of {size[0]}x"):
            shards.read_crop(0, y, x, side)
    with pytest.raises(IndexError):
        shards.read(len(images))


@pytest.mark.parametrize("length", [1, 48, 128, 130, 191, 193, 520, 640, 1000, 1024, 1080, 2160])
def test_chunks_are_of_about_128_pixels_and_waste_little(length):
    side = chunks.side(length)
    n = -(-length // side)
    assert (side == length < 192) or 96 <= side <= 160
    assert 0 <= n * side - length < n


def test_a_crop_unpacks_no_chunk_that_it_does_not_touch(make_screen, tmp_path, monkeypatch):
    shards = Shards(write(make_screen(size=(400, 256), plates=1, wells=1), tmp_path / "s.zarr"))
    height, width = shards._images._chunk
    assert (height, width) == (134, 128)
    unpacked, decode = [], imagecodecs.zstd_decode
    monkeypatch.setattr(imagecodecs, "zstd_decode", lambda packed: unpacked.append(len(packed)) or decode(packed))
    for y, x, size, expected in ((0, 0, 128, 1), (102, 96, 32, 1), (103, 96, 32, 2), (103, 97, 32, 4), (0, 0, 256, 4)):
        unpacked.clear()
        shards.read_crop(1, y, x, size)
        assert len(unpacked) == expected
    unpacked.clear()
    shards.read(0)
    assert len(unpacked) == 6


def test_sites_of_nothing_but_zeros(make_screen, tmp_path, monkeypatch):
    """Zarr leaves out chunks of zeros, and files of nothing else; `write` does not, so that a lost file is seen."""
    monkeypatch.setattr(
        rxrx19a, "read", lambda root, row: np.full((5, 24, 20), row.site_id == "VERO-1_2_A02_2", np.uint8)
    )
    store = write(make_screen(), tmp_path / "s.zarr", sites_per_shard=6)
    assert len(list((store / "images/c").iterdir())) == 4
    expected = np.zeros((20, 5, 24, 20), np.uint8)
    expected[11] = 1
    np.testing.assert_array_equal(Shards(store).read_many(range(20)), expected)
    in_format_1(store, 6)
    assert len(list((store / "images/c").iterdir())) == 1
    np.testing.assert_array_equal(Shards(store).read_many(range(20)), expected)


def test_a_lost_a_short_and_a_damaged_file_are_named(make_screen, tmp_path):
    store = write(make_screen(), tmp_path / "s.zarr", sites_per_shard=8)
    file = store / "images/c/1/0/0/0"
    whole = file.read_bytes()
    for content in (whole[:-1], whole[:100], b"", whole[:-10] + bytes(10), bytes(300) + whole[300:]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"s\.zarr/images/c/1/0/0/0 is cut off or damaged; copy or write"):
            Shards(store).read(8)
        np.testing.assert_array_equal(Shards(store).read(7), rxrx19a.read(tmp_path / "screen", _row(store, 7)))
    file.unlink()
    with pytest.raises(ValueError, match=r"s\.zarr/images/c/1/0/0/0 is missing; copy or write the store anew"):
        Shards(store).read(8)


def _row(store, i):
    return Shards(store).wells.iloc[i]


def test_images_packed_by_others_in_other_ways_are_refused(make_screen, tmp_path):
    store = write(make_screen(), tmp_path / "s.zarr")
    images = zarr.open_group(store, mode="r")["images"][:]
    shutil.rmtree(store / "images")
    for options in ({"chunks": (1, 5, 24, 20)}, {"chunks": (1, 1, 24, 20), "shards": (4, 5, 24, 20)}):
        zarr.open_group(store).create_array("images", data=images, overwrite=True, **options)
        with pytest.raises(ValueError, match="images packed in another way than `gandl shard` does; write them anew"):
            Shards(store)


def test_a_store_of_format_1_counts_as_written_and_half_of_one_is_not_continued(make_screen, tmp_path, monkeypatch):
    root, out = make_screen(), tmp_path / "s.zarr"
    before = tree(in_format_1(write(root, out, sites_per_shard=6), 6))
    assert write(root, out, sites_per_shard=6) == out and tree(out) == before
    shutil.rmtree(out)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        _stop_after(patch, 14)
        write(root, out, sites_per_shard=6, workers=1)
    attributes = tmp_path / "s.zarr.partial/store/zarr.json"
    attributes.write_text(attributes.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(ValueError, match=r"s\.zarr\.partial was begun by an older version, in format 1 and not 2; del"):
        write(root, out, sites_per_shard=6)


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@settings(max_examples=15)
@given(names=st.lists(NAMES, min_size=4, max_size=4), dose=st.floats(min_value=1e-300, allow_infinity=False))
def test_the_wells_table_survives(tmp_path_factory, names, dose):
    """Whatever compounds are called (`NA`, `1e5`, `a,"b`), text comes back as text, nothing as nothing."""
    store = tmp_path_factory.mktemp("wells")
    base = {"cell_type": "HRCE", "experiment": "H-1", "plate_id": "H-1_1", "plate": 1, "site": 1, "condition": ""}
    ids = [{"well": f"B0{w}", "well_id": f"H-1_1_B0{w}", "site_id": f"H-1_1_B0{w}_1"} for w in range(1, 5)]
    wells = pd.DataFrame([base | i | {"compound": n, "SMILES": n} for i, n in zip(ids, names, strict=True)])
    wells["concentration_uM"] = np.where(wells["compound"].eq(""), np.nan, dose)
    wells["role"] = "treated"

    skipped = pd.DataFrame({"site_id": names, "reason": names})
    layout = datasets.Layout(  # a screen of one black pixel a site
        root=store,
        name="b",
        channels=("DNA",),
        parse=lambda: wells,
        look=lambda where, workers: datasets.Sites(wells, skipped, skipped),
        read=lambda row: np.zeros((1, 1, 1), np.uint8),
        measure=lambda: 1.0,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gandl_lib.datasets.open_layout", lambda root: layout)
        shards = Shards(write(store, store / "s.zarr"))
    pd.testing.assert_frame_equal(shards.wells, wells)
    assert shards.skipped["reason"].tolist() == names


# ---- histograms, limits, statistics ----


@pytest.mark.parametrize(("dtype", "width"), [("uint8", 1), ("uint16", 16)])
def test_histograms_limits_and_statistics_are_those_of_all_pixels(make_screen, tmp_path, dtype, width):
    root = make_screen(dtype=dtype, plates=3)
    shards = Shards(write(root, tmp_path / "s.zarr", sites_per_shard=7))  # shards straddle plates
    wells, images = pixels(root)
    plates = wells["plate_id"].unique()
    bins = (np.iinfo(dtype).max + 1) // width
    assert shards.histograms.shape == (3, 5, bins)
    for p, plate_id in enumerate(plates):
        for c, channel in enumerate(shards.channels):
            values = images[(wells["plate_id"] == plate_id).to_numpy(), c].ravel()
            np.testing.assert_array_equal(shards.histograms[p, c], np.bincount(values // width, minlength=bins))
            row = shards.statistics.set_index(["plate_id", "channel"]).loc[(plate_id, channel)]
            assert row["mean"] == pytest.approx(values.mean(), abs=width)
            assert row["sd"] == pytest.approx(values.std(), abs=width)
            expected = np.percentile(values, [1, 50, 99], method="inverted_cdf")
            np.testing.assert_allclose(row[["p01", "p50", "p99"]].astype(float), expected, atol=(width - 1) / 2)
            assert row["saturated"] == np.mean(values // width == bins - 1)
    assert len(shards.statistics) == 15
    _assert_limits(shards.limits, images, width)


def _assert_limits(limits, images, width):
    expected = np.percentile(images, [0.1, 99.9], axis=(0, 2, 3), method="inverted_cdf").T
    assert limits.dtype == np.float32 and limits.shape == expected.shape
    np.testing.assert_allclose(limits, expected, atol=width - 1)


def test_a_black_channel_still_has_a_range(make_screen, tmp_path, monkeypatch):
    monkeypatch.setattr(rxrx19a, "read", lambda root, row: np.zeros((5, 4, 4), np.uint8))
    shards = Shards(write(make_screen(), tmp_path / "s.zarr"))
    np.testing.assert_array_equal(shards.limits, [[0, 1]] * 5)
    np.testing.assert_array_equal(shards.read(3), 0)


# ---- stopping and going on ----


def _stop_after(monkeypatch, n):
    calls, read = [], rxrx19a.read

    def stopping(root, row):
        calls.append(row.site_id)
        if len(calls) > n:
            raise KeyboardInterrupt
        return read(root, row)

    monkeypatch.setattr(rxrx19a, "read", stopping)
    return calls


def test_stopped_at_any_place_it_ends_in_the_same_bytes(make_screen, tmp_path, monkeypatch):
    root = make_screen()  # 20 sites
    undisturbed = tree(write(root, tmp_path / "a.zarr", sites_per_shard=6))
    out = tmp_path / "b.zarr"
    for n in (2, 8, 14):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            _stop_after(patch, n)
            write(root, out, sites_per_shard=6, workers=1)
        assert not out.exists()
        with pytest.raises(ValueError, match="its writing was interrupted; run the same command again"):
            Shards(out)
        # What Zarr leaves of a file in the middle of which it was killed.
        stray = tmp_path / "b.zarr.partial/store/histograms/c/0/0/0.partial"
        stray.parent.mkdir(parents=True, exist_ok=True)
        stray.write_bytes(b"half")
    with monkeypatch.context() as patch:
        calls = _stop_after(patch, 1000)
        assert write(root, out, sites_per_shard=6) == out
    assert len(calls) < 1 + 20  # the first site is looked at beforehand; finished shards are not read again
    assert tree(out) == undisturbed
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "b.zarr", "screen"]


def test_the_bytes_depend_neither_on_workers_nor_on_where_the_screen_lies(make_screen, tmp_path):
    root = make_screen()
    one = tree(write(root, tmp_path / "one.zarr", sites_per_shard=3, workers=1))
    moved = shutil.move(root, tmp_path / "moved")
    assert tree(write(moved, tmp_path / "three.zarr", sites_per_shard=3, workers=3)) == one


def test_a_second_time_nothing_is_done_and_other_inputs_are_refused(make_screen, tmp_path, monkeypatch):
    root, out = make_screen(), tmp_path / "s.zarr"
    before = tree(write(root, out))
    calls = _stop_after(monkeypatch, 1)
    assert write(root, out) == out and len(calls) == 1
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"s\.zarr exists and was made from something else; delete it or choose"):
        write(root, out, where="plate == 1")
    assert tree(out) == before


def test_an_interrupted_run_over_other_sites_is_not_continued(make_screen, tmp_path, monkeypatch):
    root, out = make_screen(), tmp_path / "s.zarr"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        _stop_after(patch, 14)
        write(root, out, sites_per_shard=6, workers=1)
    before = tree(tmp_path / "s.zarr.partial")
    with pytest.raises(ValueError, match=r"s\.zarr\.partial was left by an interrupted run over other sites"):
        write(root, out, sites_per_shard=6, where="plate == 1")
    assert tree(tmp_path / "s.zarr.partial") == before


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_and_what_was_written_stays(make_screen, tmp_path):
    """A limit on file size stands for the disk: the system refuses the same write in the same way."""
    root, out = make_screen(size=(48, 48), plates=1, wells=6, sites=1), tmp_path / "s.zarr"
    for path in root.glob("images/VERO-1/Plate1/A0[234]_*.png"):  # the first shard packs well
        Image.new("L", (48, 48)).save(path)
    with files_no_larger_than(30_000), pytest.raises(OSError, match="1 finished shard.*same command again") as error:
        write(root, out, sites_per_shard=3, workers=1)
    assert error.value.errno == errno.EFBIG
    assert not out.exists()
    assert [p.name for p in (tmp_path / "s.zarr.partial" / "done").glob("*.npz")] == ["000000000.npz"]
    undisturbed = write(root, tmp_path / "undisturbed.zarr", sites_per_shard=3)
    assert tree(write(root, out, sites_per_shard=3)) == tree(undisturbed)


def test_a_file_where_a_folder_is_needed(make_screen, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write .*file/s\.zarr: Not a directory"):
        write(make_screen(), tmp_path / "file" / "s.zarr")


# ---- bad input ----


def test_the_summary_counts_what_is_skipped(make_screen, tmp_path, capsys):
    root = make_screen()
    (root / "images/VERO-1/Plate1/A02_s1_w3.png").unlink()
    (root / "images/VERO-1/Plate2/A04_s2_w1.png").write_bytes(b"no")
    shards = Shards(write(root, tmp_path / "s.zarr"))
    assert len(shards) == 18
    assert shards.skipped["site_id"].tolist() == ["VERO-1_1_A02_1", "VERO-1_2_A04_2"]
    assert "18 sites of 10 wells on 2 plate(s), 2 skipped (first: images/VERO-1/Plate1" in capsys.readouterr().out
    assert not set(shards.skipped["site_id"]) & set(shards.wells["site_id"])


def test_an_image_that_cannot_be_decoded_stops_the_run_and_not_what_was_done(make_screen, tmp_path):
    root, out = make_screen(), tmp_path / "s.zarr"
    bad = root / "images/VERO-1/Plate2/A06_s2_w5.png"
    good = bad.read_bytes()
    half = len(good) // 2
    bad.write_bytes(good[:half] + bytes(8) + good[half + 8 :])  # both ends are well, the middle is not
    with pytest.raises(ValueError, match=r"Plate2/A06_s2_w5\.png: cannot be decoded.*fetch it again or drop its row"):
        write(root, out, sites_per_shard=4, workers=1)
    bad.write_bytes(good)
    assert len(list((tmp_path / "s.zarr.partial/done").glob("*.npz"))) == 4
    assert tree(write(root, out, sites_per_shard=4)) == tree(write(root, tmp_path / "t.zarr", sites_per_shard=4))


def test_bad_arguments(make_screen, tmp_path):
    root = make_screen()
    with pytest.raises(ValueError, match="'cell == 1'.*The columns are site_id"):
        write(root, tmp_path / "s.zarr", where="cell == 1")
    with pytest.raises(ValueError, match="at least 1; got 0 and 2"):
        write(root, tmp_path / "s.zarr", sites_per_shard=0)
    assert [p.name for p in tmp_path.iterdir()] == ["screen"]


def test_what_is_no_shards_says_so(make_screen, tmp_path):
    with pytest.raises(ValueError, match="not shards written by `gandl shard`; no such file or folder"):
        Shards(tmp_path / "nothing.zarr")
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(ValueError, match="not shards written by `gandl shard`; something else is there"):
        Shards(tmp_path / "other.zarr")
    with pytest.raises(ValueError, match="not shards"):
        write(make_screen(), tmp_path / "other.zarr")
    with pytest.raises(ValueError, match="its writing was interrupted"):
        Shards(tmp_path / "other.zarr.partial")
    path = write(tmp_path / "screen", tmp_path / "s.zarr")
    (path / "zarr.json").write_text((path / "zarr.json").read_text().replace('"format": 2', '"format": 99'))
    with pytest.raises(ValueError, match="shards of format 99, but this version reads 1 and 2; write them anew"):
        Shards(path)


def test_a_simulated_screen_says_so_and_another_simulation_is_another_screen(make_screen, tmp_path, capsys):
    root, out = make_screen(), tmp_path / "s.zarr"
    (root / "simulation.json").write_text(json.dumps({"seed": 1, "pixel_um": 1.3}))
    shards = Shards(write(root, out))
    assert shards.simulated and shards.pixel_um == 1.3
    assert "simulated images" in capsys.readouterr().out
    (root / "simulation.json").write_text(json.dumps({"seed": 2, "pixel_um": 1.3}))
    with pytest.raises(ValueError, match="made from something else"):
        write(root, out)


def test_the_real_rxrx1_sample(gandl_data, make_screen, tmp_path):
    layout, root = (rxrx19a, make_screen()) if gandl_data is None else (rxrx1, gandl_data / "rxrx1")
    shards = Shards(write(root, tmp_path / "s.zarr", where="plate == 1"))
    assert shards.wells["plate"].eq(1).all() and not shards.simulated
    for i, row in enumerate(shards.wells.itertuples()):
        np.testing.assert_array_equal(shards.read(i), layout.read(root, row))
    assert (shards.limits[:, 0] < shards.limits[:, 1]).all()
