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

# %% tags=["remove-cell"]
from gandl_book.chapters import check_parameters, paper

check_parameters(globals(), "profile")

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
table = paper("table1")
table.pivot(index="task", columns="method", values="accuracy").loc[
    table["task"].unique(), table["method"].unique()
].map("{:.1%}".format)

# %% [markdown]
# Read it from right to left. The autoencoder and the collapsed ImageNet network, with 64.5 % and 65.3 % in the first row,
# have learned what the larger class is, and nothing else. GAN-DL, with 91.4 %, has learned something, and without a single
# label. The baseline above it was trained on the labels of another, larger screen {cite:p}`cuccarese2020`.
#
# An accuracy that stands alone is easily read as more than it is. So every table of this book has the majority rate beside
# it, and the balanced accuracy, an interval bootstrapped over wells, the same network with random weights, the plain means
# and variances of the channels, and labels shuffled at random. A method that does not beat these says so in its own row.

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
# right, we can say how far off it is. What we cannot say from it is how well GAN-DL does on real cells; for that there is
# the profile `rxrx19a`, the real images, and a GPU.
#
# ## What to distrust, from the start
#
# - A simulated phenotype is as hard as its author made it. Chapter 01 publishes how hard that is.
# - The default profile trains for minutes on two processor cores; the paper trained for two days on a V100.
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
