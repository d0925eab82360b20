# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 09 · Your own screen
#
# The chapters before this one had a screen whose layout the library knows by heart. Yours has other columns, other channels
# and other files, and somebody in between has opened the table in a spreadsheet. This chapter takes such a folder to hits
# with two commands, and shows where to look before believing them.
#
# The example is a *simulated* pair of 96-well plates that pretends to come from a laboratory that knows nothing of this
# project: German column names, semicolons and decimal commas, nanomolar doses, one OME-TIFF of four 16-bit channels a site.
# Its effects are strong, its edges bad, and its network is trained for a minute; whether that suffices, its controls say.
# Three things are broken on purpose.

# %% tags=["remove-cell"]
# On Colab and Kaggle: install the library, and keep every package that is already there as it is. Elsewhere: nothing to do.
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("gandl_lib") is None:
    _home = "https://github.com/gandl-executable/gandl"
    _released = f"gandl @ {_home}/releases/download/v0.1.0/gandl-0.1.0-py3-none-any.whl"
    _pip = [sys.executable, "-m", "pip"]
    _there = subprocess.run([*_pip, "freeze"], check=True, capture_output=True, text=True).stdout.splitlines()
    with open("keep.txt", "w") as _keep:
        _keep.write("\n".join(_line for _line in _there if "==" in _line) + "\n")
    for _source in (_released, f"gandl @ git+{_home}"):
        _run = subprocess.run([*_pip, "install", "--quiet", "--constraint", "keep.txt", _source], stderr=-1, text=True)
        if _run.returncode == 0:
            break
    else:
        raise SystemExit(f"The library cannot be installed beside this kernel's packages: {_run.stderr.strip()[-400:]}")

# %% tags=["parameters"]
profile = "quick"  # which of config/*.yaml: its size, its methods, its screen
fresh = False  # True: make the results here, however long it takes, instead of showing prebuilt ones
crops_per_second = 0.0  # that a device of yours embeds, for the costs at the end; 0 stands for a core of this machine

# %% tags=["remove-cell"]
import json

import numpy as np
import pandas as pd
from gandl_book import figures, narrate, throughput
from gandl_book.chapters import check_parameters, need
from gandl_book.figures import show, table
from scipy import stats

from gandl_lib import profiles
from gandl_lib.embed import open_method
from gandl_lib.screen import report
from gandl_lib.screen import run as screen
from gandl_lib.shards import Shards

check_parameters(globals(), "profile", "fresh", "crops_per_second")

# %%
metadata_csv, report_html = need(profile, "own/data/metadata.csv", "own/out/report.html", fresh=fresh)
data, out = metadata_csv.parent, report_html.parent
tables, shards = report.read_tables(out), Shards(out / "screen.zarr")

# %% [markdown]
# ## What there is
#
# A table, and images somewhere below it. In this folder:

# %% tags=["hide-input"]
table(
    pd.read_csv(metadata_csv, sep=";", dtype=str, keep_default_na=False),
    "The first rows of metadata.csv, as its laboratory wrote it.",
    rows=6,
)

# %% [markdown]
# What the columns mean stands in a small file beside the table, `screen.toml`. This is all that has to be written, with any
# editor: which column holds what, the unit of the concentrations, which words mark the controls, and how a file's name is
# put together. Without one, `gandl screen` stops and prints a draft made from the names of your columns.

# %% tags=["hide-input"]
print((data / "screen.toml").read_text())

# %% [markdown]
# ## Look first
#
#     gandl screen DATA --out OUT --dry-run
#
# reads the table, opens every image once, says what it found, and writes nothing. It is worth reading: here a dose is a
# word, a row is there twice, and an image ends half-way. None of that stops the run. Each such site is left out and named.

# %% [markdown]
# The same from Python, here and now:

# %%
screen.screen(data, out.with_name("elsewhere"), dry_run=True)

# %% [markdown]
# The run keeps what was found and left out as tables, `found.csv`, `odd.csv` and `skipped.csv`; its report begins with them.

# %% [markdown]
# Numbers are read as people write them: `0,5` and `0.5`, `1e-3`, `10 nM` in a cell of its own accord. What can mean two
# things is asked for instead of guessed: `1,000` alone may be a thousand or one.
#
# ## Run it
#
#     gandl screen DATA --out OUT
#
# packs the images, embeds them, normalises each plate, scores the wells and writes a report, a profile a well and the
# tables. Stopped half-way, the same command goes on. The shipped network knows the five channels of RxRx19a; for any others,
# as here, one is trained on the screen itself, which needs no labels.

# %% tags=["remove-input"]
narrate.screen(shards)

# %% [markdown]
# ## Are the plates all right?
#
# Before any biology: is a plate even, or does it show how it was handled? Outer wells dry out first, and the outer columns
# are where the controls lie. That is why the report measures the edge in every channel, with the layout of roles taken out.

# %% tags=["hide-input"]
show(
    figures.well_map(
        tables["wells"], shards.wells["plate_id"][0], "intensity_DNA", "mean intensity of DNA", (0.05, 0.2)
    ),
    "Mean intensity of the DNA stain in each well of the first plate. Frames are controls.",
)

# %% tags=["remove-input"]
narrate.edge_effects(tables["edge_effects"])

# %% [markdown]
# ## Do the controls lie apart?
#
# Every score below is a place between the two controls. If these overlap, so does everything else. SSMD is their distance in
# units of their spread, Z′ the stricter measure that screeners quote, AUROC the chance that a well of one lies above a well
# of the other. Texture and intensity statistics and the untrained network are measured in the same way, because a network that is
# no better than they are has found nothing that five lines would not show. Since the network was trained on this screen, the report
# has its generator move cells from C- to C+ beside these numbers, and says what of that the wells show too, or why it cannot be
# shown (chapter 12).

# %% [markdown]
# By hand, for the network, from the scores of single wells:

# %%
efficacy, controls = tables["efficacy"], tables.get("controls", pd.DataFrame(columns=["method", "plate_id"]))
seen = efficacy.query("method == 'gandl' and split in ('train', 'test')").dropna(subset="efficacy")
for row in controls.query("method == 'gandl' and plate_id == 'all plates'").itertuples():
    positive, negative = (seen.loc[seen["role"] == role, "efficacy"] for role in ("C+", "C-"))
    apart, spreads = positive.mean() - negative.mean(), np.array([positive.std(), negative.std()])
    ssmd = apart / np.sqrt((spreads**2).sum())
    z_prime = 1 - 3 * spreads.sum() / abs(apart)
    auroc = stats.mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative))
    print(f"SSMD {ssmd:.2f}, Z′ {z_prime:.2f}, AUROC {auroc:.2f}")
    np.testing.assert_allclose([ssmd, z_prime, auroc], [row.ssmd, row.z_prime, row.auroc], rtol=1e-6)

# %% tags=["remove-input"]
narrate.usable(tables)

# %% tags=["remove-input"]
narrate.control_separation(tables.get("controls"))

# %% tags=["hide-input"]
table(
    narrate.control_table(tables.get("controls")),
    "Separation of the controls, for all plates and for each; SSMD in units of their spread, with its 95 % interval.",
    of="this build",
)

# %% [markdown]
# ## Hits

# %% tags=["hide-input"]
show(
    figures.dose_curves(
        tables["dose_points"],
        tables["dose_response"],
        "gandl",
        narrate.top(tables["dose_response"]),
        truth=pd.read_csv(data / "truth.csv"),
    ),
    "Dose-response of the best compounds. The triangles are the truth of the simulation, which no method has seen.",
    of="this build",
)

# %% tags=["hide-input"]
table(
    narrate.hits_with_doubts(tables["dose_response"]),
    "The best compounds by the network, with what speaks against each; in brackets the limit that no control passes.",
    of="this build",
)

# %% tags=["remove-input"]
narrate.hits(tables["dose_response"], truth=pd.read_csv(data / "truth.csv"))

# %% tags=["remove-input"]
narrate.suspicious(tables["dose_response"])

# %% tags=["remove-input"]
narrate.hits(tables["dose_response"], "texture", pd.read_csv(data / "truth.csv"))

# %% [markdown]
# ## Look at the cells
#
# A number is a summary; the eye finds the out-of-focus plate and the fibre that glows. Sites are drawn by lot, never chosen.

# %% tags=["hide-input"]
show(
    figures.montage(report.montage_groups(tables, shards), shards.channels, shards.pixel_um, shards.simulated),
    "Controls, and the best compounds at their best dose. A row with few cells is the reason to look.",
)

# %% tags=["hide-input"]
show(
    figures.pca_views({"normalised per plate": profiles.read(out / "profiles.h5ad")}),
    "All wells on the two directions in which they differ most.",
)

# %% [markdown]
# ## Take it elsewhere
#
# `profiles.h5ad` holds a row a well. Whoever works with AnnData opens it as it is; for everybody else
#
#     gandl export OUT/profiles.h5ad profiles.csv        # or .csv.gz, or .parquet, for R too
#
# writes one table: what is known of a well in columns that begin with `Metadata_`, and then its features.
#
#     # pycytominer: normalise to the negative controls
#     table = pandas.read_csv("profiles.csv")
#     features = [column for column in table if not column.startswith("Metadata_")]
#     result = pycytominer.normalize(table, features, samples="Metadata_role == 'C-'", method="standardize")
#
#     # copairs: do wells of a compound find each other among those of the others?
#     treated = pandas.read_csv("profiles.csv").query("Metadata_role == 'treated'").reset_index(drop=True)
#     features, compound = treated.filter(like="feature_").to_numpy(), ["Metadata_compound"]
#     result = copairs.map.average_precision(treated.filter(like="Metadata_"), features, compound, [], [], compound)
#
#     # scanpy: neighbours and a map of them
#     result = scanpy.read_h5ad("profiles.h5ad")
#     scanpy.pp.neighbors(result, use_rep="X")
#     scanpy.tl.umap(result)
#
# The images leave too: `gandl export OUT/screen.zarr screen.ome.zarr` writes OME-Zarr 0.5, a high-content plate a group, for
# napari and other viewers; any other name is a folder of OME-TIFFs with a table, which `gandl screen` reads again.
#
# The tables are CSV. The report itself is one file; send it to whoever asked for the screen.
#
# ## What to distrust
#
# The report ends with this list, made from the screen at hand.

# %% tags=["remove-input"]
narrate.what_to_distrust(
    tables, shards.wells, shards.simulated, json.loads((out / "provenance.json").read_text())["methods"]
)

# %% [markdown]
# ## What a whole screen costs
#
# A plate is an afternoon's work at most. RxRx19a has 305,520 sites of 1024 × 1024 pixels in five channels, and before asking
# a cluster for time one wants to know for how long. Every pixel is decoded and packed once, and every crop passes through
# the network in two of the ways it can lie; nothing else grows with the screen. So the rates of a few sites, measured here
# and now, say what all of them would take. They are of the book's own screen where its images are at hand (8-bit PNG, as
# RxRx19a's are), and of the small network that is shipped, `quick32`; the paper's is larger by far.

# %%
screen_data, packed = need(profile, "data/screen?", "shards/screen.zarr", fresh=fresh)
timed, source = (Shards(packed), screen_data) if screen_data else (shards, data)
network, made = open_method("gandl-random", timed.channels, "quick32")
rates = throughput.rates(source, timed, network, made)
cost = throughput.cost(rates, network.crop_px, crops_per_second=crops_per_second, ways=screen.WAYS)

# %% tags=["remove-input"]
narrate.throughput(rates)

# %% tags=["hide-input"]
table(
    cost.rename(columns=lambda title: title.replace("_", " ")),
    "RxRx19a at these rates: hours on one and on eight cores, or devices where their rate was given.",
)

# %% tags=["remove-input"]
narrate.cost_of_screen(cost, throughput.RXRX19A_SITES)

# %% [markdown]
# Past one machine three things can be the slowest: the network that brings the files, the cores that pack them, and what
# embeds. The same rates, for three public screens, on nodes of 16 cores (and as many GPUs, if `crops_per_second` is given):

# %%
shrunk = throughput.packed(timed)
plan = throughput.plan(
    rates, network.crop_px, crops_per_second=crops_per_second, ways=screen.WAYS, shards_per_raw_byte=shrunk
)

# %% tags=["hide-input"]
table(
    plan.drop(columns="priced_on").rename(columns=lambda title: title.replace("_", " ")),
    "Hours, and US dollars with a month's storage, by size; JUMP-CP's number of sites is an estimate.",
)

# %% tags=["remove-input"]
narrate.plan(plan)

# %% [markdown]
# Spread over nodes, each takes a part of the sites, and the parts are joined piece by piece into the file that one node
# would have written, bit for bit:
#
#     gandl embed RUN s3://bucket/screen.zarr part-3.h5ad --part 3/16      # shards may lie in object storage
#     gandl join part-*.h5ad profiles.h5ad
#
# `parts: 16` in a profile of `config/` makes the workflow do so. Memory holds two batches of images and the profiles of a
# part, however long the screen is; the table of wells, with a few kilobytes a site, is all that grows.

# %% [markdown]
# ## Worth trying
#
# Copy the folder `own/data` and call `screen.screen(copy, out, dry_run=True)` after each change:
#
# - **Leave out the unit** in its `screen.toml`: it stops at once, *concentrations of which unit? Add [concentration]
#   unit = "uM" (or nM, …), or a column `unit`.*
# - **Misspell a control**, `"C+" = ["gesunt"]`. It goes on, but no longer with 32 C+ wells: they are now called blank, and under
#   *Odd* stands that no row has that control, and that no efficacy, hits by efficacy or EC50 can be judged without one.
# - **One plate**, `where="plate_id == 'Blech-2'"`: 92 wells, and a warning that nothing tells one plate's whims from biology.
# - **No `screen.toml` at all**: the columns fit no known layout, and a draft to fill in is printed.
