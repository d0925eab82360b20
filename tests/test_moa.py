"""Nearest neighbours by mechanism: a slow twin, scikit-learn, laws, and 86 of 103 on real BBBC021 profiles."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.spatial.distance import cdist
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from statsmodels.stats.proportion import proportion_confint

from gandl_lib.datasets import bbbc021
from gandl_lib.evaluate import moa


@pytest.fixture
def wells(rng) -> tuple[np.ndarray, pd.DataFrame]:
    """X (96, 12): 4 mechanisms x 3 compounds x 2 doses x 4 wells; compounds of a mechanism lie near each other."""
    rows = [(m, c, d, w) for m in range(4) for c in range(3) for d in (1.0, 10.0) for w in range(4)]
    m, c, d, w = (np.array(v) for v in zip(*rows, strict=True))
    centres = rng.standard_normal((4, 12)) * 2
    X = centres[m] + 0.8 * rng.standard_normal((12, 12))[3 * m + c] + 0.3 * rng.standard_normal((96, 12))
    names = {"moa": [f"moa-{k}" for k in m], "compound": [f"c{k}" for k in 3 * m + c], "concentration_uM": d}
    return X, pd.DataFrame(names | {"batch": [f"Week{k}" for k in (c + 1)]})


def test_nearest_is_its_slow_twin(wells):
    mean, table = moa.treatments(*wells)
    for protocol in moa.PROTOCOLS:
        place, possible = moa.nearest(mean, table, protocol)
        for i, one in table.iterrows():
            best, found, could = None, -np.inf, False
            for j, other in table.iterrows():
                if one["compound"] == other["compound"] or (protocol == "NSCB" and one["batches"] & other["batches"]):
                    continue
                could |= one["moa"] == other["moa"]
                cosine = mean[i] @ mean[j] / np.sqrt((mean[i] @ mean[i]) * (mean[j] @ mean[j]))
                if cosine > found:
                    best, found = j, cosine
            assert place[i] == best and possible[i] == could


def test_leaving_one_compound_out_is_that_of_scikit_learn(wells):
    X, obs = wells
    mean, table = moa.treatments(X, obs)
    right = 0
    for compound in table["compound"].unique():
        out = (table["compound"] == compound).to_numpy()
        knn = KNeighborsClassifier(1, metric="cosine").fit(mean[~out], table["moa"][~out])
        right += (knn.predict(mean[out]) == table["moa"][out]).sum()
    scores, _ = moa.moa(X, obs)
    assert scores.set_index("protocol").loc["NSC", "n_correct"] == right


def test_scale_of_a_treatment_does_not_matter_and_shuffled_mechanisms_score_chance(wells):
    X, obs = wells
    scores, counts = moa.moa(X, obs)
    pd.testing.assert_frame_equal(scores, moa.moa(3 * X, obs)[0])
    assert (scores["accuracy"] > 0.8).all()
    assert scores["shuffled"].between(0.1, 0.3).all(), "2 of the 11 other compounds share a mechanism: 0.18"
    assert counts.groupby("protocol")["count"].sum().to_dict() == scores.set_index("protocol")["n_treatments"].to_dict()


def test_sphered_controls_have_no_direction_of_their_own(rng):
    X = rng.standard_normal((50_000, 6)) @ (np.eye(6) + 0.3 * rng.standard_normal((6, 6)))
    white = moa.sphere(X, np.ones(len(X), bool))
    np.testing.assert_allclose(np.cov(white, rowvar=False), np.eye(6), atol=0.02)
    few = moa.sphere(rng.standard_normal((30, 50)), np.arange(30) < 10)
    assert np.isfinite(few).all(), "more features than controls"


def test_wilson_is_that_of_statsmodels():
    for k, n in ((86, 103), (0, 5), (5, 5)):
        np.testing.assert_allclose(moa.wilson(k, n), proportion_confint(k, n, method="wilson"), atol=1e-9)


def test_doses_of_a_compound_are_drawn_together(rng):
    """By ten doses that stand or fall together nobody knows more than by one of each."""
    right, compound = np.array([True, False] * 4), np.arange(8)
    once = moa.over_compounds(right, compound)
    assert once == moa.over_compounds(np.repeat(right, 10), np.repeat(compound, 10))
    low, high = moa.over_compounds(np.repeat(right, 10), np.arange(80))
    assert once[0] < low < 0.5 < high < once[1]
    assert moa.over_compounds(np.ones(8, bool), compound) == (1.0, 1.0)


def test_without_controls_the_screen_is_taken_as_a_whole(screen):
    """One dataset named and no DMSO: z-scores over all wells, as scikit-learn's, then no direction of its own."""
    treated = screen[screen.obs["role"] == "treated"].copy()
    scores, _ = moa.compare([named(treated, "a", False)], dataset="bbbc021-fields")
    assert list(scores["recipe"].unique()) == list(moa.WITHOUT_CONTROLS) and set(scores["dataset"]) == {
        "bbbc021-fields"
    }
    z = StandardScaler().fit_transform(treated.X.astype(float))
    np.testing.assert_allclose(moa.WITHOUT_CONTROLS["z-score, screen as a whole"](treated), z, atol=1e-6)
    white = LedoitWolf().fit(z)
    distances = cdist(z, z, "mahalanobis", VI=white.precision_)
    sphered = moa.WITHOUT_CONTROLS["sphered on all wells"](treated)
    np.testing.assert_allclose(cdist(sphered, sphered), distances, atol=1e-4)


def test_what_cannot_be_asked_is_said(wells):
    X, obs = wells
    with pytest.raises(ValueError, match="no well has a mechanism"):
        moa.moa(X, obs.assign(moa=""))
    with pytest.raises(ValueError, match="c0: more than one mechanism"):
        moa.moa(X, obs.assign(moa=["other", *obs["moa"][1:]]))
    with pytest.raises(ValueError, match="moa-3: one compound only"):
        moa.moa(X, obs.assign(moa=obs["moa"].mask(obs["compound"].isin(["c9", "c10"]), "")))
    with pytest.raises(ValueError, match="unknown protocol 'NSX'"):
        moa.nearest(*moa.treatments(X, obs), "NSX")


def test_bbbc021_tables_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="ljosa.*there is no such file"):
        bbbc021.profiles(tmp_path)
    pd.DataFrame({"Image_Metadata_Plate": ["Week1_1"], "Image_Metadata_Well": ["B02"], "f": [1.0]}).to_csv(
        tmp_path / bbbc021.PROFILES, index=False
    )
    images = {"Image_Metadata_Plate_DAPI": ["Week1_1"], "Image_Metadata_Well_DAPI": ["B03"],
              "Image_Metadata_Compound": ["taxol"], "Image_Metadata_Concentration": [1.0]}  # fmt: skip
    pd.DataFrame(images).to_csv(tmp_path / bbbc021.IMAGES, index=False)
    pd.DataFrame({"compound": ["taxol"], "concentration": [1.0], "moa": ["M"]}).to_csv(
        tmp_path / bbbc021.MECHANISMS, index=False
    )
    with pytest.raises(ValueError, match="does not know well B02 of Week1_1"):
        bbbc021.profiles(tmp_path)
    pd.DataFrame(images | {"Image_Metadata_Well_DAPI": ["B02"], "Image_Metadata_Compound": ["x"]}).to_csv(
        tmp_path / bbbc021.IMAGES, index=False
    )
    with pytest.raises(ValueError, match="compounds that no well has: taxol"):
        bbbc021.profiles(tmp_path)


def test_real_profiles_give_the_published_number(gandl_data):
    if gandl_data is None:
        return
    p = bbbc021.profiles(gandl_data / "bbbc021")
    assert p.shape == (632, 516) and p.obs["plate_id"].nunique() == 55
    scores, _ = moa.moa(moa.RECIPES["z-score, no orientation"](p), p.obs)
    nsc, nscb = scores.itertuples()
    assert (nsc.n_correct, nsc.n_treatments, nsc.n_compounds) == (86, 103, 38)
    assert nscb.n_treatments == 92
    plain, _ = moa.moa(moa.RECIPES["z-score on DMSO"](p), p.obs)
    assert plain["n_correct"].iloc[0] == 85


def test_z_scores_are_those_of_pycytominer(gandl_data):
    if gandl_data is None:
        return
    from pycytominer import normalize

    p = bbbc021.profiles(gandl_data / "bbbc021")
    plate = p[p.obs["plate_id"] == p.obs["plate_id"].iloc[0]]
    table = pd.DataFrame(plate.X, columns=plate.var_names).assign(Metadata_role=plate.obs["role"].to_numpy())
    theirs = normalize(
        table, features=list(plate.var_names), samples="Metadata_role == 'untreated'", method="standardize"
    )
    ours = pd.DataFrame(moa.RECIPES["z-score on DMSO"](AnnData(plate.X, obs=plate.obs, var=plate.var, uns=plate.uns)),
                        columns=plate.var_names)  # fmt: skip
    varied = plate.X[(plate.obs["role"] == "untreated").to_numpy()].std(axis=0) > 1e-6
    np.testing.assert_allclose(ours.loc[:, varied], theirs[plate.var_names].loc[:, varied], rtol=2e-2, atol=2e-2)


# ---- several methods ----


@pytest.fixture
def screen(wells, rng) -> AnnData:
    """Profiles of cells: three a well, two plates of each batch, eight DMSO wells a plate; plates differ in offset."""
    X, obs = wells
    obs = obs.assign(plate=np.arange(len(obs)) % 2, role="treated")
    dmso = pd.DataFrame([(b, p) for b in sorted(set(obs["batch"])) for p in (0, 1) for _ in range(8)],
                        columns=["batch", "plate"])  # fmt: skip
    dmso = dmso.assign(moa="", compound="DMSO", concentration_uM=0.0, role="untreated")
    X, obs = np.concatenate([X, 0.3 * rng.standard_normal((len(dmso), 12))]), pd.concat([obs, dmso], ignore_index=True)
    obs["plate_id"] = obs["batch"] + "_" + obs["plate"].astype(str)
    obs["well_id"] = [f"w{k}" for k in range(len(obs))]
    X = X + 5 * pd.factorize(obs["plate_id"])[0][:, None]
    cells = np.repeat(np.arange(len(obs)), 3)
    obs = obs.iloc[cells].assign(site_id=[f"{c}-{k}" for k, c in enumerate(cells)])
    noisy = X[cells] + np.tile([[1.0], [0.0], [-1.0]], (len(X), 1))
    return AnnData(noisy.astype(np.float32), obs=obs.set_axis([str(k) for k in range(len(obs))]))


def named(p: AnnData, method: str, simulated: bool) -> AnnData:
    return AnnData(
        p.X, obs=p.obs, var=p.var, uns={"provenance": json.dumps({"method": method, "simulated": simulated})}
    )


def test_methods_of_one_dataset_are_compared_by_few_recipes_and_one_alone_by_all(screen):
    scores, counts = moa.compare([named(screen, "a", True), named(screen, "b", True), named(screen, "c", False)])
    assert tuple(scores.columns) == moa.HEADER and tuple(counts.columns) == moa.CONFUSION_HEADER
    used = scores.groupby(["dataset", "method"])["recipe"].unique().map(tuple).to_dict()
    assert used[("simulated", "a")] == used[("simulated", "b")] == moa.COMPARED
    assert used[("real", "c")] == tuple(moa.RECIPES)
    per_row = ["dataset", "method", "recipe", "protocol"]
    assert len(scores) == 2 * (2 * len(moa.COMPARED) + len(moa.RECIPES)) == scores.groupby(per_row).ngroups
    totals = counts.groupby(per_row)["count"].sum()
    pd.testing.assert_series_equal(totals, scores.set_index(per_row)["n_treatments"].sort_index(), check_names=False)
    a, b = (scores[scores["method"] == m].drop(columns="method").reset_index(drop=True) for m in "ab")
    pd.testing.assert_frame_equal(a, b)


def test_cells_are_averaged_to_wells_and_plates_taken_out(screen):
    """Cells of a well differ by offsets that cancel in its mean; plates lie far apart until they are normalised."""
    scores, _ = moa.compare([named(screen, "a", True), named(screen, "b", True)])
    means = (screen.X[::3] + screen.X[1::3] + screen.X[2::3]) / 3
    wells = named(AnnData(means, obs=screen.obs[::3]), "a", True)
    of_wells, _ = moa.compare([wells, named(screen, "b", True)])
    pd.testing.assert_frame_equal(scores, of_wells)
    assert (scores["accuracy"] > 0.8).all()
    raw, _ = moa.moa(wells.X, wells.obs)
    assert raw["accuracy"].min() < scores["accuracy"].min(), "plates as they came hide some"


def test_profiles_that_cannot_be_compared_are_refused(screen):
    with pytest.raises(ValueError, match="Two profile tables name the method 'a'"):
        moa.compare([named(screen, "a", True)] * 2)
    with pytest.raises(ValueError, match="lacks the column.*moa"):
        moa.compare([_without(screen, "moa")])
    treated = screen[screen.obs["role"] == "treated"].copy()
    with pytest.raises(ValueError, match="too few on"):
        moa.compare([named(treated, "a", True)])


def _without(p: AnnData, column: str) -> AnnData:
    return named(AnnData(p.X, obs=p.obs.drop(columns=column)), "a", True)
