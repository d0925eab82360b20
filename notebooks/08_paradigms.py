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
# GAN-DL was not among them, and their comparison is not in the GAN-DL paper. Here it is the seventeenth row, beside some that all
# of them must beat: both networks before their first step, texture and intensity statistics, and features shuffled until
# nothing is left.

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
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from gandl_book import figures, narrate
from gandl_book.chapters import check_parameters, need, paper
from gandl_book.figures import show, table
from sklearn.metrics import pairwise_distances

from gandl_lib import profiles
from gandl_lib.methods import paradigms
from gandl_lib.shards import Shards
from gandl_lib.views import TrainingCrops

check_parameters(globals(), "profile", "fresh", "umap_methods", "umap_cell_type")

# %%
*csvs, store, gandl_h5ad, setup_h5ad = need(
    profile,
    "paradigms.csv",
    "paradigms_cells.csv",
    "paradigms_distances.csv",
    "paradigms_drug_control.csv",
    "paradigms_clusters.csv",
    "paradigms_points.csv",
    "paradigms_flaws.csv",
    "shards/drugs.zarr",
    "profiles/gandl.h5ad",
    "profiles/drugs/byol-augment-crops.h5ad?",
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
# wells only. In the quick profile training is over after seconds, where the paper's setups saw 770,000 images fifty times. So
# this chapter shows how the comparison works, not what it would end in.

# %% tags=["hide-input"]
setup = profiles.read(setup_h5ad) if setup_h5ad else None
table(
    narrate.choices_of_paradigms(setup),
    "What the paper states, and what this build uses (`ParadigmConfig` in `gandl_lib/methods/paradigms.py`).",
)

# %% [markdown]
# ## Three losses, in the open
#
# On eight images with their labels, and networks as small as the tests use. A regularised setup has all three parts: an
# encoder, a classifier and a decoder.

# %%
config = paradigms.PRESETS["tiny-augment"]
crops = TrainingCrops(drugs, config.resolution, seed=0, rotate=False)
images = crops.batch(0, config.batch)  # (8, channels, 16, 16) in [-1, 1]
is_control = torch.tensor([drugs.wells["role"][crops.site(k)] == "C-" for k in range(config.batch)]).long()

torch.manual_seed(0)
both = paradigms.Regularised(config, len(drugs.channels), ("treated", "C-"))
features = both.encoder(images)
naming = F.cross_entropy(both.classifier(features), is_control)  # weakly supervised
drawing = F.binary_cross_entropy_with_logits(both.decoder(features), (images + 1) / 2)  # autoencoder

torch.testing.assert_close(naming, both.naming_loss(images, is_control))
torch.testing.assert_close(drawing, both.drawing_loss(images))

# %% [markdown]
# The published code of regularised learning adds the first to the second as a mere number. Then nothing flows back from it:

# %%
(drawing + naming.detach()).backward()
assert all(p.grad is not None for p in both.encoder.parameters())  # the encoder learns, from the drawing
assert all(p.grad is None for p in both.classifier.parameters())  # the classifier never does

# %% [markdown]
# And a whole step of BYOL. The slow copy sees one view, the network predicts it from the other, and the other way round:

# %%
torch.manual_seed(0)
net = paradigms.BYOL(config, len(drugs.channels))
torch.manual_seed(0)
library = paradigms.BYOL(config, len(drugs.channels))
adam = torch.optim.Adam(net.learnt, config.learning_rate)

torch.manual_seed(1)
first, second = net.views(images), net.views(images)  # augmented, each in its own way
loss = 0
for seen, other in ((first, second), (second, first)):
    prediction = net.predictor(net.projector(net.encoder(seen)))
    with torch.no_grad():
        wanted = net.target["projector"](net.target["encoder"](other))
    loss = loss + (2 - 2 * F.cosine_similarity(prediction, wanted, dim=1).mean()) / 2
loss.backward()
adam.step()
with torch.no_grad():
    quick = [*net.encoder.parameters(), *net.projector.parameters()]
    for slow, new in zip(net.target.parameters(), quick, strict=True):
        slow.copy_(config.ema * slow + (1 - config.ema) * new)

# %% [markdown]
# The library's step, from the same start with the same seed, moves every parameter to the same place:

# %%
torch.manual_seed(1)
library.step(images, n_seen=0)
for mine, theirs in zip(net.parameters(), library.parameters(), strict=True):
    torch.testing.assert_close(mine, theirs)

# %% [markdown]
# Why a predictor? Nothing in this loss keeps a network from giving the same answer to every image. Sixty steps with it and
# without it, live. Cosine 1 means that all images have become one:

# %%
for predictor in (True, False):
    torch.manual_seed(0)
    net = paradigms.BYOL(replace(config, batch=32), len(drugs.channels))
    if not predictor:
        net.predictor = torch.nn.Identity()
        net.learnt = [p for p in net.parameters() if p.requires_grad]
    for i in range(60):
        loss = net.step(crops.batch(32 * i, 32), n_seen=32 * i)["prediction"]
    with torch.no_grad():
        z = F.normalize(net.projector(net.encoder(crops.batch(0, 64))), dim=1)
    alike = (z @ z.T).mean()
    print(f"predictor {'yes' if predictor else 'no':>3}: loss {loss:.3f}, mean cosine between images {alike:.2f}")

# %% [markdown]
# The lower loss belongs to the network that tells its images apart less. A loss of this kind says little about what was learned,
# which is why there are exams.
#
# What the trainings of this build have cost:

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
# By hand, for GAN-DL's embedding and the first class of drugs (profile tiny has no two similar drugs, so there nothing is done):

# %%
p = profiles.read(gandl_h5ad)
shared = p.obs["site_id"].isin(drugs.wells["site_id"]).to_numpy()  # the sites that all setups see
p = profiles.normalise(p[shared], "all")
for row in distances.query("method == 'gandl' and drug_class != 'all'").head(1).itertuples():
    here = p[(p.obs["cell_type"] == row.cell_type).to_numpy()]
    D = pairwise_distances(here.X)
    compound, dose_uM = here.obs["compound"].to_numpy(), here.obs["concentration_uM"].to_numpy()
    control = (here.obs["role"] == "C-").to_numpy()
    of_class = sorted(name for name in set(compound) if name.startswith(f"sim-{row.drug_class}-"))
    d = []
    for pair in combinations(of_class, 2):
        highest = np.intersect1d(*(dose_uM[compound == name] for name in pair))[-2:]
        one, two = ((compound == name) & np.isin(dose_uM, highest) for name in pair)
        between = np.median(D[np.ix_(one, two)])
        to_control = [np.median(D[np.ix_(drug, control)]) for drug in (one, two)]
        d.append(np.mean([(far - between) / far for far in to_control]))
    print(f"{row.drug_class}, {row.cell_type}: d = {np.mean(d):.3f} over {len(d)} pairs")
    np.testing.assert_allclose(np.mean(d), row.normalised_d, atol=1e-4)  # the workflow's table

# %% [markdown]
# All methods, over all classes that do something:

# %% tags=["hide-input"]
show(
    figures.setups_plot(setups, {"normalised_d": ("d_low", "d_high")}, published),
    "Normalised d, mean over cell lines, with 95 % intervals over wells (simulated screen). Dots are setups, open ones with the flaws of the published code; squares are other embeddings. Yellow is the paper's range for a paradigm, on other drugs and other cells.",
)

# %% tags=["remove-input"]
narrate.paradigm_exam(setups, "normalised_d", "d", "d")

# %% tags=["remove-input"]
narrate.paradigm_choices(setups, "normalised_d", "d", "d")

# %% tags=["remove-input"]
narrate.inert_drugs(distances)

# %% [markdown]
# A mean over classes hides what it is made of. In the simulated screen *toxic* and *narrow* drugs kill at their two highest doses,
# and dead cells are easily told from living ones, with or without training. *Antiviral* drugs only make infected cells look
# healthier; their column is the one that asks what this book asks.

# %% tags=["hide-input"]
table(
    narrate.by_class(distances, setups),
    "Normalised d by class of drugs, means over cell lines (simulated screen); the last column is what the picture shows.",
    of=distances,
)

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
    figures.setups_plot(setups, {"not_noise": None, "silhouette": None}, published),
    "Clusters, means over cell lines (simulated screen); their number is in the table below. One layout and one seed each: there are no intervals, so nobody wins.",
)

# %% tags=["remove-input"]
narrate.clusters_found(clusters)

# %% tags=["hide-input"]
show(
    figures.cluster_plane(
        points, drugs, narrate.present(umap_methods, points), narrate.present([umap_cell_type], points, "cell_type")[0]
    ),
    "UMAP with HDBSCAN's clusters; grey is noise. To the right, two sites from the middle of each of the largest clusters (simulated images, composites).",
)

# %% [markdown]
# A silhouette says how well clusters keep apart, and nothing about what they are; the mutual information above does. Clusters
# that match neither drugs nor plates are made by the layout, however high their silhouette.
#
# ## All of it

# %% tags=["hide-input"]
table(
    narrate.setups(setups),
    "The paper's Tables 1 and 2 for this build, means over cell lines (simulated screen). D has the unit of its embedding, so it cannot be compared between rows. Memory is the most that the training process held, libraries and images included.",
    of=setups,
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
# runs each: the difference between two runs holds the chance of both. The one of the regulariser was shown above; what was
# called regularised learning is then, step for step, an autoencoder, and a test of this project says so to the last digit.

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
#
# ## Worth trying
#
# At the quick profile:
#
# - **A slow copy that does not move**, `replace(config, batch=32, ema=1.0)` in the cell of sixty steps, or one that follows at
#   once, `ema=0.0`: with the predictor the network still does not collapse (mean cosine 0.72 and 0.69; 0.68 as it is). So
#   here it is the predictor that prevents it.
# - **More steps**: with 150 the loss without a predictor is 0.004 and the mean cosine 0.99; with it 0.21 and 0.57.
# - **Another class**, `drug_class == 'toxic'` instead of `drug_class != 'all'` in the cell of distances: $d$ is 0.70 for drugs that
#   kill, where antivirals have 0.08; `'inert'`: -0.01.
# - **Another distance.** `pairwise_distances(here.X, metric="cosine")`: antivirals 0.03, toxic drugs 0.96 (the check fails then, as
#   it should). $d$ is a ratio, and still not free of the choice of a metric.
