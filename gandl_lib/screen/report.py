"""One page that says what a screen showed, for people who do not program: tables and images in, one HTML file out.

Nothing is fetched from anywhere: style and pictures are inside. Whatever came from metadata is escaped, in text, in
tables, in the words of pictures and in the pictures themselves (where `$` would start a formula). Sentences
follow the tables (`narrate`), and what a screen does not have is said to be missing.
"""

from __future__ import annotations

import html
import json
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gandl_lib import profiles
from gandl_lib.plots import axes, doses, images, maps, page, plates, sentences, words
from gandl_lib.plots.page import Output
from gandl_lib.screen import quality
from gandl_lib.shards import Shards

METHOD = words.METHOD
MAX_PLATES = 8
"""Plates whose maps are shown; tables speak of all."""
TOP = 6
MONTAGE_PX = 192
EDGE_P = 0.01

STYLE = """
:root { --page: #fff; --ink: #1c1c1e; --pale: #5f6368; --line: #d9dce1; --box: #f4f6f8; --warn: #fff4df;
        --edge: #c77700; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15171a; --ink: #e8e8ea; --pale: #a3a8b0; --line: #383c42; --box: #1f2226; --warn: #33270f;
          --edge: #e6a23c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem 1rem 4rem; max-width: 52rem; background: var(--page); color: var(--ink);
       font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 1rem 0 0.3rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 0.5rem; padding-top: 0.8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.5rem 0 0.3rem; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 0.3rem 1rem; }
a { color: inherit; }
.sub { color: var(--pale); margin: 0; }
.box, .warn { padding: 0.7rem 1rem; border-radius: 6px; margin: 1rem 0; background: var(--box); }
.warn { background: var(--warn); border-left: 4px solid var(--edge); }
.box p, .warn p, .box ul, .warn ul { margin: 0.3rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
         overflow-wrap: normal; }
th { font-weight: 600; }
figure img { display: block; }
summary { cursor: pointer; }
code { background: var(--box); padding: 0 0.25em; border-radius: 3px; }
dt { font-weight: 600; } dd { margin: 0 0 0.6rem 1rem; }
"""

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
        parts = {
            "In short": _short(tables, shards, made),
            "What was found": _found(tables, shards),
            "Plates": _plates(tables),
            "Controls": _controls(tables),
            "Hits": _hits(tables),
            "Map of all wells": _map(Path(out)),
            "What the cells look like": _cells(tables, shards),
            "What to distrust": _distrust(tables, shards, made, notes),
            "How it was made": _made(made, Path(out)),
        }
        body = "".join(
            f'<h2 id="{_anchor(name)}">{_text(name)}</h2>\n{"".join(part)}\n' for name, part in parts.items()
        )
    links = "".join(f'<li><a href="#{_anchor(name)}">{_text(name)}</a></li>' for name in parts)
    n_plates = shards.wells["plate_id"].nunique()
    title = f"Screen of {n_plates} plate{'' if n_plates == 1 else 's'}"
    kind = "Simulated images: a rehearsal, no biology. " if shards.simulated else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{_text(title)}</title>\n<style>{STYLE}</style>\n'
        f"</head>\n<body>\n<h1>{_text(title)}</h1>\n"
        f'<p class="sub">{_text(kind)}Made by <code>gandl screen</code>.</p>\n'
        f"<nav><ul>{links}</ul></nav>\n{body}</body>\n</html>\n"
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


# ---- the sections ----


def _short(tables: dict[str, pd.DataFrame], shards: Shards, made: dict[str, Any]) -> Iterator[str]:
    what = _said(sentences.screen(shards)).replace("This build&#x27;s", "This", 1)
    yield f'<div class="box">{what}{_said(sentences.control_separation(tables.get("controls")))}'
    curves = tables.get("dose_response")
    if curves is None:
        yield "<p>No hits can be called; the section on hits says why.</p></div>"
        return
    yield f"{_said(sentences.hits(curves))}"
    best = _top(curves)
    if best:
        yield f"<p>First in line: {_text(words.listing([c for _, c in best[:3]]))}.</p>"
    yield "</div>"


def _found(tables: dict[str, pd.DataFrame], shards: Shards) -> Iterator[str]:
    yield _table(tables["found"], "What lay in the folder, after every image was opened once.")
    odd, skipped = tables["odd"], tables["skipped"]
    if len(odd):
        yield _table(odd.rename(columns={"first": "for instance"}), "What is odd, and was kept.")
    if skipped.empty:
        yield "<p>No site had to be left out.</p>"
    else:
        yield f"<p>{len(skipped)} site(s) were left out, for these reasons.</p>"
        yield _table(skipped[:20], f"The first {min(20, len(skipped))} of {len(skipped)}; all are in skipped.csv.")


def _plates(tables: dict[str, pd.DataFrame]) -> Iterator[str]:
    wells, edges = tables["wells"], tables.get("edge_effects")
    ids = list(wells["plate_id"].unique())
    channels = [c for c in wells if c.startswith("intensity_")]
    chosen = {"sites": "sites counted", channels[0]: f"mean {_named(channels[0])}"}
    chosen |= {"efficacy": "efficacy"} if "efficacy" in wells and wells["efficacy"].notna().any() else {}
    yield "<p>A plate should look like noise, apart from its layout. Stripes and frames are handling, not biology.</p>"
    yield _said(sentences.edge_effects(edges, EDGE_P))
    for plate_id in ids[:MAX_PLATES]:
        yield f"<h3>Plate {_text(plate_id)}</h3>"
        for quantity, label in chosen.items():
            known = wells[quantity].dropna()
            limits = (0.0, float(known.max())) if quantity == "sites" else tuple(known.quantile([0.01, 0.99]))
            if quantity == "efficacy":
                limits = (-1.5, 1.5)
            if limits[0] == limits[1]:
                limits = (limits[0] - 0.5, limits[1] + 0.5)
            figure = plates.well_map(_literal(wells), _literal(plate_id), quantity, _literal(label), limits)
            yield _shown(
                figure, f"{label[0].upper()}{label[1:]} of each well of plate {plate_id}; frames are controls."
            )
    if len(ids) > MAX_PLATES:
        yield f"<p>{len(ids) - MAX_PLATES} more plates are in wells.csv.</p>"
    if edges is not None and len(edges):
        worst = edges.dropna(subset=["p_value"]).sort_values("p_value").head(12)
        worst = worst.assign(quantity=worst["quantity"].map(_named))
        names = {"plate_id": "plate", "n_edge": "outer wells", "n_inside": "inner wells", "p_value": "p"}
        names |= {"edge_difference_sd": "outer minus inner (SD)", "row_trend": "by row", "column_trend": "by column"}
        yield _table(worst.rename(columns=names), "Edge effects, the clearest first; the trends are rank correlations.")


def _controls(tables: dict[str, pd.DataFrame]) -> Iterator[str]:
    if "controls" not in tables or tables["controls"].empty:
        yield _warn("There are not enough wells of both controls, C+ and C-. Nothing can be scaled between them, so")
        yield "<p>efficacy, hits and doses cannot be judged. Maps, plates and images are below.</p></div>"
        return
    yield "<p>Before any compound is believed, the two controls must lie apart. These wells were not used to find the"
    yield " axis they are measured on, or were measured on one found without them.</p>"
    figure = axes.efficacy_plot(_literal(tables["efficacy"]), METHOD)
    yield _shown(figure, "Efficacy of every well; a bar is the mean of a role.")
    controls = tables["controls"]
    overall = controls["plate_id"] == quality.ALL
    shown, each = controls[overall], controls[~overall & (controls["method"] == METHOD)]
    yield _table(sentences.control_table(shown), "Separation of the controls, with two simple rivals for comparison.")
    yield _table(sentences.control_table(each), "The same for each plate.")
    if "separability" in tables:
        how = tables["separability"]["normalisation"].iloc[0]
        yield _said(sentences.separability(tables["separability"], normalisation=how))
        yield _said(sentences.held_out_plates(tables["separability"], normalisation=how))


def _hits(tables: dict[str, pd.DataFrame]) -> Iterator[str]:
    curves = tables.get("dose_response")
    if curves is None or curves[curves["method"] == METHOD]["efficacy_max"].isna().all():
        yield _warn("There are no hits to show: it takes both controls, and wells treated with compounds.") + "</div>"
        return
    yield _said(sentences.hits(curves))
    listed = sentences.hit_table(curves, n=25)
    for other in (words.INTENSITY, words.UNTRAINED):
        called = curves[(curves["method"] == other) & curves["hit"].astype(bool)]
        if (curves["method"] == other).any() and len(listed):
            known = set(zip(called["cell_type"], called["compound"], strict=True))
            pairs = zip(listed["cell type"], listed["compound"], strict=True)
            listed[f"by {page.name(other)}"] = [pair in known for pair in pairs]
    dim = sentences.brightness(tables)
    if len(listed) and len(dim):
        pairs = zip(listed["cell type"], listed["compound"], strict=True)
        listed[f"{dim.name}, of C-"] = [f"{100 * dim.get(pair, np.nan):.0f} %" for pair in pairs]
    yield _table(
        listed,
        "The compounds with the highest efficacy, and who else calls them hits. The last column is their mean "
        "brightness at the best dose, of that of C- wells: much less means fewer cells. All are in dose_response.csv.",
    )
    if "dose_points" in tables:
        points, curves, wells = (_literal(tables[name]) for name in ("dose_points", "dose_response", "efficacy"))
        figure = doses.dose_curves(points, curves, METHOD, _top(curves), wells=wells)
        yield _shown(figure, "Dose and efficacy of the best compounds. Pale dots are wells, bars 95 % intervals.")
    else:
        yield "<p>No compound has several known doses, so there are no curves.</p>"


def _map(out: Path) -> Iterator[str]:
    wells = profiles.read(out / "profiles.h5ad")
    if min(wells.shape) < 3:
        yield "<p>Too few wells for a map.</p>"
        return
    wells.obs = _literal(wells.obs[["plate_id", "role"]])
    figure = maps.pca_views({"normalised per plate": wells})
    yield "<p>Wells that look alike lie together. Left, plates should mix; right, roles should not.</p>"
    yield _shown(figure, "All wells on the two directions in which they differ most (principal components).")


def _cells(tables: dict[str, pd.DataFrame], shards: Shards) -> Iterator[str]:
    groups = montage_groups(tables, shards)
    yield "<p>Sites drawn by lot, all with the same brightness settings: the middle of each.</p>"
    channels = tuple(map(_literal, shards.channels))
    figure = images.montage(groups, channels, shards.pixel_um, shards.simulated)
    yield _shown(figure, f"Controls and best compounds at their best dose, a row each: {', '.join(shards.channels)}.")
    first = next(iter(groups.values()))[0]
    kind = next(iter(groups))
    strip = images.channel_strip(first, channels, shards.pixel_um, shards.simulated, f"a site of {kind}")
    yield _shown(strip, f"One site of {kind}, channel by channel.")


def _distrust(
    tables: dict[str, pd.DataFrame], shards: Shards, made: dict[str, Any], notes: Sequence[str]
) -> Iterator[str]:
    yield _said(sentences.what_to_distrust(tables, shards.wells, shards.simulated, made["methods"], notes))


def _made(made: dict[str, Any], out: Path) -> Iterator[str]:
    method, given = made["methods"][METHOD], made["begun"]["weights"]
    rows = {
        "network": f"GAN-DL, {method.get('n_seen', 0):,} crops seen",
        # Of weights trained here the sum is in provenance.json: it holds the minutes that training took.
        "weights": f"{method['checkpoint']}, sha256 {given[:16]}…" if given else "trained here",
        "trained on": "simulated images" if method.get("trained_on_simulated") else "real images",
        "channels of the network": ", ".join(method["channels"]) if "channels" in method else "those of the screen",
        "seed": str(made["seed"]),
        **{name: str(version) for name, version in made["versions"].items()},
    }
    yield _table(pd.DataFrame({"": list(rows), "this report": list(rows.values())}), "What made this report.")
    yield f"<p>Beside it: {_text(', '.join(sorted(p.name for p in out.glob('*.csv'))))}, which any spreadsheet opens,"
    yield " and profiles.h5ad, a row a well, for Python (anndata, scanpy, pycytominer, copairs) and R.</p>"
    words = "".join(f"<dt>{_text(word)}</dt><dd>{_text(meaning)}</dd>" for word, meaning in WORDS.items())
    yield f"<h3>Words</h3><dl>{words}</dl>"


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


def _text(value: Any) -> str:
    return html.escape(str(value))


def _anchor(name: str) -> str:
    return re.sub(r"\W+", "-", name.lower())


def _shown(figure: Any, caption: str) -> str:
    return page.show(figure, caption, figure.alt.replace(r"\$", "$")).bundle["text/html"]


def _table(frame: pd.DataFrame, caption: str) -> str:
    return page.table(frame, caption).bundle["text/html"] if len(frame) else ""


def _warn(text: str) -> str:
    return f'<div class="warn"><p>{_text(text)}</p>'


def _said(output: Output | None) -> str:
    """Sentences of `narrate`: escaped, then `**bold**`, lists and paragraphs."""
    if output is None:
        return ""
    text = html.escape(output.bundle.get("text/markdown", ""))
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text, flags=re.DOTALL)
    blocks = []
    for block in re.split(r"\n{2,}", text.strip()):
        lines = block.split("\n")
        if all(line.startswith("- ") for line in lines):
            blocks.append("<ul>" + "".join(f"<li>{line[2:]}</li>" for line in lines) + "</ul>")
        elif block:
            blocks.append(f"<p>{block}</p>")
    return "\n".join(blocks)
