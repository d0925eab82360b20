# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 · A real plate
#
# The chapters before this one ask their questions of cells that a program drew. Here are real ones: BBBC013, a plate of 96
# wells that anybody may have (32 MB, CC BY 3.0, Ilya Ravkin). Its cells carry a protein that glows, FKHR-EGFP. At rest it
# lies in the cytoplasm; where the kinase PI3K is inhibited it moves into the nucleus. Two drugs do that, in nine doses each.
#
# What makes this plate precious is that the answer can be had another way, with a threshold and a ratio. So for once a dose
# read off GAN-DL's axis can be held against a measurement that everybody understands.

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
profile = "quick"  # which of config/*.yaml: its rows of `real_plate`
fresh = False  # True: make the results here, however long it takes, instead of showing prebuilt ones

# %% tags=["remove-cell"]
import numpy as np
import pandas as pd
from gandl_book import figures, narrate
from gandl_book.chapters import check_parameters, need, recorded
from gandl_book.figures import show, table
from scipy import ndimage, stats
from skimage import filters, measure, morphology, segmentation

from gandl_lib.evaluate import dose_response
from gandl_lib.shards import Shards

check_parameters(globals(), "profile", "fresh")

# %%
table_csv, wells_csv, shards = need(
    profile, "real_plate.csv?", "real_plate_wells.csv?", "shards/real_plate.zarr?", fresh=fresh
)
live = table_csv is not None
measured = narrate.read(table_csv) if live else recorded("real_plate")
wells = narrate.read(wells_csv) if live else recorded("real_plate_wells")
store = Shards(shards) if live else None

# %% tags=["remove-input"]
narrate.real_plate_source(live)

# %% [markdown]
# To see it live, bring the plate and say where it is: `gandl fetch bbbc013 DATA/bbbc013`, then `GANDL_DATA=DATA make book`.
#
# Rows A to D hold Wortmannin, E to H LY294002, columns 3 to 11 their doses. Column 12 of A to D is the positive control, 150 nM
# Wortmannin (C+ here: where the axis leads to); wells without a drug are C-. **E01 to H01 are disputed**: the published plate
# map has 80 µM LY294002 there, the authors' later table the positive control. Pixels cannot tell, for both saturate. They are
# taken as C+, and Z′ is given without them where enough wells are left.

# %% tags=["hide-input"]
show(
    figures.real_plate_sites(store),
    "Four real wells, DNA blue, FKHR-EGFP green, grey values as published. Left to right: no drug, and Wortmannin at three doses.",
) if live else None

# %% [markdown]
# ## The measurement that everybody understands
#
# Find nuclei by a threshold, draw a ring around each, divide: of each cell the brightness inside its nucleus over that in the
# ring, of a well the median of its cells. This is all of it, for the whole plate:

# %%
ratios = {}
for i, well in enumerate(store.wells["well"] if live else ()):
    dna, protein = store.read(i).astype(float)
    smooth = ndimage.gaussian_filter(dna, 1)
    mask = morphology.remove_small_objects(smooth > filters.threshold_otsu(smooth), max_size=40)
    inside = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 1)
    seeds = measure.label(morphology.h_maxima(inside, 0.7))  # touching nuclei come apart where they are thinnest
    nuclei = segmentation.watershed(-inside, seeds, mask=mask)
    cells = segmentation.expand_labels(nuclei, 6)
    ring = np.where(segmentation.expand_labels(nuclei, 1) > 0, 0, cells)  # 2 to 6 pixels from the nucleus
    numbers = np.unique(ring[ring > 0])
    within, around = (ndimage.mean(protein, where, numbers) for where in (nuclei, ring))
    ratios[well] = np.median(within / np.maximum(around, 1))

# %% [markdown]
# Its logarithm, laid between the controls' means, is a score like any other. How far the controls lie apart, and at which dose
# half of the way is done, follow from it:

# %%
truth = wells.query("method == 'classical'").set_index("well")
log_ratio = np.log(pd.Series(ratios).reindex(truth.index) if live else truth["ratio"])
bottom, top = (log_ratio[truth["role"] == role].mean() for role in ("C-", "C+"))
score = 2 * (log_ratio - bottom) / (top - bottom) - 1

negative, positive = (score[truth["role"] == role] for role in ("C-", "C+"))
z_prime = 1 - 3 * (negative.std() + positive.std()) / (positive.mean() - negative.mean())
ec50 = {}
for drug, one in truth[truth["role"] == "treated"].groupby("compound"):
    ec50[drug] = dose_response.fit(one["concentration_uM"], score[one.index], negative).ec50_uM
print(f"Z′ {z_prime:.2f}, EC50 of", ", ".join(f"{drug} {value:.3g} µM" for drug, value in ec50.items()))

# %% [markdown]
# The first rows of the table below say the same, and so does its column of rank correlations, here of the first method that has
# learnt nothing of nuclei and rings:

# %%
row = measured.query("method == 'classical'").set_index("compound")
np.testing.assert_allclose(
    [z_prime, *ec50.values()], [row["z_prime"].iloc[0], *row.loc[list(ec50), "ec50_uM"]], rtol=1e-3
)

other = measured.query("not method.str.startswith('classical')").iloc[0]
along = wells.query("method == @other.method").set_index("well")["efficacy"].dropna()
spearman = stats.spearmanr(along, log_ratio[along.index]).statistic
np.testing.assert_allclose(spearman, other["spearman_classical"], rtol=1e-3)
print(f"{figures.name(other['method'])}: Spearman {spearman:.2f} with the measurement, over {len(along)} wells")

# %% [markdown]
# ## GAN-DL, which was told nothing
#
# The row GAN-DL is a network that was trained on crops of this plate alone and knows neither drugs nor doses. It looks at 64
# pixels, several cells, and saw 6,000 crops: both were chosen on other cells, in chapter 07 (`weights/gandl-bbbc013.md`). The
# axis between the controls is then fitted as in chapter 05, on three quarters of them; the other wells are measured by it. Beside
# it stand the same network untrained, both read from all their layers, intensity statistics, and a row that knows only how many
# nuclei a well has.

# %% tags=["hide-input"]
show(
    figures.real_plate_scores(wells),
    "Every well by the classical measurement (across) and by each method's axis (up), both with C- at -1 and C+ at +1. A method that measures the same thing lies on a rising line; it need not be straight.",
    of=wells,
)

# %% tags=["hide-input"]
table(
    narrate.real_plate_table(measured),
    "EC50 of both drugs with 95 % intervals, separation of controls (Z′, 95 % interval over wells), agreement with the classical order over all wells (Spearman), and wells a side that it takes to see a quarter of the full effect.",
    of=measured,
)

# %% tags=["remove-input"]
narrate.real_plate(measured)

# %% tags=["hide-input"]
show(
    figures.real_plate_curves(measured, wells),
    "EC50 of both drugs with its 95 % interval, a row a method; the band is the classical measurement's, by its logarithm.",
    of=measured,
)

# %% [markdown]
# ## Why an axis and a ratio need not agree
#
# The classical measurement alone has two EC50s, one for the ratio and one for its logarithm, and neither is wrong. If a
# score is any rising function of another, wells come in the same order and yet "half of the effect" is another
# place. A ratio that runs from 0.8 to 7 is half-way at 4; its logarithm is half-way at 2.4, which a lower dose reaches
# already. An axis is one more such function, and saturates where the picture no longer changes. So an EC50 is a number *of a
# read-out*. Compare it within one; between two, compare orders, or say which function lies between them.

# %% [markdown]
# ## What to distrust
#
# - **One plate, one field a well, controls in the edge columns.** What the edge does to cells is part of the axis.
# - **24 controls.** Eight C+ wells, four of them disputed: intervals of Z′ are wide, and differences between methods within
#   them are none.
# - **One seed.** Of the training, of the untrained network and of the split; another moves each learnt row. By the published tap
#   two more starts have Z′ 0.30 and 0.10, untrained -0.09 and -0.33 (`weights/gandl-bbbc013.md`).
# - **An easy plate.** The effect is a change of brightness in places; intensity statistics see most of it without looking at
#   where anything is.
# - **The classical row chose its own scale.** Its Z′ is measured on the controls that set it, with one number and no fit.

# %% [markdown]
# ## Worth trying
#
# In the cell that measures, with the plate at hand; Z′ and both EC50s, 0.80, 3.7 µM and 8.9 nM as it stands. (The check against
# the table fails then, as it should.)
#
# - **A wide ring**, `expand_labels(nuclei, 20)` in place of 6. It takes in background and neighbours: Z′ 0.69, the EC50s hardly
#   move (3.8 µM, 9.1 nM).
# - **No parting of nuclei that touch**, `nuclei = measure.label(mask)`. Z′ 0.81, 3.7 µM, 8.9 nM: on these cells the most intricate
#   step of all buys nothing.
# - **The mean of cells** in place of their median: Z′ 0.77, 3.4 µM, 8.4 nM, for a few odd cells now have a say.
# - **No nuclei at all**, `ratios[well] = protein.mean()`. The controls overlap (Z′ -1.2), and still the EC50s are 3.9 µM and 10 nM:
#   a curve over nine doses forgives what no single well does. An EC50 that agrees proves little about a method.
