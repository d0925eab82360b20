# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 99 · Results beside the paper
#
# All the key numbers on one page: ours, with intervals and with what they have to beat, and the paper's next to them. How
# each came about is told in the chapters before. How this page came about is in the table at its end.

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
from gandl_book import narrate
from gandl_book.chapters import check_parameters, need, paper, recorded
from gandl_book.figures import table

from gandl_lib import profiles
from gandl_lib.evaluate import leaks

check_parameters(globals(), "profile", "fresh")

# %%
scores_csv, paired_csv, curves_csv, compared_csv, truth_csv, unseen_csv, real_csv, plate_csv, one_h5ad, made_json = (
    need(
        profile,
        "separability.csv",
        "paired.csv",
        "dose_response.csv",
        "dose_truth.csv?",
        "data/screen/truth.csv?",
        "zero_shot_summary.csv?",
        "zero_shot_rxrx1_summary.csv?",
        "real_plate.csv?",
        "profiles/intensity.h5ad",
        "provenance.json",
        fresh=fresh,
    )
)
scores, paired, curves = pd.read_csv(scores_csv), pd.read_csv(paired_csv), pd.read_csv(curves_csv)
compared, truth, unseen, real = map(narrate.read, (compared_csv, truth_csv, unseen_csv, real_csv))
live = narrate.read(plate_csv)
plate = live if live is not None and "gandl" in set(live["method"]) else recorded("real_plate")
made = json.loads(made_json.read_text())

# %% [markdown]
# ## In six points
#
# Two are about real cells, the others about this build's screen. Bold is what has learnt nothing and still is ahead of
# GAN-DL, or level with it, or cannot be told from it.

# %% tags=["hide-input", "on-real-cells"]
narrate.on_real_cells(plate, real, recorded("real_cells"))

# %% tags=["hide-input", "on-the-screen"]
narrate.on_simulated(scores, paired, curves, compared, unseen, truth)

# %% [markdown]
# And what to hold these numbers against:

# %% tags=["hide-input", "hardest"]
narrate.hardest(scores, paired, leaks.position(profiles.read(one_h5ad)))

# %% tags=["remove-input"]
narrate.what_this_is(made)

# %% [markdown]
# ## The numbers

# %% tags=["hide-input"]
cells = {"unseen cell types (simulated)": unseen, "unseen cell types (real RxRx1)": real}
table(
    narrate.summary(scores, paper("table1"), compared, cells, paper("zero_shot")),
    "Accuracies with 95 % intervals over wells; majority: always answering the larger class. The paper's column is GAN-DL on real images.",
    of=scores,
)

# %% [markdown]
# The picture of it, who is told apart from whom, and what position gives away are in chapter 04; hits and their warnings in
# chapter 05; unseen cells in chapter 06; the real plate in chapter 10.
#
# ## What is not reproduced yet
#
# - **The real screen.** The loader, the plate map and the profile `rxrx19a` are here; the 450 GB of images and the days of GPU
#   time are not. The paper's Table 1 can be confirmed or refuted only with them.
# - **The counterparts at full size.** In the quick profile they are small networks on this screen. A DenseNet-161 trained on
#   RxRx1, and an autoencoder of the published depth, are presets that nobody has run yet. The published embeddings of the
#   baseline give its real column without an image (chapter 04); they have to be fetched.
# - **Several seeds.** Every number here is one training run and one split. Intervals cover the choice of test wells, not the
#   luck of training; chapter 04 shows a second seed.

# %% tags=["remove-input"]
narrate.columns_of_table_1(scores)

# %% [markdown]
# ## Where these numbers come from
#
# In short: every trained row of the tables with its weights, and how many networks chapters 07 and 08 trained besides. The
# checksum and the configuration of each, what it has seen, and the checksums of all tables are in
# `results/<profile>/provenance.json`.

# %% tags=["hide-input"]
table(
    narrate.provenance(made),
    "What made this page: `provenance.json`, abridged. Checksums are of inputs and of weights; minutes are those of their training.",
)
