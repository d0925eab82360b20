"""The three exams of chapter 08: closed forms, shuffled features, and words for data that cannot be examined."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from gandl_book import drug_control, paradigms
from sklearn.metrics import davies_bouldin_score, roc_auc_score, silhouette_score
from synthetic_profiles import make_profiles

from gandl_lib.evaluate import clusters, distances, drugs

WORKS, NOTHING = (1.0, 2.0, 1.0), (1e9, 1.0, 1.0)
COMPOUNDS = {"sim-antiviral-01": WORKS, "sim-antiviral-05": WORKS, "sim-antiviral-07": WORKS,
             "sim-inert-02": NOTHING, "sim-inert-06": NOTHING}  # fmt: skip


def screen(method="synthetic", compounds=COMPOUNDS, doses=(0.1, 10.0, 100.0), **options):
    options = {"plates": {"HRCE": 2}, "roles": {"C-": 24}, "n_features": 8, "sites": 1} | options
    return make_profiles(method, compounds=compounds, doses=doses, **options)


# ---- classes and pairs ----


def test_classes_come_from_names():
    assert drugs.drug_class("sim-narrow-13") == "narrow" and drugs.drug_class("") == drugs.drug_class("aspirin") == ""
    assert drugs.drug_class("Remdesivir (GS-5734)") == drugs.drug_class("GS-441524") != ""
    assert drugs.drug_class("Chloroquine") == drugs.drug_class("hydroxychloroquine sulfate") != ""


def test_pairs_share_their_two_highest_doses():
    obs = screen().obs
    pairs = drugs.similar_pairs(obs)
    assert pairs.groupby("drug_class").size().to_dict() == {"antiviral": 3, "inert": 1}
    assert set(pairs["doses_uM"]) == {(10.0, 100.0)}
    fewer = obs[(obs["compound"] != "sim-antiviral-01") | (obs["concentration_uM"] == 0.1)]
    doses = drugs.similar_pairs(fewer).set_index(["first", "second"])["doses_uM"]
    assert doses["sim-antiviral-01", "sim-antiviral-05"] == (0.1,), "one dose is enough"


def test_what_cannot_be_paired_is_named():
    obs = screen(compounds={**COMPOUNDS, "sim-toxic-04": WORKS}).obs
    with pytest.warns(UserWarning, match="one member.*toxic .sim-toxic-04, HRCE."):
        drugs.similar_pairs(obs)
    apart = obs[(obs["compound"] != "sim-inert-02") | (obs["concentration_uM"] == 10)]
    apart = apart[(apart["compound"] != "sim-inert-06") | (apart["concentration_uM"] == 100)]
    with pytest.warns(UserWarning) as said:
        pairs = drugs.similar_pairs(apart)
    assert any("without a dose in common" in str(w.message) and "sim-inert-02" in str(w.message) for w in said)
    assert "inert" not in set(pairs["drug_class"])
    unknown = screen(compounds={"aspirin": WORKS})
    assert drugs.similar_pairs(unknown.obs).empty
    with pytest.raises(ValueError, match="synthetic: no two similar drugs among 1 compounds .aspirin"):
        distances.distances(unknown)


def test_drugs_need_controls():
    with pytest.raises(ValueError, match=r"role treated and C-; found treated \(30\)"):
        drugs.drugs_and_controls(screen(roles={"C+": 0}), "x")
    assert set(drugs.drugs_and_controls(screen(roles={"untreated": 9, "C+": 3}), "x").obs["role"]) == {"treated", "C-"}


# ---- distances ----


def test_distances_are_those_of_a_slow_twin():
    p = screen(plate_effect=0)
    table = distances.distances(p, "none", n_bootstrap=20).set_index("drug_class")
    X, obs = p.X.astype(float), p.obs.reset_index(drop=True)

    def D(a, b):
        return np.median([np.linalg.norm(X[i] - X[j]) for i in a for j in b])

    control = obs.index[obs["role"] == "C-"]
    rows = {c: obs.index[(obs["compound"] == c) & (obs["concentration_uM"] > 1)] for c in COMPOUNDS}
    found = []
    names = [c for c in COMPOUNDS if "antiviral" in c]
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            similar, first, second = D(rows[a], rows[b]), D(rows[a], control), D(rows[b], control)
            found.append(((first - similar) / first + (second - similar) / second) / 2)
    assert table.loc["antiviral", "normalised_d"] == pytest.approx(np.mean(found), rel=1e-5)
    assert table.loc["antiviral", "n_pairs"] == 3 and table.loc["antiviral", "n_wells"] == 12
    assert table.loc["all", "normalised_d"] == table.loc["antiviral", "normalised_d"], "inert drugs take no part"


def test_similar_drugs_that_work_are_near_and_drugs_that_do_nothing_are_not():
    p = screen(separation=12, doses=(30.0, 100.0), plates={"HRCE": 3})
    for profiles in (p, AnnData(p.X * 7, obs=p.obs, uns=p.uns)):  # d has no unit
        table = distances.distances(profiles, seed=1).set_index("drug_class")
        assert table.loc["antiviral", "ci_low"] > 0.3
        assert table.loc["inert", "ci_low"] < 0 < table.loc["inert", "ci_high"]
        assert (table["ci_low"] <= table["normalised_d"]).all() and (table["normalised_d"] <= table["ci_high"]).all()


# ---- drug against control ----


def test_the_probe_finds_what_is_there_and_nothing_in_shuffled_features():
    works = {f"sim-antiviral-{k:02d}": WORKS for k in range(1, 6)}
    p = screen(compounds=works, doses=(10.0, 100.0), separation=8, roles={"C-": 20}, plates={"HRCE": 4})
    table = drug_control.drug_control(p).set_index("variant")
    assert (table.loc["corrected", ["accuracy", "roc_auc"]] > 0.9).all()
    nothing = drug_control.drug_control(drugs.shuffled_features(p, "x")).set_index("variant").loc["corrected"]
    assert nothing["auc_low"] < 0.5 < nothing["auc_high"] and nothing["ci_low"] < nothing["majority_rate"]
    assert (table["auc_from_labels"] <= table["roc_auc"] + 1e-9).all()
    # The area under a curve of one point is the balanced accuracy.
    assert table["auc_from_labels"].to_numpy() == pytest.approx(table["balanced_accuracy"].to_numpy())


def test_a_grid_that_begins_anew_does_not_depend_on_its_order(monkeypatch, rng):
    X = rng.standard_normal((120, 5))
    y, learn = X[:, 0] + rng.standard_normal(120) > 0, np.arange(120) < 80
    found = {}
    for anew in (True, False):
        for order in ((0.003, 0.03), (0.03, 0.003)):
            monkeypatch.setitem(drug_control.GRID, "learning_rate_init", order)
            monkeypatch.setattr(drug_control.svm, "balanced_accuracy", lambda y, guess: 1.0)  # the first point wins
            monkeypatch.setitem(drug_control.GRID, "momentum", (0.9,))
            last = drug_control.search(X, y, learn, ~learn, 0, anew)
            found[anew, order] = last.coefs_[0]
        assert not np.allclose(found[anew, (0.003, 0.03)], found[anew, (0.03, 0.003)])
    np.testing.assert_array_equal(found[True, (0.003, 0.03)], found[False, (0.003, 0.03)])


def test_few_wells_are_refused():
    few = screen(roles={"C-": 1})
    with pytest.raises(ValueError, match="takes four wells of both; found 30 of drugs and 2 of controls"):
        drug_control.drug_control(few)


# ---- clusters ----


def test_measures_are_those_of_the_clustered_points(rng):
    plane = np.concatenate(
        [rng.standard_normal((20, 2)), rng.standard_normal((20, 2)) + 9, rng.uniform(-9, 9, (10, 2))]
    )
    labels = np.repeat([0, 1, -1], [20, 20, 10])
    found = clusters.measure(plane, labels)
    assert found["n_clusters"] == 2 and found["not_noise"] == 0.8
    assert found["silhouette"] == silhouette_score(plane[:40], labels[:40]) > found["silhouette_published"]
    assert found["davies_bouldin_inverse"] == 1 / davies_bouldin_score(plane[:40], labels[:40])
    assert found["silhouette_published"] == silhouette_score(plane, labels)
    nothing = clusters.measure(plane, np.full(50, -1))
    assert nothing["n_clusters"] == nothing["not_noise"] == 0 and np.isnan(nothing["silhouette"])


def test_the_published_rule():
    grid = pd.DataFrame(
        {
            "silhouette": [0.9, 0.8, 0.7, 0.1, np.nan],
            "davies_bouldin_inverse": [1.0, 3.0, 3.0, 9.0, np.nan],
            "not_noise": [1.0, 0.5, 0.6, 1.0, 0.0],
            "n_clusters": [9, 3, 2, 9, 0],
        }
    )
    assert clusters.select(grid) == 1, "0 falls to Davies-Bouldin, 2 and 3 to the silhouette"
    tied = grid.assign(silhouette=0.5, davies_bouldin_inverse=1.0, not_noise=[0.5, 0.9, 0.9, 0.1, 0.9]).iloc[:3]
    assert clusters.select(tied) == 1, "of equals the one with most clusters"
    assert clusters.select(grid[grid["silhouette"].isna()]) == 4


def test_intervals_of_the_auc_are_those_of_its_definition():
    """Against scikit-learn on the drawn rows themselves, written out; with ties."""
    rng = np.random.default_rng(5)
    wells = np.repeat(np.arange(12), 3)
    y = np.repeat(rng.random(12) < 0.5, 3)
    score = np.round(rng.random(36) + 0.3 * y, 1)
    draw, values = np.random.default_rng(7), []
    for _ in range(50):
        rows = np.concatenate([np.flatnonzero(wells == g) for g in draw.integers(12, size=12)])
        if len(set(y[rows])) == 2:
            values.append(roc_auc_score(y[rows], score[rows]))
    expected = np.quantile(values, [0.025, 0.975])
    np.testing.assert_allclose(drug_control._auc_interval(y, score, wells, 50, 7), expected)
    assert np.isnan(drug_control._auc_interval(np.ones(36, bool), score, wells, 50, 7)).all()


def test_clusters_of_two_crowds(monkeypatch):
    p = screen(separation=25, roles={"C-": 40}, doses=(50.0, 100.0, 200.0), plates={"HRCE": 3}, compounds={
        f"sim-antiviral-{k:02d}": WORKS for k in range(12)})  # fmt: skip
    monkeypatch.setattr(clusters, "NEIGHBOURS", (10,))
    table, points = clusters.clusters(p)
    row = table.iloc[0]
    assert row["n_clusters"] >= 2 and row["silhouette"] > 0.4 and row["not_noise"] > 0.8
    assert row["ami_drug"] > row["ami_plate"]
    assert tuple(table.columns) == clusters.HEADER and tuple(points.columns) == clusters.POINTS_HEADER
    assert len(points) == p.n_obs


def test_no_cluster_is_said_in_words(monkeypatch):
    class Blob:
        def __init__(self, **options):
            pass

        def fit_transform(self, X):
            return np.random.default_rng(0).standard_normal((len(X), 2))

    monkeypatch.setattr(clusters, "_umap", lambda: type("umap", (), {"UMAP": Blob}))
    monkeypatch.setattr(clusters, "MIN_CLUSTER_SIZES", (40,))
    with pytest.warns(UserWarning, match="synthetic: HDBSCAN finds no cluster in HRCE at any of 2 grid points"):
        table, points = clusters.clusters(screen())
    assert table["n_clusters"].tolist() == [0] and table["silhouette"].isna().all() and (points["cluster"] == -1).all()
    with pytest.raises(ValueError, match="14 rows of HRCE are too few"):
        clusters.clusters(screen(compounds={"sim-antiviral-01": WORKS}, plates={"HRCE": 1}, roles={"C-": 11}))


def test_umap_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ValueError, match="pip install umap-learn"):
        clusters.clusters(screen())


# ---- all in one row ----


def with_config(p, name, minutes=0.5, **config):
    config = {"augment": False, "crops": False, "published": False} | config
    made = {"method": name, "n_seen": 100, "minutes": minutes, "peak_memory_MB": 500.0, "config": config}
    return AnnData(p.X, obs=p.obs, uns={"provenance": json.dumps(made)})


@pytest.mark.filterwarnings("ignore:.*finds no cluster")
def test_a_row_a_method_on_common_sites(monkeypatch):
    plane = type("UMAP", (), {"__init__": lambda self, **o: None, "fit_transform": lambda self, X: X[:, :2]})
    monkeypatch.setattr(clusters, "_umap", lambda: type("umap", (), {"UMAP": plane}))
    monkeypatch.setattr(paradigms.joblib, "Parallel", lambda n_jobs: lambda jobs: [f(*a, **k) for f, a, k in jobs])
    p = screen()
    weak, flawed = with_config(p, "weak-plain"), with_config(p, "weak-published", published=True)
    other = AnnData(p.X[3:, :5], obs=p.obs[3:], uns={"provenance": '{"method": "gandl"}'})
    tables = paradigms.paradigms([weak, flawed, other])
    assert (tables["clusters"]["n_rows"] == p.n_obs - 3).all(), "only sites that all have"
    table = tables[""]
    first = ("paradigm", "augment", "multi_crop", *paradigms.METRICS, "train_seconds", "peak_memory_MB")
    assert tuple(table.columns)[:15] == first
    assert table["method"].tolist() == ["weak-plain", "weak-published", "gandl", "shuffled features"]
    assert table["paradigm"].tolist() == ["weak", "weak", "gandl", "shuffled features"]
    assert table["train_seconds"].iloc[0] == 30 and table["peak_memory_MB"].iloc[0] == 500
    assert table.loc[0, "normalised_d"] == tables["cells"].set_index("method").loc["weak-plain", "normalised_d"]
    flaws = tables["flaws"]
    same = flaws[flaws["flaw"] == "softmax before cross-entropy"]
    assert len(same) == len(paradigms.METRICS) - 1 and (same["difference"].fillna(0) == 0).all()
    assert set(flaws["metric"]) >= {"accuracy", "roc_auc", "silhouette"}
    monkeypatch.setattr(paradigms, "similar_pairs", lambda obs: obs[:0])
    with pytest.warns(UserWarning, match="no two similar drugs in this screen"):
        table = paradigms.paradigms([weak])[""]
    assert table["normalised_d"].isna().all() and table["roc_auc"].notna().all()
    with pytest.raises(ValueError, match="a, b have no site in common"):
        other = screen("b")
        other.obs["site_id"] += "x"
        paradigms.on_common_sites({"a": p, "b": other})
