# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00 · The question
#
# In the spring of 2020 a company photographed kidney cells infected with SARS-CoV-2, 305,520 times: 1,672 compounds, each
# at several doses, five stains, four fields of view a well {cite:p}`heiser2020`. The question was simple. Which compound
# makes a sick well look like a healthy one?
#
# The difficulty is in *look like*. Nobody can label the wells, because what recovery looks like is the very thing to be
# found out. All that is known is what was pipetted where. A few wells were never infected (C+), some were infected and
# left alone (C-), and the rest is what one wants to know about.

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

# %% tags=["remove-cell"]
import numpy as np
from gandl_book import narrate
from gandl_book.chapters import check_parameters, need, paper
from gandl_book.figures import table
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from gandl_lib import profiles
from gandl_lib.plots.words import percent
from gandl_lib.splits import by_well

check_parameters(globals(), "profile", "fresh")

# %% [markdown]
# ## The claim
#
# GAN-DL, for *GAN Discriminator Learner*, is a detour {cite:p}`mascolini2022`. Two networks are set against each other on
# the unlabelled images {cite:p}`goodfellow2014`: a generator invents photographs of cells, a discriminator is shown real
# and invented ones and has to say which is which. When the game is over the generator is thrown away. What the
# discriminator had to learn in order not to be fooled, how nuclei sit in cells, how actin runs, what a golgi looks like,
# is there as 512 numbers just before its verdict. Those 512 numbers are the {term}`embedding` of an image.
#
# Nothing is fine-tuned on it afterwards. Every question is put to it with a *linear* model: a plane, and on which side of it
# a well lies. Four questions are asked.
#
# 1. **Separability.** Does a plane divide wells that were never infected from wells that were?
# 2. **Axes.** Is the normal of that plane a scale of sickness, apart from everything else that changes?
# 3. **Dose and response.** Do wells move along that scale as the dose of a compound rises, and back when it turns toxic?
# 4. **Zero-shot.** Does the embedding tell apart cell types that the network has never seen?

# %% [markdown]
# ## The published answer, and a column that is missing
#
# This is Table 1 of the paper, the accuracy of a linear support vector machine on held-out control wells. The last column is
# not in the paper. It is the share of the larger class among these wells, computed from the public metadata: the accuracy
# of a rule that never looks at an image.

# %% tags=["hide-input"]
published = paper("table1")
wide = published.pivot(index="task", columns="method", values="accuracy")
wide = wide.loc[published["task"].unique(), published["method"].unique()].map(percent)
table(
    wide.rename_axis(columns=None).reset_index(),
    "Accuracy on held-out control wells of the real screen; the last column is ours.",
    of=published,
)

# %% [markdown]
# Read it from right to left. The autoencoder and the collapsed ImageNet network, with 64.5 % and 65.3 % in the first row,
# are no better than a rule that always names the larger class. GAN-DL, with 91.4 %, is, and it learned without a single
# label. The baseline, with 95.8 %, was trained on the labels of another, larger screen {cite:p}`cuccarese2020`.
#
# ## The question, in ten lines
#
# Here is the first question put to our own screen. The embedding was made beforehand (chapter 02), so what remains is short:
# put the plates on one scale, hold a quarter of the control wells out, lay a plane between the others, and count.

# %%
gandl_h5ad, scores_csv = need(profile, "profiles/gandl.h5ad", "separability.csv", fresh=fresh)
rows = narrate.read(scores_csv).query("task == 'C+ vs C-' and split == 'well'")  # the workflow's accuracies

# %%
p = profiles.normalise(profiles.read(gandl_h5ad), "all")  # each plate: mean 0, standard deviation 1
control = p.obs["role"].isin(["C+", "C-"]).to_numpy()
X, infected = p.X[control], (p.obs["role"] == "C-").to_numpy()[control]
test = by_well(p.obs, seed=rows["seed"].iloc[0])[control]  # a quarter of the wells; sites of a well stay together

plane = make_pipeline(StandardScaler(), LinearSVC(C=0.01, class_weight="balanced", dual=False))
right = plane.fit(X[~test], infected[~test]).predict(X[test]) == infected[test]
majority = max(infected[test].mean(), 1 - infected[test].mean())
print(f"GAN-DL {right.mean():.1%}; always the same answer {majority:.1%}; {test.sum()} sites of unseen wells")

# %% [markdown]
# The second number needs no image. It is the {term}`majority rate`, and the workflow's table of accuracies has the same one:

# %%
assert len(rows)
np.testing.assert_allclose(rows["majority_rate"], majority)

# %% [markdown]
# Chapter 04 does this with more care: it chooses the plane's one parameter within the training wells, gives intervals, holds
# out whole plates, and shuffles the labels. A row of its table, `separability.csv`, is an accuracy with its majority rate,
# balanced accuracy and an interval from drawing wells. Two of its rows are there to be beaten: the same network with random
# weights, and the plain means and spreads of the channels. Smaller tables of this book show less; where they show an
# accuracy on controls, that table has the rest.

# %% [markdown]
# ## What this book does
#
# It runs the whole way again: data, training, embedding, the four questions, and the paper's numbers beside ours. What
# the paper leaves open (the resolution, the batch size, the weights of the penalties) is chosen, named as a choice, and can
# be changed.
#
# What you read was made from a **simulated** screen. It lies in the same files and folders as the real one, goes through
# the same loaders, and is difficult in the same ways: faint and partial effects, plates that differ, controls in columns of
# their own. One thing it has that no real screen can have: the truth. So where the paper can only show that a curve looks
# right, we can say how far off it is. What we cannot say from it is how well GAN-DL does on real cells. Chapters 07, 10 and 11
# ask that of smaller real plates; for the paper's own screen there is the profile `rxrx19a`, the real images, and a GPU.
#
# ## What to distrust, from the start
#
# - A simulated phenotype is as hard as its author made it. Chapter 01 publishes how hard that is.
# - The network of most chapters was trained for 75 minutes on two processor cores, and the default profile trains one for a few
#   minutes beside it; the paper trained for two days on a V100.
# - Uninfected wells lie in the same columns of every plate. A network may learn the column. Plates and wells are therefore
#   held out whole, and the simulated screen has that trap too.
#
# ## How to read it
#
# In order, or from the end: the last chapter holds all the results. Every chapter can be run alone, here or on Colab,
# Kaggle and Binder by the rocket above; it makes what it needs first. From a shell,
#
#     papermill notebooks/05_dose_response.ipynb out.ipynb -k python3 -p compound Remdesivir
#
# runs one with another parameter. Words that are not explained where they appear are in the [glossary](../glossary).
#
# ## Worth trying
#
# In the ten lines above, at the quick profile:
#
# - **Another embedding.** `gandl-random.h5ad` in place of `gandl.h5ad`, the same network before its first step: 74.0 % instead
#   of 94.6 %. `intensity.h5ad`, which sees no shapes: 67.6 %.
# - **Wells torn apart.** `test = np.random.default_rng(0).random(control.sum()) < 0.25`: 96.3 %. Both sites of a well look
#   alike, and one of them has now been learned.
# - **A softer or a harder plane.** `C=1e-5`: 73.7 %. `C=100`: 96.2 %, with no error left among the training wells. One
#   parameter moves the accuracy by twenty points, so it must not be chosen on the test wells.
# - **Another question.** `infected = (p.obs["cell_type"] == "VERO").to_numpy()[control]` asks for the cell type: 59.6 % where a
#   coin gets 50 %. With `"none"` instead of `"all"`: 99.4 %. Chapter 04 says where the answer went.
