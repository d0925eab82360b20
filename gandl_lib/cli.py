"""`gandl …`: every stage of the workflow as one command, made from the functions that do the work."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import tyro
from tyro.conf import Positional, arg

from gandl_lib import files
from gandl_lib.train_config import TrainConfig


class _App(tyro.extras.SubcommandApp):
    """Commands whose positional arguments go by their own names in the help, and not by their types."""

    def command(self, function: Callable) -> Callable:
        hints = get_type_hints(function, include_extras=True)
        for name, hint in hints.items():
            if _POSITIONAL in get_args(hint):
                many = get_origin(get_args(hint)[0]) is tuple
                hints[name] = Annotated[hint, arg(metavar=f"{name.upper()} ..." if many else name.upper())]
        function.__annotations__ = hints
        return super().command(function)


_POSITIONAL = get_args(Positional[str])[1]
app = _App()


@app.command
def simulate(
    out: Positional[Path],
    screen: str = "quick",
    seed: int = 0,
    layout: Literal["rxrx19a", "rxrx1", "own", "bbbc021"] = "rxrx19a",
    plate_map: Path | None = None,
    where: str | None = None,
    jobs: int = 2,
) -> None:
    """Write a simulated screen with known truth, in a real screen's own layout.

    Args:
        out: folder to make.
        screen: size of the screen: tiny, quick, plate or full.
        seed: every site is a function of this seed and its own name.
        layout: rxrx19a (two cell types, infection, compounds), rxrx1 (four unseen cell types, six channels), own (a
            plate with other columns, OME-TIFFs and a screen.toml) or bbbc021 (drugs of known mechanism; tiny, quick).
        plate_map: any RxRx19a metadata.csv; its wells and doses are simulated instead of the screen's own.
        where: pandas query over the plate map, to take a part only, say "plate == 1 and site == 1".
        jobs: processes.
    """
    from gandl_lib.simulate import drugs as simulated_drugs
    from gandl_lib.simulate import screens as simulated

    if layout == "bbbc021":
        if plate_map is not None or where is not None:
            raise ValueError("the layout bbbc021 makes its own plates; leave plate_map and where out.")
        simulated_drugs.simulate(out, screen, seed, jobs)
        return
    simulated.simulate(out, screen, seed, plate_map=plate_map, where=where, layout=layout, jobs=jobs)


@app.command
def fetch(
    dataset: Positional[Literal["rxrx19a", "rxrx1", "bbbc021", "bbbc013"]],
    out: Positional[Path],
    where: str | None = None,
    images: bool = True,
    embeddings: bool = False,
    urls: Path | None = None,
    workers: int = 8,
    dry_run: bool = False,
) -> None:
    """Bring a public dataset, or the part of it that a query names, from its home; the same command resumes.

    Args:
        dataset: whose tables and images.
        out: folder to make, in the layout that the other commands read.
        where: pandas query over the metadata, say "cell_type == 'VERO' and plate == 1"; all where not given.
        images: whether to bring the images too.
        embeddings: whether to bring the published embeddings too.
        urls: JSON with addresses to use instead of the public ones.
        workers: files at a time.
        dry_run: bring the tables only and say how many bytes and minutes the images would take.
    """
    from gandl_lib.fetch import screens as fetching

    options = {"images": images, "embeddings": embeddings, "urls": urls, "workers": workers, "dry_run": dry_run}
    if fetching.fetch(dataset, out, where=where, **options).failed:
        sys.exit(1)


@app.command
def shard(data: Positional[Path], out: Positional[str], where: str | None = None, workers: int = 2) -> None:
    """Pack a screen's images and its wells table into one Zarr store.

    Args:
        data: folder with a screen in RxRx19a's, RxRx1's, BBBC021's or BBBC013's layout, or one with a screen.toml.
        out: the store to make, say screen.zarr, or an address like s3://bucket/screen.zarr.
        where: pandas query over the wells table, to take a part only.
        workers: threads.
    """
    from gandl_lib import shards

    shards.write(data, out, where=where, workers=workers)


@app.command
def cells(
    shards: Positional[Path],
    out: Positional[Path],
    size: int = 48,
    masks: bool = True,
    own_range: bool = False,
    nucleus: str = "DNA",
    jobs: int = 2,
) -> None:
    """Cut the single cells out of a store of sites: a store again, a row a cell.

    Args:
        shards: store made by `gandl shard`.
        out: the store to make, say cells.zarr.
        size: side of a crop in pixels, around the nucleus.
        masks: black out what is not the cell itself.
        own_range: scale each channel of each cell to its own range, as CytoGAN does; how bright it was is lost.
        nucleus: name of the channel that shows nuclei.
        jobs: processes.
    """
    from gandl_lib import cells as cutting

    cutting.write(shards, out, size=size, masks=masks, own_range=own_range, nucleus=nucleus, jobs=jobs)


@app.command
def train(
    method: Positional[str],
    shards: Positional[str],
    run: Positional[Path],
    preset: str | None = None,
    config: Annotated[TrainConfig, arg(name="")] = TrainConfig(),  # noqa: B008 (frozen)
    threads: int | None = None,
) -> None:
    """Train a method on a store; the same command resumes it.

    Args:
        method: its name, say gandl.
        shards: store made by `gandl shard`; a folder, or an address like s3://bucket/screen.zarr.
        run: folder for weights, log and samples.
        preset: named configuration of the method.
        threads: CPU threads; all cores where not given.
    """
    import torch

    from gandl_lib import train as training
    from gandl_lib.shards import Shards

    if threads:
        torch.set_num_threads(threads)
    training.train(method, Shards(shards), run, preset=preset, config=config)


@app.command
def embed(
    source: Positional[str],
    shards: Positional[str],
    out: Positional[Path],
    part: str | None = None,
    preset: str | None = None,
    seed: int = 0,
    ways: int = 1,
    tiles: int = 1,
    exact: bool = False,
    tap: tuple[str, ...] = (),
    name: str | None = None,
) -> None:
    """Turn a store's sites into profiles.

    Args:
        source: a run folder, a weights file, or the name of a method with nothing to train.
        shards: store made by `gandl shard`; a folder, or an address like s3://bucket/screen.zarr.
        out: profiles to write (.h5ad).
        part: which part of the sites, say 3/16 for the third of sixteen; `gandl join` puts them together.
        preset: for a method by name.
        seed: for a method by name.
        ways: in how many of the eight ways each crop is laid: 1 (as it lies), 2, 4 or 8; others for the next crop.
        tiles: cut each site into tiles x tiles parts, each a row of its own.
        exact: let crops overlap by half and lay each in all ways on large sites too, where they lie side by side.
        tap: where to read a network: penultimate or blocks; what its configuration says where not given. With several,
            one pass writes out of the first and <out>-<tap> of each further one, and calls it <name>-<tap>.
        name: what tables call this embedding, where the method's own name would not tell two of them apart.
    """
    import torch

    from gandl_lib import embed as embedding
    from gandl_lib import profiles
    from gandl_lib.shards import Shards

    if part is not None and not re.fullmatch(r"[0-9]{1,6}/[0-9]{1,6}", part):
        raise ValueError(f"--part must be like 3/16, the third part of sixteen; found {part!r}.")
    store = Shards(shards)
    method, provenance = embedding.open_method(source, store.channels, preset, seed, tap[0] if tap else None)
    method.to("cuda" if torch.cuda.is_available() else "cpu")
    provenance["method"] = name or provenance["method"]
    k_of_n = None if part is None else tuple(map(int, part.split("/")))
    if part is None:
        store.preload(max_bytes=2**28)  # of single cells, which are many and small, one by one would take longer
    options = {"provenance": provenance, "part": k_of_n, "ways": ways, "tiles": tiles, "exact": exact}
    for read_at, found in embedding.embed_taps(method, store, tap or (None,), **options).items():
        path = out
        if read_at and read_at != tap[0]:
            path = out.with_stem(f"{out.stem}-{read_at}")
            made = json.loads(found.uns["provenance"])
            found.uns["provenance"] = json.dumps(made | {"method": f"{made['method']}-{read_at}"})
        profiles.write(found, path)


@app.command
def join(paths: Positional[tuple[Path, ...]]) -> None:
    """Put profiles together that were embedded in parts, without holding them all.

    Args:
        paths: all parts, in any order, and last, as with cp, the profiles to write (.h5ad).
    """
    from gandl_lib import profiles

    *parts, out = paths
    if not parts or out.suffix != ".h5ad":
        raise ValueError(f"give the parts and then the .h5ad to write; found {' '.join(map(str, paths))}.")
    profiles.join(parts, out)


@app.command
def export(source: Positional[str], out: Positional[Path]) -> None:
    """Write profiles or images in a form that others read; the name of OUT says which.

    Args:
        source: profiles (.h5ad), or a store made by `gandl shard`.
        out: .csv, .csv.gz or .parquet for profiles; for a store .ome.zarr, or a new folder for TIFFs and metadata.csv.
    """
    from gandl_lib.screen import export as exporting

    exporting.export(source, out)


@app.command
def profiles(
    embeddings: Positional[Path],
    metadata: Positional[Path],
    out: Positional[Path],
    where: str | None = None,
    name: str = "baseline",
) -> None:
    """Make profiles of embeddings that somebody else computed, such as RxRx19a's published embeddings.csv.

    Args:
        embeddings: .csv, .parquet or .h5ad with a column a feature, and site_id or Metadata_Plate, Metadata_Well and,
            for a row a site, Metadata_Site.
        metadata: the screen's metadata.csv, or its folder; for a plate of your own a table of any name with a
            screen.toml beside it, of which a draft is shown where there is none.
        out: profiles to write (.h5ad).
        where: pandas query over the wells table, to take a part only, say "cell_type == 'VERO'".
        name: what tables call it.
    """
    from gandl_lib import profiles as tables

    tables.write(tables.published(embeddings, metadata, where, name), out)


@app.command
def bbbc021(data: Positional[Path], out: Positional[Path]) -> None:
    """Make profiles of BBBC021's published per-well CellProfiler means.

    Args:
        data: folder with Ljosa's means, BBBC021_v1_image.csv.gz and BBBC021_v1_moa.csv.
        out: profiles to write (.h5ad).
    """
    from gandl_lib import profiles as tables
    from gandl_lib.datasets import bbbc021 as dataset

    tables.write(dataset.profiles(data), out)


@app.command
def evaluate(
    kind: Positional[str],
    paths: Positional[tuple[Path, ...]],
    normalisation: tuple[str, ...] = ("all",),
    truth: Path | None = None,
    seed: int = 0,
) -> None:
    """Profiles in, tables out. All kinds need the columns plate_id, well_id, cell_type and role. Beside these:

    - separability: how well two kinds of controls are told apart. Control wells of two kinds: C+ and C-, or two cell
      types; for the split by plate two plates or more.
    - axes: what efficacy and its off-axis share are read from. 4 wells each of C+ and C- of one cell type.
    - dose-response: EC50s, hits and toxicity. Controls as for axes; columns compound and concentration_uM; 4 doses or
      more make a curve, and wells of the same dose say how far they scatter (else the C- wells do).
    - hits: which compounds do anything; without C+ too. Columns compound and concentration_uM (may be empty); treated
      wells beside negative controls on their plate, at best 8 or more, for they set the floor of p. Judged by agreement
      (two wells or more of a compound and dose), by distance, and by axis and signature (C+ too, as axes).
    - replicates: average precision without a test. As hits, two wells or more of a compound and dose.
    - probe-size: how few labels will do. Control wells of two kinds, as separability.
    - zero-shot: whether cell types are told apart. Two cell types or more, two wells or more of each.
    - moa: mechanisms of action. A column moa (`gandl bbbc021` makes it), two compounds or more of each mechanism;
      columns compound and concentration_uM.
    - distances: whether similar drugs lie together. Controls, and two drugs of a class with a dose in common; classes
      stand in gandl_lib/evaluate/drugs.py.
    - clusters: what lies together unasked. The package umap-learn (extra `methods`), some hundred rows of a cell type.

    Negative controls are C-, or untreated wells in a screen without C-. The book adds drug-control, paradigms and
    real-plate. A kind that cannot be done says what it found instead.

    Args:
        kind: which evaluation, one of those above.
        paths: profiles of one method each (.h5ad), and last, as with cp, the table to write (.csv).
        normalisation: of plates: none, all (wells), controls, tvn; the first is used where a table has one only.
        truth: truth.csv of a simulated screen, to compare a dose-response with.
        seed: of splits and bootstraps.
    """
    import pandas as pd

    from gandl_lib import profiles
    from gandl_lib.evaluate import EVALUATIONS

    others = {entry.name: entry for entry in entry_points(group="gandl.evaluations")}  # the book's
    if kind not in EVALUATIONS and kind not in others:
        raise ValueError(f"unknown evaluation {kind!r}; there are {', '.join([*EVALUATIONS, *others])}.")
    evaluation = EVALUATIONS[kind] if kind in EVALUATIONS else others[kind].load()
    *sources, out = paths
    if not sources or out.suffix != ".csv":
        raise ValueError(f"give one or more profiles and then the .csv to write; found {' '.join(map(str, paths))}.")
    known = None if truth is None else pd.read_csv(truth)
    tables = evaluation([profiles.read(path) for path in sources], normalisation, known, seed)
    for key, table in tables.items():
        write_table(table, out.with_name(key.format(out=out.stem) + ".csv"))


@app.command
def plan(
    out: Positional[Path],
    profiles: Path | None = None,
    spread: float | None = None,
    controls: tuple[int, ...] = (4, 8, 16, 32),
    replicates: tuple[int, ...] = (1, 2, 3, 4),
    plates: int = 2,
    doses: int = 7,
    lowest: float = 0.1,
    highest: float = 100.0,
    compounds: int = 20,
    normalisation: str = "all",
    seed: int = 0,
) -> None:
    """Before a screen: the smallest effect that a design can show, and the EC50 interval to expect of it.

    Args:
        out: table to write (.csv), a row a number of controls and of replicates.
        profiles: of a plate with both controls (.h5ad), to read the spread between wells from.
        spread: or that spread itself, as a standard deviation where C- lies at -1 and C+ at +1.
        controls: C- wells on each plate.
        replicates: wells of each compound and dose, on all plates together.
        plates: that share the wells.
        doses: of a compound, evenly spaced on a logarithmic scale.
        lowest: dose, in uM.
        highest: dose, in uM.
        compounds: that are judged together.
        normalisation: of the profiles' plates.
        seed: of the split of controls and of the simulated curves.
    """
    from gandl_lib import profiles as tables
    from gandl_lib.evaluate import planning

    if (profiles is None) == (spread is None):
        raise ValueError("give either --profiles, to read the spread between wells from, or --spread.")
    spread = planning.spread_of(tables.read(profiles), normalisation, seed) if spread is None else spread
    design = {"plates": plates, "doses": doses, "lowest_uM": lowest, "highest_uM": highest, "compounds": compounds}
    table = planning.plan(spread, controls=controls, replicates=replicates, **design, seed=seed)
    write_table(table, out)
    print(table.drop(columns=["plates", "doses", "compounds"]).to_string(index=False, float_format="%.3g"))


@app.command
def screen(
    data: Positional[Path],
    out: Path | None = None,
    where: str | None = None,
    weights: Path | None = None,
    train: bool = False,
    images: int = 20_000,
    seed: int = 0,
    dry_run: bool = False,
    draft: bool = False,
    threads: int | None = None,
    workers: int = 2,
) -> None:
    """A whole plate of your own: look, embed, evaluate, and write a report; the same command resumes.

    Args:
        data: folder with metadata.csv, images, and a screen.toml: a small text file that says which column is the
            plate, the well, the compound and its dose, which words mark controls, and how files are named.
        out: folder for the report, the profiles and the tables.
        where: pandas query over the wells table, to take a part only.
        weights: network to embed with, instead of the shipped one that knows these channels.
        train: train on this screen even if a shipped network knows its channels.
        images: crops to train on.
        seed: of training, splits and bootstraps.
        dry_run: look at everything, say what is there and what is odd, and write nothing.
        draft: write a first metadata.csv and screen.toml into DATA, from the names of files and columns, and stop;
            nothing is written over.
        threads: CPU threads; all cores where not given.
        workers: threads that decode images.
    """
    if draft:
        from gandl_lib.datasets import own

        print(f"Drafted, to be completed: {', '.join(map(str, own.write_draft(data)))}")
        return
    if out is None:
        raise ValueError("where should the results go? Name a folder with --out.")
    import torch

    from gandl_lib.screen import run as screening

    if threads:
        torch.set_num_threads(threads)
    options = {"where": where, "weights": weights, "train": train, "images": images, "seed": seed}
    screening.screen(data, out, dry_run=dry_run, workers=workers, **options)


@app.command
def explain(
    source: Positional[Path],
    shards: Positional[str],
    embedded: Positional[Path],
    out: Positional[Path],
    cell_type: str | None = None,
    compound: str | None = None,
    images: int = 128,
    seed: int = 0,
) -> None:
    """What the axis looks like: what changes in cells that the generator moves from C- to C+, and in real ones.

    Writes OUT.csv, and beside it OUT_moves.csv (how far the moves went) and OUT.npz (pictures). The same command
    resumes; finished parts are kept in OUT.partial until all is written.

    Args:
        source: run folder or weights file of a GAN-DL.
        shards: store made by `gandl shard`.
        embedded: profiles of it by this same network (.h5ad).
        out: the table to write (.csv).
        cell_type: which one's axis; the first by name where not given.
        compound: whose change beside the axis is measured; the one furthest towards C+ where not given.
        images: drawn images to move.
        seed: of styles and bootstraps.
    """
    import numpy as np

    from gandl_lib import explain as explaining
    from gandl_lib import profiles as tables
    from gandl_lib.shards import Shards

    if out.suffix != ".csv":
        raise ValueError(f"the table to write is a .csv; found {out}.")
    if images < 16:
        raise ValueError(f"intervals need at least 16 images; found {images}.")
    options = {"cell_type": cell_type, "compound": compound, "images": images, "seed": seed}
    kept = files.partial_path(out.with_suffix(""))
    effects, moves, pictures = explaining.explain(source, Shards(shards), tables.read(embedded), folder=kept, **options)
    write_table(moves, out.with_name(f"{out.stem}_moves.csv"))
    with files.replacing(out.with_suffix(".npz")) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, pictures=pictures)
    write_table(effects, out)
    files.unclaim(kept, explaining.RECORD)


@app.command
def provenance(results: Positional[Path], out: Positional[Path], profile: str = "quick", seed: int = 0) -> None:
    """Gather what made a results folder: commands, versions, device, sums of inputs, checkpoints and tables.

    Args:
        results: folder whose tables, profiles and runs are described.
        out: provenance.json to write.
        profile: the workflow's profile.
        seed: its seed.
    """
    from gandl_lib import checkpoints
    from gandl_lib.profiles import read

    methods = {path.stem: json.loads(read(path).uns["provenance"]) for path in sorted(results.glob("profiles/*.h5ad"))}
    weights = sorted(results.glob("runs/*/weights.safetensors"))
    found = {
        "command": f"snakemake --config profile={profile}",
        "profile": profile,
        "seed": seed,
        **checkpoints.environment(),
        "minutes": sum(m.get("minutes", 0.0) for m in methods.values()),
        "sha256": {
            str(path.relative_to(results)): files.sha256(path)
            for path in [*sorted(results.glob("*.csv")), *sorted(results.glob("data/*/metadata.csv")), *weights]
        },
        "methods": methods,
        "runs": {path.parent.name: checkpoints.read(path)[1] for path in weights},
    }
    files.write_json(out, found, indent=2, sort_keys=True)


def write_table(table, path: Path) -> None:
    with files.replacing(path) as partial:
        table.to_csv(partial, index=False)


def main() -> None:
    """Run the command line; a mistake of the caller's is one line on stderr and exit status 2."""
    try:
        for commands in entry_points(group="gandl.commands"):  # the book's, where it is installed
            commands.load()
        app.cli(prog="gandl", description=__doc__)
    except (ValueError, OSError) as error:
        print(f"gandl: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
