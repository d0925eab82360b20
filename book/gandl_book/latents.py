"""Arithmetic on latents, measured: does adding a vector to z do to generated cells what it is said to do?

A direction is found as DCGAN's authors found theirs, from examples: generate cells, measure them, and take

    d = mean z of the quarter with most of a property  -  mean z of the quarter with least

Then it is tried on cells that took no part in finding it: the property of G(z + step d), against step, beside random
directions of the same length, which show what any push of that size does. Cells are measured by the code that measures
real ones (`cells.segment`), in the units of the screen:

    nucleus_area_um2    of the largest nucleus in the picture
    mean_tubulin        over that nucleus's cell, 0 being the lower and 1 the upper limit of the screen's grey values

A picture without a nucleus has neither and is left out of means; `n_cells` says how many are left.

References: Goldsborough et al. 2017 (more tubulin, a larger nucleus, shown and not measured); Radford et al. 2015, sec.
6.3.2 (vector arithmetic).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from torch import Tensor, nn

from gandl_lib.cells import MIN_NUCLEUS_UM2, NUCLEUS, SMOOTH_UM
from gandl_lib.embed import open_method
from gandl_lib.evaluate.bootstrap import interval
from gandl_lib.shards import Shards

HEADER = ("method", "property", "direction", "step", "value", "ci_low", "ci_high", "change", "change_low",
          "change_high", "n_cells")  # fmt: skip
DIRECTIONS_HEADER = ("method", "property", "axis", "value")
TUBULIN = "tubulin"
STEPS = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""In lengths of the direction."""
FOUND, RANDOM = "found", "random"
N_FIND, N_TRY, N_RANDOM = 512, 64, 3
"""Cells to find a direction with, fresh cells to try it on, and directions to compare it with."""


@torch.no_grad()
def pictures(method: nn.Module, z: Tensor, seed: int = 0, batch: int = 64) -> Tensor:
    """(N, Z) latents -> (N, C, S, S) as `method` draws them, on the CPU.

    `seed` is for generators with noise of their own: the k-th latent has the same noise in every call, so that only z
    moves.
    """
    device, parts = next(method.parameters()).device, []
    for part in z.split(batch):
        torch.manual_seed(seed)
        parts.append(method.sample(part.to(device)).float().cpu())
    return torch.cat(parts)


def measure(images: Tensor, channels: Sequence[str], pixel_um: float) -> pd.DataFrame:
    """nucleus_area_um2 and mean_tubulin of each of (N, C, S, S) single cells in [-1, 1]; NaN where there is no nucleus.

    Args:
        channels: names of the C channels.
        pixel_um: side of a pixel.

    Raises:
        ValueError: there is no channel of DNA or tubulin.
    """
    missing = [name for name in (NUCLEUS, TUBULIN) if name not in channels]
    if missing:
        raise ValueError(f"cells are measured in {NUCLEUS} and {TUBULIN}; these channels are {', '.join(channels)}.")
    dna, tubulin = (list(channels).index(name) for name in (NUCLEUS, TUBULIN))
    rows = []
    for image in (images.numpy() + 1) / 2:
        nucleus, cell = _largest(image[dna], pixel_um), _largest(image.sum(axis=0), pixel_um)
        area = nucleus.sum() * pixel_um**2
        there = area >= MIN_NUCLEUS_UM2 and cell.any()
        rows.append((area, image[tubulin][cell].mean()) if there else (np.nan, np.nan))
    return pd.DataFrame(rows, columns=["nucleus_area_um2", "mean_tubulin"]).astype(float)


def _largest(channel: np.ndarray, pixel_um: float) -> np.ndarray:
    """(S, S) bool: the largest part of what is above Otsu's threshold, once blurred; none where all is flat."""
    from skimage.filters import threshold_otsu

    smooth = ndimage.gaussian_filter(channel, SMOOTH_UM / pixel_um)
    parts, n = ndimage.label(smooth > threshold_otsu(smooth)) if np.ptp(smooth) > 0 else (np.zeros(smooth.shape), 0)
    return parts == 1 + np.bincount(parts.ravel())[1:].argmax() if n else np.zeros(smooth.shape, bool)


def direction(z: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(Z,): the mean of the latents `z` (N, Z) with the highest quarter of `values` (N,) less that of the lowest.

    NaN where there is nothing to go by: fewer than eight values that are not NaN, or all of them alike.
    """
    known = np.isfinite(values)
    if known.sum() < 8 or np.ptp(values[known]) == 0:
        return np.full(z.shape[1], np.nan)
    z, order = z[known], np.argsort(values[known], kind="stable")
    quarter = len(order) // 4
    return z[order[-quarter:]].mean(axis=0) - z[order[:quarter]].mean(axis=0)


def try_out(
    draw: Callable[[np.ndarray], pd.Series], d: np.ndarray, n: int, seed: int = 0, n_random: int = N_RANDOM
) -> pd.DataFrame:
    """What adding steps of `d` (Z,) to `n` fresh latents does to a property, beside random directions of its length.

    Args:
        draw: from (N, Z) latents to the property of each cell, (N,), NaN where it has none.
        d: NaN for a direction that was not found, of which there is nothing to say.

    Returns:
        Table with direction, step, value, ci_low, ci_high, change, change_low, change_high, n_cells: means over cells,
        the change that of each cell against itself at step 0; intervals by bootstrap over cells.
    """
    rng = np.random.default_rng((seed, 1))
    z = rng.standard_normal((n, len(d)))
    others = rng.standard_normal((n_random, len(d)))
    others *= np.linalg.norm(d) / np.linalg.norm(others, axis=1, keepdims=True)
    if not np.isfinite(d).all():
        draw = lambda z: np.full(len(z), np.nan)  # noqa: E731
    at_zero, rows = np.asarray(draw(z)), []
    for name, vector in [(FOUND, d), *((f"{RANDOM} {k + 1}", other) for k, other in enumerate(others))]:
        for step in STEPS:
            values = at_zero if step == 0 else np.asarray(draw(z + step * vector))
            rows.append((name, step, *_mean(values, seed), *_mean(values - at_zero, seed), np.isfinite(values).sum()))
    return pd.DataFrame(rows, columns=HEADER[2:])


def _mean(values: np.ndarray, seed: int) -> tuple[float, float, float]:
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return np.nan, np.nan, np.nan
    return known.mean(), *interval(known, np.arange(len(known)), seed=seed)


def arithmetic(
    sources: Sequence[str | Path], shards: Shards, n_find: int = N_FIND, n_try: int = N_TRY, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find a direction for each property and each generator, and try it out.

    Args:
        sources: run folders or weights files of methods that can `sample`.
        shards: the cells they were trained on, for channels and pixels.

    Returns:
        Tables with the columns `HEADER`, and `DIRECTIONS_HEADER`: the directions, a row a component.

    Raises:
        ValueError: a method that cannot draw, or channels that cannot be measured.
    """
    tried, found = [], []
    for source in sources:
        method, header = open_method(str(source), shards.channels)
        if not hasattr(method, "sample"):
            raise ValueError(f"{source}: {header['method']} draws no images.")

        def measured(z: np.ndarray, method: nn.Module = method) -> pd.DataFrame:
            images = pictures(method, torch.as_tensor(z, dtype=torch.float32), seed)
            return measure(images, shards.channels, shards.pixel_um)

        z = np.random.default_rng((seed, 0)).standard_normal((n_find, method.config.network.latent))
        properties = measured(z)
        for name in properties:
            d = direction(z, properties[name].to_numpy())
            table = try_out(lambda z, name=name, measured=measured: measured(z)[name], d, n_try, seed)
            tried.append(table.assign(method=header["method"], property=name))
            one = pd.DataFrame({"axis": np.arange(len(d)), "value": d})
            found.append(one.assign(method=header["method"], property=name))
    return (
        pd.concat(tried, ignore_index=True)[list(HEADER)],
        pd.concat(found, ignore_index=True)[list(DIRECTIONS_HEADER)],
    )


# ---- to look at ----


def drawn(method: nn.Module, n: int, seed: int = 0) -> Tensor:
    """(n, C, S, S) in [-1, 1]: pictures of random latents."""
    z = torch.randn(n, method.config.network.latent, generator=torch.Generator().manual_seed(seed))
    return pictures(method, z, seed)


def between(method: nn.Module, steps: int, seed: int = 0) -> Tensor:
    """(steps, C, S, S): pictures on the `arc` from one random latent to another."""
    a, b = torch.randn(2, method.config.network.latent, generator=torch.Generator().manual_seed(seed))
    return torch.cat([pictures(method, z[None], seed) for z in arc(a, b, steps)])


def along(method: nn.Module, directions: pd.DataFrame, name: str, seed: int = 0) -> Tensor:
    """(steps, C, S, S): pictures of one random latent pushed by `STEPS` along its direction for the property `name`.

    Args:
        directions: rows of this method, with the columns `DIRECTIONS_HEADER`; without a direction it is not pushed.
    """
    d = directions[directions["property"] == name].sort_values("axis")["value"].fillna(0.0).to_numpy()
    z = torch.randn(len(d), generator=torch.Generator().manual_seed(seed))
    steps = torch.tensor(STEPS)[:, None] * torch.tensor(d, dtype=torch.float32)
    return torch.cat([pictures(method, one[None], seed) for one in z + steps])


def arc(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """(steps, Z): latents from `a` (Z,) to `b` (Z,) on a great circle, their lengths changing evenly.

    Half-way along a straight line a Gaussian latent of many dimensions would be shorter than any that training has
    seen.
    """
    t = torch.linspace(0, 1, steps, dtype=a.dtype)[:, None]
    length = torch.lerp(a.norm(), b.norm(), t)
    angle = torch.arccos((a @ b / (a.norm() * b.norm())).clamp(-1, 1))
    if angle < 1e-4:
        return torch.lerp(a, b, t)
    mixed = (torch.sin((1 - t) * angle) * a / a.norm() + torch.sin(t * angle) * b / b.norm()) / torch.sin(angle)
    return length * mixed
