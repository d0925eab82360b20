"""Embeddings that others have published become profiles, whatever their order, and say what is wrong with them."""

import json
import shutil
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import yaml
from anndata import AnnData
from gandl_book import chapters
from synthetic_profiles import make_profiles

from gandl_lib import profiles
from gandl_lib.cli import app
from gandl_lib.datasets import open_layout, rxrx19a
from gandl_lib.screen.export import write_table


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
    with pytest.raises(ValueError, match="other.csv: no such file"):
        profiles.published(tmp_path / "theirs.csv", tmp_path / "other.csv")


def test_columns_that_number_rows_are_no_features(screen, capsys):
    """A table saved with its index, or with CellProfiler's numbers, gives the same profiles; the columns are named."""
    root, path, _ = screen
    plain = profiles.published(path, root)
    table = pd.read_csv(path)
    table.assign(ImageNumber=range(len(table)), _index="a").to_csv(path)
    again = profiles.published(path, root)
    assert again.var_names.tolist() == plain.var_names.tolist()
    np.testing.assert_array_equal(again.X, plain.X)
    assert "Unnamed: 0, ImageNumber, _index of" in capsys.readouterr().err


def test_one_table_of_wells_and_features_under_any_name(tmp_path, rng):
    """As pycytominer writes them: without a description the message is one, to be completed; then the table goes in."""
    path, toml = tmp_path / "BR_normalized.csv", tmp_path / "screen.toml"
    theirs = pd.DataFrame(
        {
            "Metadata_Plate": ["BR1"] * 3,
            "Metadata_Well": ["A01", "A02", "B01"],
            "Metadata_pert_iname": ["DMSO", "x", "x"],
            "Metadata_pert_type": ["negcon", "trt", "trt"],
            "Metadata_mmoles_per_liter": ["", 1.5, 3],
            "Cells_AreaShape_Area": rng.standard_normal(3),
            "Nuclei_Texture_1": rng.standard_normal(3),
        }
    )
    theirs.to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"which of its columns.*Say it in .*screen\.toml") as refusal:
        profiles.published(path, path)
    draft = str(refusal.value).split("\n\n", 1)[1]
    toml.write_text(draft)
    with pytest.raises(ValueError, match=r"unit '\?' is no molar unit"):  # nobody knows what that column is in
        profiles.published(path, path)
    toml.write_text(draft.replace('unit = "?"', 'unit = "nM"').replace('"C-" = []', '"C-" = ["negcon"]'))
    found = profiles.published(path, path)
    assert found.var_names.tolist() == ["Cells_AreaShape_Area", "Nuclei_Texture_1"]
    np.testing.assert_allclose(found.X, theirs[found.var_names], rtol=1e-6)
    assert found.obs["role"].tolist() == ["C-", "treated", "treated"]
    np.testing.assert_allclose(found.obs["concentration_uM"], [np.nan, 0.0015, 0.003])
    assert "files" not in found.obs and "Nuclei_Texture_1" not in found.obs
    with pytest.raises(ValueError, match=r"\[images\] needs files"):  # profiles need no images, a screen does
        open_layout(tmp_path)


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
    shutil.copytree(Path(chapters.__file__).parents[2] / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chapters.subprocess, "run", None)  # would fail if the workflow were called
    given = make_profiles("baseline", compounds={"cure": (1.0, 1.5, 0.9)}, sites=1)
    profiles.write(given, tmp_path / "theirs.h5ad")
    for chapter in ("04_separability", "05_dose_response"):
        names = chapters.needs(Path(chapters.__file__).parents[2] / "notebooks" / f"{chapter}.py")
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


@pytest.fixture
def plate(tmp_path, monkeypatch):
    """A project where profile plate25 has made its rows, and `theirs.h5ad` holds one plate more."""
    (tmp_path / "Snakefile").touch()
    shutil.copytree(Path(chapters.__file__).parents[2] / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    options = {"compounds": {"cure": (1.0, 1.5, 0.9)}, "sites": 1, "seed": 0}
    (tmp_path / "results" / "plate25" / "profiles").mkdir(parents=True)
    settings = yaml.safe_load((tmp_path / "config" / "plate25.yaml").read_text())
    settings["methods"] = {"gandl": {}, "intensity": {}, "imagenet-collapsed": {}}  # the last may be left out
    (tmp_path / "config" / "plate25.yaml").write_text(yaml.safe_dump(settings))
    for name in ("gandl", "intensity"):
        own = make_profiles(name, plates={"HRCE": 1}, **options)
        profiles.write(own, tmp_path / "results" / "plate25" / "profiles" / f"{name}.h5ad")
    theirs = make_profiles("baseline", plates={"HRCE": 1}, **options)
    more = make_profiles("baseline", plates={"VERO": 1}, **options)
    theirs = anndata.concat([more, theirs], index_unique="-", uns_merge="first")
    profiles.write(theirs, tmp_path / "theirs.h5ad")
    return tmp_path, own, theirs


@pytest.mark.filterwarnings("ignore::UserWarning")  # what one plate cannot be asked is left out aloud
def test_published_profiles_stand_beside_the_rows_of_a_real_screen(plate, capsys):
    root, *_ = plate
    names = ("separability.csv", "paired.csv", "profiles/gandl.h5ad", "dose_truth.csv?")
    *tables, gandl, truth = chapters.need("plate25", *names, published="theirs.h5ad")
    scores, paired = map(pd.read_csv, tables)
    assert scores["method"].unique().tolist() == ["gandl", "intensity", "baseline", "shuffled labels"]
    assert set(scores["normalisation"]) == {"all", "controls"}, "as the profile has it"
    alike = scores.groupby(["task", "split", "normalisation"])["n_test_wells"]
    assert (alike.nunique() == 1).all(), "all are tested on the same wells"
    assert set(zip(paired["method"], paired["other"], strict=True)) >= {
        ("gandl", "baseline"),
        ("intensity", "baseline"),
    }
    assert gandl == root / "results" / "plate25" / "profiles" / "gandl.h5ad" and truth is None
    assert not capsys.readouterr().out
    alone = chapters.need("quick", "axes.csv", published="theirs.h5ad")[0]
    assert "gandl" not in set(pd.read_csv(alone)["method"]), "never beside a simulated screen"
    gandl.unlink()
    assert chapters.need("plate25", "axes.csv", published="theirs.h5ad")[0] == alone
    assert "no profiles of gandl, so the published profiles are judged alone" in capsys.readouterr().out


def test_published_profiles_of_another_screen_are_refused(plate):
    root, own, theirs = plate
    other = theirs.copy()
    role = other.obs["role"].astype(str)
    other.obs["role"] = role.replace({"C+": "C-", "C-": "C+"})
    profiles.write(other, root / "other.h5ad")
    with pytest.raises(ValueError, match="These are two screens"):
        chapters.need("plate25", "axes.csv", published="other.h5ad")
    profiles.write(theirs[~theirs.obs["site_id"].isin(own.obs["site_id"])].copy(), root / "more.h5ad")
    with pytest.raises(ValueError, match="share no site_id"):
        chapters.need("plate25", "axes.csv", published="more.h5ad")


# ---- as other programs write them ----


@pytest.fixture
def own(tmp_path, rng):
    """(folder of a plate of one's own with two sites a well, CellProfiler's table of it in another order)."""
    rows = [(p, w, s) for p in ("P1", "2") for w in ("A01", "A02", "B01") for s in (1, 2)]
    table = pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Well", "Metadata_Site"])
    kind = table["Metadata_Well"].map({"A01": "neg", "A02": "pos", "B01": "neg"})
    table.assign(Kind=kind, _index=range(12)).to_csv(tmp_path / "metadata.csv", index=False)
    (tmp_path / "screen.toml").write_text(
        '[columns]\nplate = "Metadata_Plate"\nwell = "Metadata_Well"\nsite = "Metadata_Site"\ncontrol = "Kind"\n'
        '[controls]\n"C-" = ["neg"]\n"C+" = ["pos"]\n[images]\npixel_um = 1.3\nchannels = ["DNA"]\n'
        'files = "{Metadata_Plate}_{Metadata_Well}_{Metadata_Site}.tif"\n'
    )
    X = rng.standard_normal((12, 4)).astype(np.float32)
    features = pd.DataFrame(X, columns=["Cells_Area", "Cells_Mean", "Nuclei_Area", "Nuclei_Mean"])
    made = pd.concat([table, features], axis=1).assign(Metadata_dose="unknown")
    return tmp_path, made.sample(frac=1, random_state=1).reset_index(drop=True)


def save(table: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".h5ad":
        metadata = [c for c in table if c.startswith("Metadata_")]
        AnnData(
            table.drop(columns=metadata).to_numpy(np.float32),
            obs=table[metadata].rename(index=str),
            var=pd.DataFrame(index=[c for c in table if c not in metadata]),
        ).write_h5ad(path)
    else:
        table.to_csv(path, index=False)
    return path


def as_written(table: pd.DataFrame, spelling: str) -> pd.DataFrame:
    if spelling == "A1":
        return table.assign(Metadata_Well=table["Metadata_Well"].str.replace("0", ""))
    if spelling == "from 0":
        return table.assign(Metadata_Site=table["Metadata_Site"] - 1)
    if spelling == "decimals":
        return table.assign(Metadata_Site=table["Metadata_Site"].astype(float))
    return table


@pytest.mark.parametrize("spelling", ["as ours", "A1", "from 0", "decimals"])
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet", "t.h5ad"])
def test_tables_of_cellprofiler_find_their_sites(own, name, spelling, monkeypatch):
    root, table = own
    monkeypatch.setattr(profiles, "CHUNK_ROWS", 5)
    found = profiles.published(save(as_written(table, spelling), root / name), root)
    features = [c for c in table if not c.startswith("Metadata_")]
    assert list(found.var_names) == features and found.n_obs == 12
    expected = table.assign(site_id=table["Metadata_Plate"] + "_" + table["Metadata_Well"] + "_"
                            + table["Metadata_Site"].astype(str)).set_index("site_id")  # fmt: skip
    np.testing.assert_allclose(found.X, expected.loc[found.obs["site_id"], features], rtol=1e-6)
    assert found.obs["role"].eq("C+").sum() == 4
    profiles.write(found, root / "p.h5ad")
    assert profiles.read(root / "p.h5ad").obs["index_"].tolist() == found.obs["index_"].tolist(), "_index is renamed"


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.h5ad"])
def test_a_row_a_well_gives_a_profile_a_well(own, name):
    root, table = own
    features = [c for c in table if not c.startswith("Metadata_")]
    wells = table.groupby(["Metadata_Plate", "Metadata_Well"], as_index=False)[features].mean()
    found = profiles.published(save(wells, root / name), root)
    assert found.n_obs == 6 and (found.obs["n_sites"] == 2).all() and "site_id" not in found.obs
    expected = wells.set_index(wells["Metadata_Plate"] + "_" + wells["Metadata_Well"])
    np.testing.assert_allclose(found.X, expected.loc[found.obs["well_id"], features], rtol=1e-6)
    assert profiles.aggregate(found).obs["n_sites"].tolist() == [2] * 6


def test_what_is_exported_comes_back(own):
    root, table = own
    found = profiles.published(save(table, root / "t.csv"), root)
    write_table(found, root / "wide.csv")
    again = profiles.published(root / "wide.csv", root)
    np.testing.assert_array_equal(again.X, found.X)


def test_what_is_wrong_with_such_tables_is_said(own, capsys):
    root, table = own
    for bad, message in [
        (pd.concat([table, table.iloc[:1]]), "comes twice"),
        (table.drop(columns="Metadata_Plate"), "Metadata_Plate, Metadata_Well"),
        (table.assign(Metadata_Plate="other"), "no site in common"),
        (table.assign(Metadata_Well="somewhere"), "12 row.s. name no well like A01; found 'somewhere'"),
        (table.assign(Metadata_Site="left"), "12 row.s. have no number of a site; found 'left'"),
        (table.assign(Cells_Area=np.nan), "NaN or infinite"),
        (table.drop(columns="Metadata_Site"), "well P1_A01 comes twice|well 2_A01 comes twice|comes twice"),
    ]:
        for name in ("t.csv", "t.parquet"):
            with pytest.raises(ValueError, match=message):
                profiles.published(save(bad, root / name), root)
    extra = pd.concat([table, table.iloc[:2].assign(Metadata_Plate="P9")])
    assert profiles.published(save(extra, root / "t.csv"), root).n_obs == 12
    assert "2 of 14 rows of t.csv are not in" in capsys.readouterr().err
    foreign = save(table, root / "t.h5ad")
    with pytest.raises(ValueError, match="becomes profiles by `gandl profiles"):
        profiles.read(foreign)
