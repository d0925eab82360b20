"""Normalisation undoes what a plate does; aggregation is a mean; files are whole or absent."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pycytominer
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power
from synthetic_profiles import make_profiles

from gandl_lib import profiles as P
from gandl_lib.screen.quality import ssmd, z_prime

TREATED = {"remdesivir": (1.0, 1.5, 0.9)}
WITH_BLANKS = {"C+": 16, "C-": 16, "blank": 2}
FITTED = ("all", "controls", "tvn")


def reference_mask(profiles: AnnData, how: str) -> np.ndarray:
    role = profiles.obs["role"]
    return ((role != "blank") if how == "all" else (role == "C-")).to_numpy()


# ---- normalisation ----


@pytest.mark.parametrize("how", ["all", "controls"])
def test_standardising_equals_a_plain_loop(how):
    p = make_profiles(roles=WITH_BLANKS, compounds=TREATED)
    got, reference = P.normalise(p, how), reference_mask(p, how)
    for plate in p.obs["plate_id"].unique():
        on_plate = (p.obs["plate_id"] == plate).to_numpy()
        for j in range(p.n_vars):
            values = p.X[on_plate & reference, j].astype(float)
            expected = (p.X[on_plate, j] - values.mean()) / values.std()
            np.testing.assert_allclose(got.X[on_plate, j], expected, rtol=1e-4, atol=1e-4)
    assert got.X.dtype == np.float32
    assert got.uns["normalisation"] == how and got.uns["provenance"] == p.uns["provenance"]


@pytest.mark.parametrize(
    ("how", "samples"), [("all", "Metadata_role != 'blank'"), ("controls", "Metadata_role == 'C-'")]
)
def test_standardising_equals_pycytominer(how, samples):
    p = make_profiles(roles=WITH_BLANKS, compounds=TREATED)
    features = [f"f{j}" for j in range(p.n_vars)]
    table = pd.DataFrame(p.X.astype(float), columns=features, index=p.obs_names)
    table["Metadata_role"], table["Metadata_plate"] = p.obs["role"], p.obs["plate_id"]
    expected = pd.concat(
        pycytominer.normalize(t, features, meta_features=["Metadata_role"], samples=samples, method="standardize")
        for _, t in table.groupby("Metadata_plate")
    )
    np.testing.assert_allclose(P.normalise(p, how).X, expected.loc[p.obs_names, features], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("how", FITTED)
@settings(max_examples=15)
@given(
    log_gain=st.lists(st.floats(-2, 2), min_size=4, max_size=4),
    offset=st.lists(st.floats(-20, 20), min_size=4, max_size=4),
)
def test_rescaling_a_plate_changes_nothing(how, log_gain, offset):
    p = make_profiles(plates={"HRCE": 2}, n_features=4, compounds=TREATED)
    changed = p.copy()
    plate = (p.obs["plate_id"] == "HRCE-1_1").to_numpy()
    changed.X[plate] = changed.X[plate] * np.exp(log_gain) + offset
    np.testing.assert_allclose(P.normalise(changed, how).X, P.normalise(p, how).X, atol=5e-3)


@pytest.mark.parametrize("how", FITTED)
def test_reference_wells_have_mean_zero_and_variance_one_on_every_plate(how):
    p = make_profiles(roles={"C+": 8, "C-": 40}, compounds=TREATED)
    X = P.normalise(p, how).X
    for plate in p.obs["plate_id"].unique():
        values = X[(p.obs["plate_id"] == plate).to_numpy() & reference_mask(p, how)]
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-4)
        if how == "tvn":  # covariances are drawn towards the identity, by the ridge not all the way
            raw = P.normalise(p, "controls").X[(p.obs["plate_id"] == plate).to_numpy() & reference_mask(p, how)]
            off = [np.linalg.norm(np.cov(v.T, bias=True) - np.eye(len(v.T))) for v in (values, raw)]
            assert off[0] < 0.5 * off[1]
        else:
            np.testing.assert_allclose(values.std(axis=0), 1, atol=1e-4)


def test_tvn_equals_its_formula_with_matrix_powers():
    p = make_profiles(compounds=TREATED)
    control, plates = reference_mask(p, "tvn"), p.obs["plate_id"].to_numpy()
    Z = P.normalise(p, "controls").X.astype(float)
    values, vectors = np.linalg.eigh(np.cov(Z[control].T, bias=True))
    order = np.argsort(values)[::-1]
    Y = (Z - Z[control].mean(axis=0)) @ vectors[:, order] / np.sqrt(values[order])
    ridge = 0.5 * np.eye(p.n_vars)
    target = fractional_matrix_power(np.cov(Y[control].T, bias=True) + ridge, 0.5)
    for plate in set(plates):
        on_plate = plates == plate
        source = fractional_matrix_power(np.cov(Y[on_plate & control].T, bias=True) + ridge, -0.5)
        Y[on_plate] = Y[on_plate] @ source @ target
    got = P.normalise(p, "tvn").X
    signs = np.sign((got * Y).sum(axis=0))  # an eigenvector's sign is nobody's choice
    # CORAL mixes components, but flipping one flips its row and column alike, so columns differ by sign alone.
    np.testing.assert_allclose(got * signs, Y, atol=2e-3)


def test_tvn_keeps_the_rank_of_the_controls_where_features_outnumber_them():
    p = make_profiles(plates={"HRCE": 2}, roles={"C+": 4, "C-": 5}, sites=2, n_features=60)
    got = P.normalise(p, "tvn")
    assert got.shape == (p.n_obs, 2 * (10 - 1))  # ten control rows a plate, less its mean
    assert np.isfinite(got.X).all() and np.abs(got.X).max() < 1e3


@pytest.mark.parametrize("how", ["controls", "tvn"])
def test_only_negative_controls_within_fit_set_the_zero(how):
    p = make_profiles(roles={"C+": 8, "C-": 16, "UV": 4}, compounds=TREATED)
    fit = np.random.default_rng(1).random(p.n_obs) < 0.6
    changed = p.copy()
    others = ~(fit & (p.obs["role"] == "C-").to_numpy())
    changed.X[others] = changed.X[others] * 3 + 7
    before, after = P.normalise(p, how, fit).X, P.normalise(changed, how, fit).X
    np.testing.assert_allclose(after[~others], before[~others], atol=1e-4)
    assert np.abs(after[others] - before[others]).max() > 1


@pytest.mark.parametrize("how", FITTED)
def test_blank_wells_move_no_other(how):
    p = make_profiles(roles=WITH_BLANKS, compounds=TREATED)
    blank = (p.obs["role"] == "blank").to_numpy()
    changed = p.copy()
    changed.X[blank] = 100
    before, after = P.normalise(p, how).X, P.normalise(changed, how).X
    np.testing.assert_array_equal(after[~blank], before[~blank])
    assert np.abs(after[blank] - before[blank]).max() > 1


def test_a_plate_of_hardly_any_but_blank_wells_is_its_own_reference():
    p = make_profiles(plates={"HRCE": 2}, roles={"C+": 1, "blank": 6})
    X = P.normalise(p, "all").X
    for rows in p.obs.groupby("plate_id").indices.values():
        np.testing.assert_allclose(X[rows].mean(axis=0), 0, atol=1e-4)


def test_untreated_wells_are_the_controls_of_a_screen_without_infection():
    p = make_profiles(roles={"untreated": 6, "UV": 3})
    X = P.normalise(p, "controls").X
    one = ((p.obs["role"] == "untreated") & (p.obs["plate_id"] == "HRCE-1_1")).to_numpy()
    np.testing.assert_allclose(X[one].mean(axis=0), 0, atol=1e-4)


@pytest.mark.parametrize("how", FITTED)
@pytest.mark.parametrize("value", [0.0, 0.1, -1e6])
def test_a_feature_without_spread_becomes_zero(how, value):
    p = make_profiles(plates={"HRCE": 2}, n_features=5)
    p.X[:, 2] = value
    X = P.normalise(p, how).X
    assert np.isfinite(X).all()
    if how == "tvn":
        assert X.shape[1] == 4
    else:
        assert (X[:, 2] == 0).all()


def test_none_is_a_copy():
    p = make_profiles()
    got = P.normalise(p, "none")
    assert (got.X == p.X).all() and got.X is not p.X


@pytest.mark.parametrize("how", ["controls", "tvn"])
def test_plates_without_controls_are_named(how):
    p = make_profiles()
    p = p[~((p.obs["role"] == "C-") & (p.obs["plate_id"] == "VERO-1_2"))].copy()
    said = r"2 negative-control.*VERO-1_2 \(0; its rows: 16 C\+\).*'all' and 'none' need none"
    with pytest.raises(ValueError, match=said):
        P.normalise(p, how)
    assert np.isfinite(P.normalise(p, "all").X).all()


def test_a_plate_of_one_well_has_no_spread():
    p = make_profiles(plates={"HRCE": 2}, roles={"untreated": 1})
    with pytest.raises(ValueError, match="at least 2 wells .*HRCE-1_1 .*'none' needs none"):
        P.normalise(p, "all")


def test_wrong_arguments_are_explained():
    p = make_profiles()
    with pytest.raises(ValueError, match="Unknown normalisation 'zscore'; choose one of none, all, controls, tvn"):
        P.normalise(p, "zscore")
    with pytest.raises(ValueError, match=r"fit must be .* booleans"):
        P.normalise(p, "all", np.ones(3, bool))
    del p.obs["plate_id"]
    with pytest.raises(ValueError, match="lacks the column.*plate_id; it has site_id, well_id"):
        P.normalise(p, "all")


# ---- several cell types on a plate ----


def mixed_plates(gains: dict[str, float], noise: float = 0.01, seed: int = 0) -> AnnData:
    """Mean intensity of wells: plate 1 holds the dim line alone, plate 2 both; C+ is twice as bright as C-."""
    rng, rows, X = np.random.default_rng(seed), [], []
    for plate, lines in ((1, ("dim", "dim")), (2, ("dim", "bright"))):
        for k in range(96):
            line, role = lines[k % 12 // 6], ("C-", "C+", "treated", "treated")[k // 24]
            effect = {"C-": 0.0, "C+": 1.0}.get(role, rng.random() * (k % 2))
            rows.append((f"P{plate}", f"P{plate}_{k}", line, role, "x" if role == "treated" else "", np.nan))
            X.append(gains[line] * (1 + effect) * (1 + noise * rng.standard_normal(3)))
    columns = ["plate_id", "well_id", "cell_type", "role", "compound", "concentration_uM"]
    obs = pd.DataFrame(rows, columns=columns).rename(index=str)
    return AnnData(np.array(X, np.float32), obs=obs, uns={"provenance": '{"method": "intensity"}'})


def separation(values: np.ndarray, obs: pd.DataFrame, line: str) -> tuple[float, float]:
    """Z' and SSMD of the controls of a line over all plates."""
    scores = [values[((obs["cell_type"] == line) & (obs["role"] == role)).to_numpy()] for role in ("C+", "C-")]
    return z_prime(*scores), ssmd(*scores)


@pytest.mark.parametrize("how", FITTED)
def test_cell_lines_that_share_a_plate_are_normalised_apart(how):
    """A design that normalising by plate ruins, and its separation as ten plain lines find it."""
    p = mixed_plates({"dim": 300.0, "bright": 3000.0})
    got, obs = P.normalise(p, how), p.obs
    raw, by_plate, apart = p.X[:, 0].astype(float), np.empty(p.n_obs), np.empty(p.n_obs)
    for plate in ("P1", "P2"):
        on = (obs["plate_id"] == plate).to_numpy()
        by_plate[on] = (raw[on] - raw[on].mean()) / raw[on].std()
        for line in set(obs["cell_type"][on]):
            rows = on & (obs["cell_type"] == line).to_numpy()
            ref = rows & reference_mask(p, how)
            apart[rows] = (raw[rows] - raw[ref].mean()) / raw[ref].std()
    assert separation(by_plate, obs, "dim")[0] < 0 < 0.5 < separation(apart, obs, "dim")[0], "the design is the trap"
    if how == "tvn":  # mixes the features, so only that the lines stay apart can be asked
        assert max(separation(x, obs, "dim")[0] for x in got.X.T) > 0.5
    else:
        np.testing.assert_allclose(got.X[:, 0], apart, atol=1e-3)
        assert separation(got.X[:, 0], obs, "dim") == pytest.approx(separation(apart, obs, "dim"), rel=1e-3)


@pytest.mark.parametrize("how", ["all", "controls"])
@settings(max_examples=15)
@given(dim=st.floats(1, 1e4), bright=st.floats(1, 1e4))
def test_how_bright_a_line_is_changes_nothing(how, dim, bright):
    before, after = (
        P.normalise(mixed_plates(g), how).X for g in ({"dim": 1.0, "bright": 1.0}, {"dim": dim, "bright": bright})
    )
    np.testing.assert_allclose(after, before, atol=1e-2)


def test_a_line_with_few_wells_on_a_shared_plate_is_named():
    p = mixed_plates({"dim": 300.0, "bright": 3000.0})
    bright = (p.obs["cell_type"] == "bright").to_numpy()
    dim_on_2 = ((p.obs["cell_type"] == "dim") & (p.obs["plate_id"] == "P2")).to_numpy()
    dim_on_1 = (p.obs["plate_id"] == "P1").to_numpy()

    def left(some: np.ndarray, n: int) -> AnnData:
        return p[~some | (np.cumsum(some) <= n)].copy()

    with pytest.warns(UserWarning, match=r"fewer than 4 wells: P2, bright \(3\). Its zero and its scale are rough"):
        P.normalise(left(bright, 3), "all")
    with pytest.warns(UserWarning, match="P2, dim. It was measured by those of that cell type on other plates"):
        one = P.normalise(left(dim_on_2, 1), "all")
    np.testing.assert_allclose(one.X[dim_on_1[:96].nonzero()[0]], P.normalise(p, "all").X[dim_on_1], atol=1e-5)
    at = ((one.obs["cell_type"] == "dim") & (one.obs["plate_id"] == "P2")).to_numpy()
    mean, sd = p.X[dim_on_1].mean(axis=0), p.X[dim_on_1].std(axis=0)
    np.testing.assert_allclose(one.X[at], (left(dim_on_2, 1).X[at] - mean) / sd, rtol=0.05)
    with pytest.raises(ValueError, match=r"too few on 1 plate\(s\): P2, bright \(1; its rows: 1 C-\)"):
        P.normalise(left(bright, 1), "all")


def test_blank_wells_without_a_cell_type_make_no_line():
    p = make_profiles(roles=WITH_BLANKS, compounds=TREATED)
    nameless = p.copy()
    nameless.obs.loc[nameless.obs["role"] == "blank", "cell_type"] = ""
    for how in FITTED:
        np.testing.assert_array_equal(P.normalise(nameless, how).X, P.normalise(p, how).X)


# ---- aggregation ----


def test_aggregate_equals_a_plain_loop():
    p = make_profiles(sites=3, compounds=TREATED)
    got = P.aggregate(p)
    assert list(got.obs["well_id"]) == list(dict.fromkeys(p.obs["well_id"])) == list(got.obs_names)
    for k, well in enumerate(got.obs["well_id"]):
        rows = (p.obs["well_id"] == well).to_numpy()
        np.testing.assert_allclose(got.X[k], p.X[rows].mean(axis=0), rtol=1e-4, atol=1e-5)
        assert got.obs["role"].iloc[k] == p.obs["role"][rows].iloc[0]
    assert (got.obs["n_sites"] == 3).all()
    assert not {"site", "site_id"} & set(got.obs), "columns that differ within wells are dropped"
    assert got.obs["concentration_uM"].isna().equals(got.obs["role"].ne("treated"))
    assert got.X.dtype == np.float32


def test_aggregate_crops_to_sites_to_wells_to_plates_counts_sites():
    sites = make_profiles(sites=2)
    crops = anndata.concat([sites] * 3, uns_merge="same", index_unique="-")
    again = P.aggregate(crops, "site_id")
    np.testing.assert_allclose(again.X, sites.X, rtol=1e-5)
    assert (again.obs["n_sites"] == 1).all()
    wells = P.aggregate(crops)
    assert (wells.obs["n_sites"] == 2).all()
    plates = P.aggregate(wells, "plate_id")
    assert list(plates.obs["n_sites"]) == [48] * 4
    assert plates.uns["provenance"] == sites.uns["provenance"]


def test_aggregate_names_a_missing_column():
    with pytest.raises(ValueError, match="lacks the column.*dose"):
        P.aggregate(make_profiles(), "dose")


# ---- files ----


def test_written_profiles_are_read_back_as_they_were(tmp_path):
    p = make_profiles(compounds=TREATED)
    P.write(p, tmp_path / "new" / "p.h5ad")
    got = P.read(tmp_path / "new" / "p.h5ad")
    np.testing.assert_array_equal(got.X, p.X)
    pd.testing.assert_frame_equal(got.obs, p.obs)
    assert got.uns["provenance"] == p.uns["provenance"]
    assert [f.name for f in (tmp_path / "new").iterdir()] == ["p.h5ad"]


def test_categories_of_files_by_others_become_plain_text(tmp_path):
    p = make_profiles()
    expected = p.obs.copy()
    p.write_h5ad(tmp_path / "p.h5ad")  # anndata's own way turns text into categories
    assert anndata.read_h5ad(tmp_path / "p.h5ad").obs["role"].dtype == "category"
    pd.testing.assert_frame_equal(P.read(tmp_path / "p.h5ad").obs, expected)


def test_a_failed_write_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "p.h5ad"
    P.write(make_profiles(seed=1), path)
    before = path.read_bytes()

    def disk_full(self, filename, **_):
        filename.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AnnData, "write_h5ad", disk_full)
    with pytest.raises(OSError, match="No space left"):
        P.write(make_profiles(seed=2), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_unreadable_files_are_explained(tmp_path):
    with pytest.raises(ValueError, match="no such file.*gandl embed"):
        P.read(tmp_path / "absent.h5ad")
    (tmp_path / "text.h5ad").write_text("not HDF5")
    with pytest.raises(ValueError, match=r"text.h5ad: not a readable .h5ad file"):
        P.read(tmp_path / "text.h5ad")
    p = make_profiles()
    p.uns = {}
    p.write_h5ad(tmp_path / "anonymous.h5ad")
    with pytest.raises(ValueError, match=r'anonymous.h5ad: uns\["provenance"\] must be a JSON string with a "method"'):
        P.read(tmp_path / "anonymous.h5ad")


# ---- checks ----


def test_values_that_are_not_finite_are_named():
    p = make_profiles(method="gandl")
    p.X[3, 5] = np.nan
    p.X[7, 5] = np.inf
    with pytest.raises(ValueError, match=r"gandl: X has NaN.* in 2 of 192 rows \(first rows 3, 7; first features 5\)"):
        P.check(p)


def test_methods_need_different_names():
    assert list(P.by_method([make_profiles("a"), make_profiles("b")], ())) == ["a", "b"]
    with pytest.raises(ValueError, match="Two profile tables name the method 'a'"):
        P.by_method([make_profiles("a"), make_profiles("a")], ())
    with pytest.raises(ValueError, match="No profiles"):
        P.by_method([], ())
    with pytest.raises(ValueError, match="must be an AnnData, not DataFrame"):
        P.by_method([pd.DataFrame()], ())
