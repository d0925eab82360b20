"""Nearest neighbours by mechanism: a slow twin, scikit-learn, laws, and 86 of 103 on real BBBC021 profiles."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.neighbors import KNeighborsClassifier
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
    scores, _ = moa.moa(X, obs, "x")
    assert scores.set_index("protocol").loc["NSC", "n_correct"] == right


def test_scale_of_a_treatment_does_not_matter_and_shuffled_mechanisms_score_chance(wells):
    X, obs = wells
    scores, counts = moa.moa(X, obs, "x")
    assert tuple(scores.columns) == moa.HEADER
    pd.testing.assert_frame_equal(scores, moa.moa(3 * X, obs, "x")[0])
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


def test_what_cannot_be_asked_is_said(wells):
    X, obs = wells
    with pytest.raises(ValueError, match="no well has a mechanism"):
        moa.moa(X, obs.assign(moa=""), "x")
    with pytest.raises(ValueError, match="c0: more than one mechanism"):
        moa.moa(X, obs.assign(moa=["other", *obs["moa"][1:]]), "x")
    with pytest.raises(ValueError, match="moa-3: one compound only"):
        moa.moa(X, obs.assign(moa=obs["moa"].mask(obs["compound"].isin(["c9", "c10"]), "")), "x")
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
    scores, _ = moa.moa(moa.RECIPES["z-score, no orientation"](p), p.obs, "x")
    nsc, nscb = scores.itertuples()
    assert (nsc.n_correct, nsc.n_treatments, nsc.n_compounds) == (86, 103, 38)
    assert nscb.n_treatments == 92
    plain, _ = moa.moa(moa.RECIPES["z-score on DMSO"](p), p.obs, "x")
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
