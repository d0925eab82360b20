"""What figures and tables share on a page: colours, style, captions and words for those who cannot see them.

**Colours** are Okabe & Ito's, which people with any common kind of colour vision can tell apart. They mean the same in
every figure: `ROLES` and `METHODS` below. Methods have a marker of their own besides, for print without colour.

**Words.** Every figure function writes down in words what it drew, as `figure.alt`; `show` refuses a figure without.
"""

from __future__ import annotations

import base64
import functools
import html
import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

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
    "texture": "p",
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
NAMES = {
    "gandl": "GAN-DL",
    "gandl-live": "GAN-DL, minutes of training",
    "gandl-random": "untrained GAN-DL",
    "random_weights": "untrained network",
    "gandl-blocks": "all layers of GAN-DL",
    "gandl-random-blocks": "all layers, untrained",
    "contrad": "ContraD",
    "intensity": "intensity statistics",
    "cell-count": "cell count",
    "texture": "texture statistics",
    "classical": "classical measurement",
    "classical-ratio": "the same, no logarithm",
    "supervised": "supervised baseline",
    "imagenet-collapsed": "ImageNet-collapsed",
    "imagenet-concatenated": "ImageNet-concatenated",
    "convae": "ConvAE",
    "mae": "masked autoencoder",
    "transformer": "encoder of others",
    "baseline": "published baseline",
    "dcgan": "DCGAN",
    "lsgan": "LSGAN",
    "wgan-gp": "WGAN-GP",
    "vae": "VAE",
    "dcgan-random": "untrained DCGAN",
    "vae-random": "untrained VAE",
}
"""How methods are called in figures and text; others go by their own name."""
CHANNELS = {"DNA": BLUE, "ER": GREEN, "actin": VERMILLION, "RNA": YELLOW, "golgi": PURPLE}
STAINS = {"DNA": "Hoechst", "ER": "ConA", "actin": "phalloidin", "RNA": "SYTO 14", "golgi": "WGA"}
WIDTH = 5.6
"""Inches. Shown at a phone's width, about 3.6 inches, the letters of `STYLE` can still be read."""
DPI = 140
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


class Output:
    """What the last line of a notebook cell shows, in Jupyter, Colab and the book alike, with no package of theirs."""

    def __init__(self, **bundle: str):
        self.bundle = {f"text/{kind}": text for kind, text in bundle.items()}

    def __repr__(self) -> str:
        return self.bundle["text/plain"]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return self.bundle


def show(figure: Figure, caption: str, alt: str | None = None) -> Output:
    """Put a figure on the page, with a caption under it and words for those who cannot see it.

    Args:
        figure: from a function of this module, or any other if `alt` is given.
        caption: how to read it; plain text.
        alt: what it shows; the figure's own description if not given.

    Raises:
        ValueError: no caption, or no description.
    """
    alt = alt or getattr(figure, "alt", "")
    if not alt.strip() or not caption.strip():
        raise ValueError(
            "A figure needs a caption, and alt text that says what it shows; pass show(figure, caption, alt=...)."
        )
    data = base64.b64encode(png(figure)).decode()
    width = round(figure.get_figwidth() * 115)
    # class dark-light: the theme would dim it in dark mode otherwise, and with it what a fluorescent stain looks like.
    image = (
        f'<img class="dark-light" alt="{html.escape(alt)}" src="data:image/png;base64,{data}" '
        f'style="width:{width}px;max-width:100%;height:auto;background:#fff;border-radius:4px">'
    )
    page = f'<figure style="margin:1em 0;color:inherit">{image}{_caption(caption)}</figure>'
    return Output(html=page, plain=f"[Figure] {caption}\n{alt}")


def png(figure: Figure, dpi: int | None = None) -> bytes:
    """The figure as a PNG file; the same bytes for the same figure."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=dpi or DPI, metadata={"Software": None})
    return buffer.getvalue()


def table(frame: pd.DataFrame | None, caption: str, rows: int | None = None) -> Output:
    """Put a table, or its first `rows`, on the page: text as it is, numbers with three digits, nothing as a dash."""
    if frame is None or frame.empty:
        return Output(html=f"<p><em>{ABSENT}</em> {html.escape(caption)}</p>", plain=f"{ABSENT} {caption}")
    shown = frame[:rows].map(cell)
    body = shown.to_html(index=False, border=0, classes="table", justify="left")
    body = re.sub(r"(?<=</td>)(\s*)<td>", r'\1<td style="white-space:nowrap">', body)
    body = body.replace("<th>", '<th scope="col">')
    body = body.replace("<td>", '<td style="min-width:9em">')  # the first of a row: words, which may wrap
    scrolled = f'<div style="overflow-x:auto" tabindex="0">{body}</div>'
    page = f'<figure style="margin:1em 0;color:inherit">{scrolled}{_caption(caption)}</figure>'
    return Output(html=page, plain=f"{shown.to_string(index=False)}\n{caption}")


def _caption(text: str) -> str:
    """Full contrast, full weight, left: the theme's own captions are pale and thin."""
    style = "font-size:0.9em;font-weight:400;margin-top:0.5em;text-align:left;color:inherit"
    return f'<figcaption style="{style}">{html.escape(text)}</figcaption>'


def cell(value: Any) -> str:
    """One value of a table as text."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, float | np.floating):
        return f"{value:.3g}".replace("inf", "∞")
    return str(value)


def name(method: str) -> str:
    """How a method is called on a page."""
    return NAMES.get(method, method)


def drawn(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw under the book's style."""

    @functools.wraps(draw)
    def styled(*args: Any, **kwargs: Any) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

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


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def in_words(values: Mapping[str, str]) -> str:
    return "; ".join(f"{key} {value}" for key, value in values.items())


def method_style(method: str, i: int = 0) -> dict[str, Any]:
    return {"color": METHODS.get(method, CYCLE[i % len(CYCLE)]), "marker": MARKERS.get(method, "D")}


def methods_in(table: pd.DataFrame | None, order: Sequence[str] | None = None) -> list[str]:
    """Methods of a table, shuffled labels left out."""
    return [m for m in dict.fromkeys(order or table["method"]) if m != "shuffled labels"]
