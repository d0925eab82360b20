"""Is a simulated screen neither too easy nor too hard?

    python benchmarks/calibrate.py DATA OUT

A screen that means and variances solve teaches nothing, nor does one that labels cannot solve. This measures, on the
control wells of a screen in RxRx19a's layout, C+ against C- at site level, 75 % of the wells for training:

    intensity           statistics of each channel's pixel values, linear SVM; should stay under 85 %
    random_weights      features of the untrained `SmallCNN`, linear SVM
    supervised          the same network trained on the labels; should pass 95 %
    position            a well's row and column only, no image: how far the plate layout gives the answer away

and the two cell types against each other. Writes OUT/calibration.csv and OUT/provenance.json.
"""

from __future__ import annotations

import json
import platform
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn
import torch
import tyro
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch.nn.functional import cross_entropy
from tqdm import tqdm

import gandl_lib
from gandl_lib.datasets import open_layout
from gandl_lib.evaluate import svm
from gandl_lib.evaluate.bootstrap import interval
from gandl_lib.methods.intensity import Intensity, IntensityConfig
from gandl_lib.nn.small_cnn import SmallCNN
from gandl_lib.splits import by_well


@dataclass(frozen=True)
class Args:
    data: tyro.conf.Positional[Path]
    """Folder of a screen in RxRx19a's layout."""
    out: tyro.conf.Positional[Path]
    seed: int = 0
    epochs: int = 8
    batch: int = 32
    learning_rate: float = 2e-3
    threads: int = 1


def main(args: Args) -> None:
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    started = time.perf_counter()
    layout = open_layout(args.data)
    wells = layout.wells("role in ['C+', 'C-']").wells
    images = np.stack([layout.read(row) for row in tqdm(wells.itertuples(), "reading", len(wells))])
    images = torch.from_numpy(images.astype(np.float32) / 255)
    test = by_well(wells, seed=args.seed)
    # From here on images are what a plate reader's software would show: each plate and channel on its own scale.
    shown = per_plate(images, wells, ~test)

    torch.manual_seed(args.seed)
    network = SmallCNN(images.shape[1], 2)
    features = {
        "intensity": np.concatenate([Intensity(IntensityConfig(), images.shape[1]).embed(x) for x in images.split(64)]),
        "random_weights": embed(network, shown),
        "position": position(wells),
    }
    infected = wells["role"].eq("C-").to_numpy()
    rows = []
    for name, x in features.items():
        scores = scores_of_svm(x if name == "position" else per_plate(x, wells, ~test), infected, wells, test)
        rows += tasks(name, infected, scores, wells, test, started)
    scores = train(network, shown, infected, ~test, args)
    rows += tasks("supervised", infected, scores, wells, test, started)
    vero = wells["cell_type"].eq("VERO").to_numpy()
    if 0 < vero.mean() < 1:
        scores = scores_of_svm(features["intensity"], vero, wells, test)
        rows.append(measure("intensity", "HRCE vs VERO", vero, scores, wells, test, started))

    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="%.3f"))
    args.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(args.out / "calibration.csv", index=False, float_format="%.5g")
    simulation = args.data / "simulation.json"
    record = {
        "command": shlex.join(sys.argv),
        "args": {k: str(v) for k, v in asdict(args).items()},
        "seconds": round(time.perf_counter() - started, 1),
        "device": "cpu",
        "versions": {"gandl": gandl_lib.__version__, "python": platform.python_version()}
        | {m.__name__: m.__version__ for m in (np, torch, sklearn)},
        "simulation": json.loads(simulation.read_text()) if simulation.is_file() else None,
    }
    (args.out / "provenance.json").write_text(json.dumps(record, indent=1))


def per_plate(x, wells: pd.DataFrame, fit: np.ndarray):  # noqa: ANN001, ANN201
    """Centre and scale (N, D) or (N, C, H, W) per column or channel of each plate, by its sites in `fit`."""
    out = x.clone() if torch.is_tensor(x) else x.copy()
    axes = (0, *range(2, x.ndim))
    for index in wells.groupby("plate_id").indices.values():
        known = x[index[fit[index]]]
        kept = dict(keepdim=True) if torch.is_tensor(x) else dict(keepdims=True)
        out[index] = (x[index] - known.mean(axes, **kept)) / (known.std(axes, **kept) + 1e-6)
    return out


def position(wells: pd.DataFrame) -> np.ndarray:
    """(N, D): one-hot column and row of each well."""
    parts = wells["well"].str.extract(r"([A-Z]+)(\d+)")
    return pd.get_dummies(parts).to_numpy(float)


@torch.inference_mode()
def embed(network: SmallCNN, images: torch.Tensor) -> np.ndarray:
    network.eval()
    return np.concatenate([network.features(x).numpy() for x in images.split(64)])


def scores_of_svm(x: np.ndarray, y: np.ndarray, wells: pd.DataFrame, test: np.ndarray) -> np.ndarray:
    """(N,) decision values of a class-balanced linear SVM fitted on training wells."""
    cost = svm.choose_cost(x[~test], y[~test], wells["well_id"][~test].to_numpy())
    return svm.fit(x[~test], y[~test], cost).decision_function(x)


def train(network: SmallCNN, images: torch.Tensor, y: np.ndarray, fit: np.ndarray, args: Args) -> np.ndarray:
    """(N,) scores of the network after training on the sites in `fit`, flipped and turned at random."""
    rng = np.random.default_rng(args.seed)
    labels = torch.from_numpy(y.astype(np.int64))
    weight = 1 / torch.bincount(labels[fit], minlength=2).float()
    index = np.flatnonzero(fit)
    steps = args.epochs * -(-len(index) // args.batch)
    optimiser = torch.optim.AdamW(network.parameters(), args.learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.learning_rate, steps)
    network.train()
    bar = tqdm(total=steps, desc="training")
    for _ in range(args.epochs):
        for batch in np.array_split(rng.permutation(index), steps // args.epochs):
            x = torch.rot90(images[batch], int(rng.integers(4)), (2, 3))
            x = x.flip(3) if rng.random() < 0.5 else x
            loss = cross_entropy(network(x), labels[batch], weight / weight.sum() * 2)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.3f}")
    network.eval()
    with torch.inference_mode():
        logits = torch.cat([network(x) for x in images.split(64)])
    return (logits[:, 1] - logits[:, 0]).numpy()


def tasks(
    method: str, y: np.ndarray, scores: np.ndarray, wells: pd.DataFrame, test: np.ndarray, started: float
) -> list[dict]:
    """C+ against C- on all test wells, and on those of each cell type, by the same scores."""
    rows = [measure(method, "C+ vs C-", y, scores, wells, test, started)]
    for cell_type in sorted(set(wells["cell_type"])):
        of_type = test & wells["cell_type"].eq(cell_type).to_numpy()
        rows.append(measure(method, f"C+ vs C-, {cell_type}", y, scores, wells, of_type, started))
    return rows


def measure(
    method: str, task: str, y: np.ndarray, scores: np.ndarray, wells: pd.DataFrame, test: np.ndarray, started: float
) -> dict:
    """One row of the table; the interval is a bootstrap over wells."""
    y, scores = y[test], scores[test]
    right, well = (scores > 0) == y, wells["well_id"][test].to_numpy()
    low, high = interval(right, well)
    return {
        "method": method,
        "task": task,
        "accuracy": right.mean(),
        "ci_low": low,
        "ci_high": high,
        "balanced_accuracy": balanced_accuracy_score(y, scores > 0),
        "auroc": roc_auc_score(y, scores),
        "majority_rate": max(y.mean(), 1 - y.mean()),
        "n_test_wells": len(set(well)),
        "seconds": time.perf_counter() - started,
    }


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
