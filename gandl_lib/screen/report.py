"""One page that says what a screen showed, for people who do not program: tables and images in, one HTML file out.

Nothing is fetched from anywhere: style, script and pictures are inside, and without the script nothing is missing.
`report.html` beside this file is the page; here is what goes into it. Whatever came from metadata is escaped, in text,
in tables, in the words of pictures and in the pictures themselves (where `$` would start a formula). Sentences follow
the tables (`plots.sentences`), and what a screen does not have is said to be missing.
"""

from __future__ import annotations

import base64
import html
import json
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader
from markdown_it import MarkdownIt
from markupsafe import Markup

from gandl_lib import profiles
from gandl_lib.plots import axes, doses, images, maps, page, plates, sentences, strips, words
from gandl_lib.plots.page import Output
from gandl_lib.screen import quality, strip
from gandl_lib.shards import Shards
from gandl_lib.wells import place

METHOD = words.METHOD
MAX_PLATES = 8
"""Plates whose maps are shown; tables speak of all."""
TOP, CLOSELY = 6, 12
"""Compounds shown side by side, and one by one."""
MONTAGE_PX = 192
THUMBNAIL_PX, SHEET_PX = 96, 1200
EMBED_BYTES = 300_000
"""Tables up to this size are inside the page too."""
EDGE_P = 0.01

WORDS = {
    "C+": "Control wells in the state that a compound should lead to, for instance healthy cells.",
    "C-": "Control wells in the state that a compound should lead away from, for instance infected cells.",
    "efficacy": "Where a well lies between the two: -1 looks like C-, +1 looks like C+, 0 is half-way.",
    "hit": "A compound whose efficacy depends on the dose or lies above 0, more clearly than chance allows with 5 %"
    " false discoveries, and with a dose whose mean is above 0.",
    "EC50": "The concentration with half of the effect, in micromoles per litre (µM), with its 95 % interval.",
    "q": "The share of false hits one has to expect if this compound and all with a smaller q are called hits.",
    "SSMD": "Distance between the controls in units of their spread. Above 3 is strong, below 1 weak.",
    "Z′": "A stricter measure of the same: above 0.5 single wells can be trusted, below 0 the controls overlap.",
    "AUROC": "How often a C+ well scores above a C- well: 1 always, 0.5 by coin toss.",
}


def render(out: Path, shards: Shards, notes: Sequence[str] = ()) -> str:
    """The page.

    Args:
        out: folder that `screen.screen` has filled, as far as the tables.
        shards: the screen's images.
        notes: what could not be judged, in sentences.
    """
    tables = read_tables(out)
    made = json.loads((Path(out) / "provenance.json").read_text())
    with _drawing():
        sections = {
            "In short": _short(tables, shards, made),
            "What was found": _found(tables, shards),
            "Plates": _plates(tables, shards),
            "Controls": [*_controls(tables), *_strip(tables, shards, made, Path(out))],
            "Hits": _hits(tables, shards),
            "Map of all wells": _map(Path(out)),
            "What the cells look like": _cells(tables, shards),
            "What to distrust": _distrust(tables, shards, made, notes),
            "How it was made": _made(made, Path(out)),
        }
        parts = [{"name": name, "anchor": _anchor(name), "blocks": list(blocks)} for name, blocks in sections.items()]
    n_plates = shards.wells["plate_id"].nunique()
    begun = made["begun"]
    named = f", {begun['folder']}" if begun.get("folder") else ""
    return _TEMPLATES.get_template("report.html").render(
        title=f"Screen of {words.count(n_plates, 'plate')}{named}",
        simulated=shards.simulated,
        folder=begun.get("folder", ""),
        begun_on=begun.get("begun_on", ""),
        version=made["versions"].get("gandl", ""),
        commit=made.get("git_commit"),
        sections=parts,
        live=page.live(),
        dark=page.DARK_STYLE,
        words=WORDS,
    )


def read_tables(out: str | Path) -> dict[str, pd.DataFrame]:
    """The tables in a folder that `screen.screen` has filled, by name."""
    return {path.stem: pd.read_csv(path) for path in sorted(Path(out).glob("*.csv"))}


def montage_groups(tables: dict[str, pd.DataFrame], shards: Shards, n: int = 4) -> dict[str, np.ndarray]:
    """Sites drawn by lot of each control and of the best compounds at their best dose.

    Returns:
        label -> (n, C, H, W) in [0, 1], for `images.montage`.
    """
    rng, wells = np.random.default_rng(0), shards.wells
    chosen = {role: wells.index[wells["role"] == role] for role in ("C+", "C-", "untreated")}
    curves, points = tables.get("dose_response"), tables.get("dose_points")
    for cell_type, compound in _top(curves)[:3] if curves is not None else []:
        mine = wells[(wells["compound"] == compound) & (wells["cell_type"] == cell_type) & (wells["role"] == "treated")]
        chosen[compound] = mine.index
        if points is not None:
            same = points[(points["method"] == METHOD) & (points["compound"] == compound)]
            best = same[same["cell_type"] == cell_type].nlargest(1, "efficacy")["concentration_uM"]
            near = mine.index[np.isclose(mine["concentration_uM"], best.iloc[0] if len(best) else np.nan)]
            if len(near):
                del chosen[compound]
                chosen[f"{compound} {best.iloc[0]:.3g} µM"] = near
    chosen = {label: rows for label, rows in chosen.items() if len(rows)} or {"all wells": wells.index}
    groups = {}
    for label, rows in chosen.items():
        picked = np.sort(rng.permutation(rows)[:n])
        short = "\n".join(textwrap.wrap(label, 14, max_lines=3, placeholder="…")) or label
        groups[_literal(short)] = images.unit(images.centre(shards.read_many(picked), MONTAGE_PX), shards.limits)
    return groups


class Block(NamedTuple):
    """A piece of a section; the template says how each kind is shown."""

    kind: str
    """text, heading, warn: plain text; said, verdict: an `Output`, in Markdown; html: a figure or table; words."""
    content: Any


# ---- the sections ----


def _short(tables: dict[str, pd.DataFrame], shards: Shards, made: dict[str, Any]) -> Iterator[Block]:
    yield Block("verdict", sentences.usable(tables))
    yield Block("said", sentences.screen(shards, "This"))
    yield Block("said", sentences.control_separation(tables.get("controls")))
    curves = tables.get("dose_response")
    if curves is None:
        yield Block("text", "No hits can be called; the section on hits says why.")
        return
    yield Block("said", sentences.hits(curves))
    yield Block("said", sentences.first_in_line(curves, sentences.brightness(tables)))


def _found(tables: dict[str, pd.DataFrame], shards: Shards) -> Iterator[Block]:
    yield from _table(tables["found"], "What lay in the folder, after every image was opened once.")
    odd, skipped = tables["odd"], tables["skipped"]
    if len(odd):
        yield from _table(odd.rename(columns={"first": "for instance"}), "What is odd, and was kept.")
    if skipped.empty:
        yield Block("text", "No site had to be left out.")
    else:
        yield Block("text", f"{len(skipped)} site(s) were left out, for these reasons.")
        yield from _table(skipped[:20], f"The first {min(20, len(skipped))} of {len(skipped)}; all are in skipped.csv.")


def _plates(tables: dict[str, pd.DataFrame], shards: Shards) -> Iterator[Block]:
    wells, edges = tables["wells"], tables.get("edge_effects")
    ids = list(wells["plate_id"].unique())
    channels = [c for c in wells if c.startswith("intensity_")]
    seen = tables.get("pictures")
    if seen is not None:
        first = seen[seen["channel"] == seen["channel"].iloc[0]].set_index("well_id")["focus"]
        wells = wells.assign(focus=wells["well_id"].map(first))
    chosen = {
        "efficacy": "efficacy",
        "cells": "cells a site",
        channels[0]: f"mean {_named(channels[0])}",
        "focus": f"focus of {shards.channels[0]}",
        "sites": "sites counted",
    }
    chosen = {c: label for c, label in chosen.items() if c in wells and wells[c].nunique() > 1}
    yield Block(
        "text", "A plate should look like noise, apart from its layout. Stripes and frames are handling, not biology."
    )
    yield Block("said", sentences.edge_effects(edges, EDGE_P))
    if seen is not None:
        yield Block("said", sentences.picture_doubts(seen))
    panels, sheets = {}, []
    for k, plate_id in enumerate(ids[:MAX_PLATES]):
        picture, places = sheet(shards, wells[wells["plate_id"] == plate_id])
        alt = f"Every well of plate {plate_id} as it lies there, one site of each as a colour composite."
        sheets.append(f'<img id="sheet-{k}" class="sheet" alt="{html.escape(alt)}" src="{picture}">')
        for quantity, label in chosen.items():
            known = wells[quantity].dropna()
            limits = (0.0, float(known.max())) if quantity == "sites" else tuple(known.quantile([0.01, 0.99]))
            if quantity == "efficacy":
                limits = (-1.5, 1.5)
            if limits[0] == limits[1]:
                limits = (limits[0] - 0.5, limits[1] + 0.5)
            figure = plates.well_map(
                _literal(wells), _literal(plate_id), quantity, _literal(label), limits, places, f"sheet-{k}"
            )
            panels[f"{plate_id}: {label}"] = page.drawing(figure, figure.alt.replace(r"\$", "$"))
    said = "Each well of a plate; frames are controls. Point at a well, or walk there with the arrow keys: it says what"
    said += " it is."
    if panels:
        yield Block("html", page.choice_html(panels, "Plate and quantity", said))
    pictures = "".join(f"<p>{html.escape(str(p))}</p>{img}" for p, img in zip(ids, sheets, strict=False))
    yield Block("html", f'<details class="sheets"><summary>Pictures of all wells</summary>{pictures}</details>')
    if len(ids) > MAX_PLATES:
        yield Block("text", f"{len(ids) - MAX_PLATES} more plates are in wells.csv.")
    if edges is not None and len(edges):
        worst = edges.dropna(subset=["p_value"]).sort_values("p_value").head(12)
        worst = worst.assign(quantity=worst["quantity"].map(_named))
        names = {"plate_id": "plate", "n_edge": "outer wells", "n_inside": "inner wells", "p_value": "p"}
        names |= {"edge_difference_sd": "outer minus inner (SD)", "row_trend": "by row", "column_trend": "by column"}
        yield from _table(
            worst.rename(columns=names), "Edge effects, the clearest first; the trends are rank correlations."
        )


def _controls(tables: dict[str, pd.DataFrame]) -> Iterator[Block]:
    if "controls" not in tables or tables["controls"].empty:
        yield Block(
            "warn",
            "There are not enough wells of both controls, C+ and C-. Nothing can be scaled between "
            "them, so efficacy, hits "
            "and doses cannot be judged. Maps, plates and images are below.",
        )
        return
    yield Block(
        "text",
        "Before any compound is believed, the two controls must lie apart. These wells were not used "
        "to find the axis they "
        "are measured on, or were measured on one found without them.",
    )
    figure = axes.efficacy_plot(_literal(tables["efficacy"]), METHOD)
    yield _shown(figure, "Efficacy of every well; a bar is the mean of a role.")
    controls = tables["controls"]
    overall = controls["plate_id"] == quality.ALL
    shown, each = controls[overall], controls[~overall & (controls["method"] == METHOD)]
    yield from _table(
        sentences.control_table(shown), "Separation of the controls, with two simple rivals for comparison."
    )
    if each["plate_id"].nunique() > 2 and np.isfinite(each["z_prime"]).all():
        yield _shown(axes.trend(_literal(each)), "Z′ of each plate, in the order of their names: is it drifting?")
    yield from _table(sentences.control_table(each), "The same for each plate.")
    yield Block("said", sentences.beyond(tables["efficacy"], tables.get("dose_response")))
    if "separability" in tables:
        how = tables["separability"]["normalisation"].iloc[0]
        paired = tables.get("paired")
        yield Block("said", sentences.separability(tables["separability"], normalisation=how, paired=paired))
        yield Block("said", sentences.held_out_plates(tables["separability"], normalisation=how))


def _strip(tables: dict[str, pd.DataFrame], shards: Shards, made: dict[str, Any], out: Path) -> Iterator[Block]:
    """Cells on their way from C- to C+, by the generator that was trained on this screen."""
    found = strip.read(out)
    if "controls" not in tables or tables["controls"].empty or (found is None and not made["begun"]["weights"]):
        return
    yield Block("heading", "Cells from C- to C+")
    if found is None:
        yield Block(
            "text",
            "The network was brought along, so what its generator draws need not be cells of this screen. Where it is"
            " trained here (--train), cells that are moved along the axis are shown at this place.",
        )
        return
    if found.why_not:
        yield Block("text", f"No cells moved along the axis can be shown: {found.why_not}")
        return
    mine = tables["controls"]["method"] == METHOD
    if tables["controls"][mine]["cell_type"].nunique() > 1:
        which = found.effects["cell_type"].iloc[0]
        yield Block("text", f"Of {which}, the cell type whose controls lie farthest apart.")
    yield Block("said", strips.what_changes(found.effects, found.moves))
    channels, names = tuple(map(_literal, shards.channels)), {"drawn": "drawn", "redrawn": "drawn again"}
    groups = {names[name]: cells for name, cells in found.groups.items()}
    real = {names["redrawn"]: found.real}
    yield _shown(
        strips.composite_strips(groups, real, channels, shards.pixel_um, shards.simulated),
        "Cells moved along the axis, a row each: some that the generator made up, and C- cells of the screen (left, as"
        " they are) that it draws again. All but these are drawings. Above is where a cell was asked to be, C- at -1"
        " and C+ at +1; how far it came is said above.",
    )
    panels = {}
    for name, title in (("drawn", "A drawn cell"), ("redrawn", "A cell of the screen, drawn again")):
        figure = strips.axis_strip(found.groups[name][0], channels, shards.pixel_um, title)
        panels[title] = page.drawing(figure, figure.alt.replace(r"\$", "$"))
    said = "The first of each, channel by channel; right, the last less the first: red is brighter towards C+."
    yield Block("html", page.choice_html(panels, "Cell", said))
    yield Block("text", "What to distrust in these pictures:")
    yield Block("said", strips.what_to_distrust(found.moves, made["methods"][METHOD]["n_seen"]))
    yield from _table(
        strips.change_table(found.effects),
        "What changes beyond chance between C- and C+ wells, or in cells drawn along the axis; in standard deviations"
        " of small crops of C- wells, with 95 % intervals. All are in axis_effects.csv. Grain: over what length a"
        " channel varies; spots: how many; ring: how far from the nucleus's edge its light lies; nuclear: how much"
        " brighter it is in the nucleus than around it.",
    )


def _hits(tables: dict[str, pd.DataFrame], shards: Shards) -> Iterator[Block]:
    curves = tables.get("dose_response")
    if curves is None or curves[curves["method"] == METHOD]["efficacy_max"].isna().all():
        yield Block(
            "warn", "There is no efficacy to call hits by: it takes both controls, and wells treated with compounds."
        )
        if "hits" in tables:
            yield Block("said", sentences.hits_without_axis(tables["hits"]))
            yield from _table(
                sentences.hits_without_axis_table(tables["hits"]),
                "Compounds and doses that stand out from the negative controls, the clearest first. "
                "This says that they do "
                "something, not that it is what one looks for. All are in hits.csv.",
            )
        return
    yield Block("said", sentences.hits(curves))
    yield Block("said", sentences.suspicious(curves))
    dim = sentences.brightness(tables)
    listed = sentences.hit_table(curves, n=25, brightness=dim)
    others = [m for m in (*sentences.PLAIN, sentences.UNTRAINED) if (curves["method"] == m).any()]
    called = {m: curves[(curves["method"] == m) & curves["hit"].astype(bool)] for m in others}
    called = {m: set(zip(c["cell_type"], c["compound"], strict=True)) for m, c in called.items()}
    if len(listed) and others:
        pairs = list(zip(listed["cell type"], listed["compound"], strict=True))
        listed["also called by"] = [
            ", ".join(page.name(m) for m in others if pair in called[m]) or None for pair in pairs
        ]
    if len(listed) and listed["cell type"].nunique() == 1:
        listed = listed.drop(columns="cell type")
    yield from _table(
        listed,
        "The compounds with the highest efficacy. A warning stands beside the hit that it is about: "
        "much less brightness than C- wells, or fewer cells, is a sign of death. Heads sort.",
        "hits",
    )
    yield Block("heading", "Compound by compound")
    panels = _closely(tables, shards)
    if panels:
        what = "One compound: its doses, its wells and its cells. " if "dose_points" in tables else ""
        said = "Green dots are means with their 95 % intervals, grey ones wells; each says what it is."
        said += " Below, one site a dose."
        yield Block("html", page.choice_html(panels, "Compound", what + (said if what else "One site a dose.")))
    if "dose_points" not in tables:
        yield Block("text", "No compound has several known doses, so there are no curves.")


def _closely(tables: dict[str, pd.DataFrame], shards: Shards) -> dict[str, str]:
    """Of each of the best compounds: its curve, if there is one, a picture a dose, and its wells."""
    pairs = sentences.top(tables["dose_response"], CLOSELY)
    curves, points = _literal(tables["dose_response"]), tables.get("dose_points")
    drawn = {}
    if points is not None:
        literal = [(_literal(cell_type), _literal(compound)) for cell_type, compound in pairs]
        scores = _literal(tables["efficacy"])
        shown = doses.panels_of(_literal(points), curves, METHOD, literal, wells=scores)
        drawn = {key.replace(r"\$", "$"): panel.replace(r"\$", "$") for key, panel in shown.items()}
    titles = list(drawn) or [f"{compound} in {cell_type}" for cell_type, compound in pairs]
    wells = tables["wells"]
    panels = {}
    for title, (cell_type, compound) in zip(titles, pairs, strict=True):
        mine = wells[(wells["cell_type"] == cell_type) & (wells["compound"] == compound) & (wells["role"] == "treated")]
        control = wells[(wells["cell_type"] == cell_type) & wells["role"].isin(["C+", "C-"])].groupby("role").head(1)
        strip = [(row.role, row) for row in control.itertuples()]
        by_dose = mine.sort_values("concentration_uM").groupby("concentration_uM", dropna=False).head(1)
        strip += [(_dose(row.concentration_uM), row) for row in by_dose.itertuples()]
        pictures = "".join(_thumbnail(shards, row.well_id, label) for label, row in strip)
        columns = {"well": "well", "plate_id": "plate", "concentration_uM": "dose (µM)", "efficacy": "efficacy"}
        columns |= {"cells": "cells a site", "sites": "sites"}
        listed = mine.sort_values("concentration_uM")[[c for c in columns if c in mine]].rename(columns=columns)
        listed = page.table_html(listed, f"All wells of {compound}.")
        whole = f"<details><summary>Its {len(mine)} wells</summary>{listed}</details>"
        panels[title] = f'{drawn.get(title, "")}<div class="strip">{pictures}</div>{whole}'
    return panels


def _dose(concentration_uM: float) -> str:
    return f"{words.number(concentration_uM)} µM" if np.isfinite(concentration_uM) else "dose not known"


def _thumbnail(shards: Shards, well_id: str, label: str) -> str:
    row = shards.wells.index[shards.wells["well_id"] == well_id][0]
    image = images.tiles(images.unit(shards.read(int(row)), shards.limits), THUMBNAIL_PX)
    source = images.jpeg(images.composite(image, shards.channels))
    alt = html.escape(f"A site of well {well_id}, {label}: colour composite.")
    caption = f"<figcaption>{html.escape(label)}</figcaption>"
    return f'<figure class="thumbnail"><img alt="{alt}" src="{source}">{caption}</figure>'


def sheet(shards: Shards, plate: pd.DataFrame) -> tuple[str, list[str]]:
    """One site of each well of a plate, as the wells lie: the picture's address, and the place of each well in it.

    Args:
        plate: rows of wells.csv, of one plate.

    Returns:
        JPEG as a data address; for each row "left top side" in pixels.
    """
    at = np.array([place(well) for well in plate["well"]])
    rows, columns = at.max(axis=0) + 1
    px = int(np.clip(SHEET_PX // max(columns, rows), 16, THUMBNAIL_PX))
    whole = np.zeros((rows * px, columns * px, 3), np.float32)
    first = pd.Series(shards.wells.index, shards.wells["well_id"]).groupby(level=0).first()
    for (row, column), well_id in zip(at, plate["well_id"], strict=True):
        image = images.tiles(images.unit(shards.read(int(first[well_id])), shards.limits), px)
        whole[row * px : (row + 1) * px, column * px : (column + 1) * px] = images.composite(image, shards.channels)
    return images.jpeg(whole), [f"{column * px} {row * px} {px}" for row, column in at]


def _map(out: Path) -> Iterator[Block]:
    wells = profiles.read(out / "profiles.h5ad")
    if min(wells.shape) < 3:
        yield Block("text", "Too few wells for a map.")
        return
    wells.obs = _literal(wells.obs[["plate_id", "role"]])
    figure = maps.pca_views({"normalised per plate": wells})
    yield Block("text", "Wells that look alike lie together. Left, plates should mix; right, roles should not.")
    yield _shown(figure, "All wells on the two directions in which they differ most (principal components).")


def _cells(tables: dict[str, pd.DataFrame], shards: Shards) -> Iterator[Block]:
    groups = montage_groups(tables, shards)
    yield Block("text", "Sites drawn by lot, all with the same brightness settings: the middle of each.")
    channels = tuple(map(_literal, shards.channels))
    figure = images.montage(groups, channels, shards.pixel_um, shards.simulated)
    yield _shown(figure, f"Controls and best compounds at their best dose, a row each: {', '.join(shards.channels)}.")
    first = next(iter(groups.values()))[0]
    kind = next(iter(groups))
    strip = images.channel_strip(first, channels, shards.pixel_um, shards.simulated, f"a site of {kind}", stains=False)
    yield _shown(strip, f"One site of {kind}, channel by channel.")


def _distrust(
    tables: dict[str, pd.DataFrame], shards: Shards, made: dict[str, Any], notes: Sequence[str]
) -> Iterator[Block]:
    yield Block("said", sentences.what_to_distrust(tables, shards.wells, shards.simulated, made["methods"], notes))


def _made(made: dict[str, Any], out: Path) -> Iterator[Block]:
    method, given = made["methods"][METHOD], made["begun"]["weights"]
    begun = made["begun"]
    options = {"--where": begun.get("where"), "--images": begun.get("images"), "--seed": begun.get("seed")}
    options = " ".join(f"{flag} {value!r}" for flag, value in options.items() if value is not None)
    rows = {
        "command": f"{made['command']} {begun.get('folder', 'DATA')} {options}",
        "begun": begun.get("begun_on", "not recorded"),
        "commit": made.get("git_commit") or "an installed release",
        "network": f"GAN-DL, {words.thousands(method.get('n_seen') or 0)} crops seen",
        # Of weights trained here the sum is in provenance.json: it holds the minutes that training took.
        "weights": f"{method['checkpoint']}, sha256 {given[:16]}…" if given else "trained here",
        "trained on": "simulated images" if method.get("trained_on_simulated") else "real images",
        "channels of the network": ", ".join(method["channels"]) if "channels" in method else "those of the screen",
        "seed": str(made["seed"]),
        **{name: str(version) for name, version in made["versions"].items()},
    }
    yield from _table(pd.DataFrame({"what": list(rows), "this report": list(rows.values())}), "What made this report.")
    yield Block(
        "text",
        f"Beside it: {', '.join(sorted(p.name for p in out.glob('*.csv')))}, which any spreadsheet "
        f"opens, and profiles.h5ad, "
        "a row a well, for Python (anndata, scanpy, pycytominer, copairs) and R.",
    )
    links = [_download(path) for path in sorted(out.glob("*.csv")) if path.stat().st_size <= EMBED_BYTES]
    if links:
        yield Block("html", f"<p>Inside this page, to take away: {', '.join(links)}.</p>")
    yield Block("words", None)


def _download(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<a download="{path.name}" href="data:text/csv;base64,{data}">{path.name}</a>'


# ---- pieces ----


@contextmanager
def _drawing() -> Iterator[None]:
    """Letters that the font lacks are no reason to fail."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph")
        yield


def _literal(values: Any) -> Any:
    """A text, or a table's texts, with `$` as matplotlib wants it where no formula is meant."""
    if isinstance(values, pd.DataFrame):
        return values.map(_literal)
    return values.replace("$", r"\$") if isinstance(values, str) else values


def _top(curves: pd.DataFrame) -> list[tuple[str, str]]:
    return sentences.top(curves, TOP)


def _named(quantity: str) -> str:
    return f"intensity of {quantity.removeprefix('intensity_')}" if quantity.startswith("intensity_") else quantity


def _anchor(name: str) -> str:
    return re.sub(r"\W+", "-", name.lower())


def _shown(figure: Any, caption: str) -> Block:
    return Block("html", page.figure_html(figure, caption, figure.alt.replace(r"\$", "$")))


def _table(frame: pd.DataFrame, caption: str, name: str = "") -> Iterator[Block]:
    if len(frame):
        yield Block("html", page.table_html(frame, caption, name=name))


def _markdown(output: Output | None) -> Markup:
    """Sentences of `plots.sentences` as HTML: bold, lists and paragraphs, and nothing else is read as Markdown."""
    return Markup("" if output is None else _READER.render(output.bundle.get("text/markdown", "")))


def _reader() -> MarkdownIt:
    reader = MarkdownIt("zero").enable(["emphasis", "list"])
    for token in ("em_open", "em_close"):  # single marks belong to a name, say of a compound: they stay as they are
        reader.add_render_rule(token, lambda self, tokens, i, options, env: tokens[i].markup)
    return reader


_READER = _reader()
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
_TEMPLATES.filters["markdown"] = _markdown
