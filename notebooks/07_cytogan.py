# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Drugs by what they do
#
# Two drugs with one mechanism should leave cells looking alike. CytoGAN {cite:p}`goldsborough2017` put that to its
# representations: 103 treatments of BBBC021, 38 compounds, 12 known mechanisms {cite:p}`ljosa2013`; give each treatment the
# mechanism of the one most like it, and count. Its best GAN got 68 % right, measurements by hand 90 %.
#
# This chapter builds the exam and holds it on *real* cells, with measurements by CellProfiler that anybody can have. That is
# the bar. The four generative models of the paper are not built yet, and nothing here stands in for them.

# %% tags=["remove-cell"]
# On Colab and Kaggle: fetch the library, and keep every package that is already there as it is. Elsewhere: nothing to do.
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("gandl_lib") is None:
    _steps = f"""set -e
        [ -d gandl ] || git clone --depth 1 https://github.com/gandl-executable/gandl gandl
        cd gandl
        {sys.executable} -m pip freeze | grep == > keep.partial
        {sys.executable} -m pip install --quiet --constraint keep.partial --editable . snakemake"""
    subprocess.run(["bash", "-c", _steps], check=True)
    os.chdir("gandl")
    sys.path.insert(0, os.getcwd())

# %% tags=["parameters"]
profile = "quick"  # which of config/*.yaml: its size, its methods, its screen

# %% tags=["remove-cell"]
import pandas as pd

from gandl_lib import figures, narrate
from gandl_lib.chapters import check_parameters, need, paper, recorded
from gandl_lib.figures import show, table

check_parameters(globals(), "profile")

# %%
scores_csv, counts_csv = need(profile, "moa.csv?", "moa_confusion.csv?")
scores = pd.read_csv(scores_csv) if scores_csv else recorded("moa_bbbc021")
counts = pd.read_csv(counts_csv) if counts_csv else recorded("moa_bbbc021_confusion")

# %% tags=["remove-input"]
narrate.where_moa_comes_from(scores_csv is not None)

# %% [markdown]
# ## The exam
#
# A profile is the mean over the wells of a treatment, after each plate has been taken out on its own DMSO wells. The nearest
# neighbour is by cosine, and never a treatment with the same compound: *not the same compound*, NSC. That is the paper's
# rule, and it is a lenient one, for a neighbour may come from the same week, the same staining, the same hands. *Not the same
# batch either*, NSCB, is what a later screen would ask. Two mechanisms were only ever tested in one batch, so their
# treatments cannot be asked.
#
# ## The anchor
#
# The recipe of {cite:t}`ljosa2013` is the first line below: features less their mean and by their spread over the plate's DMSO
# wells. Every other line is a way of doing that better, or of thinking so.

# %% tags=["hide-input"]
show(
    figures.accuracy_plot(scores, panel="protocol"),
    "Mechanisms found by nearest neighbour, real BBBC021 profiles. The dotted line is the largest mechanism's share; bars are 95 % intervals over treatments.",
)

# %% tags=["remove-input"]
narrate.moa(scores)

# %% tags=["hide-input"]
table(narrate.moa_table(scores), "The same in numbers. By chance: mechanisms dealt anew to compounds.")

# %% [markdown]
# ## Who is taken for whom
#
# The mistakes are worth more than the score. Where two mechanisms do the same to a cell, no picture of it can part them.

# %% tags=["hide-input"]
show(
    figures.confusion(counts.query("protocol == 'NSC'"), ["sphered"]),
    "Mechanisms confused by sphered profiles, treatments counted (NSC).",
)

# %% [markdown]
# ## Beside the papers
#
# Published values, each under its authors' own protocol, which is not always the same one.

# %% tags=["hide-input"]
table(narrate.published_moa(paper("moa")), "Published accuracies on BBBC021.")

# %% [markdown]
# ## What to distrust
#
# - **The choice of a recipe.** Nine were tried on the very treatments they are scored on. The best of nine looks better than
#   it is, here and in every paper that reports its best.
# - **A hundred and three.** Doses of a compound are not independent, so the true intervals are wider than the bars.
# - **NSC.** The distance between the two panels is what batches give away, or what more neighbours are worth; with mechanisms
#   so unevenly spread over weeks nobody can tell which.
# - **No network here.** CytoGAN's models, and GAN-DL on these cells, are still to come.
