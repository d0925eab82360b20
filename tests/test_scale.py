"""A screen that is larger than a machine: shards far away, embedding in parts, memory that does not grow."""

from __future__ import annotations

import json
import pickle
import re
import tracemalloc
from pathlib import Path

import anndata
import fsspec
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from built import copy_of_project, snakemake
from gandl_book import narrate, throughput
from server import Server

from gandl_lib import cli, profiles
from gandl_lib.embed import crops_per_side, embed, open_method
from gandl_lib.methods import gandl
from gandl_lib.shards import Shards, write


@pytest.fixture
def here(make_screen, tmp_path) -> Path:
    return write(make_screen(size=(16, 16)), tmp_path / "screen.zarr", sites_per_shard=3)


# ---- shards far away ----


@pytest.fixture
def bucket(here) -> str:
    """The same shards in an object store (in memory)."""
    files = fsspec.filesystem("memory")
    for path in here.rglob("*"):
        if path.is_file():
            files.pipe(f"/bucket/{path.relative_to(here.parent)}", path.read_bytes())
    yield "memory://bucket/screen.zarr"
    files.rm("/bucket", recursive=True)


def same(far: Shards, near: Shards) -> None:
    assert (far.channels, far.shape, far.dtype, len(far)) == (near.channels, near.shape, near.dtype, len(near))
    assert far.wells.equals(near.wells) and far.skipped.equals(near.skipped)
    assert np.array_equal(far.limits, near.limits)
    for chosen in ([0, 1, 2, 3, 4], [7, 3, 3], [19], []):
        assert np.array_equal(far.read_many(chosen), near.read_many(chosen))


def test_shards_in_an_object_store_are_those_on_disk(here, bucket):
    same(Shards(bucket), Shards(here))
    same(pickle.loads(pickle.dumps(Shards(bucket + "/"))), Shards(here))


def test_a_store_is_sent_whole_and_its_name_last(here, tmp_path, monkeypatch):
    """In memory; tests/test_object_store.py has a server of S3 and its faults."""
    monkeypatch.chdir(tmp_path)
    data, address, files = tmp_path / "screen", "memory://sent/screen.zarr", fsspec.filesystem("memory")
    names, plain = [], files.pipe_file

    def pipe_file(path: str, content: bytes) -> None:
        if len(names) == 5 and not files.exists("/sent/screen.zarr/go_on"):
            raise PermissionError("the keys have expired")
        names.append(path)
        plain(path, content)

    monkeypatch.setattr(files, "pipe_file", pipe_file)
    try:
        with pytest.raises(ValueError, match=r"memory://sent/screen.zarr/.*refused \(the keys have expired\)"):
            write(data, address, sites_per_shard=3)
        with pytest.raises(ValueError, match="not shards .* no such file"):
            Shards(address)
        plain("/sent/screen.zarr/go_on", b"yes")
        assert write(data, address, sites_per_shard=3) == address
        assert names[-1].endswith("screen.zarr/zarr.json") and len(names) == len(set(names)) > 8
        assert not (tmp_path / "screen.zarr.sending").exists()
        same(Shards(address), Shards(here))
        with pytest.raises(ValueError, match="is there and was made from something else"):
            write(data, address, sites_per_shard=4)
    finally:
        files.rm("/sent", recursive=True)


def test_a_store_of_versions_is_asked_for_bytes_and_not_for_a_version(here, bucket, monkeypatch):
    memory = type(fsspec.filesystem("memory"))
    plain = memory.cat_file

    def cat_file(self, path, version_id=None, start=None, end=None):  # as s3fs has it
        assert version_id is None
        return plain(self, path, start, end)

    monkeypatch.setattr(memory, "cat_file", cat_file)
    same(Shards(bucket), Shards(here))


def test_shards_behind_a_web_server_are_those_on_disk_and_come_in_pieces(here):
    files = {f"data/{p.relative_to(here.parent)}": p for p in here.rglob("*") if p.is_file()}
    with Server(files) as server:
        far = Shards(f"{server.url}/data/screen.zarr")
        assert not server.gets("images/c"), "opening reads no image"
        far.read(4)
        assert all(r.range for r in server.log if "images/c" in r.path), "a site is a part of its file"
        before = sum(server.gets("images/c").values())
        far.read_many([0, 1, 2])
        assert sum(server.gets("images/c").values()) - before < 6, "neighbours are asked for together"
        same(far, Shards(here))


def test_neighbours_read_together_are_those_read_alone(here):
    near = Shards(here)
    alone = np.stack([near.read(i) for i in range(2, 9)])
    assert np.array_equal(near.read_many(np.arange(2, 9)), alone)
    near.preload(2**20)
    assert np.array_equal(near.read_many(np.arange(2, 9)), alone)


def test_what_cannot_be_read_far_away_says_why(bucket):
    with pytest.raises(ValueError, match="memory://bucket/other.zarr: not shards .* no such file"):
        Shards("memory://bucket/other.zarr")
    fsspec.filesystem("memory").pipe("/bucket/foreign.zarr/zarr.json", b"{}")
    with pytest.raises(ValueError, match="foreign.zarr: not shards .* something else is there"):
        Shards("memory://bucket/foreign.zarr")
    with pytest.raises(ValueError, match=r"s9://x/y.zarr: cannot be read \(ValueError: Protocol not known: s9\)"):
        Shards("s9://x/y.zarr")
    with pytest.raises(ValueError, match="writing was interrupted"):
        Shards("memory://bucket/screen.zarr.partial")


def test_a_kind_of_storage_without_its_package_is_named():
    fsspec.register_implementation(
        "far", "no_such_package.Files", clobber=True, errtxt="Install no_such_package to access far://"
    )
    with pytest.raises(ValueError, match="far://x.zarr: no package for this kind .*Install no_such_package"):
        Shards("far://x.zarr")


def test_a_server_that_refuses_is_no_missing_file(here):
    with Server({"screen.zarr/zarr.json": here / "zarr.json"}, always={"*": "503"}) as server:
        with pytest.raises(ValueError, match="screen.zarr: cannot be read .*503"):
            Shards(f"{server.url}/screen.zarr")


# ---- in parts ----

CHOSEN = np.arange(20) % 3 > 0
SMALL = gandl.GANDLConfig(network=gandl.StyleGAN2Config(resolution=8, width_base=64, width_max=8, latent=8), batch=2)


def embedded(store: Shards, path: Path, method: str = "m", seed: int = 0, **options) -> Path:
    torch.manual_seed(seed)
    network = gandl.GANDL(SMALL, 5).eval()
    profiles.write(embed(network, store, provenance={"method": method, "seed": seed}, progress=False, **options), path)
    return path


def in_parts(store: Shards, folder: Path, n: int, **options) -> list[Path]:
    return [embedded(store, folder / f"{k}.h5ad", part=(k, n), **options) for k in range(1, n + 1)]


def everything(path: Path) -> tuple:
    found = anndata.read_h5ad(path)
    elements = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: elements.append((name, sorted(item.attrs), getattr(item, "dtype", None))))
    return found.X.tobytes(), found.obs.to_csv(), found.var.to_csv(), dict(found.uns), sorted(elements)


@pytest.mark.parametrize(("n", "options"), [(1, {}), (3, {}), (23, {}), (2, {"tiles": 2}), (2, {"sites": CHOSEN})])
def test_joined_parts_are_the_bits_of_one_run(here, tmp_path, monkeypatch, n, options):
    monkeypatch.setattr(profiles, "CHUNK_ROWS", 4)
    options = {"batch": 40, **options}  # a few sites a batch, and a last one that is not full
    whole = embedded(Shards(here), tmp_path / "whole.h5ad", **options)
    profiles.join(in_parts(Shards(here), tmp_path, n, **options)[::-1], tmp_path / "joined.h5ad")
    assert everything(tmp_path / "joined.h5ad") == everything(whole)
    assert profiles.read(tmp_path / "joined.h5ad").obs_names.is_unique
    assert not list(tmp_path.glob("*.partial"))


def test_parts_share_the_sites_out(here, tmp_path):
    """Every site once, in order, and no part more than a batch longer than another."""
    for n in (1, 3, 5):
        sites = [profiles.read(path).obs["site_id"].tolist() for path in in_parts(Shards(here), tmp_path, n, batch=18)]
        assert [site for part in sites for site in part] == Shards(here).wells["site_id"].tolist()
        assert max(map(len, sites)) - min(map(len, sites)) <= 2


def test_the_commands_split_and_join(here, bucket, tmp_path):
    cli.embed("intensity", bucket, tmp_path / "whole.h5ad")
    for k in (1, 2):  # 20 sites are one batch: the first part holds none
        cli.embed("intensity", str(here), tmp_path / f"{k}.h5ad", part=f"{k}/2")
    with pytest.raises(ValueError, match="the profiles are empty, 0 rows"):
        profiles.read(tmp_path / "1.h5ad")
    cli.join((tmp_path / "1.h5ad", tmp_path / "2.h5ad", tmp_path / "joined.h5ad"))
    assert everything(tmp_path / "joined.h5ad") == everything(tmp_path / "whole.h5ad")
    for bad in ("3", "a/b", "1/2/3", "-1/2"):
        with pytest.raises(ValueError, match=f"--part must be like 3/16.*found '{bad}'"):
            cli.embed("intensity", str(here), tmp_path / "1.h5ad", part=bad)
    for k, n in ((0, 2), (3, 2)):
        with pytest.raises(ValueError, match=f"no part {k}/{n}"):
            embedded(Shards(here), tmp_path / "x.h5ad", part=(k, n), batch=18)
    with pytest.raises(ValueError, match="give the parts and then the .h5ad"):
        cli.join((tmp_path / "joined.h5ad",))


def test_parts_of_two_devices_are_joined_and_both_are_named(here, tmp_path):
    one, two = in_parts(Shards(here), tmp_path, 2, batch=18)
    with h5py.File(two, "r+") as file:
        made = json.loads(file["uns/provenance"][()])
        file["uns/provenance"][()] = json.dumps(made | {"device": "another"})
    profiles.join([one, two], tmp_path / "joined.h5ad")
    joined = json.loads(profiles.read(tmp_path / "joined.h5ad").uns["provenance"])
    assert joined | {"part": "2/2"} == made | {"device": f"{made['device']}; another"} and "part" not in joined


def test_parts_that_are_not_of_one_whole_are_refused(here, make_screen, tmp_path):
    store, out = Shards(here), tmp_path / "joined.h5ad"
    one, two, three = in_parts(store, tmp_path, 3, batch=18)

    def refused(why: str, *parts: Path) -> None:
        with pytest.raises(ValueError, match=why):
            profiles.join(parts, out)
        assert not out.exists() and not list(tmp_path.glob("*.partial"))

    refused("No parts were given")
    refused("1 of 3 part.s. missing: 2/3", one, three)
    refused("3.h5ad and .*3.h5ad are both part 3/3", one, two, three, three)
    refused("nothing.h5ad: there is no such file", one, two, tmp_path / "nothing.h5ad")
    refused("whole.h5ad: no part", one, two, embedded(store, tmp_path / "whole.h5ad"))
    other = embedded(store, tmp_path / "other.h5ad", seed=1, part=(3, 3), batch=18)
    refused("other.h5ad and .*1.h5ad were not made alike; they differ in seed", one, two, other)
    shifted = embedded(store, tmp_path / "shifted.h5ad", part=(3, 3), batch=45)
    refused("does not begin at row 12, where the part before ends", one, two, shifted)
    (tmp_path / "torn.h5ad").write_bytes(three.read_bytes()[:500])
    refused("torn.h5ad: not a readable .h5ad file", one, two, tmp_path / "torn.h5ad")


def test_the_workflow_embeds_in_parts_where_the_profile_says_so(tmp_path):
    folder = copy_of_project(tmp_path / "project")
    with open(folder / "config" / "tiny.yaml", "a") as config:
        config.write("parts: 3\n")
    target = "results/tiny/profiles/gandl-random.h5ad"
    run = snakemake(folder, target, "--dry-run", "--quiet", "reason", capture_output=True)
    planned = dict(re.findall(r"^(\w+) +(\d+)$", run.stdout, re.MULTILINE))
    assert (planned.get("embed_part"), planned.get("join"), planned.get("embed")) == ("3", "1", None), run.stderr


# ---- what it costs ----


def test_memory_does_not_grow_with_the_number_of_images(here):
    """Of four times the sites only the result and the table of wells are four times as large."""

    class Many(Shards):
        def __init__(self, path: Path, times: int):
            super().__init__(path)
            self.times = times
            self.wells = pd.concat([super().wells] * times, ignore_index=True)
            self.shape = (5, 128, 128)

        def __len__(self) -> int:
            return self.times * self._length

        def read_many(self, indices: np.ndarray) -> np.ndarray:
            return np.zeros((len(indices), *self.shape), np.uint8)

    method, made = open_method("intensity", "abcde")
    peaks = {}
    for times in (2, 8):
        store = Many(here, times)
        assert store.wells.shape[0] == len(store) and store.limits.shape == (5, 2)
        tracemalloc.start()
        embed(method, store, provenance=made, batch=4, progress=False)
        peaks[times] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    images = 120 * 5 * 128 * 128  # bytes of the sites that one has and the other has not
    assert peaks[8] - peaks[2] < images / 20, peaks


def test_rates_are_of_what_they_say(make_screen, tmp_path):
    data = make_screen(size=(16, 24))
    store = Shards(write(data, tmp_path / "s.zarr"))
    method, made = gandl.GANDL(SMALL, 5).eval(), {"method": "m"}
    found = throughput.rates(data, store, method, made, sites=6).set_index("stage")
    assert list(found.index) == ["decode", "shard", "read", "embed"] and (found["sites_per_second"] > 0).all()
    each = found["per_second"] / found["sites_per_second"]
    np.testing.assert_allclose(each, [5 * 16 * 24] * 3 + [crops_per_side(16, 8) ** 2])
    assert set(tmp_path.iterdir()) == {data, tmp_path / "s.zarr"}
    with pytest.raises(ValueError, match="was not made from .*other: the first image differs"):
        throughput.rates(make_screen("other", size=(16, 24), seed=1), store, method, made)


def test_costs_are_work_over_rate():
    """By hand: 100 sites of 2 x 64 x 64 at 8192 values a second and core are 100 s; 9 crops of 32 each."""
    rates = pd.DataFrame(
        {"stage": ["decode", "shard", "read", "embed"], "per_second": [9e9, 8192.0, 9e9, 18.0],
         "unit": ["values"] * 3 + ["crops"], "cores": [1, 1, 1, 2]}
    )  # fmt: skip
    found = throughput.cost(rates, 32, 100, (2, 64, 64), (1, 4)).set_index("stage")
    np.testing.assert_allclose(found.loc["shard", ["hours_on_1", "hours_on_4"]].astype(float), [100 / 3600, 25 / 3600])
    np.testing.assert_allclose(found.loc["embed", ["hours_on_1", "hours_on_4"]].astype(float), [100 / 3600, 25 / 3600])
    assert found["device"].tolist() == ["core here"] * 2
    yours = throughput.cost(rates, 32, 100, (2, 64, 64), (1, 4), crops_per_second=900.0).set_index("stage")
    assert yours.loc["embed", "hours_on_1"] == pytest.approx(1 / 3600) and yours.loc["embed", "device"] == "your device"
    assert yours.loc["shard"].equals(found.loc["shard"])
    for crop_px, times in ((32, 2), (None, 1)):  # who looks at whole sites sees them once, however they could lie
        once, twice = (throughput.cost(rates, crop_px, 100, (2, 64, 64), ways=w).set_index("stage") for w in (1, 2))
        assert twice.loc["embed", "hours_on_1"] == pytest.approx(times * once.loc["embed", "hours_on_1"])
        assert twice.loc["shard"].equals(once.loc["shard"])
    assert "No GPU was measured" in repr(narrate.cost_of_screen(found.reset_index(), 100))
    assert "900 crops a second, is the one given" in repr(narrate.cost_of_screen(yours.reset_index(), 100))
    assert "On one core" in repr(narrate.throughput(rates))
    with pytest.raises(ValueError, match="found -1, 305520"):
        throughput.cost(rates, 32, crops_per_second=-1)
