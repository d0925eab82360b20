"""What the axis looks like: the generator, which GAN-DL throws away, draws what its discriminator's axis measures.

The score s(x) of an image is its place on the axis of `evaluate.axes`, from C- (-1) to C+ (+1), fitted on sites whose
features are centred per plate on its controls (centred and not scaled, so that the axis is one linear function of an
image's features, whatever its plate; crops and generated images have no plate). With styles w of generated images G(w),
s and the logarithms b of their channels' mean brightness are each predicted linearly from w. Then

    d = Cov(w, s' ),    s' = predicted s, less what predicted b says of it

is the direction along which predicted s grows fastest for its length *in standard deviations of w*, and along which
predicted brightness does not change at all. It is scaled so that one step is predicted to move s by 1: `w - d` to
`w + d` is as far as from C- to C+. A **control direction** is drawn at random, is as long, and is predicted to change
neither. What both truly do is measured on the images drawn, by `measure`, which knows no network.

A real image is inverted first: styles, one for each layer (W+), are sought by Adam until G(w) resembles it.

All this takes long with a large network. Its parts are kept in a folder, if one is named, and an interrupted call goes
on from there: batches of drawn styles, the inversion with its optimiser, what was measured; each whole or not at all.

A generator shows only what it draws. A phenotype it dropped in training is found nowhere along d.

Styles and their spaces: Karras et al. 2020 (StyleGAN2). Written from the formulae above.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import ndimage
from tqdm import tqdm

from gandl_lib import cells, checkpoints, files
from gandl_lib.embed import open_method, resample
from gandl_lib.evaluate import axes, bootstrap
from gandl_lib.methods import Method
from gandl_lib.shards import Shards
from gandl_lib.splits import by_well
from gandl_lib.views import crop_grid, scale

HEADER = ("cell_type", "what", "measure", "change", "low", "high", "spread", "n")
"""what: `real` (C+ wells less C-), `generated` and `inverted` (+1 less -1 along the axis), `control` (the same along
the control direction), `beside NAME` (a compound's wells less what their place on the axis accounts for). change, low,
high: with a 95 % interval over wells or images; spread: standard deviation of crops of C- wells; n: wells or images."""

RING_UM = 5.0
"""How far around a nucleus the cytoplasm is looked at."""
N_STYLES = 3000
"""Generated images that the direction is learnt from."""
BATCH = 100
KEPT_STEPS = 10
"""An inversion is kept after so many steps."""
RECORD = "begun.json"
"""What a folder of finished parts was begun with."""

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Direction:
    """Steps in style space, both (W,), and the standard deviation-like length (Mahalanobis) that they share."""

    axis: np.ndarray
    control: np.ndarray
    length_sd: float


def fit_axis(profiles: AnnData, cell_type: str | None = None, seed: int = 0) -> tuple[axes.Axis, str]:
    """The axis of C+ against C- on features centred per plate, and the cell type it was fitted in.

    Raises:
        ValueError: no such cell type, fewer than `axes.MIN_WELLS` control wells of a role, or controls in no order.
    """
    obs = profiles.obs
    known = sorted(obs["cell_type"].astype(str).unique())
    cell_type = cell_type or known[0]
    if cell_type not in known:
        raise ValueError(f"no cell type {cell_type!r} in these profiles; there are {', '.join(known)}.")
    control = obs["role"].isin(["C+", "C-"]).to_numpy() & (obs["cell_type"] == cell_type).to_numpy()
    wells = {role: obs.loc[control & (obs["role"] == role).to_numpy(), "well_id"].nunique() for role in ("C+", "C-")}
    if min(wells.values()) < axes.MIN_WELLS:
        raise ValueError(
            f"an axis needs {axes.MIN_WELLS} wells each of C+ and C-; {cell_type} has {wells['C+']} and {wells['C-']}. "
            "Say in the screen's tables which wells are controls, or choose another cell type."
        )
    X = centred(profiles, control)
    train = control & ~by_well(obs, seed=seed)
    positive = (obs["role"] == "C+").to_numpy()
    axis, _ = axes.fit_axis(X[train], positive[train], obs["well_id"].to_numpy()[train], seed)
    if np.isnan(axis.half):
        raise ValueError(
            f"the axis of {cell_type} has no scale: control wells that no fit has seen lie in order by no more than "
            "chance, so nothing can be moved along it. Train for longer, or use another network."
        )
    return axis, cell_type


def centred(profiles: AnnData, control: np.ndarray) -> np.ndarray:
    """(N, D) features less the mean of their plate's C+ wells' and C- wells' means, plus that of all plates."""
    X = np.asarray(profiles.X, float)
    plate, role = profiles.obs["plate_id"].to_numpy(), profiles.obs["role"].to_numpy()

    def middle(rows: np.ndarray) -> np.ndarray:
        return np.mean([X[rows & (role == r)].mean(axis=0) for r in np.unique(role[rows])], axis=0)

    everywhere, out = middle(control), X.copy()
    for p in np.unique(plate):
        if (control & (plate == p)).any():
            out[plate == p] += everywhere - middle(control & (plate == p))
    return out


def learn_direction(w: np.ndarray, score: np.ndarray, nuisance: np.ndarray, seed: int = 0) -> Direction:
    """From styles w (N, W), scores (N,) and nuisances (N, K) to the directions of this module's docstring.

    Raises:
        ValueError: the score does not vary with w, or not beside the nuisances.
    """
    mean = w.mean(axis=0)
    U, S, Vt = np.linalg.svd(w - mean, full_matrices=False)
    keep = S > 1e-3 * S[0]  # styles leave many directions all but unused; along them nothing can be learnt
    white, to_w = U[:, keep] * len(w) ** 0.5, (Vt[keep].T * S[keep]) / len(w) ** 0.5  # w - mean = white @ to_w.T

    def slope(values: np.ndarray) -> np.ndarray:  # ridge, its strength the number of unknowns per image
        return white.T @ (values - values.mean(axis=0)) / (len(w) + keep.sum())

    s, (B, _) = slope(score), np.linalg.qr(slope(nuisance))
    beside = s - B @ (B.T @ s)
    if not np.linalg.norm(beside) > 1e-6 * max(np.linalg.norm(s), score.std(), 1e-12):
        raise ValueError(
            "the generator's images do not move along the axis beside brightness: it has dropped the difference, or "
            "was hardly trained."
        )
    step = beside / (beside @ s)  # predicted to move the score by 1
    random = np.random.default_rng(seed).standard_normal(len(step))
    basis, _ = np.linalg.qr(np.column_stack([B, s]))
    random -= basis @ (basis.T @ random)
    control = random / np.linalg.norm(random) * np.linalg.norm(step)
    return Direction(to_w @ step, to_w @ control, float(np.linalg.norm(step)))


def open_generator(source: str | Path, channels: tuple[str, ...]) -> Method:
    """A GAN-DL with its generator's average, from a run folder or a weights file.

    Raises:
        ValueError: the source cannot be had, or has no generator (with styles).
    """
    file = _weights(source)
    if file.is_file() and not any(name.startswith("generator_ema.") for name in checkpoints.read(file)[0]):
        raise ValueError(
            f"{file} holds no generator, so nothing can be drawn; give a run of gandl, or its whole weights."
        )
    method, header = open_method(str(source), channels)
    if header.get("n_seen", 0) == 0 or not hasattr(getattr(method, "generator_ema", None), "styles"):
        raise ValueError(
            f"{source} is {header['method']} and has no trained generator, so nothing can be drawn; "
            "give a run of gandl."
        )
    return method


def _weights(source: str | Path) -> Path:
    return Path(source) / "weights.safetensors" if Path(source).is_dir() else Path(source)


@torch.no_grad()
def draw(method: Method, w: torch.Tensor) -> torch.Tensor:
    """Styles (N, W), or (N, L, W), to images (N, C, R, R) in [-1, 1]; a style's noise is the same at each call."""
    G = method.generator_ema
    w = w[:, None].expand(-1, G.n_layers, -1) if w.ndim == 2 else w
    images = []
    for i in range(0, len(w), BATCH):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(i)
            images.append(method.show(G.synthesis(w[i : i + BATCH])).clamp(-1, 1))
    return torch.cat(images)


def invert(
    method: Method, images: torch.Tensor, steps: int = 150, seed: int = 0, state: Path | None = None
) -> torch.Tensor:
    """Styles (N, L, W) whose drawings resemble `images` (N, C, R, R): squared differences, by pixel and 4 x 4 mean.

    Args:
        method, images, steps, seed: what decides the styles.
        state: file to keep all that going on needs in, and to go on from where it is there.
    """
    G = method.generator_ema
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        known = G.mapping(torch.randn(2000, method.latent)).detach()
        spread = known.std(dim=0).mean()
        w = known.mean(dim=0).expand(len(images), G.n_layers, -1).clone()
        target, optimiser, done = method.see(images), torch.optim.Adam([w], lr=0.05 * float(spread)), 0
        if state is not None and state.exists():
            kept, header = checkpoints.read(state)
            w.copy_(kept.pop("w"))
            torch.set_rng_state(kept.pop("rng"))  # noise is drawn anew in each step
            optimiser.state[w], done = kept, header["steps"]
        w.requires_grad_(True)
        coarse = torch.nn.functional.avg_pool2d
        for step in tqdm(range(done, steps), "inverting", initial=done, total=steps, leave=False, disable=None):
            drawn = G.synthesis(w)
            loss = (drawn - target).square().mean() + (coarse(drawn, 4) - coarse(target, 4)).square().mean()
            (w.grad,) = torch.autograd.grad(loss, w)  # and none of the network's own weights
            optimiser.step()
            if state is not None and (step + 1) % KEPT_STEPS == 0:
                going_on = {"w": w, "rng": torch.get_rng_state(), **optimiser.state[w]}
                checkpoints.save(state, going_on, {"steps": step + 1})
    return w.detach()


def measure(images: np.ndarray, channels: tuple[str, ...], pixel_um: float) -> pd.DataFrame:
    """What image analysis sees in (N, C, H, W) grey values: a row an image, NaN where it has no nucleus.

    Columns: `nucleus_area_um2` (median of whole nuclei) and, for each channel, `brightness` (log2 of the mean),
    `grain_um` (sqrt(2 Var / mean squared slope), the length over which it varies), `spots` (maxima above the mean,
    per 1000 um2); for all but the nuclei's also `ring_um` (mean distance from the nucleus's edge of its light within
    `RING_UM`) and `nuclear` (log2 of nuclear over surrounding brightness: translocation).

    Raises:
        ValueError: no channel called DNA.
    """
    if cells.NUCLEUS not in channels:
        raise ValueError(f"nuclei are found in a channel called {cells.NUCLEUS}; there are {', '.join(channels)}.")
    dna, rows = channels.index(cells.NUCLEUS), []
    for image in tqdm(np.asarray(images, float), "measuring", leave=False, disable=None):
        nuclei, _ = cells.segment(image, dna, pixel_um)
        away = ndimage.distance_transform_edt(nuclei == 0) * pixel_um
        around = (away > pixel_um) & (away <= RING_UM)
        cut = np.unique(np.concatenate([nuclei[0], nuclei[-1], nuclei[:, 0], nuclei[:, -1]]))
        areas = np.bincount(nuclei.ravel())
        whole = [n for n in range(1, len(areas)) if n not in cut and areas[n]]
        row = {"nucleus_area_um2": np.median(areas[whole]) * pixel_um**2 if whole else np.nan}
        for c, channel in enumerate(channels):
            x = image[c]
            slope = sum(np.diff(x, axis=k).var() for k in (0, 1)) / pixel_um**2
            smooth = ndimage.gaussian_filter(x, 0.5)
            peaks = (ndimage.maximum_filter(smooth, 3) == smooth) & (smooth > smooth.mean())
            row[f"{channel} brightness"] = np.log2(x.mean() + 1)
            row[f"{channel} grain_um"] = np.sqrt(2 * x.var() / slope) if slope > 0 else np.nan
            row[f"{channel} spots"] = 1000 * peaks.sum() / (x.size * pixel_um**2)
            if c != dna:
                seen = bool(around.any() and (nuclei > 0).any())
                light = x[around].sum() if seen else 0
                row[f"{channel} ring_um"] = (x * away)[around].sum() / light if light > 0 else np.nan
                inside = x[nuclei > 0].mean() if seen else np.nan
                row[f"{channel} nuclear"] = np.log2((inside + 1) / (x[around].mean() + 1)) if seen else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


@torch.no_grad()
def score(method: Method, axis: axes.Axis, images: torch.Tensor) -> np.ndarray:
    """(N,) place of images (N, C, R, R) on the axis."""
    features = torch.cat([method.embed(images[i : i + BATCH]) for i in range(0, len(images), BATCH)])
    return axis.on(features.numpy().astype(float))


def styles(
    method: Method, axis: axes.Axis, n: int = N_STYLES, seed: int = 0, folder: Path | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Styles w (n, W) of drawn images, their place on the axis (n,), the log2 brightness of their channels (n, C).

    Batches are kept in `folder`, if one is given.
    """
    z = torch.randn(n, method.latent, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        w = method.generator_ema.mapping(z)

    def seen(some: torch.Tensor) -> Arrays:
        images = draw(method, some)
        light = torch.log2((images.mean(dim=(2, 3)) + 1) / 2 + 1e-3).numpy()
        return {"score": score(method, axis, images), "light": light}

    batches = [
        _kept(folder, f"drawn-{i}", partial(seen, w[i : i + BATCH]))
        for i in tqdm(range(0, n, BATCH), desc="drawing", leave=False, disable=None)
    ]
    scores, light = (np.concatenate([batch[name] for batch in batches]) for name in ("score", "light"))
    return w.numpy().astype(float), scores, light


def _kept(folder: Path | None, name: str, make: Callable[[], Arrays]) -> Arrays:
    return make() if folder is None else files.kept(folder / f"{name}.npz", make)


def real_crops(
    store: Shards, method: Method, obs: pd.DataFrame, n_wells: int, per_side: int = 3, pixel_um: float | None = None
) -> tuple[torch.Tensor, np.ndarray]:
    """Crops in [-1, 1] of one site of each of up to `n_wells` wells in `obs`, and the well of each.

    They are brought to pixels of `pixel_um`, as for profiles, so that a network sees cells as large as it knows them.
    """
    sites = obs.drop_duplicates("well_id")
    sites = sites.iloc[np.unique(np.linspace(0, len(sites) - 1, min(n_wells, len(sites))).astype(int))]
    at = {site: i for i, site in enumerate(store.wells["site_id"])}
    images = (scale(store.read(at[site])[None], store.limits) for site in sites["site_id"])
    crops = [crop_grid(resample(image, store.pixel_um, pixel_um), method.crop_px, per_side) for image in images]
    return torch.cat(crops), np.repeat(sites["well_id"].to_numpy(), per_side**2)


def explain(
    source: str | Path,
    store: Shards,
    profiles: AnnData,
    *,
    cell_type: str | None = None,
    compound: str | None = None,
    images: int = 128,
    invert_images: int = 32,
    seed: int = 0,
    folder: Path | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """What changes along the axis, between real controls, along a control direction, and by a compound beside it.

    Args:
        source: run folder or weights file of a GAN-DL.
        store, profiles: its screen, and that screen's sites as this same network embeds them.
        compound: whose off-axis change is measured; the one with the highest mean place on the axis where not given.
        images, invert_images: how many drawn and how many real images of C- wells are moved.
        folder: where finished parts are kept, for a call that is interrupted to go on; begun only when all that can be
            refused at once has been, and left to the caller to `files.unclaim`, whose results are not written yet.

    Returns:
        Table with the columns `HEADER`; a table of what the moves did to the score and to the images' identity, with
        `what`, `score_before`, `score_after`, `predicted`, `identity` (share of moved images whose nearest among the
        unmoved, in features beside the axis, is their own), `length_sd`; and pictures (rows, 5, C, R, R) in [-1, 1] of
        drawn, then inverted cells, at -1, -0.5, 0, 0.5, 1.

    Raises:
        ValueError: see `open_generator`, `fit_axis`, `learn_direction`, or profiles of other sites or features; or a
            folder that was begun with something else.
    """
    method = open_generator(source, store.channels)
    if cells.NUCLEUS not in store.channels:
        raise ValueError(
            f"nuclei are found in a channel called {cells.NUCLEUS}; there are {', '.join(store.channels)}."
        )
    if lacking := set(profiles.obs["site_id"]) - set(store.wells["site_id"]):
        raise ValueError(f"profiles and {store.path} are not of one screen: it lacks site {min(lacking)}.")
    with torch.no_grad():
        width = method.embed(torch.zeros(1, len(store.channels), method.crop_px, method.crop_px)).shape[1]
    if width != profiles.n_vars:
        raise ValueError(f"profiles have {profiles.n_vars} features, {source} gives {width}; embed with this network.")
    pixel_um = checkpoints.read(_weights(source))[1].get("pixel_um") or store.pixel_um
    axis, cell_type = fit_axis(profiles, cell_type, seed)
    obs = profiles.obs
    control = obs["role"].isin(["C+", "C-"]).to_numpy() & (obs["cell_type"] == cell_type).to_numpy()
    on = pd.Series(axis.on(centred(profiles, control)), obs.index).groupby(obs["well_id"].astype(str)).mean()
    mine = obs[(obs["cell_type"] == cell_type).to_numpy()]
    treated = mine[mine["role"] == "treated"]
    if compound is not None and compound not in set(treated["compound"]):
        raise ValueError(f"no treated well of {cell_type} has the compound {compound!r}.")
    if compound is None and len(treated):
        compound = str(treated["well_id"].astype(str).map(on).groupby(treated["compound"].astype(str)).mean().idxmax())

    if folder is not None:
        begun = {"source": files.sha256(_weights(source)), "store": store.fingerprint, "profiles": _sum(profiles)}
        options = {"cell_type": cell_type, "compound": compound, "images": images, "invert_images": invert_images}
        files.claim(folder, RECORD, begun | options | {"seed": seed})

    def measured(x: torch.Tensor) -> pd.DataFrame:
        low, high = store.limits[:, 0, None, None], store.limits[:, 1, None, None]
        return measure((x.numpy().clip(-1, 1) + 1) / 2 * (high - low) + low, store.channels, pixel_um)

    def of_wells(name: str, some: pd.DataFrame, n_wells: int) -> pd.DataFrame:
        def look() -> Arrays:
            crops, wells = real_crops(store, method, some, n_wells, pixel_um=pixel_um)
            return {"well": wells.astype(str), **_columns(measured(crops))}

        return pd.DataFrame(_kept(folder, name, look)).set_index("well")

    def move(styles_: torch.Tensor, step: np.ndarray, first: float, last: float) -> Arrays:
        d = torch.tensor(step, dtype=torch.float32)
        ends = [draw(method, styles_ + t * d) for t in (first, last)]
        strip = [draw(method, styles_[:3] + t * d) for t in np.linspace(first, last, 5)]
        return {
            "scores": np.array([score(method, axis, x).mean() for x in ends]),
            "identity": np.array(_identity(method, axis, *ends)),
            "strip": torch.stack(strip, dim=1).numpy(),
            **_columns(measured(ends[1]) - measured(ends[0])),
        }

    rows, by_role, spread = [], {}, None

    def add(what: str, change: pd.DataFrame) -> None:
        for name in change:
            known = change[name].dropna().to_numpy()
            if len(known) > 1:
                ends = bootstrap.interval(known, np.arange(len(known)), seed=seed)
                rows.append((cell_type, what, name, known.mean(), *ends, spread[name], len(known)))

    for role in ("C-", "C+"):
        found = of_wells(role, mine[mine["role"] == role], 24)
        by_role[role] = found.groupby(level="well").mean()
        spread = found.std() if role == "C-" else spread
    difference = by_role["C+"].mean() - by_role["C-"].mean()
    for name in difference.index:
        rng, sides = np.random.default_rng(seed), [by_role[r][name].dropna().to_numpy() for r in ("C+", "C-")]
        if min(map(len, sides)) > 1:
            drawn = [np.subtract(*(x[rng.integers(len(x), size=len(x))].mean() for x in sides)) for _ in range(1000)]
            ends = np.quantile(drawn, [0.025, 0.975])
            rows.append((cell_type, "real", name, difference[name], *ends, spread[name], sum(map(len, sides))))

    w, scores, light = styles(method, axis, N_STYLES, seed, folder)
    try:
        direction = learn_direction(w[images:], scores[images:], light[images:], seed)  # those moved take no part in it
    except ValueError:
        if folder is not None:
            files.unclaim(folder, RECORD)  # what is refused has nothing to go on with
        raise
    start = torch.tensor(w[:images], dtype=torch.float32)
    crops, _ = real_crops(store, method, mine[mine["role"] == "C-"], max(2, invert_images // 4), 2, pixel_um)
    inverted = invert(method, crops[:invert_images], seed=seed, state=folder and folder / "inverting.safetensors")
    moves, pictures = [], []
    for what, styles_, step in (
        ("generated", start, direction.axis),
        ("control", start, direction.control),
        ("inverted", inverted, direction.axis),
    ):
        # Drawn cells lie around 0; real ones are of C-, so they are moved by the whole way from where they are.
        first, last = (0.0, 2.0) if what == "inverted" else (-1.0, 1.0)
        moved = _kept(folder, what, partial(move, styles_, step, first, last))
        before, after = moved.pop("scores")
        identity, strip = float(moved.pop("identity")), moved.pop("strip")
        add(what, pd.DataFrame(moved))
        moves.append((what, before, after, 2.0 * (what != "control"), identity, direction.length_sd))
        if what != "control":
            pictures.append(strip)
    if compound is not None:
        found = of_wells("compound", treated[treated["compound"] == compound], 48).groupby(level="well").mean()
        share = (found.index.astype(str).map(on).to_numpy() + 1) / 2
        add(f"beside {compound}", found - by_role["C-"].mean() - np.outer(share, difference))
    names = ["what", "score_before", "score_after", "predicted", "identity", "length_sd"]
    return pd.DataFrame(rows, columns=HEADER), pd.DataFrame(moves, columns=names), np.concatenate(pictures)


def _columns(table: pd.DataFrame) -> Arrays:
    return {name: table[name].to_numpy() for name in table}


def _sum(profiles: AnnData) -> str:
    """A checksum of all that is read from profiles."""
    found = hashlib.sha256(np.ascontiguousarray(profiles.X).ravel())
    found.update(profiles.obs.to_csv().encode())
    return found.hexdigest()


def _identity(method: Method, axis: axes.Axis, before: torch.Tensor, after: torch.Tensor) -> float:
    """Share of images whose nearest among those before, in standardised features beside the axis, is their own."""
    z = [(method.embed(x).numpy() - axis.mean) / axis.sd for x in (before, after)]
    a, b = (x - np.outer(x @ axis.normal, axis.normal) for x in z)
    distance = (b**2).sum(1)[:, None] - 2 * b @ a.T + (a**2).sum(1)
    return float((distance.argmin(axis=1) == np.arange(len(b))).mean())
