"""Every figure of the book: tables and images in, a matplotlib `Figure` out, and `show` to put it on a page.

**Colours** are Okabe & Ito's, which people with any common kind of colour vision can tell apart. They mean the same in
every figure: `ROLES` and `METHODS` below. Methods have a marker of their own besides, for print without colour.

**Composites** lay coloured lights over each other: channel c, scaled to x_c in [0, 1], shines in the colour k_c, and

    composite = 1 - prod_c (1 - x_c k_c)

so black stays black and nothing clips, however many channels there are. Five lights in three colours cannot be taken
apart again by eye: a composite is for the overview, and each channel stands beside it in grey.

**Words.** Every function writes down in words what it drew, as `figure.alt`; `show` refuses a figure without. The word
"simulated" comes first wherever the images are.
"""

from __future__ import annotations

import base64
import functools
import html
import io
import itertools
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from gandl_lib.evaluate.leaks import place

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

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
    "intensity": ORANGE,
    "supervised": VERMILLION,
    "imagenet-collapsed": "#999933",
    "imagenet-concatenated": "#882255",
    "convae": "#44AA99",
    "baseline": "#332288",
    "shuffled labels": PALE,
    "position": PURPLE,
}
MARKERS = {
    "gandl": "o",
    "gandl-live": "D",
    "gandl-random": "s",
    "gandl-blocks": "X",
    "gandl-random-blocks": "h",
    "intensity": "^",
    "supervised": "*",
    "imagenet-collapsed": "d",
    "imagenet-concatenated": "p",
    "convae": "<",
    "baseline": ">",
    "shuffled labels": "v",
    "position": "P",
}
NAMES = {
    "gandl": "GAN-DL",
    "gandl-live": "GAN-DL, minutes of training",
    "gandl-random": "untrained GAN-DL",
    "gandl-blocks": "all layers of GAN-DL",
    "gandl-random-blocks": "all layers, untrained",
    "intensity": "intensity statistics",
    "supervised": "supervised baseline",
    "imagenet-collapsed": "ImageNet-collapsed",
    "imagenet-concatenated": "ImageNet-concatenated",
    "convae": "ConvAE",
    "baseline": "published baseline",
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


# ---- on the page ----


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
    body = body.replace("<td>", '<td style="min-width:9em">')  # the first of a row: words, which may wrap
    scrolled = f'<div style="overflow-x:auto" tabindex="0">{body}</div>'
    page = f'<figure style="margin:1em 0;color:inherit">{scrolled}{_caption(caption)}</figure>'
    return Output(html=page, plain=f"{shown.to_string(index=False)}\n{caption}")


def _caption(text: str) -> str:
    """Full contrast, left: the theme's own captions are pale."""
    style = "font-size:0.9em;margin-top:0.5em;text-align:left;color:inherit"
    return f'<figcaption style="{style}">{html.escape(text)}</figcaption>'


def cell(value: Any) -> str:
    """One value of a table as text."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, float | np.floating):
        return "∞" if np.isinf(value) else f"{value:.3g}"
    return str(value)


def name(method: str) -> str:
    """How a method is called on a page."""
    return NAMES.get(method, method)


def _drawn(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw under the book's style."""

    @functools.wraps(draw)
    def styled(*args: Any, **kwargs: Any) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def _figure(
    height: float, rows: int = 1, columns: int = 1, width: float = WIDTH, **grid: Any
) -> tuple[Figure, np.ndarray]:
    """A figure, not known to pyplot (which would keep and show it), and its (rows, columns) axes."""
    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **grid)


ABSENT = "Not part of this build."


def _empty(text: str = ABSENT) -> Figure:
    """A figure for what a run does not have, which says so."""
    lines = textwrap.wrap(text, 64)
    figure, ((axes,),) = _figure(0.5 + 0.2 * len(lines))
    axes.set_axis_off()
    axes.text(0.5, 0.5, "\n".join(lines), ha="center", va="center", color=GREY)
    figure.alt = text
    return figure


def _simulated(simulated: bool, text: str) -> str:
    return f"Simulated images. {text}" if simulated else text


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _numbers(values: Mapping[str, str]) -> str:
    return "; ".join(f"{key} {value}" for key, value in values.items())


def _method_style(method: str, i: int = 0) -> dict[str, Any]:
    return {"color": METHODS.get(method, CYCLE[i % len(CYCLE)]), "marker": MARKERS.get(method, "D")}


# ---- images ----


def unit(images: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Grey values (..., C, H, W) to [0, 1] by the limits (C, 2) that become 0 and 1."""
    low, high = (np.asarray(limits, np.float32)[:, k, None, None] for k in (0, 1))
    return np.clip((np.asarray(images, np.float32) - low) / (high - low), 0, 1)


def shown(images: Any) -> np.ndarray:
    """Network images (..., C, H, W) in [-1, 1], tensor or array, to [0, 1]."""
    return (np.clip(np.asarray(images, np.float32), -1, 1) + 1) / 2


def examples(shards: Any, n: int, **where: str) -> np.ndarray:
    """The first site of each of the first `n` wells whose columns have the given values: (n, C, H, W) in [0, 1].

    Raises:
        ValueError: there is no such well.
    """
    wells = shards.wells[np.logical_and.reduce([shards.wells[c].eq(v) for c, v in where.items()])]
    rows = wells.drop_duplicates("well_id").index[:n]
    if len(rows) == 0:
        raise ValueError(f"no site with {', '.join(f'{c} {v!r}' for c, v in where.items())} in {shards.path}.")
    return unit(shards.read_many(rows), shards.limits)


def composite(images: np.ndarray, channels: Sequence[str]) -> np.ndarray:
    """Channels as lights laid over each other (see this module's docstring).

    Args:
        images: (..., C, H, W) in [0, 1].
        channels: C names; those not in `CHANNELS` take in turn the colours of `CYCLE` that no named one has.

    Returns:
        (..., H, W, 3) in [0, 1].
    """
    images = np.asarray(images, np.float32)
    if images.shape[-3] != len(channels):
        raise ValueError(f"{images.shape[-3]} channels of images, but {len(channels)} names: {', '.join(channels)}.")
    dark = np.ones((*images.shape[:-3], *images.shape[-2:], 3), np.float32)
    lights = itertools.cycle(k for k in CYCLE if k not in (BLACK, *(CHANNELS.get(channel) for channel in channels)))
    for c, channel in enumerate(channels):
        colour = np.array(matplotlib.colors.to_rgb(CHANNELS.get(channel) or next(lights)), np.float32)
        dark *= 1 - images[..., c, :, :, None] * colour
    return 1 - dark


def scale_bar(axes: Axes, pixel_um: float, width_px: int, um: float | None = None) -> tuple[float, float]:
    """Draw a white bar of `um` micrometres into an image `width_px` wide; returns its length in micrometres and pixels.

    Without `um`, the longest of 1, 2, 5, 10, 20, ... that takes up to a third of the width.
    """
    if um is None:
        room = pixel_um * width_px / 3
        um = max(m * 10.0**e for e in range(-3, 6) for m in (1, 2, 5) if m * 10.0**e <= room)
    length = um / pixel_um
    x, y, thick = 0.04 * width_px, 0.93 * width_px, 0.025 * width_px
    axes.add_patch(Rectangle((x, y), length, thick, facecolor="white", edgecolor="none", label=f"{um:g} µm"))
    size = 6 + 2 * (axes.get_position().width > 0.3)
    axes.text(x, y - 0.02 * width_px, f"{um:g} µm", color="white", fontsize=size, va="bottom", ha="left")
    return um, length


def _picture(axes: Axes, image: np.ndarray, pixel_um: float | None = None) -> None:
    """One image without ticks: grey (H, W) or colour (H, W, 3), both in [0, 1]."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if pixel_um is not None:
        scale_bar(axes, pixel_um, image.shape[1])


@_drawn
def channel_strip(
    images: np.ndarray, channels: Sequence[str], pixel_um: float, simulated: bool, what: str = "one site"
) -> Figure:
    """One site channel by channel, and all of it as a composite.

    Args:
        images: (C, H, W) in [0, 1], from `unit`.
        what: what it is a picture of, for the words.
    """
    panels = len(channels) + 1
    rows = -(-panels // 3)
    figure, grid = _figure(1.95 * rows, rows, 3)
    for axes in grid.flat[panels:]:
        axes.set_axis_off()
    for axes, channel, image in zip(grid.flat, channels, images, strict=False):
        _picture(axes, image, pixel_um)
        stain = f" ({STAINS[channel]})" if channel in STAINS else ""
        axes.set_title(f"{channel}{stain}", fontsize=9)
    _picture(grid.flat[panels - 1], composite(images, channels), pixel_um)
    grid.flat[panels - 1].set_title("composite", fontsize=9)
    figure.alt = _simulated(
        simulated, f"{what}, {', '.join(channels)} in grey, one panel each, and a colour composite."
    )
    return figure


@_drawn
def site_grid(
    groups: Mapping[str, np.ndarray],
    channels: Sequence[str],
    pixel_um: float | Mapping[str, float],
    simulated: bool,
) -> Figure:
    """Sites under each other, a row a site: every channel in grey, then the composite.

    Args:
        groups: label -> (N, C, H, W) in [0, 1]; the label stands at its N rows.
        pixel_um: of all groups, or of each.
    """
    rows = sum(len(images) for images in groups.values())
    columns = len(channels) + 1
    figure, grid = _figure(0.96 * rows + 0.3, rows, columns)
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    row = 0
    for label, images in groups.items():
        um = pixel_um[label] if isinstance(pixel_um, Mapping) else pixel_um
        for k, image in enumerate(images):
            for axes, panel in zip(grid[row], [*image, composite(image, channels)], strict=True):
                _picture(axes, panel, um if axes is grid[row, -1] and k == 0 else None)
            if k == 0:
                grid[row, 0].set_ylabel(label, fontsize=9, loc="top")
            row += 1
    for axes, title in zip(grid[0], [*channels, "composite"], strict=True):
        axes.set_title(title, fontsize=9)
    shown = ", ".join(f"{len(images)} of {label}" for label, images in groups.items())
    figure.alt = _simulated(
        simulated, f"Rows of sites ({shown}); columns {', '.join(channels)} in grey and the composite."
    )
    return figure


@_drawn
def beside_real(shards: Any, real: Any | None) -> Figure:
    """One untreated site of a simulated screen over one of a real one, cut to the same width in micrometres.

    Args:
        shards, real: `Shards`; without `real` the figure says that there are no real images here.
    """
    if real is None:
        return _empty("No real images here: set GANDL_DATA to a folder with RxRx1's.")
    cell_type = real.wells["cell_type"].iloc[0]
    ours, theirs = examples(shards, 1, role="C+"), examples(real, 1, cell_type=cell_type)
    side = min(round(ours.shape[-1] * shards.pixel_um / real.pixel_um), *theirs.shape[-2:])
    groups = {"simulated": ours, f"real {cell_type}": theirs[..., :side, :side]}
    um = dict(zip(groups, (shards.pixel_um, real.pixel_um), strict=True))
    figure = site_grid(groups, shards.channels, um, simulated=False)
    figure.alt = f"Above, one simulated site; below, one of real {cell_type} cells (RxRx1). {figure.alt}"
    return figure


@_drawn
def cell_types(shards: Any | None, n: int = 1) -> Figure:
    """`n` sites of each cell type of a `Shards`; None draws a note that there is none."""
    if shards is None:
        return _empty()
    kinds = sorted(shards.wells["cell_type"].unique())
    groups = {kind: examples(shards, n, cell_type=kind) for kind in kinds}
    return site_grid(groups, shards.channels, shards.pixel_um, shards.simulated)


@_drawn
def montage(
    groups: Mapping[str, np.ndarray], channels: Sequence[str], pixel_um: float, simulated: bool, what: str = "sites"
) -> Figure:
    """Composites, a row a group: label -> (N, C, H, W) in [0, 1]. The first has a scale bar."""
    columns = max(len(images) for images in groups.values())
    figure, grid = _figure(WIDTH / columns * len(groups), len(groups), columns)
    figure.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    for axes_row, (label, images) in zip(grid, groups.items(), strict=True):
        for axes, image in zip(axes_row, images, strict=False):
            _picture(axes, composite(image, channels), pixel_um if axes is grid[0, 0] else None)
        for axes in axes_row[len(images) :]:
            axes.set_axis_off()
        axes_row[0].set_ylabel(label, color=ROLES.get(label, BLACK))
    rows = "; ".join(f"{len(images)} of {label}" for label, images in groups.items())
    figure.alt = _simulated(simulated, f"Colour composites of {', '.join(channels)}, {what}, a row each: {rows}.")
    return figure


def samples(folder: str | Path, channels: Sequence[str], stages: int = 4, columns: int = 5) -> dict[str, np.ndarray]:
    """What the generator made of the same latents at some stages of training, for `montage`.

    Args:
        folder: `samples/` of a run: PNGs named after the images seen, rows are channels and columns are samples.

    Returns:
        "<images seen> images" -> (N, C, H, W) in [0, 1], the first stage and the last among them.
    """
    from PIL import Image

    files = sorted(Path(folder).glob("*.png"))
    chosen = sorted({round(k) for k in np.linspace(0, len(files) - 1, min(stages, len(files)))})
    found = {}
    for file in (files[k] for k in chosen):
        grid = np.asarray(Image.open(file), np.float32) / 255
        size = grid.shape[0] // len(channels)
        images = grid.reshape(len(channels), size, -1, size).transpose(2, 0, 1, 3)  # [CHNW] -> [NCHW]
        found[f"{int(file.stem)} images"] = images[:columns]
    return found


# ---- plates and grey values ----


def letters(row: int) -> str:
    """The name of a row, the inverse of `leaks.place`: 0 is `A`, 26 is `AA`."""
    return letters(row // 26 - 1) + chr(65 + row % 26) if row >= 26 else chr(65 + row)


@_drawn
def plate_map(wells: pd.DataFrame, plate_id: str) -> Figure:
    """Where on a plate which role lies. Columns that hold untreated controls only are marked below the plate."""
    plate = wells[wells["plate_id"] == plate_id].drop_duplicates("well_id")
    if plate.empty:
        raise ValueError(f"no plate {plate_id!r}; there are {', '.join(wells['plate_id'].unique()[:8])}.")
    at = np.array([place(well) for well in plate["well"]])
    roles = [role for role in ROLES if (plate["role"] == role).any()]
    size = at.max(axis=0) + 1
    image = np.ones((*size, 3))
    for role in roles:
        rows, columns = at[(plate["role"] == role).to_numpy()].T
        image[rows, columns] = matplotlib.colors.to_rgb(ROLES[role])
    figure, ((axes,),) = _figure(0.75 + WIDTH * size[0] / size[1] * 0.95)
    axes.pcolormesh(np.arange(size[1] + 1) + 0.5, np.arange(size[0] + 1), image, edgecolor="white", linewidth=0.4)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    columns = sorted(set(at[plate["role"].isin(["C+", "UV"]).to_numpy(), 1] + 1))
    axes.set_xticks(columns if len(columns) <= 8 else range(1, size[1] + 1, 4))
    axes.set_yticks(np.arange(0, size[0], 5) + 0.5, [letters(row) for row in range(0, size[0], 5)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="column", ylabel="row", title=f"plate {plate_id}")
    counts = plate["role"].value_counts()
    handles = [Patch(color=ROLES[role], label=f"{role} ({counts[role]})") for role in roles]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(roles))
    figure.alt = (
        f"Map of plate {plate_id}, a square a well: {_numbers({r: str(counts[r]) for r in roles})} wells. "
        f"C+ and UV lie in columns {', '.join(map(str, columns))} only."
    )
    return figure


@_drawn
def plate_effects(statistics: pd.DataFrame) -> Figure:
    """Mean grey value of every plate and channel, relative to the mean over plates.

    Args:
        statistics: `Shards.statistics`, with columns plate_id, channel, mean.
    """
    wide = statistics.pivot(index="plate_id", columns="channel", values="mean")
    wide = wide.loc[statistics["plate_id"].unique(), statistics["channel"].unique()]
    relative = wide / wide.mean()
    figure, ((axes,),) = _figure(3.0)
    axes.axhline(1, color=GREY, linewidth=0.8)
    for i, channel in enumerate(relative):
        colour = CHANNELS.get(channel, CYCLE[i % len(CYCLE)])
        axes.plot(
            relative[channel].to_numpy(), "o-", color=colour, label=channel, markeredgecolor=BLACK, markeredgewidth=0.4
        )
    axes.set_yscale("log")
    ticks = [
        t
        for t in (0.25, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 4)
        if relative.min().min() * 0.9 <= t <= relative.max().max() * 1.1
    ]
    axes.set_yticks(ticks, [f"{t:g}×" for t in ticks])
    axes.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set_xticks(
        range(len(relative)),
        relative.index,
        rotation=45 if len(relative) > 4 else 0,
        ha="right" if len(relative) > 4 else "center",
    )
    axes.set(xlabel="plate", ylabel="mean grey value,\nrelative to all plates")
    axes.grid(axis="y")
    figure.legend(loc="outside upper center", ncols=len(wide.columns))
    spread = {channel: f"{relative[channel].min():.2f} to {relative[channel].max():.2f}" for channel in relative}
    figure.alt = (
        f"Line per channel over {len(wide)} plates, mean grey value relative to the channel's mean: {_numbers(spread)}."
    )
    return figure


@_drawn
def grey_values(histograms: np.ndarray, channels: Sequence[str], limits: np.ndarray, bin_width: int = 1) -> Figure:
    """How often each grey value occurs, and which two become -1 and 1.

    Args:
        histograms: (C, bins) pixel counts.
        limits: (C, 2) grey values.
        bin_width: grey values a bin.
    """
    figure, grid = _figure(0.85 * len(channels) + 0.7, len(channels), 1, sharex=True)
    grey = np.arange(histograms.shape[1]) * bin_width
    top = grey[np.flatnonzero(histograms.sum(0))[-1]]
    for i, (axes, channel) in enumerate(zip(grid[:, 0], channels, strict=True)):
        colour = CHANNELS.get(channel, CYCLE[i % len(CYCLE)])
        axes.fill_between(grey, histograms[i] / histograms[i].sum(), step="mid", color=colour, linewidth=0)
        for value, label in zip(limits[i], ("-1", "1"), strict=True):
            axes.axvline(value, color=BLACK, linewidth=0.9)
            axes.text(value, 1, f" {label}", transform=axes.get_xaxis_transform(), fontsize=8, va="top", bbox=WHITE)
        axes.set(yscale="log", yticks=[], xlim=(0, top * 1.02))
        axes.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axes.set_ylabel(channel, rotation=0, ha="right", va="center")
    grid[-1, 0].set_xlabel("grey value as stored")
    figure.supylabel("pixels (logarithmic)", fontsize=9)
    ends = {channel: f"{low:g} and {high:g}" for channel, (low, high) in zip(channels, limits, strict=True)}
    figure.alt = f"Histogram of grey values per channel, with the two values that become -1 and 1: {_numbers(ends)}."
    return figure


# ---- training ----


def _seen(axes: Axes) -> None:
    axes.set_xlabel("images seen (thousands)")
    axes.grid(axis="y")


@_drawn
def probe_curve(
    stats: pd.DataFrame, majority: float, paper: float | None = None, longer: pd.DataFrame | None = None
) -> Figure:
    """Linear-probe accuracy of the features against images seen; the curve that matters.

    Args:
        stats: n_seen, probe_accuracy, probe_balanced_accuracy; the first row is the network before its first step.
        majority: share of the larger class among the probed sites.
        paper: the published accuracy, from the real screen.
        longer: n_seen and probe_accuracy of a recorded longer run, drawn behind.
    """
    figure, ((axes,),) = _figure(3.3)
    x, y = stats["n_seen"] / 1000, stats["probe_accuracy"]
    levels = {"untrained": (y.iloc[0], GREY, "--"), "majority": (majority, VERMILLION, ":")}
    levels |= {"paper, real screen": (paper, BLUE, "-.")} if paper is not None else {}
    if longer is not None:
        seen = longer["n_seen"] / 1000
        axes.plot(seen, longer["probe_accuracy"], "D-", color=GREEN, label="the shipped run", markersize=4)
    axes.plot(x, y, "o-", color=METHODS["gandl"], label="accuracy")
    axes.plot(
        x, stats["probe_balanced_accuracy"], "o-", color=SKY, label="balanced accuracy", markersize=3, linewidth=1
    )
    for label, (level, colour, dash) in levels.items():
        axes.axhline(level, color=colour, linestyle=dash, linewidth=1.2, label=f"{label} ({_percent(level)})")
    low = min(majority, y.min(), stats["probe_balanced_accuracy"].min(), 0.5)
    axes.set(ylim=(low - 0.03, 1.01), ylabel="linear probe, C+ vs C-")
    axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, decimals=0))
    _seen(axes)
    figure.legend(loc="outside lower center", ncols=2)
    figure.alt = (
        f"Accuracy of a linear probe against images seen: {_percent(y.iloc[0])} untrained, {_percent(y.iloc[-1])} at "
        f"{stats['n_seen'].iloc[-1]} images, highest {_percent(y.max())}; majority rate {_percent(majority)}."
    )
    return figure


@_drawn
def loss_curves(stats: pd.DataFrame) -> Figure:
    """Loss terms against images seen: the losses, the logits, the penalties."""
    groups = {
        "loss": {"loss_d": ("discriminator", BLUE), "loss_g": ("generator", VERMILLION)},
        "mean logit": {"logit_real": ("real", BLUE), "logit_fake": ("generated", VERMILLION)},
        "penalty": {
            "r1": ("R1", BLUE),
            "lipschitz": ("Lipschitz, one-sided", GREEN),
            "path_length": ("path length", VERMILLION),
        },
    }
    figure, grid = _figure(5.6, 3, 1, sharex=True)
    last = {}
    for axes, (label, terms) in zip(grid[:, 0], groups.items(), strict=True):
        for term, (title, colour) in terms.items():
            if term in stats:
                drawn = stats[["n_seen", term]].dropna()
                axes.plot(drawn["n_seen"] / 1000, drawn[term], "o-", color=colour, label=title, markersize=3)
                last[title] = f"{drawn[term].iloc[-1]:.3g}" if len(drawn) else "not logged"
        axes.set_ylabel(label)
        axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderpad=0)
        axes.grid(axis="y")
        if label == "penalty":
            axes.set_yscale("symlog", linthresh=1e-3)
    _seen(grid[-1, 0])
    figure.alt = f"Three panels of curves against images seen; their last values: {_numbers(last)}."
    return figure


# ---- embeddings ----


@_drawn
def pca_views(views: Mapping[str, AnnData], colours: Sequence[str] = ("plate_id", "role"), seed: int = 0) -> Figure:
    """Two principal components of well profiles, a row a view and a column a colouring.

    Args:
        views: label -> profiles of wells, X (G, D).
        colours: columns of obs.
    """
    figure, grid = _figure(2.5 * len(views) + 0.9, len(views), len(colours))
    shares, known = {}, {}
    for axes_row, (label, profiles) in zip(grid, views.items(), strict=True):
        pca = PCA(2, random_state=seed)
        at = pca.fit_transform(StandardScaler().fit_transform(profiles.X))  # (G, 2)
        first, second = (f"{100 * share:.0f} %" for share in pca.explained_variance_ratio_)
        shares[label] = f"{first} and {second} of the variance"
        order = np.random.default_rng(seed).permutation(len(at))  # so that no colour lies on top
        for axes, column in zip(axes_row, colours, strict=True):
            values = profiles.obs[column].to_numpy()[order]
            known[column] = _colours(column, values)
            axes.scatter(*at[order].T, c=[known[column][v] for v in values], s=9, linewidth=0, alpha=0.8)
            axes.set(xticks=[], yticks=[], xlabel=f"component 1 ({first})", ylabel=f"component 2 ({second})")
            axes.set_title(f"{label}, by {column.removesuffix('_id')}")
    for side, column in zip(("left", "right"), known, strict=False):
        few = list(known[column].items())[:10]
        marks = [Line2D([], [], color=c, marker="o", linestyle="", label=str(v)) for v, c in few]
        words = dict(title=column.removesuffix("_id"), title_fontsize=9, fontsize=8, handletextpad=0.2)
        figure.legend(handles=marks, loc=f"outside lower {side}", ncols=2, **words)
    by = " and by ".join(column.removesuffix("_id") for column in colours)
    figure.alt = f"Well profiles on two principal components, coloured by {by}; they hold, {_numbers(shares)}."
    return figure


def _colours(column: str, values: np.ndarray) -> dict[str, str]:
    """A colour for each value of an obs column: fixed for roles, in turn for others, a gradient for many."""
    names = sorted(set(values), key=str)
    if column == "role":
        return {role: colour for role, colour in ROLES.items() if role in names}
    if len(names) <= len(CYCLE):
        return dict(zip(names, CYCLE, strict=False))
    gradient = matplotlib.colormaps["viridis"](np.linspace(0, 1, len(names)))
    return {n: matplotlib.colors.to_hex(c) for n, c in zip(names, gradient, strict=True)}


# ---- scores with intervals ----


@_drawn
def accuracy_plot(scores: pd.DataFrame | None, paper: pd.DataFrame | None = None, panel: str = "task") -> Figure:
    """Dots with 95 % intervals, a panel a task and a row a method; a dotted line is the majority rate.

    Args:
        scores: method, accuracy, ci_low, ci_high, majority_rate and perhaps the column `panel`; if there is a column
            `split`, dots are filled for its first value and open for its second. None draws a note that there is none.
        paper: method, accuracy and `panel`: published values, diamonds in a row of their own.
    """
    if scores is None:
        return _empty()
    if panel not in scores:  # nothing to divide by: one panel
        scores, paper = (t if t is None else t.assign(**{panel: ""}) for t in (scores, paper))
    methods = list(dict.fromkeys(scores["method"]))
    splits = list(dict.fromkeys(scores["split"])) if "split" in scores else [None]
    panels = dict(list(scores.groupby(panel, sort=False)))
    rows = [*map(name, methods), *["paper (real screen)"] * (paper is not None)]
    figure, grid = _figure(len(panels) * (0.24 * len(rows) + 0.42) + 0.75, len(panels), 1, sharex=True)
    words = []
    for axes, (title, part) in zip(grid[:, 0], panels.items(), strict=True):
        majority = part["majority_rate"].iloc[0]
        axes.axvline(majority, color=GREY, linestyle=":", linewidth=1.2)
        for row in part.itertuples():
            i, split = methods.index(row.method), getattr(row, "split", None)
            style = _method_style(row.method, i)
            y = i + 0.34 * (splits.index(split) - (len(splits) - 1) / 2)
            axes.plot([row.ci_low, row.ci_high], [y, y], color=style["color"], linewidth=1.6)
            face = style["color"] if split == splits[0] else "white"
            axes.plot(row.accuracy, y, linestyle="", markerfacecolor=face, **style)
            by = f" with {split}s held out" if split else ""
            words.append(f"{title}, {name(row.method)}{by} {_percent(row.accuracy)}")
        if paper is not None:
            for one in paper[(paper[panel] == title) & (paper["method"] != "majority class")].itertuples():
                face = YELLOW if one.method == "GAN-DL" else "white"
                axes.plot(one.accuracy, len(methods), "D", markerfacecolor=face, markeredgecolor=BLACK, zorder=3)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_title(f"{title}   (majority {_percent(majority)})".strip(), loc="left")
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    low = min(scores[["accuracy", "ci_low", "majority_rate"]].min())
    axes.set(xlim=(max(0, low - 0.05), 1.015), xlabel="accuracy, with 95 % interval")
    axes.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, decimals=0))
    mark = functools.partial(Line2D, [], [], linestyle="", color=BLACK)
    handles = []
    if len(splits) > 1:
        faces = zip(splits, (BLACK, "white"), strict=True)
        handles += [mark(marker="o", markerfacecolor=face, label=f"{split}s held out") for split, face in faces]
    if paper is not None:
        faces = {"paper, GAN-DL": YELLOW, "paper, other methods": "white"}
        handles += [mark(marker="D", markerfacecolor=face, label=label) for label, face in faces.items()]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=2, handletextpad=0.2)
    figure.alt = f"Accuracies with intervals: {'; '.join(words)}."
    return figure


@_drawn
def confusion(counts: pd.DataFrame | None, methods: Sequence[str] | None = None) -> Figure:
    """Confusion matrices, a panel a method, shaded by the share of the true class: method, true, predicted, count."""
    if counts is None:
        return _empty()
    methods = list(methods or dict.fromkeys(counts["method"]))
    classes = sorted(set(counts["true"]) | set(counts["predicted"]))
    many = len(classes) > 6  # a panel a row, and no zeros, or nothing can be read
    columns = 1 if many else min(2, len(methods))
    rows = -(-len(methods) // columns)
    height = (0.27 * len(classes) + 2.1 if many else 2.75) * rows + 0.2
    figure, grid = _figure(height, rows, columns, width=WIDTH if many or columns == 2 else 3.4)
    words, listed = {}, ", ".join(map(str, classes))
    for axes in grid.flat[len(methods) :]:
        axes.set_axis_off()
    for axes, method in zip(grid.flat, methods, strict=False):
        matrix = counts[counts["method"] == method].pivot(index="true", columns="predicted", values="count")
        matrix = matrix.reindex(index=classes, columns=classes).fillna(0)
        share = matrix.to_numpy() / np.maximum(matrix.to_numpy().sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (i, j), value in np.ndenumerate(matrix.to_numpy()):
            axes.text(
                j,
                i,
                f"{value:.0f}" if value or not many else "",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if share[i, j] > 0.5 else BLACK,
            )
        axes.set_xticks(
            range(len(matrix)), matrix.columns, rotation=90 if many else 40, ha="center" if many else "right"
        )
        axes.set_yticks(range(len(matrix)), matrix.index)
        axes.set(xlabel="predicted", ylabel="true", title=name(method))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        words[name(method)] = f"{matrix.to_numpy().trace():.0f} of {matrix.to_numpy().sum():.0f} right"
    figure.alt = f"Confusion matrices of {listed}: {_numbers(words)}."
    return figure


# ---- axes and efficacy ----


@_drawn
def axes_plot(positions: pd.DataFrame, method: str, task: str = "E2") -> Figure:
    """Wells on and off an axis, and above it how they spread along it: a panel a cell type (E2), or one panel (C2).

    Args:
        positions: axes.csv: method, task, cell_type, role, on, off, split.
    """
    chosen = positions[(positions["method"] == method) & (positions["task"] == task)].dropna(subset=["on", "off"])
    if chosen.empty:
        return _empty(f"{name(method)} has no {task} axis: it does not order control wells it has not seen.")
    cell_types = sorted(chosen["cell_type"].unique())
    if task == "E2":
        parts = {cell_type: chosen[chosen["cell_type"] == cell_type] for cell_type in cell_types}
        column, colours, ends = "role", {r: ROLES[r] for r in ("treated", "UV", "C-", "C+")}, ("C-", "C+")
    else:
        parts = {" and ".join(cell_types): chosen}
        column, colours, ends = "cell_type", dict(zip(cell_types, CYCLE, strict=False)), cell_types[::-1]
    rows = len(parts)
    ratios = {"height_ratios": [1, 2.4] * rows}
    figure, grid = _figure(3.6 * rows, 2 * rows, 1, gridspec_kw=ratios)
    words = []
    for above, below, (panel, part) in zip(grid[::2, 0], grid[1::2, 0], parts.items(), strict=True):
        (left, right), (bottom, top) = (_span(part[c], limit) for c, limit in (("on", 6), ("off", np.inf)))
        bins = np.linspace(left, right, 46)
        for value, colour in colours.items():
            one = part[part[column] == value]
            if one.empty:
                continue
            size, alpha = (6, 0.35) if value == "treated" else (13, 0.8)
            label = f"{value} ({len(one)})"
            below.scatter(one["on"], one["off"], s=size, color=colour, alpha=alpha, linewidth=0, label=label)
            above.hist(one["on"], bins=bins, density=True, histtype="step", linewidth=1.6, color=colour)
            words.append(f"{panel}, {value} mean {one['on'].mean():.2f}")
        for axes in (above, below):
            axes.axvline(0, color=GREY, linewidth=0.9)
            for end in (-1, 1):
                axes.axvline(end, color=GREY, linewidth=0.9, linestyle=":")
            axes.set_xlim(left, right)
        above.set(yticks=[], title=panel)
        above.tick_params(labelbottom=False)
        below.set(ylim=(bottom, top), ylabel="off the axis", xlabel=f"on the axis ({ends[0]} at -1, {ends[1]} at +1)")
        below.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=4, handletextpad=0.1, columnspacing=1)
    figure.alt = f"Wells on and off the {task} axis of {name(method)}, histograms of the on-values: {'; '.join(words)}."
    return figure


def _span(values: pd.Series, limit: float) -> tuple[float, float]:
    """Ends of an axis that shows all but the outermost values, and nothing beyond +-`limit`."""
    low, high = np.quantile(values, [0.005, 0.995])
    margin = 0.08 * (high - low)
    return max(low - margin, -limit), min(high + margin, limit)


@_drawn
def efficacy_plot(efficacy: pd.DataFrame, method: str) -> Figure:
    """Efficacy scores of all wells, a panel a cell type: a dot a well, a bar the mean of its role.

    Args:
        efficacy: efficacy.csv: method, cell_type, role, efficacy.
    """
    part = efficacy[efficacy["method"] == method].dropna(subset=["efficacy"])
    if part.empty:
        return _empty(f"{name(method)} has no efficacy scores: it does not order control wells it has not seen.")
    cell_types = sorted(part["cell_type"].unique())
    roles = [role for role in ("C+", "UV", "C-", "treated") if (part["role"] == role).any()]
    figure, grid = _figure(1.75 * len(cell_types) + 0.5, len(cell_types), 1, sharex=True)
    rng, words = np.random.default_rng(0), []
    for axes, cell_type in zip(grid[:, 0], cell_types, strict=True):
        for y, role in enumerate(roles):
            x = part.loc[(part["cell_type"] == cell_type) & (part["role"] == role), "efficacy"].to_numpy()
            if len(x):
                axes.scatter(x, y + rng.uniform(-0.28, 0.28, len(x)), s=7, color=ROLES[role], alpha=0.5, linewidth=0)
                axes.plot([x.mean()] * 2, [y - 0.36, y + 0.36], color=BLACK, linewidth=1.6)
                words.append(f"{cell_type}, {role} mean {x.mean():.2f} of {len(x)} wells")
        axes.axvline(0, color=GREY, linewidth=0.9)
        axes.set_yticks(range(len(roles)), roles)
        axes.set_ylim(len(roles) - 0.5, -0.5)
        axes.set_title(cell_type, loc="left")
        axes.grid(axis="x")
    axes.set(xlim=_span(part["efficacy"], 6), xlabel="efficacy score (C- at -1, C+ at +1, threshold 0)")
    figure.alt = f"Efficacy scores of wells by {name(method)}: {'; '.join(words)}."
    return figure


@_drawn
def ranking(curves: pd.DataFrame, method: str, truth: pd.DataFrame | None = None) -> Figure:
    """Compounds by their highest mean efficacy, a panel a cell type; filled where called a hit.

    Args:
        curves: dose_response.csv.
        truth: cell_type, compound, effective of a simulated screen: compounds that truly help are green, others grey.
    """
    part = curves[curves["method"] == method].dropna(subset=["efficacy_max"])
    if part.empty:
        return _empty(f"{name(method)} has no efficacy scores, so there is nothing to rank.")
    known = truth[["cell_type", "compound", "effective"]] if truth is not None else part[["cell_type", "compound"]]
    part = part.merge(known, "left", ["cell_type", "compound"])
    cell_types = sorted(part["cell_type"].unique())
    figure, grid = _figure(2.0 * len(cell_types) + 0.7, len(cell_types), 1)
    words = []
    for axes, cell_type in zip(grid[:, 0], cell_types, strict=True):
        one = part[part["cell_type"] == cell_type].sort_values("efficacy_max", ascending=False)
        helps = one["effective"] if truth is not None else np.ones(len(one), bool)
        colours = np.where(helps, GREEN, GREY)
        faces = np.where(one["hit"].astype(bool), colours, "white")
        axes.axhline(0, color=GREY, linewidth=0.9)
        axes.scatter(range(1, len(one) + 1), one["efficacy_max"], c=faces, edgecolors=colours, s=30, linewidths=1.3)
        axes.set_title(cell_type, loc="left")
        axes.set_ylabel("highest mean\nefficacy of a dose")
        axes.grid(axis="y")
        hits = int(one["hit"].astype(bool).sum())
        words.append(f"{cell_type}: {hits} hits among {len(one)} compounds, best {one['compound'].iloc[0]}")
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axes.set_xlabel("rank of the compound")
    dot = dict(color=BLACK, marker="o", linestyle="")
    handles = [Line2D([], [], label="called a hit", **dot), Line2D([], [], label="not", markerfacecolor="white", **dot)]
    if truth is not None:
        handles += [Patch(color=GREEN, label="truly effective (simulated)"), Patch(color=GREY, label="not effective")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, handletextpad=0.4)
    figure.alt = f"Compounds ranked by highest mean efficacy under {name(method)}. {'; '.join(words)}."
    return figure


# ---- dose and response ----


def curve(row: Any, concentration_uM: np.ndarray) -> np.ndarray:
    """The fitted four-parameter curve of a row of dose_response.csv at each concentration."""
    return row.bottom + (row.emax - row.bottom) / (1 + (row.ec50_uM / concentration_uM) ** row.hill)


@_drawn
def dose_curves(
    points: pd.DataFrame,
    curves: pd.DataFrame,
    method: str,
    compounds: Sequence[tuple[str, str]],
    truth: pd.DataFrame | None = None,
    wells: pd.DataFrame | None = None,
) -> Figure:
    """Dose-response of (cell type, compound) pairs: mean and 95 % interval per dose, the fit, and the EC50's interval.

    Args:
        points: dose_points.csv.
        curves: dose_response.csv.
        truth: of a simulated screen; the true EC50 is a triangle on the axis.
        wells: efficacy.csv; every well is a dot then.
    """
    pairs = pd.DataFrame(list(compounds), columns=["cell_type", "compound"]).assign(method=method)
    rows = pairs.merge(curves, "inner").dropna(subset=["efficacy_max"])
    if rows.empty:
        return _empty(f"{name(method)} has no dose-response curve of these compounds to show.")
    columns = min(2, len(rows))
    n_rows = -(-len(rows) // columns)
    figure, grid = _figure((2.1 if columns == 2 else 3.0) * n_rows + 0.7, n_rows, columns, sharey=True)
    words = []
    for axes, row in zip(grid.flat, rows.itertuples(), strict=False):
        pair = pairs.query("cell_type == @row.cell_type and compound == @row.compound")
        dots = pair.merge(wells)[["concentration_uM", "efficacy"]] if wells is not None else None
        true = pair.merge(truth)["ec50_uM"].dropna() if truth is not None else ()
        said = _dose_curve(axes, row, pair.merge(points), dots, true)
        axes.set_title(f"{row.compound}, {row.cell_type}\n{said}", fontsize=9)
        words.append(f"{row.compound} in {row.cell_type}: {said}, highest mean efficacy {row.efficacy_max:.2f}")
    for axes in grid.flat[len(rows) :]:
        axes.set_axis_off()
    highest = pairs.merge(points)["efficacy"].abs().max()
    reach = min(max(2.0, highest + 0.2), 5.0)
    for axes in grid[:, 0]:
        axes.set(ylabel="efficacy score", ylim=(-reach, reach))
    for axes in grid.flat[max(0, len(rows) - columns) : len(rows)]:
        axes.set_xlabel("concentration (µM)")
    handles = [
        Line2D([], [], color=ROLES["treated"], marker="o", label="mean of wells, 95 % interval"),
        Line2D([], [], color=BLACK, label="fitted curve"),
        Line2D([], [], color=BLACK, linewidth=4, alpha=0.3, label="EC50, 95 % interval"),
    ]
    if truth is not None:
        handles.append(Line2D([], [], color=BLUE, marker="^", linestyle="", label="true EC50 (simulated)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    figure.alt = f"Dose-response curves by {name(method)}. {'; '.join(words)}."
    return figure


def _dose_curve(
    axes: Axes, row: Any, points: pd.DataFrame, wells: pd.DataFrame | None, true_uM: Sequence[float]
) -> str:
    """One panel of `dose_curves`; returns what to say of the EC50."""
    doses = points["concentration_uM"].to_numpy()
    low, high = doses[0] / 1.6, doses[-1] * 1.6
    toxic = doses >= (row.toxic_from_uM if row.toxic_from_uM == row.toxic_from_uM else np.inf)
    axes.axhline(0, color=GREY, linewidth=0.9)
    for end in (-1, 1):
        axes.axhline(end, color=GREY, linewidth=0.8, linestyle=":")
    if toxic.any():
        start = np.sqrt(doses[toxic][0] * doses[~toxic][-1])
        axes.axvspan(start, high, color=VERMILLION, alpha=0.12, linewidth=0)
        axes.text(0.98, 0.98, "toxic", color=VERMILLION, fontsize=8, ha="right", va="top", transform=axes.transAxes)
    if wells is not None:
        axes.scatter(wells["concentration_uM"], wells["efficacy"], s=9, color=PALE, linewidth=0)
    whiskers = np.nan_to_num([points["efficacy"] - points["ci_low"], points["ci_high"] - points["efficacy"]])
    axes.errorbar(doses, points["efficacy"], whiskers, fmt="o", color=ROLES["treated"], elinewidth=1.3, markersize=4)
    for value in true_uM:
        axes.plot(
            value, 0, "^", color=BLUE, markersize=7, clip_on=False, zorder=5, transform=axes.get_xaxis_transform()
        )
    axes.set(xscale="log", xlim=(low, high))
    if np.isfinite(row.ec50_uM):
        x = np.geomspace(doses[0], doses[~toxic][-1], 200)
        axes.plot(x, curve(row, x), color=BLACK, linewidth=1.4)
        ends = np.clip([row.ec50_low, row.ec50_high], low, high)
        axes.plot(ends, [(row.emax + row.bottom) / 2] * 2, color=BLACK, linewidth=4, alpha=0.3, solid_capstyle="butt")
        return f"EC50 {row.ec50_uM:.2g} µM"
    if isinstance(row.ec50_censored, str) and row.ec50_censored:
        return f"EC50 {row.ec50_censored.replace('max', 'highest dose').replace('min', 'lowest dose')}"
    return "no curve"


@_drawn
def ec50_plot(curves: pd.DataFrame, truth: pd.DataFrame | None, methods: Sequence[str]) -> Figure:
    """Fitted against true EC50 of a simulated screen, with 95 % intervals; the band is a factor of three."""
    if truth is None:
        return _empty()
    both = curves.merge(truth, on=["cell_type", "compound"], suffixes=("", "_true"))
    both = both[both["method"].isin(methods)].dropna(subset=["ec50_uM", "ec50_uM_true"])
    if both.empty:
        return _empty("No effective compound has a fitted EC50, so there is nothing to compare with the truth.")
    values = both[["ec50_uM", "ec50_uM_true"]].to_numpy()
    ends = np.array([values.min() / 3, values.max() * 3])
    figure, ((axes,),) = _figure(4.6, width=4.8)
    axes.plot(ends, ends, color=GREY, linewidth=0.9)
    axes.fill_between(ends, ends / 3, ends * 3, color=PALE, alpha=0.3, linewidth=0)
    words = {}
    for i, (method, one) in enumerate(both.groupby("method", sort=False)):
        low, high = (np.clip(one[end], *ends) for end in ("ec50_low", "ec50_high"))
        whiskers = [one["ec50_uM"] - low, high - one["ec50_uM"]]
        x = one["ec50_uM_true"] * 1.06**i  # beside each other, not on top
        label, style = f"{name(method)} ({len(one)})", _method_style(method, i)
        axes.errorbar(x, one["ec50_uM"], np.maximum(whiskers, 0), linestyle="", elinewidth=1, label=label, **style)
        near = (np.log10(one["ec50_uM"] / one["ec50_uM_true"]).abs() < np.log10(3)).sum()
        words[name(method)] = f"{near} of {len(one)} EC50s within a factor of three"
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    axes.set(xlabel="true EC50 (µM, simulated)", ylabel="fitted EC50 (µM)")
    axes.legend(loc="upper left")
    figure.alt = f"Fitted against true EC50, simulated screen: {_numbers(words)}."
    return figure


# ---- somebody's own plate ----


@_drawn
def well_map(wells: pd.DataFrame, plate_id: str, quantity: str, label: str, limits: tuple[float, float]) -> Figure:
    """One plate as it lies on the bench, a square a well, coloured by `quantity`; controls have a frame.

    Args:
        wells: one row a well: plate_id, well, role and the quantity (NaN: grey).
        limits: values at the two ends of the colours. If one is below and one above 0, white is 0.
    """
    plate = wells[wells["plate_id"] == plate_id]
    at = np.array([place(well) for well in plate["well"]])
    rows, columns = at.max(axis=0) + 1
    image = np.full((rows, columns), np.nan)
    image[at[:, 0], at[:, 1]] = plate[quantity]
    two_sided = limits[0] < 0 < limits[1]
    colours = matplotlib.colormaps["PuOr" if two_sided else "viridis"].with_extremes(bad="#EEEEEE")
    figure, ((axes,),) = _figure(0.7 + 0.88 * WIDTH * rows / columns)
    edges = np.arange(columns + 1) + 0.5, np.arange(rows + 1)
    mesh = axes.pcolormesh(*edges, np.ma.masked_invalid(image), cmap=colours, vmin=limits[0], vmax=limits[1],
                           edgecolor="white", linewidth=0.4)  # fmt: skip
    for (row, column), role in zip(at, plate["role"], strict=True):
        if role in ("C+", "C-"):
            frame = Rectangle((column + 0.58, row + 0.08), 0.84, 0.84, fill=False, linewidth=1.2)
            frame.set_edgecolor(ROLES[role])
            axes.add_patch(frame)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    step = 1 if columns <= 12 else 4
    axes.set_xticks(range(1, columns + 1, step))
    axes.set_yticks(np.arange(0, rows, step) + 0.5, [letters(row) for row in range(0, rows, step)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{label}, plate {plate_id}")
    figure.colorbar(mesh, ax=axes, shrink=0.8, pad=0.02)
    frames = [Patch(facecolor="none", edgecolor=ROLES[r], label=r) for r in ("C+", "C-") if (plate["role"] == r).any()]
    if frames:
        figure.legend(handles=frames, loc="outside lower center", ncols=2)
    values = plate[quantity].astype(float)
    spread = f"{values.min():.3g} to {values.max():.3g}" if values.notna().any() else "not known"
    figure.alt = f"Map of plate {plate_id}, {label} of {len(plate)} wells: {spread}, median {values.median():.3g}."
    return figure


def centre(images: np.ndarray, px: int) -> np.ndarray:
    """The middle of (..., H, W), at most `px` pixels on a side."""
    y, x = (max(0, (side - px) // 2) for side in images.shape[-2:])
    return images[..., y : y + px, x : x + px]


# ---- comparison of methods ----


def _left(table: pd.DataFrame | None, order: Sequence[str] | None = None) -> list[str]:
    """Methods of a table, shuffled labels left out."""
    return [m for m in dict.fromkeys(order or table["method"]) if m != "shuffled labels"]


@_drawn
def accuracy_against_compute(scores: pd.DataFrame, cost: pd.DataFrame, task: str = "C+ vs C-") -> Figure:
    """Accuracy (wells held out, 95 % intervals) against minutes of training, a mark a method.

    Args:
        scores: separability.csv.
        cost: cost.csv; methods with nothing to train stand on the left, those nobody timed are left out.
    """
    part = scores[
        (scores["task"] == task) & (scores["split"] == "well") & scores["normalisation"].isin(["all", "none"])
    ]
    both = part.merge(cost.dropna(subset=["minutes"]), on="method")
    if both.empty:
        return _empty()
    figure, ((axes,),) = _figure(3.9)
    majority = both["majority_rate"].iloc[0]
    axes.axhline(majority, color=GREY, linestyle=":", linewidth=1.2)
    untrained = max(0.3, both.loc[both["minutes"] > 0, "minutes"].min() / 4) if (both["minutes"] > 0).any() else 1.0
    free, words = both[both["minutes"] == 0]["method"].tolist(), {}
    for row in both.itertuples():
        # Marks without a time stand side by side, so that they do not hide each other.
        x = row.minutes or untrained * 1.25 ** (free.index(row.method) - len(free) / 2)
        style = _method_style(row.method)
        axes.plot([x, x], [row.ci_low, row.ci_high], color=style["color"], linewidth=1.4)
        axes.plot(x, row.accuracy, linestyle="", label=name(row.method), **(style | {"markersize": 7}))
        words[name(row.method)] = f"{_percent(row.accuracy)} after {row.minutes:.3g} minutes"
    axes.set_xscale("log")
    ticks = [
        untrained,
        *(t for t in (1, 3, 10, 30, 100, 300, 1000, 3000) if untrained * 2 < t < both["minutes"].max() * 2),
    ]
    axes.set_xticks(ticks, ["none", *(f"{t:g}" for t in ticks[1:])])
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set(xlabel="minutes of training", ylabel=f"accuracy, {task}")
    axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, decimals=0))
    axes.grid(axis="y")
    figure.legend(loc="outside lower center", ncols=2, handletextpad=0.3, columnspacing=1)
    figure.alt = f"Accuracy of {task} against training time, majority rate {_percent(majority)}: {_numbers(words)}."
    return figure


@_drawn
def probe_sizes(table: pd.DataFrame | None, methods: Sequence[str] | None = None) -> Figure:
    """Accuracy against the number of labelled wells, a line a method, a band from the lowest to the highest draw."""
    if table is None or table.empty:
        return _empty()
    figure, ((axes,),) = _figure(3.9)
    axes.axhline(table["majority_rate"].iloc[0], color=GREY, linestyle=":", linewidth=1.2)
    words = []
    for method in _left(table, methods):
        part = table[table["method"] == method]
        if part.empty:
            continue
        style = _method_style(method)
        axes.fill_between(
            part["n_wells"], part["lowest"], part["highest"], color=style["color"], alpha=0.1, linewidth=0
        )
        axes.plot(part["n_wells"], part["accuracy"], linewidth=1.4, label=name(method), **style)
        first, last = part.iloc[0], part.iloc[-1]
        ends = (
            f"{_percent(first.accuracy)} at {first.n_wells:.0f} wells, {_percent(last.accuracy)} at {last.n_wells:.0f}"
        )
        words.append(f"{name(method)} {ends}")
    sizes = sorted(table["n_wells"].unique())
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{n:.0f}" for n in sizes])
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set(xlabel="labelled wells", ylabel="accuracy on held-out wells")
    axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, decimals=0))
    axes.grid()
    figure.legend(loc="outside lower center", ncols=2, handletextpad=0.3, columnspacing=1)
    figure.alt = f"Accuracy against the number of labelled wells: {'; '.join(words)}."
    return figure


@_drawn
def differences(paired: pd.DataFrame | None, method: str, task: str = "C+ vs C-") -> Figure:
    """How much better or worse than `method` each other method is on the same wells, with paired 95 % intervals.

    Args:
        paired: paired.csv; filled for wells held out, open for plates.
    """
    rows = against(paired, method, task) if paired is not None else pd.DataFrame()
    if rows.empty:
        return _empty()
    others, splits = (list(dict.fromkeys(rows[column])) for column in ("other", "split"))
    figure, ((axes,),) = _figure(0.3 * len(others) + 1.0)
    axes.axvline(0, color=BLACK, linewidth=1)
    words = []
    for row in rows.itertuples():
        style, shift = _method_style(row.other), 0.3 * (splits.index(row.split) - (len(splits) - 1) / 2)
        y = others.index(row.other) + shift
        axes.plot([row.ci_low, row.ci_high], [y, y], color=style["color"], linewidth=1.6)
        face = style["color"] if row.split == splits[0] else "white"
        axes.plot(row.difference, y, linestyle="", markerfacecolor=face, **style)
        words.append(f"{name(row.other)} {100 * row.difference:+.1f} points with {row.split}s held out")
    axes.set_yticks(range(len(others)), [name(m) for m in others])
    axes.set_ylim(len(others) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda x, _: f"{100 * x:+.0f}"))
    axes.set_xlabel(f"accuracy less that of {name(method)}, points")
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    figure.alt = f"{task}, differences from {name(method)} on the same wells: {'; '.join(words)}."
    return figure


def against(
    paired: pd.DataFrame, method: str, task: str, normalisation: Sequence[str] = ("all", "none")
) -> pd.DataFrame:
    """Rows of paired.csv that compare others with `method`, turned so that what is positive is the other's lead."""
    part = paired[(paired["task"] == task) & paired["normalisation"].isin(normalisation)]
    first, second = part[part["method"] == method], part[part["other"] == method]
    turned = first.assign(difference=-first["difference"], ci_low=-first["ci_high"], ci_high=-first["ci_low"])
    second = second.assign(method=second["other"], other=second["method"])
    return pd.concat([turned, second], ignore_index=True)


@_drawn
def axes_of_all(positions: pd.DataFrame, task: str = "E2") -> Figure:
    """Fig. 3 for every embedding: control wells along the axis, a row a method, for E2 a column a cell type.

    Args:
        positions: axes.csv; a row without histograms has no axis, for it does not order control wells it has not seen.
    """
    part = positions[(positions["task"] == task) & positions["split"].isin(["train", "test"])]
    if part.empty:
        return _empty()
    methods, cell_types = _left(part), sorted(part["cell_type"].unique())
    if task == "E2":
        columns = {cell_type: part[part["cell_type"] == cell_type] for cell_type in cell_types}
        by, colours = "role", {role: ROLES[role] for role in ("C-", "C+")}
    else:
        columns, by, colours = {" and ".join(cell_types): part}, "cell_type", dict(zip(cell_types, CYCLE, strict=False))
    figure, grid = _figure(0.5 * len(methods) + 1.1, len(methods), len(columns), sharex=True)
    words = []
    for i, method in enumerate(methods):
        for axes, (title, column) in zip(grid[i], columns.items(), strict=True):
            one = column[column["method"] == method].dropna(subset=["on"])
            for value, colour in colours.items():
                on = one.loc[one[by] == value, "on"]
                axes.hist(np.clip(on, -3, 3), bins=np.linspace(-3, 3, 41), color=colour, alpha=0.6, density=len(on) > 0)
            means, spread = one.groupby(by)["on"].mean(), one.groupby(by)["on"].std()
            if len(means) == 2:
                words.append(f"{name(method)}, {title} {abs(means.diff().iloc[-1]) / spread.mean():.1f} spreads apart")
            axes.axvline(0, color=GREY, linewidth=0.8)
            axes.set(yticks=[], xlim=(-3, 3))
            axes.spines["left"].set_visible(False)
            if i == 0:
                axes.set_title(title)
            if i == len(methods) - 1:
                axes.set_xlabel("on the axis")
        grid[i, 0].set_ylabel(name(method), rotation=0, ha="right", va="center", fontsize=8)
    handles = [Patch(color=colour, alpha=0.6, label=value) for value, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    figure.alt = f"Histograms of control wells along the {task} axis of each method: {'; '.join(words)}."
    return figure


@_drawn
def replicate_precision(table: pd.DataFrame | None) -> Figure:
    """Mean average precision of replicates by dose, a line a method; dotted, a random ranking."""
    if table is None or table.empty:
        return _empty()
    by = table.groupby(["method", "concentration_uM"], sort=False)[["mean_average_precision", "by_chance"]].mean()
    figure, ((axes,),) = _figure(3.9)
    words = []
    for method in _left(table):
        part = by.loc[method].sort_index()
        axes.plot(
            part.index, part["mean_average_precision"], linewidth=1.4, label=name(method), **_method_style(method)
        )
        words.append(f"{name(method)} {part['mean_average_precision'].iloc[-1]:.2f} at the highest dose")
    chance = by.groupby(level="concentration_uM")["by_chance"].mean().sort_index()
    axes.plot(chance.index, chance, linestyle=":", color=GREY, label="by chance")
    axes.set_xscale("log")
    axes.set(xlabel="concentration (µM)", ylabel="mAP of replicates", ylim=(0, None))
    axes.grid()
    figure.legend(loc="outside lower center", ncols=2, handletextpad=0.3, columnspacing=1)
    figure.alt = (
        f"Mean average precision of replicates against dose, by chance {chance.mean():.2f}: {'; '.join(words)}."
    )
    return figure


# ---- paradigms ----

PARADIGMS = {"weak": VERMILLION, "autoencoder": BLUE, "regularised": PURPLE, "byol": GREEN}
PARADIGM_NAMES = {"weak": "weakly supervised", "byol": "BYOL"}
MEASURES = {
    "normalised_d": "normalised d: similar drugs nearer than controls",
    "accuracy": "accuracy, drug against control",
    "precision": "precision",
    "recall": "recall",
    "roc_auc": "area under the ROC curve",
    "n_clusters": "number of clusters",
    "not_noise": "share not noise",
    "silhouette": "silhouette",
    "davies_bouldin_inverse": "1 / Davies-Bouldin",
}
"""Table 2's metrics in words; distance_similar has the unit of its embedding and is not drawn."""


def setup_name(row: Any) -> str:
    """How a row of paradigms.csv is called: paradigm, then what it was given."""
    if not isinstance(row.augment, bool | np.bool_):
        return {"paradigm-random": "untrained encoder"}.get(row.paradigm, name(row.paradigm))
    given = [word for word, on in (("augmented", row.augment), ("multi-crop", row.multi_crop)) if on]
    flawed = [] if not row.published else ["as published"]
    return " + ".join([PARADIGM_NAMES.get(row.paradigm, row.paradigm), *given, *flawed])


def tidy_setups(table: pd.DataFrame) -> pd.DataFrame:
    """paradigms.csv with its yes/no columns as such, `None` where a row is no setup."""
    yes = {True: True, False: False, "True": True, "False": False}  # numbers 1 and 0 are the same keys
    return table.assign(**{c: [yes.get(v) for v in table[c]] for c in ("augment", "multi_crop", "published")})


@_drawn
def setups_plot(
    table: pd.DataFrame,
    metrics: Mapping[str, tuple[str, str] | None],
    paper: pd.DataFrame | None = None,
) -> Figure:
    """A row a setup, a panel a metric, two beside each other; bars are 95 % intervals where there are any.

    Args:
        table: paradigms.csv.
        metrics: column -> the columns of its interval's ends, or None.
        paper: `paper("paradigms")`: published ranges, yellow bands behind the rows of their paradigm.
    """
    table = tidy_setups(table)
    names = [setup_name(row) for row in table.itertuples()]
    columns = min(2, len(metrics))
    rows = -(-len(metrics) // columns)
    figure, grid = _figure(rows * (0.19 * len(names) + 0.55), rows, columns, width=7.4, sharey=True)
    words = []
    for axes in grid.flat[len(metrics) :]:
        axes.set_axis_off()
    for axes, (metric, ends) in zip(grid.flat, metrics.items(), strict=False):
        published = {} if paper is None else paper[paper["metric"] == metric].set_index("paradigm")
        said = []
        for i, row in enumerate(table.itertuples()):
            colour = PARADIGMS.get(row.paradigm, METHODS.get(row.paradigm, GREY))
            if len(published) and row.paradigm in published.index and not row.published:
                low, high = published.loc[row.paradigm, ["low", "high"]]
                axes.fill_betweenx([i - 0.5, i + 0.5], low, high, color=YELLOW, alpha=0.6, linewidth=0)
            value = getattr(row, metric)
            if ends and not np.isnan(getattr(row, ends[0])):
                axes.plot([getattr(row, end) for end in ends], [i, i], color=colour, linewidth=1.6)
            face = "white" if row.augment is None or row.published else colour
            marker = "o" if row.augment is not None else "s"
            axes.plot(value, i, marker, color=colour, markerfacecolor=face, markersize=4.5)
            said.append(f"{names[i]} {value:.2f}")
        if metric == "accuracy":
            axes.axvline(table["majority_rate"].iloc[0], color=GREY, linestyle=":", linewidth=1.2)
        if metric in ("normalised_d", "roc_auc"):
            axes.axvline(0.5 if metric == "roc_auc" else 0, color=GREY, linestyle=":", linewidth=1.2)
        if metric == "n_clusters":
            axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_title(textwrap.fill(MEASURES[metric], 34), loc="left", fontsize=9)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        words.append(f"{MEASURES[metric]}: {', '.join(said)}")
    figure.alt = f"Setups compared. {'; '.join(words)}."
    return figure


@_drawn
def probe_by_cell(cells: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Accuracy, precision, recall and AUC of every setup, a panel each, a marker a cell line (paradigms_cells.csv)."""
    table = tidy_setups(table)
    names = {row.method: setup_name(row) for row in table.itertuples()}
    lines = list(dict.fromkeys(cells["cell_type"]))
    metrics = ("accuracy", "precision", "recall", "roc_auc")
    figure, grid = _figure(2 * (0.19 * len(names) + 0.55) + 0.3, 2, 2, width=7.4, sharey=True)
    for axes, metric in zip(grid.flat, metrics, strict=True):
        for k, line in enumerate(lines):
            part = cells[cells["cell_type"] == line].set_index("method").reindex(list(names))
            y, colour = np.arange(len(part)) + 0.3 * (k - (len(lines) - 1) / 2), CYCLE[k % len(CYCLE)]
            ends = {"accuracy": "accuracy", "roc_auc": "auc"}.get(metric)
            if ends:
                axes.hlines(y, part[f"{ends}_low"], part[f"{ends}_high"], color=colour, linewidth=1.2)
            axes.plot(part[metric], y, "os^D"[k % 4], color=colour, markersize=4, label=line)
            if metric == "accuracy":
                axes.axvline(part["majority_rate"].iloc[0], color=colour, linestyle=":", linewidth=1.2)
        axes.set_yticks(range(len(names)), list(names.values()), fontsize=8)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_title(MEASURES[metric], loc="left", fontsize=9)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(lines))
    ranges = {
        f"{line}, {m}": f"{part[m].min():.2f} to {part[m].max():.2f}"
        for line, part in cells.groupby("cell_type")
        for m in metrics
    }
    figure.alt = f"Drug against control by cell line, over {len(names)} embeddings: {_numbers(ranges)}."
    return figure


@_drawn
def cluster_plane(points: pd.DataFrame, shards: Any, methods: Sequence[str], cell_type: str, n: int = 4) -> Figure:
    """UMAP planes with HDBSCAN's clusters, one a method, and sites of the largest clusters beside each.

    Args:
        points: paradigms_points.csv.
        shards: where the sites' images are.
        methods: which, top to bottom.
        cell_type: which.
        n: clusters shown, two sites each, those nearest to their cluster's middle.
    """
    place = pd.Series(range(len(shards)), index=shards.wells["site_id"].to_numpy())
    height = 2.3
    figure = Figure((7.4, height * len(methods)), layout="constrained")
    grid = figure.subplots(2 * len(methods), n + 2, gridspec_kw={"width_ratios": [1] * (n + 2)})
    words = {}
    for k, method in enumerate(methods):
        part = points[(points["method"] == method) & (points["cell_type"] == cell_type)]
        block = grid[2 * k : 2 * k + 2]
        spec = block[0, 0].get_gridspec()
        for axes in block[:, :2].flat:
            axes.remove()
        plane = figure.add_subplot(spec[2 * k : 2 * k + 2, :2])
        noise = part[part["cluster"] < 0]
        plane.scatter(noise["x"], noise["y"], s=5, color=PALE, linewidths=0)
        sizes = part.loc[part["cluster"] >= 0, "cluster"].value_counts()
        for i, (cluster, _) in enumerate(sizes.items()):
            of, colour = part[part["cluster"] == cluster], CYCLE[i % len(CYCLE)]
            plane.scatter(of["x"], of["y"], s=6, color=colour, linewidths=0)
            if i < n:
                middle = of[["x", "y"]].median()
                plane.text(*middle, "ABCDEFGH"[i], fontweight="bold", ha="center", va="center", bbox=WHITE)
                near = ((of[["x", "y"]] - middle) ** 2).sum(axis=1).nsmallest(2).index
                for axes, site in zip(block[:, 2 + i], of.loc[near, "site_id"], strict=False):
                    image = shards.read(int(place[site]))
                    _picture(axes, composite(unit(image, shards.limits), shards.channels), None)
                    for spine in axes.spines.values():
                        spine.set(visible=True, edgecolor=colour, linewidth=2)
                block[0, 2 + i].set_title(f"{'ABCDEFGH'[i]}: {len(of)} sites", fontsize=8)
        for axes in block[:, 2 + min(n, len(sizes)) :].flat:
            axes.set_axis_off()
        plane.set(xticks=[], yticks=[])
        text = f"{len(sizes)} clusters, {_percent(len(noise) / len(part))} noise" if len(sizes) else "no cluster"
        plane.set_title(f"{method}\n{text}", loc="left", fontsize=9)
        words[method] = text
    figure.alt = _simulated(
        shards.simulated,
        f"UMAP of {cell_type} sites by cluster: {_numbers(words)}; beside each, sites of the largest clusters.",
    )
    return figure


# ---- the picture of the whole ----


@_drawn
def overview(
    sites: Mapping[str, np.ndarray],
    channels: Sequence[str],
    pixel_um: float,
    efficacy: pd.DataFrame,
    points: pd.DataFrame,
    curves: pd.DataFrame,
    simulated: bool,
    method: str = "gandl",
) -> Figure:
    """From a site of C+ and one of C-, over the axis, to one compound's dose-response, in a row: the README's picture.

    `sites` maps either role to (C, H, W) in [0, 1]; the tables are efficacy.csv, dose_points.csv and dose_response.csv.
    The compound is the hit with the smallest q-value that has an EC50, or else the first.
    """
    best = curves[curves["method"] == method].dropna(subset=["efficacy_max"])
    best = best.assign(fitted=best["ec50_uM"].notna()).sort_values(["fitted", "q_value"], ascending=[False, True])
    if best.empty:
        return _empty(f"{name(method)} has no efficacy scores to draw.")
    row = next(best.itertuples())
    figure, ((first, second, middle, right),) = _figure(2.9, 1, 4, width=11.4)
    kind = "simulated " if simulated else ""
    for axes, (role, title) in zip((first, second), (("C+", "never infected"), ("C-", "infected")), strict=True):
        _picture(axes, composite(sites[role], channels), pixel_um)
        axes.set_title(f"{kind}cells, {title}", color=ROLES[role])
    wells = efficacy[(efficacy["method"] == method) & (efficacy["cell_type"] == row.cell_type)]
    for role in ("C-", "C+"):
        scores = wells.loc[wells["role"] == role, "efficacy"]
        middle.hist(scores, bins=np.linspace(-2.5, 2.5, 31), color=ROLES[role], alpha=0.75, label=role)
    middle.axvline(0, color=GREY, linewidth=0.9)
    middle.legend()
    middle.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    middle.set(title="one axis from sick to healthy", xlabel="efficacy score", ylabel=f"{kind}wells")
    pair = pd.DataFrame([{"method": method, "cell_type": row.cell_type, "compound": row.compound}])
    said = _dose_curve(right, row, pair.merge(points), None, ())
    right.set(ylim=(-2, 2), title=f"one compound, {said}", xlabel="concentration (µM)", ylabel="efficacy score")
    figure.alt = (
        f"Left, composites of {kind}cells never infected and infected; middle, histograms of efficacy scores of {kind}"
        f"C- and C+ wells in {row.cell_type}; right, dose-response of {row.compound}, {said}."
    )
    return figure


def write_overview(results: str | Path, out: str | Path) -> None:
    """Draw `overview` from a results folder, say `results/quick`, into a PNG file: the picture of the README."""
    from gandl_lib.shards import Shards

    results = Path(results)
    shards = Shards(results / "shards" / "screen.zarr")
    tables = [pd.read_csv(results / f"{stem}.csv") for stem in ("efficacy", "dose_points", "dose_response")]
    sites = {role: examples(shards, 1, role=role)[0] for role in ("C+", "C-")}
    figure = overview(sites, shards.channels, shards.pixel_um, *tables, shards.simulated)
    Path(out).write_bytes(png(figure, dpi=110))


if __name__ == "__main__":
    import sys

    write_overview(*sys.argv[1:3])
