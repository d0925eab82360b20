# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Results beside the paper
#
# All the key numbers on one page: ours, with intervals and with what they have to beat, and the paper's next to them. How
# each came about is told in the chapter before. How this page came about is in the table at its end.

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
import json

import pandas as pd
from gandl_book import figures, narrate
from gandl_book.chapters import check_parameters, need, paper
from gandl_book.figures import show, table

check_parameters(globals(), "profile", "fresh")

# %%
scores_csv, curves_csv, compared_csv, unseen_csv, real_csv, made_json = need(
    profile,
    "separability.csv",
    "dose_response.csv",
    "dose_truth.csv?",
    "zero_shot_summary.csv?",
    "zero_shot_rxrx1_summary.csv?",
    "provenance.json",
    fresh=fresh,
)
scores, curves = pd.read_csv(scores_csv), pd.read_csv(curves_csv)
compared = narrate.read(compared_csv)
unseen = {
    "unseen cell types (simulated)": narrate.read(unseen_csv),
    "unseen cell types (real RxRx1)": narrate.read(real_csv),
}
made = json.loads(made_json.read_text())

# %% [markdown]
# ## Five sentences

# %% tags=["hide-input"]
narrate.in_short(scores, curves, compared, unseen["unseen cell types (simulated)"])

# %% tags=["remove-input"]
narrate.what_this_is(made)

# %% [markdown]
# ## The numbers

# %% tags=["hide-input"]
table(
    narrate.summary(scores, paper("table1"), compared, unseen, paper("zero_shot")),
    "Accuracies with 95 % intervals over wells; majority: always answering the larger class. The paper's column is GAN-DL on real images.",
)

# %% tags=["hide-input"]
show(
    figures.accuracy_plot(scores[scores["normalisation"].isin(["all", "none"])], paper("table1")),
    "Separability in one picture: filled for wells held out, open for plates held out.",
)

# %% [markdown]
# ## In words

# %% tags=["remove-input"]
narrate.separability(scores)

# %% tags=["remove-input"]
narrate.zero_shot(unseen["unseen cell types (simulated)"], "simulated unseen cells")

# %% tags=["remove-input"]
narrate.zero_shot(unseen["unseen cell types (real RxRx1)"], "real RxRx1 cells")

# %% tags=["remove-input"]
narrate.hits(curves)

# %% tags=["remove-input"]
narrate.against_truth(compared)

# %% [markdown]
# ## What is not reproduced yet
#
# - **The real screen.** The loader, the plate map and the profile `rxrx19a` are here; the 450 GB of images and the days of GPU
#   time are not. The paper's Table 1 can be confirmed or refuted only with them.
# - **The counterparts at full size.** All four columns of Table 1 are here (chapter 03), in the quick profile as small networks
#   on this screen. A DenseNet-161 trained on RxRx1, and an autoencoder of the published depth, are presets that nobody has run
#   yet. The published embeddings of the baseline give its real column without an image (chapter 04); they have to be fetched.
# - **Several seeds.** Every number here is one training run and one split. Intervals cover the choice of test wells, not the
#   luck of training.
#
# ## Where these numbers come from
#
# In short: every trained row of the tables with its weights, and how many networks chapters 07 and 08 trained besides. The
# sum and the configuration of each, what it has seen, and the sums of all tables are in `results/<profile>/provenance.json`.

# %% tags=["hide-input"]
table(
    narrate.provenance(made),
    "What made this page: provenance.json, abridged. Sums are of inputs and of weights; minutes are those of their training.",
)
