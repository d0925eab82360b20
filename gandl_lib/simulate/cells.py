"""How a simulated cell looks under five stains: pure functions from random numbers to light.

A phenotype here *moves* material, it never adds or removes any. Each of the five `TRAITS` says where a cell's light is
(how far the ER ring is from the nucleus, how coarse the ER is, in how many pieces nucleoli and golgi lie, how close
actin fibres run), and each is drawn so that a change leaves the histogram of pixel values nearly alone:

- a ring moved outwards gets thinner, so radius times width is constant;
- a Gaussian texture of another scale keeps its variance;
- n nucleoli of width s/sqrt(n) cover the same area at every brightness, for any n;
- cos(2 pi u / period) and cos(k theta) take the same values equally often, for any period and any integer k.

Structures near the size of the point spread function would lose contrast to it, so each is drawn sharper by what the
nominal blur takes away. At the end each stain of each cell is scaled to a total drawn independently of the phenotype.
Nothing here is fitted to real images; sizes are what such cells measure, in micrometres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

from gandl_lib.simulate.optics import PSF_UM

STAINS = ("Hoechst", "ConA", "phalloidin", "SYTO 14", "WGA", "MitoTracker")
TRAITS = ("ring", "er_scale", "nucleoli", "actin", "golgi")

_CELL_SPREAD = 0.15
"""Cell-to-cell standard deviation of log sizes and log periods."""
_LIGHT_SPREAD = 0.35
"""Cell-to-cell standard deviation of log total light, per stain."""
_MAX_NUCLEOLI = 8
_BRIGHTNESS = np.array([0.013, 0.082, 0.085, 0.050, 0.072, 0.050])
"""Light of a stain, averaged over the cell's own area, on the camera's [0, 1]: sites come out as dark as RxRx19a's."""


@dataclass(frozen=True)
class Morphology:
    """A cell type: lengths in micrometres (radii of discs of equal area), counts, and dimensionless ratios."""

    cell_um: float
    nucleus_um: float
    per_mm2: float
    elongation: float
    alignment: float
    ring_um: float
    er_um: float
    actin_um: float
    nucleoli: float
    golgi: float
    brightness: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    infection: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0)
    """How far infection at strength 1 moves each of TRAITS."""


MORPHOLOGIES = {
    "HRCE": Morphology(14.0, 5.8, 1600, 1.45, 0.5, 2.3, 1.35, 8.5, 2.0, 1.2, infection=(1.0, 0.9, 1.0, 1.0, 0.9)),
    "VERO": Morphology(
        12.0, 5.2, 2100, 1.15, 0.1, 2.0, 1.55, 8.0, 1.8, 1.1, (1.1, 0.9, 0.8, 1.1, 1.0, 1.0), (0.9, 0.9, 0.6, 1.0, 0.7)
    ),
    # No network is trained on these four. They lie so near to one another that means and variances of pixels, which
    # tell real cell types almost without an error, are right nine times in ten (profile quick): an exam that everybody
    # passes measures nothing. How far apart real ones lie in these numbers was not measured.
    "HEPG2": Morphology(
        13.0, 5.6, 1710, 1.36, 0.32, 1.83, 1.62, 6.15, 2.19, 1.65, (1.19, 0.99, 0.88, 1.07, 1.03, 1.09)
    ),
    "HUVEC": Morphology(
        14.1, 5.8, 1470, 1.56, 0.48, 2.17, 1.48, 6.39, 1.91, 1.54, (1.10, 0.96, 0.85, 0.98, 1.06, 1.00)
    ),
    "RPE": Morphology(14.7, 6.0, 1370, 1.48, 0.44, 2.23, 1.54, 7.18, 2.04, 1.44, (1.07, 0.90, 1.04, 0.98, 1.00, 1.03)),
    "U2OS": Morphology(14.4, 6.1, 1410, 1.41, 0.36, 1.94, 1.58, 6.76, 2.29, 1.68, (1.25, 0.93, 0.91, 1.04, 1.09, 1.06)),
}


def draw(
    rng: np.random.Generator,
    morphology: Morphology,
    n_cells: int,
    image_px: int,
    pixel_um: float,
    shift: Sequence[float],
    affected: float,
    stressed: float = 0.0,
    offset: Sequence[float] = (0.0,) * len(TRAITS),
    n_stains: int = 5,
) -> np.ndarray:
    """Light of one field of cells before the microscope, (n_stains, image_px, image_px) float32, as in `STAINS`.

    The field wraps around at its borders, so `n_cells` whole cells always lie in it. All random numbers are drawn
    whatever the phenotype is: two fields from one generator state differ only by `shift`, `affected` and `stressed`.

    Args:
        shift: (5,) how far affected cells move along `TRAITS`; 0 is healthy, 1 a typical infected cell.
        affected: fraction of cells that show `shift`.
        stressed: fraction of cells that are dying: shrunken, with condensed nuclei and all traits moved.
        offset: (5,) how far all cells of the field lie along `TRAITS` to begin with.
    """
    if n_cells == 0:
        return np.zeros((n_stains, image_px, image_px), np.float32)
    um = 1.0 / pixel_um
    psf = PSF_UM * um
    spread = np.exp(_CELL_SPREAD * rng.standard_normal((5, n_cells)))
    u_affected, u_stressed, u_nucleoli, u_golgi = rng.random((4, n_cells))
    severity = np.exp(0.25 * rng.standard_normal(n_cells))
    angle = rng.uniform(0, np.pi) + (1 - morphology.alignment) * rng.uniform(-np.pi / 2, np.pi / 2, n_cells)
    phases = rng.uniform(0, 2 * np.pi, (4 + _MAX_NUCLEOLI, n_cells))
    corner = rng.integers(0, 1 << 16, (5, 2, n_cells))
    light = np.exp(_LIGHT_SPREAD * rng.standard_normal((len(STAINS), n_cells)) - _LIGHT_SPREAD**2 / 2)
    centre = scatter(rng, n_cells, image_px)

    dying = u_stressed < stressed
    traits = np.where(u_affected < affected, severity, 0.0) * np.asarray(shift, float)[:, None]  # (5, N)
    traits = np.where(dying, np.maximum(traits, severity), traits) + np.asarray(offset, float)[:, None]
    cell = morphology.cell_um * um * spread[0] * np.where(dying, 0.7, 1.0)
    nucleus = morphology.nucleus_um * um * spread[1] ** 0.7 * np.where(dying, 0.62, 1.0)
    ring = morphology.ring_um * um * spread[2] * np.exp(0.50 * traits[0])
    er_px = morphology.er_um * um * spread[3] * np.exp(0.55 * traits[1])
    period = morphology.actin_um * um * spread[4] * np.exp(-0.45 * traits[3])
    n_nucleoli = np.clip(np.floor(morphology.nucleoli + 2.2 * traits[2] + 1.6 * u_nucleoli - 0.3), 1, _MAX_NUCLEOLI)
    n_golgi = np.maximum(1, np.floor(morphology.golgi + 2.2 * traits[4] + 1.2 * u_golgi - 0.1))

    # Every cell is drawn in its own patch, all patches at once: arrays are (N, P, P), N cells of P x P pixels.
    patch = 2 * int(np.ceil(1.45 * morphology.cell_um * um * np.sqrt(morphology.elongation))) + 1
    first = np.floor(centre).astype(int) - patch // 2
    axis = np.arange(patch, dtype=np.float32)
    dy = axis[None, :, None] - over(centre[0] - first[0])
    dx = axis[None, None, :] - over(centre[1] - first[1])
    cos, sin = over(np.cos(angle)), over(np.sin(angle))
    stretch = np.float32(np.sqrt(morphology.elongation))
    along, across = (dx * cos + dy * sin) / stretch, (dy * cos - dx * sin) * stretch

    er, chromatin, warp, wave = (
        texture(np.broadcast_to(scale, n_cells), corner[i], patch, psf)
        for i, scale in enumerate((er_px, 1.0 * um, 4.0 * um, 7.0 * um))
    )
    body = step(over(cell) * (1.08 + 0.16 * wave) - np.hypot(along, across), 1.1 * um)
    own = body * share(body, first, image_px)
    # The nucleus is rounder than the cell: half of the cell's elongation.
    round_along, round_across = along * np.sqrt(stretch), across / np.sqrt(stretch)
    core = np.hypot(round_along, round_across) - over(nucleus) * (1 + 0.05 * wave)  # distance from the nucleus's edge
    theta = np.arctan2(round_across, round_along)
    nuclear = step(-core, 0.55 * um)
    cytoplasm = own * (1 - nuclear)

    width = 2.2 * um * (morphology.nucleus_um + morphology.ring_um) * um / (nucleus + ring)
    ring_light = np.exp(-0.5 * ((core - over(ring) * (1 + 0.25 * wave)) / over(width)) ** 2)
    contrast = np.minimum(0.62 * np.exp(2 * (np.pi * psf / period) ** 2), 1.0)
    bundles = 0.5 * (1 + np.tanh(1.2 * warp))  # fibres come in bundles, with fibreless stretches between them
    turns = over(2 * np.pi / period) * across / stretch + over(phases[2]) + wave
    fibres = 1 + over(contrast) * bundles * np.cos(turns)
    pieces = np.exp(2.2 * (np.cos(over(n_golgi) * theta + over(phases[3]) + 0.6 * wave) - 1))
    golgi = pieces * np.exp(-0.5 * ((core - (1.7 + 0.5 * warp) * um) / (1.3 * um)) ** 2)
    nucleoli = _nucleoli(dx, dy, nucleus, n_nucleoli, phases[4:], psf)
    border = own * (1 - own)

    stains = [
        nuclear * (1 + 0.22 * chromatin),
        cytoplasm * (0.42 + ring_light) * np.exp(0.40 * er) + 0.15 * nuclear,
        own * fibres + 0.9 * border,
        0.60 * cytoplasm + 0.65 * nuclear + 1.5 * nuclear * nucleoli,
        0.50 * own + 0.4 * border + 1.7 * golgi * (1 - nuclear),
    ]
    if n_stains == 6:
        mito = texture(np.broadcast_to(0.9 * um, n_cells), corner[4], patch, psf)
        stains.append(cytoplasm * np.exp(0.8 * mito - 0.1 * pixel_um * np.maximum(core, 0)))
    total = np.pi * (morphology.cell_um * um) ** 2 * (_BRIGHTNESS * morphology.brightness)[:, None] * light  # (6, N)
    stains = [stain * over(t / stain.sum((1, 2))) for stain, t in zip(stains, total, strict=False)]
    return wrap_add(np.stack(stains, axis=1), first, image_px)


def over(values: np.ndarray) -> np.ndarray:
    """(N,) per-cell values as float32 that broadcasts over (N, P, P)."""
    return np.asarray(values, np.float32)[:, None, None]


def step(distance: np.ndarray, softness: float) -> np.ndarray:
    """A smooth edge: 1 well inside (distance >> 0), 0 well outside."""
    return 1 / (1 + np.exp(-np.clip(distance / np.float32(softness), -20, 20)))


def scatter(rng: np.random.Generator, n: int, image_px: int) -> np.ndarray:
    """(2, n) positions that keep some distance: random points pushed apart a few times, on a torus."""
    at = rng.uniform(0, image_px, (2, n))
    reach = 0.95 * image_px / np.sqrt(n)
    for _ in range(6):
        gap = at[:, :, None] - at[:, None, :]
        gap -= image_px * np.round(gap / image_px)
        distance = np.hypot(*gap) + 1e-6
        push = np.maximum(reach - distance, 0) / distance
        at = (at + 0.25 * (gap * push).sum(2)) % image_px
    return at


def wrap_add(patches: np.ndarray, first: np.ndarray, image_px: int) -> np.ndarray:
    """Add (N, C, P, P) patches, whose first pixels lie at `first` (2, N), into a (C, image_px, image_px) torus."""
    n, c, p, _ = patches.shape
    span = image_px * (1 + -(-p // image_px))
    canvas = np.zeros((c, span, span), np.float32)
    for light, y, x in zip(patches, *(first % image_px), strict=True):
        canvas[:, y : y + p, x : x + p] += light
    return canvas.reshape(c, span // image_px, image_px, span // image_px, image_px).sum((1, 3))


def share(body: np.ndarray, first: np.ndarray, image_px: int) -> np.ndarray:
    """How much of each pixel (N, P, P) belongs to each cell, so that neighbours meet in a border, not in a pile."""
    p = body.shape[-1]
    sharp = body**3
    total = wrap_add(sharp[:, None], first, image_px)[0]
    index = np.arange(p)
    rows, columns = (first[:, :, None] + index) % image_px  # each (N, P)
    return sharp / np.maximum(total[rows[:, :, None], columns[:, None, :]], 1e-3)


def _nucleoli(
    dx: np.ndarray, dy: np.ndarray, nucleus: np.ndarray, count: np.ndarray, phases: np.ndarray, psf: float
) -> np.ndarray:
    """(N, P, P): `count` Gaussian spots a cell, spread around the nucleus's centre, of one common total area."""
    width = np.maximum(0.46 * nucleus / np.sqrt(count), 1.15 * psf)
    sharp = np.sqrt(width**2 - psf**2)
    spots = np.zeros(np.broadcast_shapes(dx.shape, dy.shape), np.float32)
    for j in range(int(count.max())):
        turn = phases[0] + (2 * np.pi * j + 0.9 * np.sin(phases[j])) / count
        away = nucleus * (0.52 + 0.13 * np.cos(phases[j])) * (1 - 0.5 * (count == 1))
        height = np.where(j < count, (width / sharp) ** 2, 0)
        # A Gaussian spot is an outer product of two profiles, so its exponentials are taken along two axes only.
        column = np.exp((dx - over(away * np.cos(turn))) ** 2 * over(-0.5 / sharp**2))
        row = np.exp((dy - over(away * np.sin(turn))) ** 2 * over(-0.5 / sharp**2))
        spots += column * (row * over(height))
    return spots


_BANK_PX, _SCALES = 256, 2.0 ** np.arange(-1.0, 4.0, 0.25)


@lru_cache(maxsize=4)
def _bank(psf: float) -> np.ndarray:
    """(scales, 256, 256) Gaussian fields of unit variance once blurred by `psf` pixels; the same in every run."""
    white = np.random.default_rng(19).standard_normal((len(_SCALES), _BANK_PX, _BANK_PX))
    fields = np.empty_like(white, dtype=np.float32)
    for i, scale in enumerate(_SCALES):
        field = gaussian_filter(white[i], scale, mode="wrap")
        fields[i] = field / gaussian_filter(field, psf, mode="wrap").std()
    return fields


def texture(scale_px: np.ndarray, corner: np.ndarray, patch: int, psf: float) -> np.ndarray:
    """(N, P, P) texture of each cell's own scale, cut from the bank at random corners (2, N)."""
    level = np.abs(np.log(scale_px[:, None] / _SCALES)).argmin(1)
    rows, columns = (corner[:, :, None] + np.arange(patch)) % _BANK_PX
    return _bank(round(psf, 4))[level[:, None, None], rows[:, :, None], columns[:, None, :]]
