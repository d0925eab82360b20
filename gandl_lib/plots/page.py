"""What figures and tables share on a page: colours, style, captions and words for those who cannot see them.

**Colours** are Okabe & Ito's, which people with any common kind of colour vision can tell apart. They mean the same in
every figure: `ROLES` and `METHODS` below. Methods have a marker of their own besides, for print without colour.

**Words.** Every figure function writes down in words what it drew, as `figure.alt`; `show` refuses a figure without.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from gandl_lib.plots.words import NAMES, Output, cell, name, percent, tied

__all__ = ["NAMES", "Output", "cell", "name", "percent"]  # told in words, and wanted by whoever draws

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY, PALE = "#808080", "#C8C8C8"
WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK, GREY)
ROLES = {"C+": BLUE, "C-": VERMILLION, "UV": PURPLE, "treated": GREEN, "untreated": SKY, "blank": PALE}
METHODS = {
    "gandl": BLACK,
    "gandl-live": BLUE,
    "gandl-random": GREY,
    "gandl-blocks": GREEN,
    "gandl-random-blocks": SKY,
    "contrad": "#7A5CFF",
    "intensity": ORANGE,
    "texture": "#8C4A2F",
    "cell-count": "#7F7F00",
    "supervised": VERMILLION,
    "imagenet-collapsed": "#999933",
    "imagenet-concatenated": "#882255",
    "convae": "#44AA99",
    "mae": "#661100",
    "transformer": "#DDCC77",
    "baseline": "#332288",
    "shuffled labels": PALE,
    "position": PURPLE,
    "dcgan": "#117733",
    "lsgan": "#CC6677",
    "wgan-gp": "#6699CC",
    "vae": "#AA4499",
    "dcgan-random": "#A8A8A8",
}
MARKERS = {
    "gandl": "o",
    "gandl-live": "D",
    "gandl-random": "s",
    "gandl-blocks": "X",
    "gandl-random-blocks": "h",
    "contrad": "P",
    "intensity": "^",
    "texture": "4",
    "cell-count": "1",
    "supervised": "*",
    "imagenet-collapsed": "d",
    "imagenet-concatenated": "p",
    "convae": "<",
    "mae": "H",
    "transformer": "8",
    "baseline": ">",
    "shuffled labels": "v",
    "position": "P",
    "dcgan": "o",
    "lsgan": "s",
    "wgan-gp": "X",
    "vae": "^",
    "dcgan-random": "v",
}
CHANNELS = {"DNA": BLUE, "ER": GREEN, "actin": VERMILLION, "RNA": YELLOW, "golgi": PURPLE}
STAINS = {"DNA": "Hoechst", "ER": "ConA", "actin": "phalloidin", "RNA": "SYTO 14", "golgi": "WGA"}
WIDTH = 5.6
"""Inches. Shown at a phone's width, about 3.6 inches, the letters of `STYLE` can still be read."""
DPI = 230
"""Two pixels of a PNG are one of a page, as fine screens show them."""
PX_PER_INCH = 115
SVG_LIMIT = 400_000
"""Letters; a drawing of more marks than fit into these is smaller as PNG."""
ALT_LIMIT = 300
NEUTRAL = {"#000000": "ink", "#ffffff": "paper", "#e3e3e3": "grid", "#eeeeee": "grid"}
"""What is black, white and nearly white in a drawing is that of the page: CSS variables `--fig-ink` and so on."""
DARK = {
    "#661100": "#d98a6f",
    "#882255": "#d878a8",
    "#332288": "#9a8df0",
    "#117733": "#4fb870",
    "#0072b2": "#4aa8e0",
    "#7f7f00": "#b5b53a",
    "#7a5cff": "#a08cff",
    "#999933": "#b9b955",
    "#aa4499": "#cc77bb",
    "#8c4a2f": "#c08a6c",
}
"""What a dark page shows instead of colours too dark for it, as `--fig-661100` and so on."""
DARK_STYLE = "; ".join(
    ["--fig-ink: #e4e4e6", "--fig-paper: transparent", "--fig-grid: #3a3d42"]
    + [f"--fig-{colour[1:]}: {light}" for colour, light in DARK.items()]
)
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _XLINK)
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b")
_DECIMALS = re.compile(r"(\d\.\d\d)\d+")
_FONTS = "'DejaVu Sans', Verdana, sans-serif"
STYLE = {
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 1.2,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "lines.markersize": 5,
    "image.interpolation": "nearest",
}


def percent_ticks(axis: Axis) -> None:
    """Shares from 0 to 1 are written as `20 %`, as in text."""
    axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))


def tell(artist: Artist, words: Sequence[str], places: Sequence[str] | None = None, sheet: str = "") -> None:
    """Let each mark of a drawing say something when it is pointed at: a dot of a scatter, a square of a mesh.

    Args:
        artist: with as many marks as there are `words`, in this order.
        places: where in the picture with the id `sheet` each mark's own picture lies: "left top side" in pixels.

    Raises:
        ValueError: as many places as words are needed.
    """
    if places is not None and len(places) != len(words):
        raise ValueError(f"{len(words)} marks with words, but {len(places)} places of pictures.")
    told = artist.figure.__dict__.setdefault("told", {})
    artist.set_gid(f"told-{len(told)}")
    told[artist.get_gid()] = (list(words), places, sheet)


def show(figure: Figure, caption: str, alt: str | None = None) -> Output:
    """Put a figure on the page, with a caption under it and words for those who cannot see it.

    What is drawn in lines is put there as SVG, in the page's own colours: sharp at any size, dark where the page is.
    Pictures made of pixels, and what would be too large as SVG, are PNG. Where marks have words (`tell`), they answer.

    Args:
        figure: from a function of this module, or any other if `alt` is given.
        caption: how to read it; plain text.
        alt: what it shows; the figure's own description if not given.

    Raises:
        ValueError: no caption, or no description.
    """
    alt = alt or getattr(figure, "alt", "")
    body = figure_html(figure, caption, alt)
    return Output(html=body + (live() if "data-mark" in body else ""), plain=f"[Figure] {caption}\n{alt}")


def figure_html(figure: Figure, caption: str, alt: str) -> str:
    """What `show` puts on a page that has `live` already."""
    if not alt.strip() or not caption.strip():
        raise ValueError(
            "A figure needs a caption, and alt text that says what it shows; pass show(figure, caption, alt=...)."
        )
    short, whole = _shortened(alt)
    below = getattr(figure, "below", "")  # pictures that marks point to
    return (
        f'<figure class="fig" style="margin:1em 0">{drawing(figure, short)}{below}{_caption(caption)}{whole}</figure>'
    )


def drawing(figure: Figure, alt: str) -> str:
    """A figure as HTML without caption: an SVG or PNG in its box."""
    told = getattr(figure, "told", {})
    pixels = any(axes.images for axes in figure.axes)
    drawn_ = svg(figure, alt) if told or not pixels else ""
    width = round(figure.get_figwidth() * PX_PER_INCH)
    if drawn_ and (told or len(drawn_) < SVG_LIMIT):
        # The background is for pages that do not know our colours, such as dark notebooks.
        box = f"max-width:{width}px;background:var(--fig-paper,#fff);border-radius:4px;overflow-x:auto"
        return f'<div class="fig-drawn" style="{box}">{drawn_}</div>'
    data = base64.b64encode(png(figure)).decode()
    # class dark-light: the theme would dim it in dark mode otherwise, and with it what a fluorescent stain looks like.
    image = (
        f'<img class="dark-light" alt="{html.escape(alt)}" src="data:image/png;base64,{data}" '
        f'style="width:{width}px;max-width:100%;height:auto;background:#fff;border:1px solid #ccc;border-radius:4px">'
    )
    return f'<div class="fig-drawn">{image}</div>'


def choice(panels: Mapping[str, str], label: str, caption: str) -> Output:
    """One of several pieces of HTML at a time, chosen from a list; without a script, all of them, folded.

    Args:
        panels: what the list says -> HTML, say a `drawing`.
        label: what is chosen.
    """
    body = choice_html(panels, label, caption)
    return Output(html=body + live(), plain=f"[{label}: {', '.join(panels)}] {caption}")


def choice_html(panels: Mapping[str, str], label: str, caption: str) -> str:
    """What `choice` puts on a page that has `live` already."""
    folded = "".join(
        f"<details data-one{' open' * (not k)}><summary>{html.escape(title)}</summary>{panel}</details>"
        for k, (title, panel) in enumerate(panels.items())
    )
    about = f'class="fig" data-choose="{html.escape(label)}" style="margin:1em 0"'
    return f"<figure {about}>{folded}{_caption(caption)}</figure>"


@functools.cache
def live(style: bool = True) -> str:
    """Script and style of figures and tables that answer, for the inside of a page; several of them do no harm."""
    here = Path(__file__).parent
    css = f"<style>{(here / 'live.css').read_text()}</style>" if style else ""
    return f"{css}<script>{(here / 'live.js').read_text()}</script>"


def png(figure: Figure, dpi: int | None = None) -> bytes:
    """The figure as a PNG file; the same bytes for the same figure."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=dpi or DPI, metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure, alt: str) -> str:
    """The figure as an SVG element for the inside of a page: its colours are the page's, its marks say their words.

    The same text for the same figure; the ids in it differ from those of other figures.
    """
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE | {"svg.fonttype": "none", "svg.hashsalt": "gandl"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _for_a_page(buffer.getvalue(), getattr(figure, "told", {}), alt)


def _for_a_page(data: bytes, told: Mapping[str, tuple], alt: str) -> str:
    root = ElementTree.fromstring(data)
    for parent in root.iter():
        for child in [c for c in parent if c.tag.endswith("}metadata")]:
            parent.remove(child)
    for gid, (words, places, sheet) in told.items():
        group = next(e for e in root.iter() if e.get("id") == gid)
        stored = {e for defs in group.iter(f"{{{_SVG}}}defs") for e in defs.iter()}
        marks = [e for e in group.iter() if e.tag in (f"{{{_SVG}}}use", f"{{{_SVG}}}path") and e not in stored]
        assert len(marks) == len(words), f"{gid}: {len(marks)} marks, {len(words)} words"
        for k, (mark, said) in enumerate(zip(marks, words, strict=True)):
            mark.set("data-mark", "")
            if places is not None:
                mark.set("data-at", places[k])
            ElementTree.SubElement(mark, f"{{{_SVG}}}title").text = said
        if sheet:
            root.set("data-sheet", sheet)
    prefix = "f" + hashlib.sha256(data + alt.encode()).hexdigest()[:8]
    linked = f"{{{_XLINK}}}href"
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                value = f"{prefix}-{value}"
            elif key == linked and value.startswith("#"):
                value = f"#{prefix}-{value[1:]}"
            elif key in ("style", "fill", "stroke"):
                value = _COLOUR.sub(_of_the_page, value).replace("'DejaVu Sans'", _FONTS)
                value = value.replace(": ", ":").replace("; ", ";")
            if key in ("d", "x", "y", "width", "height", "transform", "points", "style"):
                value = _DECIMALS.sub(r"\1", value)
            element.set(key, value.replace("url(#", f"url(#{prefix}-"))
        if not element.get("id", "").startswith(f"{prefix}-"):
            continue
        if element.tag == f"{{{_SVG}}}g":  # names of groups, which nothing refers to
            del element.attrib["id"]
    for key in ("width", "height"):
        root.attrib.pop(key)
    root.set("role", "img")
    root.set("aria-label", alt)
    root.set("style", "fill:var(--fig-ink,#000);width:100%;height:auto;display:block")
    text = ElementTree.tostring(root, encoding="unicode")
    return re.sub(r">\s+<", "><", text).strip()


def _of_the_page(match: re.Match[str]) -> str:
    colour = match[0].lower()
    if colour in NEUTRAL:
        return f"var(--fig-{NEUTRAL[colour]},{colour})"
    return f"var(--fig-{colour[1:]},{colour})" if colour in DARK else colour


def _shortened(alt: str) -> tuple[str, str]:
    """Alt text that can be listened to, and the whole of it, folded, where that is longer."""
    if len(alt) <= ALT_LIMIT:
        return alt, ""
    cut = alt[: ALT_LIMIT - 40]
    cut = cut[: max(cut.rfind("; "), cut.rfind(". "), cut.rfind(", "), ALT_LIMIT // 3)].rstrip(" ;,.")
    whole = f"<details><summary>In words</summary><p>{html.escape(alt)}</p></details>"
    return f"{cut} … (all of it below, in words)", whole


def table(frame: pd.DataFrame | None, caption: str, rows: int | None = None, name: str = "") -> Output:
    """Put a table, or its first `rows`, on the page: text as it is, numbers with three digits, nothing as a dash.

    With a `name`, that of the CSV file one can take away, it can be sorted and filtered as well.
    """
    if frame is None or frame.empty:
        return Output(html=f"<p><em>{ABSENT}</em> {html.escape(caption)}</p>", plain=f"{ABSENT} {caption}")
    shown = frame[:rows].map(cell)
    body = table_html(frame, caption, rows, name)
    return Output(html=body + (live() if name else ""), plain=f"{shown.to_string(index=False)}\n{caption}")


def table_html(frame: pd.DataFrame, caption: str, rows: int | None = None, name: str = "") -> str:
    """What `table` puts on a page that has `live` already."""
    classes = "table fig-live" if name else "table"
    body = frame[:rows].map(cell).to_html(index=False, border=0, classes=classes, justify="left")
    body = re.sub(r"(?<=</td>)(\s*)<td>", r'\1<td style="white-space:nowrap">', body)
    body = body.replace("<th></th>", "<td></td>")  # a head without words is none
    body = body.replace("<th>", '<th scope="col">')
    body = body.replace("<td>", '<td style="min-width:9em">')  # the first of a row: words, which may wrap
    if name:
        body = body.replace("<table ", f'<table data-name="{html.escape(name)}" ', 1)
    about = f'role="region" aria-label="Table: {html.escape(caption[:80])}" tabindex="0"'
    scrolled = f'<div class="fig-scroll" style="overflow-x:auto" {about}>{body}</div>'
    return f'<figure class="fig" style="margin:1em 0;color:inherit">{scrolled}{_caption(caption)}</figure>'


def _caption(text: str) -> str:
    """Full contrast, full weight, left: the theme's own captions are pale and thin."""
    style = "font-size:0.9em;font-weight:400;margin-top:0.5em;text-align:left;color:inherit"
    return f'<figcaption style="{style}">{html.escape(tied(text))}</figcaption>'


def drawn(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw under the book's style; the figure keeps the tables it was drawn from as `figure.tables`."""

    @functools.wraps(draw)
    def styled(*args: Any, **kwargs: Any) -> Figure:
        with matplotlib.rc_context(STYLE):
            figure = draw(*args, **kwargs)
        figure.tables = [value for value in (*args, *kwargs.values()) if isinstance(value, pd.DataFrame)]
        return figure

    return styled


def canvas(
    height: float, rows: int = 1, columns: int = 1, width: float = WIDTH, **grid: Any
) -> tuple[Figure, np.ndarray]:
    """A figure, not known to pyplot (which would keep and show it), and its (rows, columns) axes."""
    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **grid)


ABSENT = "Not part of this build."


def empty(text: str = ABSENT) -> Figure:
    """A figure for what a run does not have, which says so."""
    lines = textwrap.wrap(text, 64)
    figure, ((axes,),) = canvas(0.5 + 0.2 * len(lines))
    axes.set_axis_off()
    axes.text(0.5, 0.5, "\n".join(lines), ha="center", va="center", color=GREY)
    figure.alt = text
    return figure


def maybe_simulated(simulated: bool, text: str) -> str:
    return f"Simulated images. {text}" if simulated else text


def in_words(values: Mapping[str, str]) -> str:
    return "; ".join(f"{key} {value}" for key, value in values.items())


def method_style(method: str, i: int = 0) -> dict[str, Any]:
    return {"color": METHODS.get(method, CYCLE[i % len(CYCLE)]), "marker": MARKERS.get(method, "D")}


def methods_in(table: pd.DataFrame | None, order: Sequence[str] | None = None) -> list[str]:
    """Methods of a table, shuffled labels left out."""
    return [m for m in dict.fromkeys(order or table["method"]) if m != "shuffled labels"]
