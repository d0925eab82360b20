# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 · Dose and response
#
# So far the embedding has told sick from healthy, which anyone with a plate map can do. Here it is used for what nobody
# knew: which compound brings infected cells back. Every treated well gets a place on the axis of chapter 04, its
# {term}`efficacy score`. At -1 it looks like an infected well, at +1 like one that never met the virus, and 0 is half-way.
#
# A real effect has a dose. A compound that lifts one well at one concentration has been lucky; one that does nothing, then
# something, then more, is a curve. And some curves come down again: what kills the cell also stops the virus.

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
compound = ""  # its name or the beginning of it; empty: the best hit that nothing speaks against
published = ""  # profiles (.h5ad) to judge without an image, say of RxRx19a's published embeddings

# %% tags=["remove-cell"]
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from gandl_book import figures, narrate
from gandl_book.chapters import check_parameters, need, paper, recorded
from gandl_book.code import source
from gandl_book.figures import show, table

from gandl_lib import profiles
from gandl_lib.evaluate import dose_response, svm, toxicity
from gandl_lib.splits import by_well

check_parameters(globals(), "profile", "fresh", "compound", "published")

# %%
efficacy_csv, curves_csv, points_csv, compared_csv, truth_csv, profiles_h5ad = need(
    profile,
    "efficacy.csv",
    "dose_response.csv",
    "dose_points.csv",
    "dose_truth.csv?",
    "data/screen/truth.csv?",
    "profiles/gandl.h5ad",
    published=published,
    fresh=fresh,
)
efficacy, curves, points = pd.read_csv(efficacy_csv), pd.read_csv(curves_csv), pd.read_csv(points_csv)
compared, truth = narrate.read(compared_csv), narrate.read(truth_csv)
method = curves["method"].iloc[0]  # the one that the text is about: GAN-DL, or whose profiles were given
chosen = narrate.find_compound(compound, curves, method)

# %% [markdown]
# With `-p published baseline.h5ad` this chapter shows the *real* screen's curves, by the embeddings that Recursion published,
# without an image; chapter 04 says how to get that file. With the profile of a real screen that is made, say `-p profile
# plate25`, they stand beside its own rows.

# %% [markdown]
# ## Where all wells lie
#
# The axis is fitted on three quarters of the control wells of a cell type and on nothing else. Treated wells are measured
# by it and take no part in making it.
#
# In ten lines: the normal of the SVM's plane is the direction. A training well lies too far out along a normal that was fitted to
# it, so each is measured along one fitted without it (*cross-fitting*), and the scale comes from those values.

# %%
p = profiles.normalise(profiles.read(profiles_h5ad), "all")
mine = json.loads(p.uns["provenance"])["method"]
cell_type = efficacy.query("method == @mine")["cell_type"].iloc[0]
seed = 0  # of config/*.yaml; it says which wells train
train = p.obs["role"].isin(["C+", "C-"]) & (p.obs["cell_type"] == cell_type) & ~by_well(p.obs, seed=seed)
X, y = p.X[train].astype(float), (p.obs["role"] == "C+").to_numpy()[train]
wells = p.obs["well_id"].to_numpy()[train]

# %%
cost = svm.choose_cost(X, y, wells, seed)
whole = svm.fit(X, y, cost, seed)
normal = whole.svm.coef_[0] / np.linalg.norm(whole.svm.coef_)
unseen = np.empty(len(X))  # along the axis, each site by a normal that has not seen its well
for rest, held in svm.well_folds(y, wells, 5, seed):
    fold = svm.fit(X[rest], y[rest], cost, seed)
    w = fold.svm.coef_[0] / fold.sd * whole.sd  # in the units of the common standardisation
    unseen[held] = (X[held] - whole.mean) / whole.sd @ (w / np.linalg.norm(w))
means = pd.DataFrame({"positive": y, "along": unseen}).groupby(wells).mean().groupby("positive")["along"].mean()
centre, half = (means[1.0] + means[0.0]) / 2, (means[1.0] - means[0.0]) / 2
along = ((p.X - whole.mean) / whole.sd @ normal - centre) / half
by_hand = pd.Series(along).groupby(p.obs["well_id"].to_numpy()).mean()

# %% [markdown]
# The table of the workflow has the same scores for all treated wells of this cell type. (Where the controls are in order by no
# more than chance, it has none: an axis whose ends cannot be told apart has no scale.)

# %%
treated = efficacy.query("method == @mine and cell_type == @cell_type and role == 'treated'").dropna(subset="efficacy")
# The same to a hundredth or two: other versions of scikit-learn stop fitting elsewhere.
np.testing.assert_allclose(by_hand[treated["well_id"]], treated["efficacy"], rtol=1e-3, atol=0.05)
print(f"{len(treated)} treated wells of {cell_type} compared; half of the way from C- to C+ is {half:.2f}")

# %% tags=["hide-input"]
show(
    figures.efficacy_plot(efficacy, method),
    f"Efficacy score of every well by {figures.name(method)}; a bar is the mean of its role. Most compounds do nothing, so most treated wells should lie with C-.",
    of=method,
)

# %% tags=["remove-input"]
narrate.efficacy(efficacy, method)

# %% [markdown]
# ## From wells to a curve
#
# For each compound the wells of all doses are fitted with the four-parameter log-logistic that pharmacology uses,
#
# $$ E(c) = b + \frac{e_{\max} - b}{1 + (\mathrm{EC}_{50}/c)^{h}}, $$
#
# with $e_{\max} \ge b$ and $h > 0$, by least squares. The {term}`EC50` gets an interval from its profile likelihood, open at an end that the data leave open.
# If it lies outside the doses tested, no number is given. A compound is a **hit** if its curve differs from a flat line, or
# its mean from the threshold, with a false discovery rate of 5 % over all compounds of the cell type, *and* some dose has a
# mean above 0. Doses that lie significantly below the best dose under them are toxic and are left out of the rising curve.
# And what passes only by doses that are *suspect*, as told below, is no hit.

# %% [markdown]
# One compound by hand, with its interval: the one whose rise is surest.

# %%
surest = curves.dropna(subset="ec50_uM").sort_values("p_value").query("outlier_wells.isna()").head(1)
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
ax.set_title("No curve of this build has an EC50")
for row in surest.itertuples():  # none, where no curve of this build has an EC50
    one = efficacy.query("method == @row.method and cell_type == @row.cell_type").dropna(subset="efficacy")
    controls = one.query("role == 'C-' and split != 'reference'")["efficacy"].to_numpy()
    one = one.query("compound == @row.compound")
    one = one[~(one["concentration_uM"] >= row.toxic_from_uM)]
    fit = dose_response.fit(one["concentration_uM"], one["efficacy"], controls)
    np.testing.assert_allclose([fit.ec50_uM, fit.emax], [row.ec50_uM, row.emax], rtol=1e-3)

    doses = np.geomspace(one["concentration_uM"].min(), one["concentration_uM"].max(), 200)
    ax.axvspan(max(fit.ec50_low, doses[0]), min(fit.ec50_high, doses[-1]), alpha=0.2, label="EC50, 95 %")
    ax.plot(one["concentration_uM"], one["efficacy"], "o", color="grey", label="wells")
    ax.plot(doses, fit(doses), label="fit")
    ax.set(xscale="log", xlabel="concentration (µM)", ylabel="efficacy", title=f"{row.compound}, {row.cell_type}")
    ax.legend()
plt.close(fig)
show(
    fig,
    "The compound whose rise is surest, by any method, fitted in this cell; shaded: the interval of its EC50.",
    of=curves,
    alt="Efficacy of single wells of one compound against its concentration, and the fitted curve.",
)

# %% [markdown]
# What kills may look like a cure, for a dead cell is not infected. So each dose is asked two more questions, with limits
# taken from the controls: is it further off the axis than any of them, are there fewer cells? This is the whole rule:

# %%
source(toxicity.suspect_doses)

# %%
measured = toxicity.measured(efficacy.query("method == @method"))
suspect = toxicity.suspect_doses(measured.query("role == 'treated'").groupby(["compound", "concentration_uM"]))
print(f"{suspect['suspect'].sum()} of {len(suspect)} doses are suspect")

# %% tags=["hide-input"]
show(
    figures.dose_curves(points, curves, method, narrate.top(curves, method=method), truth),
    f"The compounds with the highest efficacy by {figures.name(method)}, hits first. Dotted lines are infected and uninfected controls; a cross marks a suspect dose.",
    of=method,
)

# %% tags=["hide-input"]
table(
    narrate.hits_with_doubts(curves, method, n=40),
    f"The compounds with the highest efficacy by {figures.name(method)}, and what speaks against each: how far off the axis its best dose lies and how many cells it has, in brackets the limit that no control passes. Heads sort.",
    of=method,
    name="hits",
)

# %% tags=["remove-input"]
narrate.hits(curves, method, truth)

# %% [markdown]
# With the truth at hand, killers can be counted: how many are noticed, by which sign, and at what price.

# %% tags=["remove-input"]
narrate.killers(curves, truth, [method, "gandl-random", "texture", "intensity"])

# %% [markdown]
# The rule was set on the quick screen of seed 0. Here is what it does there and where it was not set: on a screen of another
# seed, on the plate of chapter 09 and on a real one, BBBC013, where no compound is known to kill and every flag counts as false.
# *None* is the list of hits without the rule.

# %% tags=["hide-input"]
table(
    narrate.toxicity_table(recorded("toxicity")),
    "Doses that kill half of the cells and doses that kill almost none, how many of each are flagged, and the hits called.",
    of="recorded",
)

# %% tags=["remove-input"]
narrate.toxicity_judged(recorded("toxicity"))

# %% [markdown]
# ## Rise and fall
#
# The paper describes three shapes: flat under the threshold, rising, and rising then falling, where a compound is toxic at
# the highest doses. A single-dose screen cannot tell the third from the first, or from the second.

# %% tags=["remove-input"]
narrate.turned(curves, method)

# %% tags=["hide-input"]
doubtful = narrate.set_aside(curves, method=method)
show(
    figures.dose_curves(points, curves, method, doubtful, truth),
    f"Compounds that pass the threshold and then fall, or that are suspicious, by {figures.name(method)}; doses called toxic are shaded, suspect ones crossed.",
    of=method,
) if doubtful else None

# %% [markdown]
# ## Against the truth
#
# Here the simulated screen earns its keep. Nobody knows the EC50 of remdesivir in these cells; for the simulated compounds
# it is written in a file that no method has read. (With real images this section stays empty.)

# %% tags=["hide-input"]
show(
    figures.ranking(curves, method, truth),
    f"Compounds in the order of their highest mean efficacy by {figures.name(method)}. If the ranking were perfect, all green dots would lie left of all grey ones.",
    of=method,
)

# %% tags=["remove-input"]
narrate.against_truth(compared)

# %% tags=["hide-input"]
show(
    figures.ec50_plot(curves, truth, ["gandl", "supervised", "texture", "intensity"]),
    "Fitted against true EC50 of effective compounds, with 95 % intervals; the band is a factor of three either way. Simulated.",
    of=curves,
)

# %% tags=["hide-input"]
table(
    narrate.truth_table(compared),
    "How well each method finds what the simulation put in; toxicity by suspect doses, for which all methods share the count of cells.",
    of=curves,
)

# %% [markdown]
# ## One compound, closely
#
# Pick one from the list; dots say what they are when they are pointed at. To have another one first, change `compound` at the top, or run `papermill notebooks/05_dose_response.ipynb out.ipynb -k python3 -p compound NAME`.
# A beginning is enough if only one compound has it; for a name that does not exist the nearest ones are listed.

# %% tags=["hide-input"]
first = narrate.compounds_of(curves, chosen)
others = [pair for pair in narrate.top(curves, n=60, method=method) if pair not in first]
figures.compounds(
    points,
    curves,
    method,
    first + others,
    f"One compound in one cell type by {figures.name(method)}. Green dots are means of wells with their 95 % intervals, grey ones single wells.",
    truth,
    efficacy,
    of=method,
)

# %% tags=["remove-input"]
narrate.compounds_in_words(curves, chosen, truth, method)

# %% [markdown]
# ## The real screen's hits
#
# For the time when this chapter is run on the real images: the hit scores that Recursion published with RxRx19a. They are
# from another embedding and on another scale, and stand here for the order of the compounds.

# %% tags=["hide-input"]
table(
    narrate.hit_scores(paper("hit_scores")),
    "Hit scores published with the real screen, by experiment; a dash where there is none.",
    of="published",
)

# %% [markdown]
# Plate 25 of HRCE-1 alone holds every arm of the screen (`config/plate25.yaml`), and others have measured it, with CellProfiler:
# the Way lab's public reanalysis (WayScience/RxRx19a-reanalysis, 2026). Where this build holds that plate, their numbers stand
# here, and ours on their scale: 1 is an infected well and 0 an uninfected one, so an efficacy $E$ is $(1 - E) / 2$. Distances of
# two kinds are put side by side; read the order of doses, not the digits. Two controls of that plate are dim.

# %% tags=["hide-input"]
paths = dict.fromkeys(Path(path).absolute() for path in (profiles_h5ad, published) if path)  # alone, they are one
at_hand = [profiles.read(path) for path in paths]
table(
    narrate.plate25(paper("plate25"), efficacy, at_hand),
    "HRCE-1 plate 25: what others measured (`book/reference/README.md`), and this build. A dash where ours cannot say.",
    of=efficacy,
)

# %% [markdown]
# ## What to distrust
#
# - **The axis is one direction.** A compound that changes cells in a way no virus does can land anywhere along it by accident.
#   Its off-axis value is the place to look.
# - **A score above 0 is not a cure.** It says that a well looks more like uninfected than like infected ones, to one embedding.
#   Fewer cells look like less infection, too; that is what the toxic flag is for, and it needs doses on both sides.
# - **Hits depend on the threshold**, and with few wells a dose the threshold depends on luck. The intervals are for that.
# - **The truth is friendly.** Simulated compounds follow the very formula that is fitted. Real ones do not have to.

# %% [markdown]
# ## Worth trying
#
# In the cell that makes the axis, at the quick profile:
#
# - **No cross-fitting.** `unseen = (X - whole.mean) / whole.sd @ normal`. Training wells then lie farther out along the normal
#   that was fitted to them, half of the way grows from 0.95 to 1.03, and every score shrinks by 8 %: control wells that it has
#   not seen lie at 0.93 instead of 1.03, and the highest treated well at 2.4 instead of 2.6. (The check against the table
#   below that cell fails then, as it should.)
# - **Another seed**, `seed = 1`: other control wells make the axis. The order of treated wells stays (Spearman 0.98) and half of
#   them move by less than 0.11, but one moves by more than a whole unit. A score of a single well has that much chance in it.
# - **A killer.** `compound = "sim-toxic-04"` in the parameters: see what it does along the axis, and which doses are crossed.
