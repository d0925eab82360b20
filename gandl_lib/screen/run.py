"""A whole screen in one command: look, shard, train or borrow a network, embed, evaluate, report.

    OUT/found.csv odd.csv skipped.csv   what lay in the folder, what is strange about it, what was left out and why
    OUT/screen.zarr                     the images
    OUT/run/                            the training, where no shipped network knew the channels
    OUT/embeddings/<method>.h5ad        a row a site, as embedded
    OUT/profiles.h5ad                   a row a well, normalised per plate
    OUT/*.csv                           the tables; which ones depends on what the screen has
    OUT/axis_cells.npz                  cells moved from C- to C+, where the network was trained here (see `strip`)
    OUT/provenance.json
    OUT/report.html                     written last

Every file appears under its name only when it is whole, so the same command goes on where it was stopped, and ends in
the same numbers. `begun.json` remembers what OUT was begun with; another input or option needs another OUT.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.exceptions import ConvergenceWarning

from gandl_lib import checkpoints, datasets, files, profiles
from gandl_lib import embed as embedding
from gandl_lib import train as training
from gandl_lib.datasets import own
from gandl_lib.evaluate import axes, dose_response, hits, paired, separability
from gandl_lib.methods import METHODS
from gandl_lib.screen import quality, report, strip
from gandl_lib.shards import Shards
from gandl_lib.shards import write as write_shards
from gandl_lib.wells import merge_doses

METHOD, BASELINES = "gandl", ("gandl-random", "texture", "intensity")
SHIPPED = Path(__file__).parents[1] / "weights"
"""Part of the package, so that an installed library has them too."""
PRESET = "quick32"
RECORD = "begun.json"
WAYS = 2
"""In how many of the eight ways each crop is laid: twice the time, and most of what all eight bring (chapter 04)."""
TASK = "C+ vs C-"
CROP_UM = 40.0
"""About two cells: what a crop of the network that is trained here should show at least."""


@dataclass(frozen=True)
class Found:
    """What lies in a folder, images looked at."""

    layout: datasets.Layout
    wells: pd.DataFrame
    skipped: pd.DataFrame
    odd: pd.DataFrame
    shape: tuple[int, int, int]
    dtype: str
    pixel_um: float

    @property
    def table(self) -> pd.DataFrame:
        """`what, found`, for people."""
        wells = self.wells.drop_duplicates("well_id")
        roles = wells["role"].value_counts()
        treated = wells[wells["role"] == "treated"]
        doses = treated.groupby("compound")["concentration_uM"].nunique()
        rows = {
            "sites": len(self.wells),
            "sites left out": len(self.skipped),
            "wells": len(wells),
            "plates": ", ".join(wells["plate_id"].unique()[:6]) + (" …" if wells["plate_id"].nunique() > 6 else ""),
            "batches": wells["experiment"].nunique(),
            "cell types": ", ".join(wells["cell_type"].unique()[:6]),
            **{f"wells that are {role}": n for role, n in roles.items()},
            "compounds": treated["compound"].nunique(),
            "doses of a compound": "none"
            if doses.empty
            else " to ".join(map(str, dict.fromkeys([doses.min(), doses.max()]))),
            "channels": ", ".join(self.layout.channels),
            "images": f"{self.shape[1]} x {self.shape[2]} pixels of {self.pixel_um:g} µm, {self.dtype}",
        }
        return pd.DataFrame({"what": list(rows), "found": [str(v) for v in rows.values()]})


def screen(
    data: Path,
    out: Path,
    *,
    where: str | None = None,
    weights: Path | None = None,
    images: int = 20_000,
    train: bool = False,
    seed: int = 0,
    dry_run: bool = False,
    workers: int = 2,
) -> Path | None:
    """Run a screen from a folder of images to a report; go on where an earlier call was stopped.

    Args:
        data: folder with metadata.csv and images: RxRx19a's layout, RxRx1's, or any with a screen.toml (`own`).
        out: folder to make.
        where: pandas query over the wells table, to take a part only.
        weights: network to embed with, instead of the shipped one that knows these channels.
        images: crops to train on, where none does.
        train: train on this screen even if a shipped network knows its channels.
        seed: of training, splits and bootstraps.
        dry_run: look, say what was found, and stop; nothing is written.
        workers: threads that decode images.

    Returns:
        the report; None after a dry run.

    Raises:
        ValueError: the data cannot be understood, or `out` was begun with something else.
        OSError: the disk is full, or `out` cannot be written to.
    """
    data, out = Path(data), Path(out)
    if out.resolve().is_relative_to(data.resolve()):
        raise ValueError(f"{out}: the results need a folder of their own, outside of {data}.")
    store = out / "screen.zarr"
    found = None
    if dry_run or not store.exists():
        found = look(data, where, workers)
        _print(found)
    about = (found.layout.channels, found.shape, found.pixel_um) if found else _about(Shards(store))
    network = _network(weights, train, *about)
    if dry_run:
        print(f"Embedding: {_plan(network, images)}. This was a dry run; nothing was written.")
        return None
    options = {"where": where, "weights": network and files.sha256(network), "seed": seed}
    options |= {} if network else {"images": images, "preset": PRESET}
    said = {"folder": data.resolve().name, "begun_on": datetime.date.today().isoformat()}
    files.claim(out, RECORD, {"data": _fingerprint(data)} | options | said, ignore=tuple(said))

    if found is not None:
        for name, table in (("found", found.table), ("odd", found.odd), ("skipped", found.skipped)):
            _write_table(out / f"{name}.csv", table)
        write_shards(data, store, where=where, workers=workers, sites=(found.wells, found.skipped))
    shards = Shards(store)
    print(f"Embedding: {_plan(network, images)}.", flush=True)
    source = str(network or _trained(shards, out / "run", images, seed))
    preset = json.loads((out / "run" / "config.json").read_text())["preset"] if network is None else None
    embedded = {METHOD: _embed(source, shards, out, METHOD, None, seed)}
    for name in BASELINES:
        chosen = (preset or _preset_of(source)) if name == "gandl-random" else None
        if name != "gandl-random" or chosen:
            embedded[name] = _embed(name, shards, out, name, chosen, seed)
    if shards.channels[0].lower() in own.NUCLEI:  # cells are counted in the first channel
        counts = _embed("cell-count", shards, out, "cell-count", None, seed)
        for one in embedded.values():
            one.obs["cell_count"] = counts.X[:, 0]
    notes = _tables(embedded, shards, out, seed)
    if "cell_count" not in embedded[METHOD].obs:
        first = f"the first channel, {shards.channels[0]}, is not called a nuclear stain"
        notes.append(f"Cells were not counted, for {first}: a compound that kills is known by other signs alone.")
    if network is None:
        strip.make(source, shards, embedded[METHOD], out, seed)
    _provenance(embedded, out, seed)
    path = out / "report.html"
    files.write(path, report.render(out, shards, notes))
    print(f"The report is {path}")
    return path


# ---- looking ----


def look(data: Path, where: str | None = None, workers: int = 2) -> Found:
    """Read the table, look at every image, and say what is there.

    Raises:
        ValueError: as the layout's `wells`; where there is no description of the columns, with a draft of one.
    """
    try:
        layout = datasets.open_layout(data)
    except ValueError as error:
        table = data / datasets.METADATA
        if own.find(data) or not table.is_file():
            raise
        raise ValueError(
            f"{error}\n\nA first draft of {own.MAPPINGS[0]}, guessed from the names of the columns; complete it, "
            f"check it, and save it as {data / own.MAPPINGS[0]}:\n\n{own.draft(table)}"
        ) from None
    wells, skipped, odd = layout.wells(where, workers)
    as_one, merged = merge_doses(wells)
    first = layout.read(wells.iloc[0])
    simulation = data / "simulation.json"
    pixel_um = layout.pixel_um
    if simulation.is_file():
        pixel_um = float(json.loads(simulation.read_text()).get("pixel_um", pixel_um))
    rounded = [
        ("doses written in several ways, taken as one", len(part), f"{compound}: {part['written'].iloc[0]}")
        for compound, part in merged.groupby("compound")
    ]
    rounded = pd.DataFrame(rounded, columns=odd.columns)
    odd = pd.concat([odd, rounded, _design(as_one, pixel_um, first.shape)], ignore_index=True)
    return Found(layout, wells, skipped, odd, first.shape, first.dtype.name, pixel_um)


def _design(sites: pd.DataFrame, pixel_um: float, shape: tuple[int, ...]) -> pd.DataFrame:
    """What a screen's design keeps anybody from judging: `what, count, first`."""
    rows: list[tuple[str, int, str]] = []
    wells = sites.drop_duplicates("well_id")
    counts = (
        wells.groupby(["plate_id", "role"]).size().unstack(fill_value=0).reindex(columns=["C+", "C-"], fill_value=0)
    )
    for role, what in (("C+", "positive"), ("C-", "negative")):
        lacking = counts.index[counts[role] < axes.MIN_WELLS]
        if len(lacking):
            rows.append((f"plates with fewer than {axes.MIN_WELLS} {what} controls ({role})", len(lacking), lacking[0]))
    treated = wells[wells["role"] == "treated"]
    if counts["C+"].sum() == 0 and len(treated):
        what = "no positive control (C+): no efficacy, hits by efficacy or EC50 can be judged, only distance from C-"
        rows.append((what if counts["C-"].sum() else "no control at all: no compound can be judged", 1, ""))
    doses = treated.groupby("compound")["concentration_uM"].nunique()
    if len(few := doses[doses < dose_response.MIN_DOSES]):
        rows.append((f"compounds with fewer than {dose_response.MIN_DOSES} doses: no curve", len(few), few.index[0]))
    copies = treated.groupby(["cell_type", "compound", "concentration_uM"], dropna=False).size()
    if len(single := copies[copies < 2]):
        rows.append(("doses in a single well: no spread to judge by", len(single), str(single.index[0][1])))
    if wells["plate_id"].nunique() == 1:
        rows.append(("one plate only: nothing tells a plate's whims from biology", 1, wells["plate_id"].iloc[0]))
    if 32 * pixel_um < CROP_UM / 2:
        bins = round(1.3 / pixel_um)
        rows.append(
            (f"pixels of {pixel_um:g} µm: 32 of them are less than a cell; consider [images] bin = {bins}", 1, "")
        )
    if min(shape[1:]) < 32:
        raise ValueError(f"images of {shape[1]} x {shape[2]} pixels are too small; 32 x 32 are needed at least.")
    return pd.DataFrame(rows, columns=["what", "count", "first"])


def _print(found: Found) -> None:
    def lines(table: pd.DataFrame, n: int = 10) -> str:
        """Columns under each other but for the last, which is never cut: it may say what to do."""
        text = table.head(n).astype(str)
        widths = [max(map(len, text[c])) for c in text][:-1] + [0]
        rows = ["  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)) for row in text.itertuples(index=False)]
        return "\n".join(rows) + (f"\n… and {len(table) - n} more" if len(table) > n else "")

    print(f"Found:\n{lines(found.table, 30)}")
    first = [f" (first: {one})" if one else "" for one in found.odd["first"]]
    odd = pd.DataFrame({"count": found.odd["count"].astype(str) + " x", "what": found.odd["what"] + first})
    print(f"\nOdd:\n{lines(odd)}" if len(odd) else "\nNothing odd.")
    print(f"\nLeft out, {len(found.skipped)} site(s):\n{lines(found.skipped)}\n" if len(found.skipped) else "")


# ---- networks ----


def _about(shards: Shards) -> tuple[tuple[str, ...], tuple[int, ...], float]:
    return shards.channels, shards.shape, shards.pixel_um


def _network(
    weights: Path | None, train: bool, channels: tuple[str, ...], shape: tuple[int, ...], pixel_um: float
) -> Path | None:
    """The weights to embed with; None where a network has to be trained."""
    if weights is not None and train:
        raise ValueError("either weights or train, not both.")
    if weights is not None:
        header = checkpoints.read(Path(weights))[1]
        if len(header["channels"]) != len(channels):
            raise ValueError(
                f"{weights} knows {len(header['channels'])} channels ({', '.join(header['channels'])}); these images "
                f"have {len(channels)}: {', '.join(channels)}."
            )
        return Path(weights)
    for path in [] if train else sorted(SHIPPED.glob("gandl-*.safetensors")):
        header = checkpoints.read(path)[1]
        side = min(shape[1:]) * pixel_um / header["pixel_um"]  # in the pixels that the network knows
        if tuple(header["channels"]) == tuple(channels) and side >= header["config"]["network"]["resolution"]:
            return path
    return None


def _plan(network: Path | None, images: int) -> str:
    if network is None:
        return f"a network is trained on this screen, on {images:,} crops (no shipped one fits its channels)"
    return f"with {network.name}, which knows these channels"


def _trained(shards: Shards, run: Path, images: int, seed: int) -> Path:
    config = training.TrainConfig(images=images, ticks=5, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of the probe that watches, on few wells
        training.train(METHOD, shards, run, preset=PRESET, config=config)
    return run


def _preset_of(source: str) -> str | None:
    """The preset whose configuration a weights file has, so that its untrained self can be asked too.

    What the file does not name, for it is older than that setting, has the default.
    """
    header = checkpoints.read(Path(source))[1]
    presets = METHODS[METHOD].presets if header["method"] == METHOD else {}
    return next((n for n, c in presets.items() if checkpoints.config_from_json(type(c), header["config"]) == c), None)


def _embed(source: str, shards: Shards, out: Path, name: str, preset: str | None, seed: int) -> AnnData:
    path = out / "embeddings" / f"{name}.h5ad"
    if not path.exists():
        method, provenance = embedding.open_method(source, shards.channels, preset, seed)
        provenance["method"] = name
        provenance["trained_on_simulated"] = provenance.get("simulated")  # `simulated` will be that of these images
        profiles.write(embedding.embed(method, shards, provenance=provenance, ways=WAYS), path)
    return profiles.read(path)


# ---- tables ----


def _tables(embedded: dict[str, AnnData], shards: Shards, out: Path, seed: int) -> list[str]:
    """Write every table that this screen allows; returns what could not be judged, and why, in sentences."""
    notes: list[str] = []

    def made(name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame | None:
        """The table of that name, made if it is not there; None, and a note, where the screen does not allow it."""
        path, noted = out / f"{name}.csv", out / "notes" / f"{name}.json"
        said = json.loads(noted.read_text()) if noted.exists() else None  # written after the table
        if said is None or said["made"] != path.exists():
            table = None
            with _noted() as caught:
                try:
                    table = make()
                except ValueError as error:
                    caught.append(str(error))
            if table is not None:
                _write_table(path, table)
            said = {"made": table is not None, "notes": list(dict.fromkeys(caught))}
            files.write_json(noted, said)
        notes.extend(said["notes"])
        return pd.read_csv(path) if said["made"] else None  # read back, so that a second run sees the same digits

    several = list(embedded.values())
    plates = shards.wells.groupby("plate_id")["well_id"].nunique()
    how = "all" if plates.ge(profiles.MIN_REFERENCE_WELLS).all() else "none"
    if how == "none":
        notes.append("A plate has a single well, so plates could not be normalised: their differences are still in.")
    wells = profiles.aggregate(profiles.normalise(embedded[METHOD], how))
    if not (out / "profiles.h5ad").exists():
        profiles.write(wells, out / "profiles.h5ad")

    scores = made("efficacy", lambda: axes.efficacy(several, how, seed))
    if scores is not None:
        made("axes", lambda: axes.axes(several, ("E2",), how, seed))
        made("controls", lambda: quality.controls(scores, seed=seed))
        tasks = {TASK: separability.TASKS[TASK]}
        splits = ["well", "plate"] if plates.size > 1 else ["well"]
        judged = cache(lambda: separability.judged(several, (how,), splits, seed, tasks=tasks))
        made("separability", lambda: judged()[0])
        made("paired", lambda: paired.paired(judged()[1], seed=seed))
        dosed, treated = scores["concentration_uM"].notna(), scores["role"].eq("treated")
        if not treated.any():
            notes.append("No well is treated with a compound, so there are no hits to look for.")
        elif (dosed & treated).any():
            made("dose_response", lambda: dose_response.curves(scores))
            made("dose_points", lambda: dose_response.points(scores))
        else:
            notes.append("No compound has a concentration: hits are judged by their mean, and there are no curves.")
            made("dose_response", lambda: _without_doses(scores))
    elif shards.wells["role"].eq("treated").any():  # no axis: what lies apart from C-, by `hits.DEFAULT` and others
        made("hits", lambda: hits.hits(several, how, seed))
    made("pictures", lambda: quality.pictures(shards, name_dim=shards.layout != "own"))
    described = made("wells", lambda: _wells(shards, embedded["intensity"], scores))
    quantities = [c for c in described if c.startswith("intensity_") or c == "cells"] + (
        ["efficacy"] if scores is not None else []
    )
    made("edge_effects", lambda: quality.edges(described, quantities))
    return list(dict.fromkeys(notes))


def _without_doses(scores: pd.DataFrame) -> pd.DataFrame:
    """`dose_response.curves` of compounds whose dose nobody wrote down: a test against the controls, and no curve."""
    one = scores.assign(concentration_uM=np.where(scores["role"].eq("treated"), 1.0, np.nan))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No curve for")
        return dose_response.curves(one).assign(n_doses=0)


def _wells(shards: Shards, intensity: AnnData, scores: pd.DataFrame | None) -> pd.DataFrame:
    """One row a well: what it is, its sites, cells a site, mean intensity of each channel (0..1), efficacy."""
    per_well = profiles.aggregate(intensity)
    table = per_well.obs[
        ["well_id", "plate_id", "well", "role", "compound", "concentration_uM", "cell_type"]
    ].reset_index(drop=True)
    table["sites"] = per_well.obs["n_sites"].to_numpy()
    lost = shards.skipped["site_id"].str.replace(r"_[^_]*$", "", regex=True).value_counts()
    table["sites_left_out"] = table["well_id"].map(lost).fillna(0).astype(int)
    if axes.CELL_COUNT in intensity.obs:
        table["cells"] = table["well_id"].map(intensity.obs.groupby("well_id", observed=True)[axes.CELL_COUNT].mean())
    features = per_well.n_vars // len(shards.channels)  # of each channel; the first is its mean
    for c, channel in enumerate(shards.channels):
        table[f"intensity_{channel}"] = (per_well.X[:, c * features] + 1) / 2
    if scores is not None:
        mine = scores[scores["method"] == METHOD].set_index("well_id")["efficacy"]
        table["efficacy"] = table["well_id"].map(mine)
    return table


@contextmanager
def _noted():
    """Collect warnings as sentences instead of printing them; those of solvers that did not converge are left out."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield notes
    notes += [str(w.message) for w in caught if issubclass(w.category, UserWarning)]


# ---- files ----


def _fingerprint(data: Path) -> str:
    """Of the table and its description; images are known by name, size and date."""
    sums = hashlib.sha256()
    for path in (data / datasets.METADATA, own.find(data)):
        if path is not None and path.is_file():
            sums.update(path.read_bytes())
    for folder, folders, names in os.walk(data):
        folders.sort()
        for name in sorted(names):
            try:
                stat = os.stat(os.path.join(folder, name))
            except OSError:
                continue
            sums.update(
                f"{os.path.relpath(folder, data)}/{name} {stat.st_size} {stat.st_mtime_ns}\n".encode("utf-8", "replace")
            )
    return sums.hexdigest()


def _provenance(embedded: dict[str, AnnData], out: Path, seed: int) -> None:
    found = {
        "command": "gandl screen",
        "seed": seed,
        **checkpoints.environment(),
        "begun": json.loads((out / RECORD).read_text()),
        "sha256": {path.name: files.sha256(path) for path in sorted(out.glob("*.csv"))},
        "methods": {name: json.loads(p.uns["provenance"]) for name, p in embedded.items()},
    }
    files.write_json(out / "provenance.json", found, indent=2, sort_keys=True)


def _write_table(path: Path, table: pd.DataFrame) -> None:
    files.write(path, table.to_csv(index=False))
