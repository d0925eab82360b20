# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 08 · Sixteen ways to learn
#
# GAN-DL learns without labels, by telling real images from drawn ones. There are other ways to learn without labels, and there
# are weak labels that cost nothing: every plate map says which wells hold a drug. Which way teaches most? Dmitrenko et al.
# {cite:p}`dmitrenko2022` asked it fairly. One small encoder, four paradigms, the same data, the same optimiser; each with and
# without augmentation, with and without multi-crop: sixteen setups, three exams.
#
# GAN-DL was not among them, and their comparison is not in the GAN-DL paper. Here it is the seventeenth row, beside three that
# any of them must beat: the encoder before its first step, intensity statistics, and features shuffled until nothing is left.

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
umap_methods = ["weak-augment-crops", "byol-augment-crops", "gandl"]  # rows of paradigms.csv, as it calls them
umap_cell_type = "HRCE"

# %% tags=["remove-cell"]
import pandas as pd
from gandl_book import figures, narrate
from gandl_book.chapters import check_parameters, need, paper
from gandl_book.figures import show, table

from gandl_lib.shards import Shards

check_parameters(globals(), "profile", "fresh", "umap_methods", "umap_cell_type")

# %%
*csvs, store = need(
    profile,
    "paradigms.csv",
    "paradigms_cells.csv",
    "paradigms_distances.csv",
    "paradigms_drug_control.csv",
    "paradigms_clusters.csv",
    "paradigms_points.csv",
    "paradigms_flaws.csv",
    "shards/drugs.zarr",
    fresh=fresh,
)
setups, cells, distances, probes, clusters, points, flaws = map(pd.read_csv, csvs)
published = paper("paradigms")
drugs = Shards(store)

# %% [markdown]
# ## Four paradigms, one encoder
#
# Four convolutions make 8 maps of 16 by 16, 2048 features, of a crop of 64 by 64 pixels. What stands on them differs:
#
# - **weakly supervised**: a classifier, drug or control;
# - **autoencoder**: a decoder, and binary cross-entropy between the image and what is drawn of it;
# - **regularised**: both, one step each in turn;
# - **BYOL** {cite:p}`grill2020`: a predictor $q$ of what a slow copy of the network makes of another view of the image,
#   $2 - 2 \cos(q(z), z')$. The slow copy is a moving average that keeps 0.8 of itself at every step.
#
# **Augmentation** is a resized crop, a flip, a blur. **Multi-crop** adds to every image two windows of half its side and two of a
# quarter, all enlarged to the image's size. Crops are not turned here, for turning is an augmentation too.
#
# The data are drugs and their controls, infected wells without a drug, of the simulated screen; labels are those of training
# wells only. In the quick profile the first maps are a quarter as many, batches are small, and training is over after
# seconds where the paper's setups saw 770,000 images fifty times. Then this chapter shows how the comparison works, not what it would end in.

# %% tags=["remove-input"]
narrate.costs(setups)

# %% [markdown]
# ## First exam: are similar drugs near?
#
# With $D(A, B)$ the median distance between the images of two sets, two drugs that do the same should be nearer to each other
# than either is to the controls,
#
# $$ d = \frac{D(S, \text{control}) - D(S_1, S_2)}{D(S, \text{control})} . $$
#
# Zero: no nearer than to the controls. One: the same. The paper had one pair of drugs. The simulated screen has classes of them, and
# $d$ is the mean over all pairs of a class, and then over the classes whose drugs do something, at their two highest doses.

# %% tags=["hide-input"]
show(
    figures.setups_plot(setups, {"normalised_d": ("d_low", "d_high")}, published),
    "Normalised d, mean over cell lines, with 95 % intervals over wells (simulated screen). Squares are no setups; open dots have the flaws of the published code; yellow is the paper's range for a paradigm, on other drugs and other cells.",
)

# %% tags=["remove-input"]
narrate.paradigm_exam(setups, "normalised_d", "d", "d")

# %% tags=["remove-input"]
narrate.paradigm_choices(setups, "normalised_d", "d", "d")

# %% tags=["remove-input"]
narrate.inert_drugs(distances)

# %% [markdown]
# ## Second exam: drug or control?
#
# A small network of two layers learns from the embedding of training wells whether a well holds a drug, and is asked about
# others. Its learning rate, momentum and weight decay are those of a grid that do best on wells set aside.
#
# Nobody can be right on all of them: some of these drugs do nothing at all, the others nothing at low doses (of which the quick
# profile leaves most out), and such wells *are* controls to the eye. And always to say what most wells hold scores the dotted
# line. That line is not in the paper.

# %% tags=["hide-input"]
show(
    figures.probe_by_cell(cells, setups),
    "Drug against control by cell line (simulated screen). Bars are 95 % intervals over wells; dotted is the majority rate.",
)

# %% tags=["remove-input"]
narrate.paradigm_exam(setups, "roc_auc", "auc", "area under the ROC curve")

# %% tags=["remove-input"]
narrate.paradigm_choices(setups, "roc_auc", "auc", "the area under the ROC curve")

# %% [markdown]
# ## Third exam: does it fall into clusters?
#
# UMAP lays the embedding of one cell line in a plane, HDBSCAN finds its dense parts and calls the rest noise. Both have a
# parameter that decides much; the published rule takes, of a grid, the points with a silhouette above the median, of these those
# with a Davies-Bouldin index below it, then the least noise, then the most clusters.

# %% tags=["hide-input"]
show(
    figures.setups_plot(
        setups, {"n_clusters": None, "not_noise": None, "silhouette": None, "davies_bouldin_inverse": None}, published
    ),
    "Clusters, means over cell lines (simulated screen). One layout and one seed each: there are no intervals, so nobody wins.",
)

# %% tags=["remove-input"]
narrate.clusters_found(clusters)

# %% tags=["hide-input"]
show(
    figures.cluster_plane(
        points, drugs, narrate.present(umap_methods, points), narrate.present([umap_cell_type], points, "cell_type")[0]
    ),
    "UMAP with HDBSCAN's clusters, grey is noise; to the right, two sites from the middle of each of the largest clusters (simulated images, composites).",
)

# %% [markdown]
# A silhouette says how well clusters keep apart, and nothing about what they are. That is what the mutual informations above are
# for. A high silhouette of clusters that nobody can name is a property of the plane.

# %% [markdown]
# ## All of it
#

# %% tags=["hide-input"]
table(
    narrate.setups(setups),
    "Tables 1 and 2, means over cell lines (simulated screen). D has the unit of its embedding: compare within a row only. Memory is the most that the training process held, its libraries and the images included.",
)

# %% [markdown]
# ## As published, and corrected
#
# The authors published their code, which is why five slips in it can be named. Everything above is corrected; this is
# what each slip alters.

# %% tags=["remove-input"]
narrate.flaws(flaws)

# %% [markdown]
# The first three are slips of the exams and can alter any row. The last two are slips of training, and are seen in one pair of
# runs each: the difference between two runs holds the chance of both. The regulariser's loss is added as a
# number without a gradient. What was called regularised learning is then, step for step, an autoencoder; a test of this
# project says so to the last digit.

# %% [markdown]
# ## Beside the paper

# %% tags=["hide-input"]
table(
    narrate.beside_paper_paradigms(setups, published),
    "Ranges over the setups of a paradigm. The paper's are from other cells, other drugs and a far longer training.",
)

# %% [markdown]
# ## What to distrust
#
# - **Short training.** See the number of images above. A paradigm that is behind here may only be slow.
# - **One run a setup.** Intervals are over wells. They do not hold the chance of another start, which may be as large.
# - **Labels and their exam.** The weakly supervised setups learn drug against control and are then asked just that. Test wells
#   were kept from them, but the question was not. The other exams are fairer to the rest.
# - **Site means.** An embedding of a setup here is the mean over nine overlapping crops of a site, as they lie; GAN-DL's, of
#   smaller crops, is over more of them, each laid in two ways. The paper embeds single crops. Means are less noisy, so
#   distances and clusters are not on the paper's scale.
# - **Sixteen rows are sixteen chances.** The best of many equal setups looks better than it is. The sentences above compare it with the
#   others as if it had been named beforehand.
