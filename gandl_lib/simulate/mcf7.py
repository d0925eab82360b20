"""How a simulated MCF-7 cell looks in DNA, actin and tubulin, and what drugs of known mechanism make of it.

Six of BBBC021's mechanisms, as cell biology describes them, each as the end point of a strong dose:

========================  ======================================================================================
Actin disruptors          fibres and cortex dissolve into clumps, the cell shrinks
DNA damage                fewer cells, with large nuclei of coarse chromatin
Eg5 inhibitors            cells halt in mitosis, round and bright: a ring of chromosomes about one aster
Microtubule destabilizers no fibres, tubulin a diffuse haze, rounder cells; some halt in mitosis without a spindle
Microtubule stabilizers   tubulin in few thick bundles, nuclei of many lobes; some halt in mitosis
Protein synthesis         smaller, dimmer cells with smaller, smoother nuclei
========================  ======================================================================================

A cell goes part of the way, from 0 (healthy) to 1, and some cells do not answer at all. Sizes of the healthy cell are
those of the published CellProfiler means of BBBC021 at 0.32 um a pixel (median areas of 104 um2 for nuclei and 404 um2
for cells); how far each mechanism moves what was set by eye, and is not fitted to images.

Unlike in `cells`, a phenotype may add or remove light, as these drugs do: intensities are a part of the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gandl_lib.simulate.cells import over, scatter, share, step, texture, wrap_add
from gandl_lib.simulate.optics import PSF_UM

STAINS = ("DNA", "actin", "tubulin")
CELL_UM, NUCLEUS_UM = 11.3, 5.75
"""Radii of discs of the healthy cell's median areas."""
_LIGHT = np.array([0.16, 0.10, 0.12])
"""Light of a stain, averaged over the median nucleus (DNA) or cell, on the camera's [0, 1]."""
_SPREAD = 0.12
"""Cell-to-cell standard deviation of log sizes; light spreads twice as far."""
MITOTIC = 0.04
"""Fraction of healthy cells in mitosis."""


@dataclass(frozen=True)
class Phenotype:
    """What a cell is by design. The first eight are added up over causes, the others between 0 and 1.

    Sizes and light are logarithms of ratios to the healthy cell.
    """

    cell: float = 0.0
    nucleus: float = 0.0
    dna: float = 0.0
    actin: float = 0.0
    tubulin: float = 0.0
    chromatin: float = 0.0
    """Contrast of the chromatin's texture; its scale in the second place."""
    alive: float = 0.0
    """Cells in the field."""
    mitotic: float = 0.0
    """Fraction of cells that halt in mitosis."""
    monoaster: float = 0.0
    no_spindle: float = 0.0
    """Which spindle halted cells have; both 0: two poles."""
    lobes: float = 0.0
    bundles: float = 0.0
    diffuse: float = 0.0
    clumps: float = 0.0
    rounded: float = 0.0


MECHANISMS = {
    "Actin disruptors": Phenotype(cell=-0.25, actin=-0.25, alive=-0.15, clumps=1.0),
    "DNA damage": Phenotype(cell=0.15, nucleus=0.28, dna=0.15, chromatin=0.6, alive=-0.5),
    "Eg5 inhibitors": Phenotype(alive=-0.25, mitotic=0.55, monoaster=1.0),
    "Microtubule destabilizers": Phenotype(
        cell=-0.10, tubulin=-0.10, alive=-0.35, mitotic=0.30, no_spindle=1.0, diffuse=1.0, rounded=0.6
    ),
    "Microtubule stabilizers": Phenotype(tubulin=0.15, alive=-0.35, mitotic=0.20, lobes=1.0, bundles=1.0),
    "Protein synthesis": Phenotype(cell=-0.16, nucleus=-0.10, actin=-0.20, tubulin=-0.25, chromatin=-0.5, alive=-0.25),
}


def draw(
    rng: np.random.Generator,
    n_cells: int,
    image_px: int,
    pixel_um: float,
    answer: Phenotype,
    effect: float,
    answering: float = 1.0,
    common: Phenotype = Phenotype(),  # noqa: B008 (frozen)
) -> tuple[np.ndarray, np.ndarray]:
    """Light of one field before the microscope, (3, image_px, image_px) float32, and its nuclei's centres (2, n_cells).

    The field wraps around at its borders. All random numbers are drawn whatever the phenotype is.

    Args:
        answer: where cells go that answer; not `alive`, which is the caller's.
        effect: how far they go, from 0 to 1.
        answering: fraction of cells that answer.
        common: what all cells of the field are, effect or not; its sizes, light and chromatin count.
    """
    if n_cells == 0:
        return np.zeros((len(STAINS), image_px, image_px), np.float32), np.zeros((2, 0))
    n, um = n_cells, 1.0 / pixel_um
    psf = PSF_UM * um
    u_answer, u_mitotic, u_cycle = rng.random((3, n))
    far = effect * np.clip(1 + 0.25 * rng.standard_normal(n), 0.3, 1.5) * (u_answer < answering)
    spread = np.exp(_SPREAD * rng.standard_normal((2, n)))
    light = np.exp(2 * _SPREAD * rng.standard_normal((len(STAINS), n)))
    phases = rng.uniform(0, 2 * np.pi, (8, n))
    n_lobes = rng.integers(3, 6, n)
    corner = rng.integers(0, 1 << 16, (4, 2, n))
    away = 0.18 * rng.standard_normal((2, n))
    centre = scatter(rng, n, image_px)

    def at(name: str) -> np.ndarray:
        """(N,) how far cells are in one respect."""
        return getattr(common, name) + far * getattr(answer, name)

    halted = u_mitotic < MITOTIC + answer.mitotic * far
    # Between divisions DNA doubles, and nuclei grow with it; a cell that divides has twice the DNA.
    cycle = np.where(halted, 1.0, np.clip(1.6 * u_cycle - 0.5, 0, 1))
    nucleus = NUCLEUS_UM * um * spread[0] * np.exp(at("nucleus") + 0.2 * (cycle - 0.4))
    cell = CELL_UM * um * spread[1] * np.exp(at("cell") + 0.15 * (cycle - 0.4)) * np.where(halted, 0.72, 1.0)
    cell = np.maximum(cell, 1.25 * nucleus)
    uneven = np.where(halted, 0.15, 1 - at("rounded"))

    patch = 2 * int(np.ceil(2.0 * CELL_UM * um)) + 1
    first = np.floor(centre).astype(int) - patch // 2
    axis = np.arange(patch, dtype=np.float32)
    dy = axis[None, :, None] - over(centre[0] - first[0])
    dx = axis[None, None, :] - over(centre[1] - first[1])
    chromatin, coarse, cloud, wave = (
        texture(np.full(n, scale), corner[i], patch, psf)
        for i, scale in enumerate((0.9 * um, 1.8 * um, 1.2 * um, 5.0 * um))
    )

    # The cell lies about a point a little beside its nucleus.
    cy, cx = dy - over(away[0] * (cell - nucleus)), dx - over(away[1] * (cell - nucleus))
    theta, radius = np.arctan2(cy, cx), np.hypot(cy, cx)
    outline = 1 + over(uneven) * (
        0.16 * np.cos(2 * theta + over(phases[0])) + 0.09 * np.cos(3 * theta + over(phases[1])) + 0.06 * wave
    )
    edge = over(cell) * outline - radius  # pixels inside the cell's outline
    body = step(edge, 0.8 * um)
    own = body * share(body, first, image_px)

    turn, from_nucleus = np.arctan2(dy, dx), np.hypot(dy, dx)
    lobed = over(0.30 * np.clip(at("lobes"), 0, 1.2))
    shape = 1 + 0.08 * np.cos(2 * turn + over(phases[2])) + lobed * np.cos(over(n_lobes) * turn + over(phases[3]))
    core = from_nucleus - over(nucleus) * shape / np.sqrt(1 + lobed**2 / 2)  # the same area, whatever its lobes
    nuclear = step(-core, 0.45 * um)
    uncovered = 1 - 0.75 * nuclear

    # Between divisions.
    contrast = over(0.22 * np.exp(at("chromatin")))
    coarseness = over(np.clip(at("chromatin"), 0, 1))
    dna = nuclear * np.maximum(1 + contrast * ((1 - coarseness) * chromatin + coarseness * 1.3 * coarse), 0.1)
    fade = np.exp(-np.maximum(core, 0) / over(0.9 * cell))
    fibres = 1 + 0.8 * np.cos(over(np.round(cell / (0.35 * um))) * 0.5 * turn + 2.2 * wave + over(phases[4]))
    thick = 0.15 + 2.2 * np.exp(5 * (np.cos(over(n_lobes + 2) * turn + 1.3 * wave + over(phases[5])) - 1))
    bundles, diffuse = over(np.clip(at("bundles"), 0, 1)), over(np.clip(at("diffuse"), 0, 1))
    network = fade * ((1 - bundles) * fibres + bundles * thick)
    tubulin = own * uncovered * ((1 - diffuse) * network + diffuse * 0.6)
    clumps = over(np.clip(at("clumps"), 0, 1))
    cortex = np.exp(-0.5 * ((edge - 0.8 * um) / (0.9 * um)) ** 2)
    along = dx * np.cos(over(phases[6])) + dy * np.sin(over(phases[6]))
    stress = 1 + 0.6 * np.cos(2 * np.pi / (2.6 * um) * along + 1.2 * wave)
    spots = np.exp(2.4 * np.minimum(cloud - 0.6, 1.6))
    actin = own * ((1 - clumps) * (0.45 * stress + 1.6 * cortex) + clumps * (0.35 + 0.45 * spots + 0.2 * cortex))

    # In division: chromosomes in a plate between two poles, in a ring about one, or in a heap.
    mono, heap = answer.monoaster * (far > 0), answer.no_spindle * (far > 0)
    across = dy * np.cos(over(phases[6])) - dx * np.sin(over(phases[6]))
    plate = step(over(0.85 * nucleus) - np.abs(across), 0.5 * um) * np.exp(-0.5 * (along / (1.3 * um)) ** 2)
    ring = np.exp(-0.5 * ((from_nucleus - over(0.72 * nucleus) * (1 + 0.1 * wave)) / (1.1 * um)) ** 2)
    lump = step(over(0.62 * nucleus) * (1 + 0.2 * wave) - from_nucleus, 0.6 * um)
    pole = over(0.8 * nucleus)
    spindle = np.exp(-0.5 * ((np.abs(along) - pole) ** 2 + 0.35 * across**2) / (1.6 * um) ** 2)
    aster = np.exp(-from_nucleus / (2.2 * um))
    haze = np.full_like(aster, 0.5)
    mono, heap = over(mono), over(heap)
    two = (1 - mono) * (1 - heap)
    dna = np.where(over(halted) > 0, two * plate + mono * ring + (1 - mono) * heap * lump, dna)
    divided = own * (0.25 + 2.5 * (two * spindle + mono * aster + (1 - mono) * heap * haze))
    tubulin = np.where(over(halted) > 0, divided, tubulin)
    actin = np.where(over(halted) > 0, own * (0.5 + 1.6 * cortex), actin)

    area = np.pi * np.array([NUCLEUS_UM, CELL_UM, CELL_UM])[:, None] ** 2 * um**2
    total = area * _LIGHT[:, None] * light * np.exp([at("dna"), at("actin"), at("tubulin")])
    total[0] *= 1 + cycle
    stains = [stain * over(t / stain.sum((1, 2))) for stain, t in zip((dna, actin, tubulin), total, strict=True)]
    return wrap_add(np.stack(stains, axis=1), first, image_px), centre


def both(one: Phenotype, other: Phenotype) -> Phenotype:
    """Sizes, light, chromatin and survivors of two causes together; spindles and fibres are those of the first."""
    summed = ("cell", "nucleus", "dna", "actin", "tubulin", "chromatin", "alive")
    return replace(one, **{name: getattr(one, name) + getattr(other, name) for name in summed})
