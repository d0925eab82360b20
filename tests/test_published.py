"""Embeddings that others have published become profiles, whatever their order, and say what is wrong with them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gandl_book import chapters
from synthetic_profiles import make_profiles

from gandl_lib import profiles
from gandl_lib.cli import app
from gandl_lib.datasets import rxrx19a


@pytest.fixture
def screen(make_screen, rng):
    """(folder with metadata.csv, embeddings.csv of the same sites in another order, the table it holds)."""
    root = make_screen(wells=10)
    sites = rxrx19a.parse(root / "metadata.csv")["site_id"]
    X = rng.standard_normal((len(sites), 6)).astype(np.float32)
    table = pd.DataFrame(X, index=sites, columns=[f"feature_{k}" for k in range(6)])
    shuffled = table.sample(frac=1, random_state=0)
    shuffled.reset_index().to_csv(root / "embeddings.csv", index=False)
    return root, root / "embeddings.csv", table


@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_rows_find_their_wells_in_pieces_of_any_size(screen, monkeypatch, chunk):
    root, path, table = screen
    monkeypatch.setattr(profiles, "CHUNK_ROWS", chunk)
    found = profiles.published(path, root / "metadata.csv")
    assert found.obs["site_id"].tolist() == table.index.tolist()
    assert found.X.dtype == np.float32 and list(found.var_names) == list(table)
    np.testing.assert_allclose(found.X, table.to_numpy(), rtol=1e-6)
    assert json.loads(found.uns["provenance"])["method"] == "baseline"
    assert profiles.published(path, root).obs.equals(found.obs), "the folder will do"


def test_a_part_of_the_screen_and_a_part_of_the_table(screen, capsys):
    root, path, table = screen
    some = profiles.published(path, root, where="plate == 2 and role == 'C+'", method="theirs")
    assert set(some.obs["plate"]) == {2} and set(some.obs["role"]) == {"C+"}
    np.testing.assert_allclose(some.X, table.loc[some.obs["site_id"]].to_numpy(), rtol=1e-6)
    pd.read_csv(path).iloc[3:].to_csv(path, index=False)
    assert profiles.published(path, root).n_obs == len(table) - 3
    assert "3 of 40 sites have no embedding" in capsys.readouterr().err


def test_a_plate_of_ones_own_has_its_wells_from_screen_toml(tmp_path, rng):
    """No image is needed: the table, its description, and embeddings by somebody else."""
    wells = pd.DataFrame({"Barcode": "P1", "Well": ["A1", "A2", "B1"], "Kind": ["neg", "pos", "neg"]})
    wells.to_csv(tmp_path / "metadata.csv", index=False)
    (tmp_path / "screen.toml").write_text(
        '[columns]\nplate = "Barcode"\nwell = "Well"\ncontrol = "Kind"\n[controls]\n"C-" = ["neg"]\n"C+" = ["pos"]\n'
        '[images]\npixel_um = 1.3\nfiles = "{Well}.tif"\nchannels = ["DNA"]\n'
    )
    X = rng.standard_normal((3, 4)).astype(np.float32)
    table = pd.DataFrame(X, columns=list("abcd")).assign(site_id=["P1_B01_1", "P1_A01_1", "P1_A02_1"])
    table.to_csv(tmp_path / "theirs.csv", index=False)
    found = profiles.published(tmp_path / "theirs.csv", tmp_path / "metadata.csv")
    assert found.obs["role"].tolist() == ["C-", "C+", "C-"]
    np.testing.assert_allclose(found.X, X[[1, 2, 0]], rtol=1e-6)
    with pytest.raises(ValueError, match="other.csv: the table of wells has to be called metadata.csv"):
        profiles.published(tmp_path / "theirs.csv", tmp_path / "other.csv")


def test_what_is_wrong_is_said(screen):
    root, path, _ = screen
    good = pd.read_csv(path)
    for bad, message in [
        (pd.concat([good, good.iloc[:1]]), f"site {good['site_id'][0]} comes twice"),
        (good.rename(columns={"site_id": "id"}), "expected site_id and features"),
        (good.assign(site_id="X_" + good["site_id"]), "no site in common"),
        (good.assign(feature_0=np.nan), "NaN or infinite"),
        (good.assign(feature_0="much"), "could not convert|not a readable table|invalid literal"),
    ]:
        bad.to_csv(path, index=False)
        with pytest.raises(ValueError, match=message):
            profiles.published(path, root)
    path.unlink()
    with pytest.raises(ValueError, match="gandl fetch rxrx19a"):
        profiles.published(path, root)


def test_the_command_writes_what_all_others_read(screen):
    root, path, table = screen
    app.cli(args=["profiles", str(path), str(root / "metadata.csv"), str(root / "out.h5ad"), "--name", "theirs"])
    np.testing.assert_allclose(profiles.read(root / "out.h5ad").X, table.to_numpy(), rtol=1e-6)


def test_the_real_plate_map(gandl_data, tmp_path, rng):
    """The official metadata of the VERO part, and random numbers where Recursion's embeddings would be."""
    if gandl_data is None:
        pytest.skip("no real plate map (GANDL_DATA)")
    wells = rxrx19a.parse(gandl_data / "rxrx19a" / "metadata.csv")
    table = pd.DataFrame(rng.standard_normal((len(wells), 8)).astype(np.float32)).add_prefix("feature_")
    table.insert(0, "site_id", wells["site_id"])
    table.to_csv(tmp_path / "embeddings.csv.gz", index=False)
    found = profiles.published(tmp_path / "embeddings.csv.gz", gandl_data / "rxrx19a" / "metadata.csv")
    assert found.n_obs == 21_440 and set(found.obs["role"]) >= {"C+", "C-", "treated", "UV"}


def test_chapters_judge_published_profiles_without_the_workflow(tmp_path, monkeypatch):
    (tmp_path / "Snakefile").touch()
    shutil.copytree(Path(chapters.__file__).parents[1] / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chapters.subprocess, "run", None)  # would fail if the workflow were called
    given = make_profiles("baseline", compounds={"cure": (1.0, 1.5, 0.9)}, sites=1)
    profiles.write(given, tmp_path / "theirs.h5ad")
    for chapter in ("04_separability", "05_dose_response"):
        names = chapters.needs(Path(chapters.__file__).parents[1] / "notebooks" / f"{chapter}.py")
        found = dict(zip(names, chapters.need("quick", *names, published="theirs.h5ad"), strict=True))
        tables = {name: pd.read_csv(path) for name, path in found.items() if path and path.suffix == ".csv"}
        assert all(set(t["method"]) <= {"baseline", "shuffled labels"} for t in tables.values())
        assert found.get("profiles/gandl.h5ad", tmp_path / "theirs.h5ad") == tmp_path / "theirs.h5ad"
        absent = {name for name, path in found.items() if path is None}
        assert absent == {name for name in names if name.endswith("?")} | {
            name for name in names if name in ("paired.csv", "profiles/gandl-random.h5ad", "profiles/intensity.h5ad")
        }
    monkeypatch.setattr("gandl_lib.evaluate.EVALUATIONS", {})  # the second time, tables are read
    assert chapters.need("quick", "separability.csv", published="theirs.h5ad")[0].exists()
    with pytest.raises(ValueError, match="no such profiles; `gandl profiles"):
        chapters.need("quick", "separability.csv", published="others.h5ad")
