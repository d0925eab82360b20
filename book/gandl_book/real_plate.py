"""A real plate whose answer is known another way: every method's axis beside a plain measurement.

BBBC013's protein moves from the cytoplasm into the nucleus. How far is measured with an image and a threshold
(`ratio`): of each cell the mean brightness inside its nucleus over that in a ring around it, and of a well the median
of its cells. Its logarithm, put between the controls' means, is the *classical* row; the ratio itself is another, for a
curve's EC50 depends on the scale it is drawn on.

What is asked of every row: how far controls lie apart (Z'), whether wells come in the classical order (Spearman), and
the EC50 of both drugs.

    Z'    = 1 - 3 (s+ + s-) / |m+ - m-|
    wells = 2 (1.96 + 0.84)^2 (s- / quarter)^2        wells a side to see a quarter of the full effect, 5 %, power 80 %
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import ndimage, stats
from skimage import filters, measure, morphology, segmentation

from gandl_lib.evaluate import axes, dose_response
from gandl_lib.profiles import by_method
from gandl_lib.screen.quality import z_prime

CLASSICAL, RATIO = "classical", "classical-ratio"
HEADER = ("method", "compound", "ec50_uM", "ec50_low", "ec50_high", "z_prime", "spearman_classical", "seed", "hill",
          "ec50_censored", "z_prime_low", "z_prime_high", "spearman_low", "spearman_high", "wells_for_a_quarter",
          "z_prime_undisputed")  # fmt: skip
WELLS_HEADER = ("method", "well", "role", "compound", "concentration_uM", "disputed", "efficacy", "split", "ratio",
                "nuclei")  # fmt: skip


def ratio(image: np.ndarray, dna: int = 0, protein: int = 1) -> tuple[float, int]:
    """Median over the cells of a field of nuclear over cytoplasmic brightness, and the number of nuclei.

    Args:
        image: (C, H, W), background subtracted.
    """
    smooth = ndimage.gaussian_filter(image[dna].astype(float), 1)
    mask = morphology.remove_small_objects(smooth > filters.threshold_otsu(smooth), max_size=40)
    inside = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 1)
    seeds = measure.label(morphology.h_maxima(inside, 0.7))
    nuclei = segmentation.watershed(-inside, seeds, mask=mask)
    cells = segmentation.expand_labels(nuclei, 6)
    ring = np.where(segmentation.expand_labels(nuclei, 1) > 0, 0, cells)  # 2 to 6 pixels from the nucleus
    numbers = np.unique(ring[ring > 0])
    within = ndimage.mean(image[protein], nuclei, numbers)
    around = ndimage.mean(image[protein], ring, numbers)
    return float(np.median(within / np.maximum(around, 1))), len(numbers)


def classical(store) -> AnnData:
    """Profiles with the two numbers of `ratio` for every site of a store (`shards.Shards`)."""
    dna, protein = store.channels.index("DNA"), store.channels.index("FKHR-EGFP")
    X = np.array([ratio(store.read(i), dna, protein) for i in range(len(store))], np.float32)
    obs = store.wells.set_axis(store.wells.index.astype(str))
    made = AnnData(X, obs=obs, var=pd.DataFrame(index=["ratio", "nuclei"]))
    made.uns["provenance"] = json.dumps({"method": CLASSICAL, "simulated": store.simulated})
    return made


def real_plate(profiles: list[AnnData], normalisation: str = "all", seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every method beside the classical measurement.

    Args:
        profiles: of one plate, a method each; one of them from `classical`.
        normalisation: of the others' features.
        seed: of splits and bootstraps.

    Returns:
        Table with the columns `HEADER`, a row a method and compound; intervals of EC50 by profile likelihood, the
        others by bootstrap over wells. Table with the columns `WELLS_HEADER`, a row a method and well.

    Raises:
        ValueError: no classical measurement among the profiles, or other wells than it has.
    """
    methods = by_method(profiles, ("well", "role", "compound", "concentration_uM", "disputed"))
    if CLASSICAL not in methods:
        raise ValueError(f"the classical measurement is missing; found {', '.join(methods)}.")
    measured = methods.pop(CLASSICAL)
    truth = measured.obs.assign(ratio=measured.X[:, 0], nuclei=measured.X[:, 1]).set_index("well_id")
    scores = [
        _between_controls(truth, np.log(truth["ratio"]), CLASSICAL),
        _between_controls(truth, truth["ratio"], RATIO),
    ]
    for name, p in methods.items():
        if set(p.obs["well_id"]) != set(truth.index):
            raise ValueError(f"{name} has other wells than the classical measurement.")
        scores.append(axes.efficacy(p, normalisation, seed))
    wells = pd.concat(scores, ignore_index=True)
    beside = truth[["well", "disputed", "ratio", "nuclei"]].reset_index()
    wells = wells.drop(columns=[c for c in ("well", "disputed", "ratio", "nuclei") if c in wells]).merge(beside)
    curves = dose_response.curves(wells)
    qualities = pd.DataFrame([_quality(name, one, seed) for name, one in wells.groupby("method", sort=False)])
    table = curves.merge(qualities, on="method").assign(seed=seed)
    return table[list(HEADER)], wells[list(WELLS_HEADER)]


def _between_controls(truth: pd.DataFrame, value: pd.Series, method: str) -> pd.DataFrame:
    """An efficacy table of a measurement: C- wells at -1 on average, C+ wells at +1."""
    bottom, top = (value[truth["role"] == role].mean() for role in ("C-", "C+"))
    table = truth.reset_index().assign(method=method, efficacy=2 * (value - bottom).to_numpy() / (top - bottom) - 1)
    split = np.where(truth["role"].isin(["C+", "C-"]), "train", "other")  # controls that the scale was taken from
    return table.assign(split=split, off=np.nan)[list(axes.EFFICACY_HEADER)]  # one number: nothing lies beside it


def _quality(method: str, wells: pd.DataFrame, seed: int) -> dict[str, object]:
    """Separation of controls and agreement with the classical order, with bootstrap intervals over wells."""
    counted = wells[wells["split"].isin(["train", "test"])].dropna(subset=["efficacy"])
    positive, negative = (counted.loc[counted["role"] == role, "efficacy"].to_numpy() for role in ("C+", "C-"))
    sure = counted.loc[(counted["role"] == "C+") & counted["disputed"].astype(str).ne("True"), "efficacy"].to_numpy()
    found = {"method": method} | dict.fromkeys(HEADER[10:], np.nan) | {"z_prime": np.nan, "spearman_classical": np.nan}
    if min(len(positive), len(negative)) < 3:
        return found
    rng = np.random.default_rng(seed)
    drawn = [z_prime(rng.choice(positive, len(positive)), rng.choice(negative, len(negative))) for _ in range(1000)]
    known = wells.dropna(subset=["efficacy"])
    score, log_ratio = known["efficacy"].to_numpy(), np.log(known["ratio"].to_numpy())
    again = [rng.integers(0, len(known), len(known)) for _ in range(1000)]
    order = [stats.spearmanr(score[k], log_ratio[k]).statistic for k in again]
    half_quarter = 0.5  # the full effect is 2 on the axis, from -1 to +1
    wells_needed = 2 * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) ** 2 * (negative.std(ddof=1) / half_quarter) ** 2
    return found | {
        "z_prime": z_prime(positive, negative),
        "z_prime_low": np.quantile(drawn, 0.025),
        "z_prime_high": np.quantile(drawn, 0.975),
        "z_prime_undisputed": z_prime(sure, negative) if len(sure) >= 3 else np.nan,
        "spearman_classical": stats.spearmanr(score, log_ratio).statistic,
        "spearman_low": np.quantile(order, 0.025),
        "spearman_high": np.quantile(order, 0.975),
        "wells_for_a_quarter": int(np.ceil(wells_needed)),
    }


def tables(
    profiles: list[AnnData], normalisation: tuple[str, ...], truth: pd.DataFrame | None, seed: int
) -> dict[str, pd.DataFrame]:
    """`gandl evaluate real-plate`, as `gandl_lib.evaluate.EVALUATIONS` has the others."""
    table, wells = real_plate(profiles, normalisation[0], seed)
    return {"{out}": table, "{out}_wells": wells}
