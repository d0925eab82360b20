"""A simulated screen with known truth, written in a real screen's own layout.

    OUT/metadata.csv      the real screen's columns; written last, so it is there only if everything is
    OUT/images/<experiment>/Plate<k>/<well>_s<site>_w<channel>.png
    OUT/truth.csv         what the simulator put into the images
    OUT/simulation.json   the resolved `Screen`, seed and versions; says that all this is simulated

The layout `own` is that of nobody's screen in particular: 96-well plates, columns with German names, semicolons and
decimal commas, nanomolar doses, one OME-TIFF of four 16-bit planes a site, and a screen.toml that explains it all
(`own`). Three things in it are broken on purpose: an image ends half-way, a dose is a word, and a row is there twice.

It is hard in the ways real screens are: only part of an infected well's cells show anything, what they show moves light
instead of adding any (`cells`), cells and wells differ, every plate has its own gain, background, blur and vignette,
wells near an edge differ from those inside, and Mock and UV wells lie in columns of their own. What a compound does to
an infected well at dose d is

    infected fraction = f0 (1 - emax d^hill / (ec50^hill + d^hill)),     dying fraction = d^3 / (toxic^3 + d^3)

so efficacy *is* the part of the infection that is gone. Dying cells are fewer, smaller, and look stressed in the same
traits that infection moves, hence the rise and fall of compounds that help and then kill.

The truth of a simulated screen is invented, also where compounds bear real names because the plate map is real: then
those that Recursion's screen or the GAN-DL paper called effective are effective here, with invented constants.

An image is a function of the screen, the seed and the site's own row alone, so neither the number of workers nor an
interruption changes a byte.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import PIL
import scipy
import tifffile
from PIL import Image

import gandl_lib
from gandl_lib import files
from gandl_lib.datasets import rxrx1, rxrx19a, select
from gandl_lib.processes import for_each
from gandl_lib.simulate import cells, chance, optics
from gandl_lib.wells import letters, place

STAINS_OF_FILES = {"rxrx19a": (0, 1, 2, 3, 4), "rxrx1": (0, 1, 2, 3, 5, 4), "own": (0, 5, 2, 1)}
"""Which of `cells.STAINS` lies in files w1, w2, ... of each layout. RxRx1 keeps its mitochondria in w5. `own` has
four planes in one file."""
TOP = {"rxrx19a": 255, "rxrx1": 255, "own": 4095}
"""The camera's highest grey value; beyond 8 bit, images are stored with 16."""

ACTIVE, MOCK, UV, BLANK = "Active SARS-CoV-2", "Mock", "UV Inactivated SARS-CoV-2", ""
CONTROL_COLUMNS = (8, 16, 24, 32, 40)
"""Columns of RxRx19a's plates that hold all Mock, UV and blank wells and nothing else."""

_UNSEEN = ("HEPG2", "HUVEC", "RPE", "U2OS")
_LETTERS = [letters(row) for row in range(32)]
_ROWS, _COLUMNS = _LETTERS[1:31], range(2, 48)
_KINDS = ("antiviral", "inert", "narrow", "toxic", "antiviral", "inert", "antiviral", "inert", "antiviral", "inert")
"""What made-up compounds are, in turn. narrow: helps, then kills. Their names say it: sim-narrow-03."""

_EFFECTIVE = {
    "HRCE": "remdesivir gs-441524 aloxistatin bortezomib halofuginone ebastine thimerosal dichlorophen",
    "VERO": "remdesivir gs-441524 aloxistatin chloroquine hydroxychloroquine solithromycin pacritinib thymoquinone",
}
"""Real compounds with a published hit score of 0.4 and more, or named by the GAN-DL paper as most effective."""
_NARROW = "bortezomib halofuginone thimerosal pacritinib thymoquinone chloroquine".split()


def _cell_type(experiment: str) -> str:
    return experiment.rpartition("-")[0]


@dataclass(frozen=True)
class Screen:
    """The design of a screen and how hard it is. The presets are in `SCREENS`."""

    image_px: int = 128
    pixel_um: float = 1.3
    sites: int = 2
    density: float = 1.0
    """Cells per area, relative to the cell type's usual number (`cells.MORPHOLOGIES[...].per_mm2`)."""

    experiments: tuple[tuple[str, int], ...] = (("HRCE-1", 2), ("HRCE-2", 2), ("VERO-1", 2), ("VERO-2", 2))
    """Name and number of plates. The cell type is the name up to its last hyphen."""
    mock: int = 30
    uv: int = 6
    blank: int = 4
    untreated: int = 48
    """Wells a plate of C+, UV, nothing, and C-."""
    compounds: int = 20
    doses_uM: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    replicates: int = 3
    """Wells of each compound and dose, on all plates of a cell type together."""

    unseen: tuple[tuple[str, int], ...] = tuple((f"{t}-0{k}", 1) for t in _UNSEEN for k in (1, 2))
    """Experiments of the layout `rxrx1`, with the next three instead of the compounds."""
    sirnas: int = 6
    sirna_wells: int = 2
    negative_controls: int = 12

    strength: float = 1.5
    """How far infection moves the traits of a cell."""
    infected: float = 0.75
    infected_sd: float = 0.07
    """Fraction of cells that show the infection in a C- well, and its spread between wells."""
    escaped: float = 0.01
    """Fraction of infected wells in which the infection did not take."""
    trait_sd: float = 0.08
    """Spread between wells of where all cells of a well lie on the traits, infected or not."""

    density_sd: float = 0.10
    plate_gain_sd: float = 0.20
    well_gain_sd: float = 0.08
    background_sd: float = 0.25
    blur_sd: float = 0.10
    vignette: float = 0.20
    position: float = 0.06
    """Spreads of logarithms; darkening of the corners; largest effect of a well's place on gain and cell number."""

    def __post_init__(self) -> None:
        for name, _ in (*self.experiments, *self.unseen):
            if _cell_type(name) not in cells.MORPHOLOGIES:
                raise ValueError(f"experiment {name!r}: no such cell type; known are {', '.join(cells.MORPHOLOGIES)}.")
        if self.image_px < 32 or self.sites < 1 or self.pixel_um <= 0:
            raise ValueError(f"a screen needs image_px >= 32, sites >= 1, pixel_um > 0; this one has {self}.")
        if min(self.doses_uM, default=0) <= 0:
            raise ValueError(f"doses_uM must be concentrations above 0; found {self.doses_uM}.")
        in_columns = self.mock + self.uv + self.blank
        if in_columns > (room := len(CONTROL_COLUMNS) * len(_ROWS)):
            raise ValueError(f"{in_columns} Mock, UV and blank wells on {room} places in the control columns.")


SCREENS = {
    "tiny": Screen(
        image_px=64,
        sites=2,
        experiments=(("HRCE-1", 2), ("VERO-1", 2)),
        mock=8,
        uv=2,
        blank=1,
        untreated=12,
        compounds=4,
        doses_uM=(0.1, 1.0, 10.0, 100.0),
        replicates=2,
        unseen=tuple((f"{t}-01", 1) for t in _UNSEEN),
        sirnas=2,
        negative_controls=4,
        strength=2.0,
    ),
    "quick": Screen(),
    "plate": Screen(
        image_px=96,
        strength=3.0,
        infected=0.9,
        well_gain_sd=0.05,
        position=0.25,
        experiments=(("HRCE-1", 2),),
        mock=16,
        uv=0,
        blank=0,
        untreated=16,
        compounds=5,
        doses_uM=(0.0625, 0.25, 1.0, 4.0, 16.0, 64.0),
        replicates=4,
    ),
    "full": Screen(
        image_px=512,
        sites=4,
        mock=40,
        uv=40,
        blank=30,
        untreated=206,
        compounds=32,
        doses_uM=(0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
        replicates=16,
        sirnas=100,
        sirna_wells=2,
        negative_controls=100,
    ),
}
"""tiny: for tests, 312 sites. quick: 3,088. plate: two 96-well plates, 368 sites, strong effects in cells and at edges,
for the layout `own`. full: 1,340 wells a plate as in RxRx19a, 42,880 sites, some 30 GB."""


@dataclass(frozen=True)
class Site:
    """One row of the metadata, and what its cells are by design (the chances of well and site come on top)."""

    site_id: str
    well_id: str
    plate_id: str
    well: str
    cell_type: str
    file: str
    """Path below `images/`, up to the channel: `HRCE-1/Plate2/AA02_s1`."""
    alive: float
    affected: float
    stressed: float
    shift: tuple[float, ...]


def simulate(
    out: str | Path,
    screen: Screen | str = "quick",
    seed: int = 0,
    plate_map: str | Path | None = None,
    where: str | None = None,
    layout: str = "rxrx19a",
    jobs: int | None = None,
) -> Path:
    """Write a simulated screen to `out`, or go on where an earlier call was interrupted; return `out`.

    Args:
        screen: a `Screen` or the name of a preset.
        seed: decides everything that is left to chance.
        plate_map: an RxRx19a metadata.csv whose wells, compounds and doses to take. Experiments of the screen whose
            cell type the map lacks are added.
        where: pandas query on the map's wells table; only these rows are taken, e.g. `"plate == 1 and site == 1"`.
        layout: `rxrx19a`, or `rxrx1` for the screen's unseen cell types, six channels and siRNAs, or `own`.
        jobs: worker processes; all cores if not given.

    Raises:
        ValueError: for an unknown preset, layout or cell type, a bad plate map, or if `out` holds anything else.
    """
    out = Path(out)
    screen = _preset(screen) if isinstance(screen, str) else screen
    metadata, truth, sites = plan(screen, seed, plate_map, where, layout)
    record = {
        "simulated": True,
        "what": "Every image and every effect in this folder is simulated; compounds with real names included.",
        "layout": layout,
        "seed": seed,
        "pixel_um": screen.pixel_um,
        "screen": asdict(screen),
        "plate_map": plate_map and {"name": Path(plate_map).name, "sha256": _sha256(plate_map), "where": where},
        "versions": {"gandl": gandl_lib.__version__} | {m.__name__: m.__version__ for m in (np, scipy, PIL)},
    }
    files.claim(out, chance.RECORD, record, ignore=("versions",))
    for folder in sorted({Path(_name(site, layout)).parent for site in sites}):
        (out / "images" / folder).mkdir(parents=True, exist_ok=True)

    write = partial(_write_site, out, screen, seed, layout, sites[0].site_id)  # the one that layout `own` breaks
    for_each(write, sites, f"simulating {out.name}", jobs)
    files.write(out / "truth.csv", truth.to_csv(index=False).encode())
    if layout == "own":
        files.write(out / "screen.toml", _SCREEN_TOML.encode())
    files.write(
        out / "metadata.csv", _in_german(metadata) if layout == "own" else metadata.to_csv(index=False).encode()
    )
    return out


def plan(
    screen: Screen,
    seed: int,
    plate_map: str | Path | None = None,
    where: str | None = None,
    layout: str = "rxrx19a",
) -> tuple[pd.DataFrame, pd.DataFrame, list[Site]]:
    """All that `simulate` will write, images not yet drawn: metadata and truth as in their files, and the sites."""
    if layout not in STAINS_OF_FILES:
        raise ValueError(f"unknown layout {layout!r}; known are {', '.join(STAINS_OF_FILES)}.")
    if where is not None and plate_map is None:
        raise ValueError(f"where={where!r} selects from a plate map, and none is given.")
    if layout == "rxrx1":
        if plate_map is not None:
            raise ValueError("a plate_map is an RxRx19a metadata.csv; the layout rxrx1 makes its own plates.")
        metadata = _sirna_plates(screen, seed)
        truth = _sirna_truth(metadata, seed)
        states = _sirna_states(metadata, truth, screen)
    else:
        if layout == "own" and plate_map is not None:
            raise ValueError("a plate_map is an RxRx19a metadata.csv; the layout own makes its own plates.")
        metadata = _own_plates(screen, seed) if layout == "own" else _compound_plates(screen, seed, plate_map, where)
        truth = _compound_truth(metadata, seed)
        states = _compound_states(metadata, truth, screen)
    sites = [
        Site(r.site_id, r.well_id, f"{r.experiment}_{r.plate}", r.well, r.cell_type, _file(r), *state)
        for r, state in zip(metadata.itertuples(), states, strict=True)
    ]
    return metadata, truth, sites


def render(screen: Screen, seed: int, site: Site, layout: str = "rxrx19a") -> np.ndarray:
    """The images of one site, (C, H, W) uint8 or uint16, channels in the order of the layout's files."""
    px, stains = screen.image_px, STAINS_OF_FILES[layout]
    morphology = cells.MORPHOLOGIES[site.cell_type]
    plate = _optics(screen, seed, site.plate_id)

    well = chance.rng(seed, site.well_id)
    gain = plate["gain"] * np.exp(screen.well_gain_sd * well.standard_normal(6))
    crowding = np.exp(screen.density_sd * well.standard_normal())
    offset = screen.trait_sd * well.standard_normal(len(cells.TRAITS))
    spread = np.clip(screen.infected_sd / screen.infected * well.standard_normal(), -0.5, 0.5)
    affected = site.affected * (1 + spread) * (well.random() >= screen.escaped)

    # Place: a slope over the plate, and fewer, dimmer cells towards its edges.
    y, x = _place(site.well, layout)
    edge = max(abs(y), abs(x)) ** 6
    gain = gain * (1 + screen.position * (plate["slope"] @ (y, x) - 0.5 * edge))
    crowding *= 1 - screen.position * edge

    rng = chance.rng(seed, site.site_id)
    per_site = morphology.per_mm2 * (px * screen.pixel_um / 1000) ** 2 * screen.density
    n_cells = round(per_site * crowding * site.alive * np.exp(0.05 * rng.standard_normal())) if site.alive else 0
    light = cells.draw(
        rng, morphology, n_cells, px, screen.pixel_um, site.shift, affected, site.stressed, offset, max(stains) + 1
    )
    focus = np.exp(screen.blur_sd / 2 * rng.standard_normal())
    images = np.empty((len(stains), px, px), np.uint8 if TOP[layout] == 255 else np.uint16)
    for k, stain in enumerate(stains):
        one = {name: plate[name][stain] for name in ("vignette", "background")} | {"gain": gain[stain]}
        blur = plate["blur"][stain] * focus
        images[k] = optics.seen(
            light[stain], rng, pixel_um=screen.pixel_um, blur=blur, haze=0.25, top=TOP[layout], **one
        )
    return images


# ---- plates ----


def _compound_plates(screen: Screen, seed: int, plate_map: str | Path | None, where: str | None) -> pd.DataFrame:
    """RxRx19a's metadata: the plate map, if any, then the screen's own experiments of other cell types."""
    columns = [*rxrx19a.COLUMNS, "SMILES"]
    parts, mapped = [], set()
    if plate_map is not None:
        chosen = select(rxrx19a.parse(plate_map), where)
        mapped = set(chosen["cell_type"])
        if unknown := mapped - set(cells.MORPHOLOGIES):
            names, known = ", ".join(sorted(unknown)), ", ".join(cells.MORPHOLOGIES)
            raise ValueError(f"{plate_map}: no simulated cells of type {names}; known are {known}.")
        # As text, so that what is written is what was read.
        text = pd.read_csv(plate_map, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        text = text.reindex(columns=columns, fill_value="")
        parts.append(text[text["site_id"].isin(chosen["site_id"])])

    own = [(name, plate + 1) for name, n in screen.experiments for plate in range(n) if _cell_type(name) not in mapped]
    names = [f"sim-{_KINDS[i % len(_KINDS)]}-{i + 1:02d}" for i in range(screen.compounds)]
    doses = [(name, str(float(dose))) for name in names for dose in screen.doses_uM]
    controls = [(MOCK, "", "")] * screen.mock + [(UV, "", "")] * screen.uv + [(BLANK, "", "")] * screen.blank
    for cell_type in dict.fromkeys(_cell_type(name) for name, _ in own):
        plates = [plate for plate in own if _cell_type(plate[0]) == cell_type]
        for k, (experiment, plate) in enumerate(plates):
            # Replicate r of dose i goes to plate i + r: spread over plates, as many on each.
            here = [d for i, d in enumerate(doses) for r in range(screen.replicates) if (i + r) % len(plates) == k]
            others = [(ACTIVE, "", "")] * screen.untreated + [(ACTIVE, *d) for d in here]
            rng = chance.rng(seed, f"{experiment}_{plate}", "places")
            wells = [
                *zip(_places(rng, len(controls), CONTROL_COLUMNS), controls, strict=True),
                *zip(_places(rng, len(others), sorted(set(_COLUMNS) - set(CONTROL_COLUMNS))), others, strict=True),
            ]
            parts.append(_rows(columns, experiment, plate, wells, screen.sites))
    return pd.concat(parts, ignore_index=True)


def _own_plates(screen: Screen, seed: int) -> pd.DataFrame:
    """96-well plates: both controls in the first and last two columns, mixed, compounds between them at random."""
    columns, parts = [*rxrx19a.COLUMNS, "SMILES"], []
    names = [f"sim-{_KINDS[i % len(_KINDS)]}-{i + 1:02d}" for i in range(screen.compounds)]
    doses = [(ACTIVE, name, str(float(dose))) for name in names for dose in screen.doses_uM]
    plates = [(experiment, plate + 1) for experiment, n in screen.experiments for plate in range(n)]
    for k, (experiment, plate) in enumerate(plates):
        rng = chance.rng(seed, f"{experiment}_{plate}", "places")
        controls = [(MOCK, "", "")] * screen.mock + [(ACTIVE, "", "")] * screen.untreated
        here = [d for i, d in enumerate(doses) for r in range(screen.replicates) if (i + r) % len(plates) == k]
        wells = [
            *zip(_places(rng, len(controls), (1, 2, 11, 12), _LETTERS[:8]), controls, strict=True),
            *zip(_places(rng, len(here), range(3, 11), _LETTERS[:8]), here, strict=True),
        ]
        parts.append(_rows(columns, experiment, plate, wells, screen.sites))
    return pd.concat(parts, ignore_index=True)


def _sirna_plates(screen: Screen, seed: int) -> pd.DataFrame:
    """RxRx1's metadata: negative controls and siRNAs on 384-well plates."""
    parts = []
    contents = [("negative_control", "EMPTY", "1138")] * screen.negative_controls
    contents += [("treatment", f"sim-sirna-{i + 1:03d}", str(i)) for i in range(screen.sirnas)] * screen.sirna_wells
    for experiment, plates in screen.unseen:
        dataset = "train" if experiment.endswith("1") else "test"
        for plate in range(1, plates + 1):
            rng = chance.rng(seed, f"{experiment}_{plate}", "places")
            places = _places(rng, len(contents), range(2, 24), _LETTERS[1:15])
            wells = list(zip(places, contents, strict=True))
            parts.append(_rows(rxrx1.COLUMNS, experiment, plate, wells, screen.sites, dataset))
    return pd.concat(parts, ignore_index=True)


def _places(rng: np.random.Generator, n: int, columns: Iterable[int], rows: Iterable[str] = _ROWS) -> list[str]:
    """`n` different wells at random."""
    room = [f"{row}{column:02d}" for row in rows for column in columns]
    if n > len(room):
        raise ValueError(f"{n} wells do not fit on the {len(room)} places of a plate that are meant for them.")
    return list(rng.permutation(room)[:n])


def _rows(
    columns: Sequence[str],
    experiment: str,
    plate: int,
    wells: Iterable[tuple[str, tuple[str, ...]]],
    sites: int,
    dataset: str | None = None,
) -> pd.DataFrame:
    """Metadata of one plate from its (place, contents) pairs, in reading order."""
    rows = []
    for well, contents in sorted(wells, key=lambda pair: (len(pair[0]), pair[0])):
        well_id = f"{experiment}_{plate}_{well}"
        batch = [_cell_type(experiment), *([dataset] if dataset else []), experiment, str(plate), well]
        rows += [(f"{well_id}_{site}", well_id, *batch, str(site), *contents) for site in range(1, sites + 1)]
    return pd.DataFrame(rows).reindex(columns=range(len(columns)), fill_value="").set_axis(list(columns), axis=1)


# ---- truth ----


def _compound_truth(metadata: pd.DataFrame, seed: int) -> pd.DataFrame:
    rows = []
    treated = metadata[metadata["treatment"].ne("")]
    doses = treated["treatment_conc"].astype(float).groupby([treated["cell_type"], treated["treatment"]])
    for (cell_type, compound), (low, high) in doses.agg(["min", "max"]).iterrows():
        rng = chance.rng(seed, "truth", cell_type, compound)
        kind = _kind(cell_type, compound, rng)
        effective, toxic = kind in ("antiviral", "narrow"), kind in ("toxic", "narrow")
        early, late, top = rng.uniform(0.20, 0.35), rng.uniform(0.25, 0.60), rng.uniform(0.5, 0.9)
        hill, emax = rng.uniform(1.0, 2.2), rng.uniform(0.85, 1.0)
        ec50 = low * (high / low) ** (early if toxic else late)
        rows.append(
            {
                "cell_type": cell_type,
                "compound": compound,
                "effective": effective,
                "ec50_uM": ec50 if effective else np.nan,
                "hill": hill if effective else np.nan,
                "emax": emax if effective else 0.0,
                "toxic_uM": high / 10**top if toxic else np.nan,
            }
        )
    numbers = dict.fromkeys(["ec50_uM", "hill", "emax", "toxic_uM"], float)
    return pd.DataFrame(rows, columns=["cell_type", "compound", "effective", *numbers]).astype(numbers)


def _kind(cell_type: str, compound: str, rng: np.random.Generator) -> str:
    """antiviral, narrow, toxic or inert; made-up names say it, real ones are looked up."""
    chance = rng.random()
    if compound.startswith("sim-"):
        return compound.split("-")[1]
    word = compound.lower().split(" ")[0]
    if word in _EFFECTIVE.get(cell_type, "").split():
        return "narrow" if word in _NARROW else "antiviral"
    return "toxic" if chance < 0.1 else "inert"


def _compound_states(metadata: pd.DataFrame, truth: pd.DataFrame, screen: Screen) -> list[tuple]:
    """(alive, affected, stressed, shift) of every row."""
    rows = metadata.rename(columns={"treatment": "compound"}).merge(truth, "left", ["cell_type", "compound"])
    dose = pd.to_numeric(rows["treatment_conc"]).astype(float)
    efficacy = (rows["emax"] / (1 + (rows["ec50_uM"] / dose) ** rows["hill"])).fillna(0.0)
    dying = (1 / (1 + (rows["toxic_uM"] / dose) ** 3)).fillna(0.0)
    infected = rows["disease_condition"].map({ACTIVE: screen.infected, UV: 0.05}).fillna(0.0)
    alive = rows["disease_condition"].ne(BLANK) * (1 - 0.7 * dying)
    shifts = [tuple(screen.strength * s for s in cells.MORPHOLOGIES[t].infection) for t in rows["cell_type"]]
    return list(zip(alive, infected * (1 - efficacy), 0.8 * dying, shifts, strict=True))


def _sirna_truth(metadata: pd.DataFrame, seed: int) -> pd.DataFrame:
    """How far each siRNA moves each trait, in units of a typical infection; the same in every cell type."""
    names = sorted(set(metadata["sirna"]) - {"EMPTY"})
    shifts = np.array([0.6 * chance.rng(seed, "truth", name).standard_normal(len(cells.TRAITS)) for name in names])
    table = pd.DataFrame(shifts.reshape(-1, len(cells.TRAITS)), columns=list(cells.TRAITS))
    table.insert(0, "sirna", names)
    return table


def _sirna_states(metadata: pd.DataFrame, truth: pd.DataFrame, screen: Screen) -> list[tuple]:
    shifts = {row[0]: tuple(screen.strength * s for s in row[1:]) for row in truth.itertuples(index=False)}
    still = (0.0,) * len(cells.TRAITS)
    return [(1.0, 0.8 if name in shifts else 0.0, 0.0, shifts.get(name, still)) for name in metadata["sirna"]]


# ---- chance and optics ----


@lru_cache(maxsize=16)
def _optics(screen: Screen, seed: int, plate_id: str) -> dict[str, np.ndarray]:
    """What a plate does to each of the six stains."""
    rng = chance.rng(seed, plate_id)
    slope = rng.standard_normal(2)
    plate = optics.of_plate(screen, rng, len(cells.STAINS), background=0.006)
    return plate | {"slope": slope / np.hypot(*slope)}


def _place(well: str, layout: str) -> tuple[float, float]:
    """Where a well lies on its plate, from (-1, -1) at A01 to (1, 1)."""
    rows, columns = {"rxrx19a": (32, 48), "rxrx1": (16, 24), "own": (8, 12)}[layout]
    row, column = place(well)
    return 2 * row / (rows - 1) - 1, 2 * column / (columns - 1) - 1


# ---- files ----


def _preset(name: str) -> Screen:
    if name not in SCREENS:
        raise ValueError(f"unknown screen {name!r}; known are {', '.join(SCREENS)}.")
    return SCREENS[name]


_SCREEN_TOML = """# What the columns of metadata.csv mean, and where the images are.
[columns]
plate = "Platte"
well = "Vertiefung"
site = "Bildfeld"
compound = "Substanz"
concentration = "Dosis"
control = "Art"
cell_type = "Zelllinie"

[concentration]
unit = "nM"

[controls]
"C+" = ["gesund"]
"C-" = ["infiziert"]

[images]
files = "images/{Platte}/{Vertiefung}_F{Bildfeld:02}.ome.tif"
channels = ["DNA", "mito", "actin", "ER"]
"""


def _in_german(metadata: pd.DataFrame) -> bytes:
    """The table of the layout `own`, with a word for a dose, and a row that is there twice."""
    kinds = {MOCK: "gesund", ACTIVE: "infiziert"}
    treated = metadata["treatment"].ne("")
    dose = [f"{1000 * float(d):g}".replace(".", ",") if d else "" for d in metadata["treatment_conc"]]
    table = pd.DataFrame(
        {
            "Platte": "Blech-" + metadata["plate"],
            "Vertiefung": metadata["well"].str[0] + metadata["well"].str[1:].astype(int).astype(str),
            "Bildfeld": metadata["site"],
            "Zelllinie": metadata["cell_type"],
            "Art": metadata["disease_condition"].map(kinds).mask(treated, "Probe"),
            "Substanz": metadata["treatment"],
            "Dosis": dose,
        }
    )
    table.loc[treated.idxmax(), "Dosis"] = "hoch"
    table = pd.concat([table, table.iloc[-1:]])
    return table.to_csv(index=False, sep=";", lineterminator="\r\n").encode("utf-8-sig")


def _ome_tiff(images: np.ndarray, pixel_um: float) -> bytes:
    """(C, H, W) as an OME-TIFF that says how large its pixels are; the same bytes every time."""
    file = io.BytesIO()
    said = {"axes": "CYX", "PhysicalSizeX": pixel_um, "PhysicalSizeY": pixel_um, "UUID": f"urn:uuid:{uuid.UUID(int=0)}"}
    said |= {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(file, images, ome=True, photometric="minisblack", compression="zlib", metadata=said)
    return file.getvalue()


def _name(site: Site, layout: str) -> str:
    """Path below `images/`, up to the channel where there is a file for each."""
    if layout != "own":
        return site.file
    _, plate, name = site.file.split("/")
    well, number = name.split("_s")
    return f"Blech-{plate.removeprefix('Plate')}/{well[0]}{int(well[1:])}_F{int(number):02d}.ome.tif"


def _file(row) -> str:  # noqa: ANN001
    return f"{row.experiment}/Plate{row.plate}/{row.well}_s{row.site}"


def _write_site(out: Path, screen: Screen, seed: int, layout: str, broken: str, site: Site) -> None:
    """Write what is missing of a site."""
    if layout == "own":
        path = out / "images" / _name(site, layout)
        if not path.exists():
            content = _ome_tiff(render(screen, seed, site, layout), screen.pixel_um)
            files.write(path, content if site.site_id != broken else content[: len(content) // 2])
        return
    paths = [out / "images" / f"{site.file}_w{k + 1}.png" for k in range(len(STAINS_OF_FILES[layout]))]
    if not all(path.exists() for path in paths):
        for path, image in zip(paths, render(screen, seed, site, layout), strict=True):
            png = io.BytesIO()
            Image.fromarray(image).save(png, "PNG", compress_level=3)
            files.write(path, png.getvalue())


def _sha256(path: str | Path) -> str:
    return files.sha256(path)
