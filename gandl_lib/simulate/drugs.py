"""A simulated screen of drugs with known mechanisms, written in BBBC021's own layout.

    OUT/BBBC021_v1_image.csv   the official columns; written last, so it is there only if everything is
    OUT/BBBC021_v1_moa.csv     compound, concentration, moa
    OUT/images/Week<k>/Week<k>_<number>/<well>_s<site>_w<1, 2 or 4>.tif     DNA, tubulin, actin; 16 bit
    OUT/truth.csv              what the simulator put into the compounds
    OUT/simulation.json        the resolved `DrugScreen`, seed and versions; says that all this is simulated

Cells are those of `mcf7`. At dose d a compound goes d^hill / (ec50^hill + d^hill) of the way to its mechanism, and as
far to side effects of its own, which are light, sizes and survival that its mechanism has nothing to do with. The
compounds of one mechanism are spread over the weeks, so that a neighbour from another week exists; a compound is tested
in one week only, once on each of its plates. Weeks and plates stain, blur and light differently, and cells of one week
differ a little in size from another's; DMSO wells are there to take that out.

The sizes of cells follow the published profiles (`mcf7`); all else was set by eye, and nothing was tuned to a result.
On `quick`, seed 0, means and spreads of the grey values of each cell find the mechanism of 25 of 48 treatments among
other compounds (52 %; 29, 60 %, in other weeks), where the largest mechanism is 17 %; the same of crops scaled to their
own range, which takes out what weeks and side effects do to the light, 38 (79 %) and 39. That is neither trivial nor
impossible.

An image is a function of the screen, the seed and the site's own name alone, so neither the number of workers nor an
interruption changes a byte.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import scipy
import tifffile

import gandl_lib
from gandl_lib import files
from gandl_lib.datasets import bbbc021
from gandl_lib.processes import for_each
from gandl_lib.simulate import chance, mcf7, optics

TOP = 4095
"""The camera's highest grey value, in 16-bit files."""
_FILES = (("DAPI", 1, 0), ("Tubulin", 2, 2), ("Actin", 4, 1))
"""Stain in BBBC021's columns, number in its file names, place in `mcf7.STAINS`."""
_ROWS, _COLUMNS = "BCDEFG", range(2, 12)
_CONTROLS = ("B02", "C02", "D02", "E11", "F11", "G11")
"""Where BBBC021 has its DMSO wells."""


@dataclass(frozen=True)
class DrugScreen:
    """The design of a screen and how hard it is. The presets are in `SCREENS`."""

    image_px: int = 192
    pixel_um: float = 0.65
    sites: int = 2
    cells: float = 15.0
    """Expected in an untreated field."""

    mechanisms: tuple[str, ...] = tuple(mcf7.MECHANISMS)
    compounds: int = 4
    """Of each mechanism."""
    doses_uM: tuple[float, ...] = (1.0, 5.0)
    weeks: int = 3
    plates: int = 2
    """Of each week; every one holds all compounds of the week, and six DMSO wells."""

    answering: float = 0.8
    """Fraction of cells that answer."""
    side_effects: float = 0.25
    """Spread between compounds of what they do besides, in logarithms of light; a third of it for sizes."""

    week_gain_sd: float = 0.20
    plate_gain_sd: float = 0.10
    well_sd: float = 0.08
    background_sd: float = 0.20
    blur_sd: float = 0.10
    vignette: float = 0.15
    density_sd: float = 0.12
    week_size_sd: float = 0.05
    """Spreads of logarithms, and darkening of the corners."""

    def __post_init__(self) -> None:
        if unknown := set(self.mechanisms) - set(mcf7.MECHANISMS):
            raise ValueError(f"unknown mechanism {', '.join(sorted(unknown))}; known: {', '.join(mcf7.MECHANISMS)}.")
        if self.image_px < 64 or min(self.sites, self.plates, self.weeks) < 1 or self.pixel_um <= 0:
            raise ValueError(f"a screen needs image_px >= 64, sites, plates, weeks >= 1, pixel_um > 0; this is {self}.")
        if self.compounds < 2 or len(self.mechanisms) < 2:
            raise ValueError("mechanisms are told from each other by compounds: at least 2 of each are needed.")
        if min(self.doses_uM, default=0) <= 0:
            raise ValueError(f"doses_uM must be concentrations above 0; found {self.doses_uM}.")
        most = -(-self.compounds * len(self.mechanisms) // self.weeks) * len(self.doses_uM)
        if most > (room := len(_ROWS) * len(_COLUMNS) - len(_CONTROLS)):
            raise ValueError(f"{most} treatments a week on {room} wells of a plate: take more weeks or fewer doses.")


SCREENS = {
    "tiny": DrugScreen(image_px=128, sites=1, cells=7.0, mechanisms=tuple(mcf7.MECHANISMS)[:3], compounds=2, weeks=2,
                       plates=1),
    "quick": DrugScreen(),
}  # fmt: skip
"""tiny: for tests, 24 sites. quick: 264 sites, 2,600 cells with their nuclei inside; 48 treatments by 24 compounds."""


@dataclass(frozen=True)
class Site:
    """A field by its place and its contents."""

    plate_id: str
    well: str
    site: int
    replicate: int
    moa: str
    compound: str
    """DMSO in control wells, with mechanism "" and dose 0, as in the official table."""
    dose_uM: float

    @property
    def week(self) -> str:
        return self.plate_id.partition("_")[0]

    @property
    def folder(self) -> str:
        return f"{self.week}/{self.plate_id}"

    def file(self, number: int) -> str:
        return f"{self.well}_s{self.site}_w{number}.tif"


def simulate(out: str | Path, screen: DrugScreen | str = "quick", seed: int = 0, jobs: int | None = None) -> Path:
    """Write a simulated screen to `out`, or go on where an earlier call was interrupted; return `out`.

    Args:
        screen: a `DrugScreen` or the name of a preset.
        seed: decides everything that is left to chance.
        jobs: worker processes; all cores if not given.

    Raises:
        ValueError: for an unknown preset, or if `out` holds anything else.
    """
    out = Path(out)
    screen = _preset(screen) if isinstance(screen, str) else screen
    truth, sites = plan(screen, seed)
    record = {
        "simulated": True,
        "what": "Every image and every compound in this folder is simulated; so are the mechanisms.",
        "layout": "bbbc021",
        "seed": seed,
        "pixel_um": screen.pixel_um,
        "screen": asdict(screen),
        "versions": {"gandl": gandl_lib.__version__} | {m.__name__: m.__version__ for m in (np, scipy, tifffile)},
    }
    files.claim(out, chance.RECORD, record, ignore=("versions",))
    for site in sites:
        (out / "images" / site.folder).mkdir(parents=True, exist_ok=True)
    for_each(partial(_write_site, out, screen, seed), sites, f"simulating {out.name}", jobs)
    files.write(out / "truth.csv", truth.to_csv(index=False).encode())
    treatments = [(r.compound, dose, r.moa) for r in truth.itertuples() for dose in screen.doses_uM]
    treatments.append((bbbc021.CONTROL, 0.0, bbbc021.CONTROL))  # as in the official table
    known = pd.DataFrame(treatments, columns=["compound", "concentration", "moa"])
    files.write(out / bbbc021.MECHANISMS, known.to_csv(index=False).encode())
    table = image_table(sites).to_csv(index=False).encode()
    files.write(out / bbbc021.IMAGES.removesuffix(".gz"), table)
    return out


def plan(screen: DrugScreen, seed: int) -> tuple[pd.DataFrame, list[Site]]:
    """All that `simulate` will write, images not yet drawn: the truth about compounds, and the sites."""
    compounds = [
        (
            moa,
            f"sim-{moa.lower().replace(' ', '-')}-{k + 1}",
            (m + k) % screen.weeks,
        )  # a mechanism's in different weeks
        for m, moa in enumerate(screen.mechanisms)
        for k in range(screen.compounds)
    ]
    rows = []
    for moa, name, week in compounds:
        ec50, hill, besides = _potency(screen, seed, name)
        numbers = {k: getattr(besides, k) for k in ("cell", "nucleus", *map(str.lower, mcf7.STAINS), "alive")}
        rows.append({"compound": name, "moa": moa, "week": f"Week{week + 1}", "ec50_uM": ec50, "hill": hill, **numbers})
    sites = []
    for week in range(screen.weeks):
        here = [(moa, name, dose) for moa, name, w in compounds if w == week for dose in screen.doses_uM]
        for plate in range(screen.plates):
            plate_id = f"Week{week + 1}_{10001 + week * screen.plates + plate}"
            room = [f"{r}{c:02d}" for r in _ROWS for c in _COLUMNS if f"{r}{c:02d}" not in _CONTROLS]
            places = chance.rng(seed, plate_id, "places").permutation(room)[: len(here)]
            wells = [*zip(_CONTROLS, [("", bbbc021.CONTROL, 0.0)] * len(_CONTROLS), strict=True)]
            wells += zip(places.tolist(), here, strict=True)
            sites += [
                Site(plate_id, well, site, plate + 1, *contents)
                for well, contents in sorted(wells)
                for site in range(1, screen.sites + 1)
            ]
    return pd.DataFrame(rows), sites


def image_table(sites: list[Site]) -> pd.DataFrame:
    """BBBC021_v1_image.csv."""
    rows = []
    for number, site in enumerate(sites, 1):
        files = {}
        for stain, k, _ in _FILES:
            files |= {f"Image_FileName_{stain}": site.file(k), f"Image_PathName_{stain}": site.folder}
        rows.append(
            {"TableNumber": 0, "ImageNumber": number}
            | files
            | {
                "Image_Metadata_Plate_DAPI": site.plate_id,
                "Image_Metadata_Well_DAPI": site.well,
                "Replicate": site.replicate,
                "Image_Metadata_Compound": site.compound,
                "Image_Metadata_Concentration": site.dose_uM,
            }
        )
    return pd.DataFrame(rows)


def render(screen: DrugScreen, seed: int, site: Site) -> tuple[np.ndarray, np.ndarray]:
    """The images of one site, (3, H, W) uint16 in the order of `mcf7.STAINS`; (2, cells) y and x of its nuclei."""
    px, n = screen.image_px, len(mcf7.STAINS)
    plate, week = _optics(screen, seed, site.plate_id), chance.rng(seed, site.week)
    week_gain = np.exp(screen.week_gain_sd * week.standard_normal(n))
    week_cell, week_nucleus = screen.week_size_sd * week.standard_normal(2)
    well = chance.rng(seed, site.plate_id, site.well)
    gain = week_gain * plate["gain"] * np.exp(screen.well_sd * well.standard_normal(n))
    crowding = np.exp(screen.density_sd * well.standard_normal())

    effect, answer = 0.0, mcf7.Phenotype()
    if site.moa:
        ec50, hill, besides = _potency(screen, seed, site.compound)
        effect = 1 / (1 + (ec50 / site.dose_uM) ** hill)
        answer = mcf7.both(mcf7.MECHANISMS[site.moa], besides)
    rng = chance.rng(seed, site.plate_id, site.well, str(site.site))
    expected = screen.cells * crowding * np.exp(effect * answer.alive + 0.08 * rng.standard_normal())
    common = mcf7.Phenotype(cell=week_cell, nucleus=week_nucleus)
    light, centres = mcf7.draw(
        rng, max(1, round(expected)), px, screen.pixel_um, answer, effect, screen.answering, common
    )
    focus = np.exp(screen.blur_sd / 2 * rng.standard_normal())
    images = np.empty((n, px, px), np.uint16)
    for k in range(n):
        one = {name: plate[name][k] for name in ("vignette", "background")}
        blur = plate["blur"][k] * focus
        images[k] = optics.seen(
            light[k], rng, pixel_um=screen.pixel_um, blur=blur, haze=0.15, gain=gain[k], top=TOP, **one
        )
    return images, centres


# ---- chance and optics ----


@lru_cache(maxsize=256)
def _potency(screen: DrugScreen, seed: int, compound: str) -> tuple[float, float, mcf7.Phenotype]:
    """ec50_uM, Hill's exponent, and what a compound does besides, at full effect."""
    rng = chance.rng(seed, "truth", compound)
    ec50 = min(screen.doses_uM) * np.exp(0.5 * rng.standard_normal())
    hill = rng.uniform(1.0, 2.0)
    dna, actin, tubulin, cell, nucleus, alive = screen.side_effects * rng.standard_normal(6)
    besides = mcf7.Phenotype(
        cell=cell / 3, nucleus=nucleus / 3, dna=dna, actin=actin, tubulin=tubulin, alive=-abs(alive) / 2
    )
    return ec50, hill, besides


@lru_cache(maxsize=16)
def _optics(screen: DrugScreen, seed: int, plate_id: str) -> dict[str, np.ndarray]:
    """What a plate does to each stain."""
    return optics.of_plate(screen, chance.rng(seed, plate_id), len(mcf7.STAINS), background=0.02)


# ---- files ----


def _preset(name: str) -> DrugScreen:
    if name not in SCREENS:
        raise ValueError(f"unknown screen {name!r} of layout bbbc021; known are {', '.join(SCREENS)}.")
    return SCREENS[name]


def _write_site(out: Path, screen: DrugScreen, seed: int, site: Site) -> None:
    """Write what is missing of a site."""
    paths = {place: out / "images" / site.folder / site.file(number) for _, number, place in _FILES}
    if not all(path.exists() for path in paths.values()):
        images, _ = render(screen, seed, site)
        for place, path in paths.items():
            file = io.BytesIO()
            tifffile.imwrite(file, images[place], photometric="minisblack", compression="zlib", metadata=None)
            files.write(path, file.getvalue())
