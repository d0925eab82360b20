"""Our dose-response fit beside CurveCurator's (Bayer et al. 2023), on the same simulated compounds with known truth.

    python benchmarks/dose_response.py [COMPOUNDS]

Half of the compounds rise from -1 by a log-logistic curve, half do nothing; 8 doses of 3 wells, noise of a standard
deviation of 0.3. CurveCurator works on ratios to a control, so it gets 2 + E, which is 1 for an infected well. Said of
each: distance from the true log10 EC50, how well p-values sort the compounds, and the time a curve takes; of ours, how
often the 95 % interval holds the truth. `pip install curve-curator` first; it is nobody's dependency here.
"""

from __future__ import annotations

import importlib.util
import sys
import time

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from gandl_lib.evaluate import dose_response

DOSES_UM, WELLS, NOISE = np.geomspace(0.03, 100, 8), 3, 0.3


def compounds(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Doses (w,), efficacies (n, w) and true EC50s (n,), NaN for those that do nothing."""
    rng = np.random.default_rng(seed)
    c = np.repeat(DOSES_UM, WELLS)
    ec50 = np.where(np.arange(n) % 2 == 0, 10 ** rng.uniform(-0.8, 1.2, n), np.nan)
    hill, rise = rng.uniform(0.8, 2.5, (n, 1)), rng.uniform(1.0, 2.0, (n, 1))
    course = np.nan_to_num(rise / (1 + (ec50[:, None] / c) ** hill))
    return c, course - 1 + NOISE * rng.standard_normal((n, len(c))), ec50


def ours(c: np.ndarray, e: np.ndarray) -> pd.DataFrame:
    fits = [dose_response.fit(c, one) for one in e]
    return pd.DataFrame(
        [(f.ec50_uM, f.p_flat, f.ec50_low, f.ec50_high) for f in fits], columns=["ec50", "p", "low", "high"]
    )


def theirs(c: np.ndarray, e: np.ndarray) -> pd.DataFrame:
    from curve_curator.models import LogisticModel, MeanModel
    from curve_curator.quantification import fit_model

    x = np.log10(c * 1e-6)  # mol/l
    curve, null = LogisticModel(), MeanModel()
    curve.set_boundaries(x)
    null.set_boundaries()
    how = {"type": "OLS", "speed": "standard", "control_fold_change": False}
    test = {"optimized_dofs": True, "scale": 1.0, "loc": 0.12}
    fits = [fit_model(pd.Series(2 + one), x, null, curve, how, test) for one in e]
    return pd.DataFrame([(1e6 * 10.0 ** -f[0], f[-1]) for f in fits], columns=["ec50", "p"])


def main(n: int = 200) -> None:
    if importlib.util.find_spec("curve_curator") is None:
        print("curve-curator is not installed, so there is nothing to compare with: pip install curve-curator")
        return
    c, e, truth = compounds(n)
    effective = np.isfinite(truth)
    found, rows = {}, []
    for name, fit in (("gandl", ours), ("CurveCurator", theirs)):
        begun = time.perf_counter()
        table = found[name] = fit(c, e)
        milliseconds = 1000 * (time.perf_counter() - begun) / n
        error = np.abs(np.log10(table["ec50"] / truth))[effective]
        held = (table["low"] <= truth) & (truth <= table["high"]) if "low" in table else None
        rows.append(
            {
                "fit": name,
                "median |log10 EC50 error|": error.median(),
                "within a factor of 3": (error < np.log10(3)).mean(),
                "95 % interval holds": held[effective].mean() if held is not None else np.nan,
                "AUROC of p": roc_auc_score(effective, -np.log(table["p"].fillna(1) + 1e-300)),
                "ms a curve": milliseconds,
            }
        )
    print(f"{n} simulated compounds, half of them effective, {len(DOSES_UM)} doses of {WELLS} wells, noise {NOISE}.")
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    between = np.abs(np.log10(found["gandl"]["ec50"] / found["CurveCurator"]["ec50"]))[effective]
    order = spearmanr(found["gandl"]["p"], found["CurveCurator"]["p"]).statistic
    print(f"Between them: median |log10 EC50 ratio| {between.median():.3f}; rank correlation of p-values {order:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
