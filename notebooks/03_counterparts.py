# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · What it has to be compared with
#
# An embedding on its own is neither good nor bad. It becomes one or the other next to something else. The paper sets GAN-DL
# beside four networks: one that was trained with labels, two that have only seen photographs, and one that learned to copy.
# All four are here, and so are two comparisons that cost next to nothing, that the paper does not make, and that have
# embarrassed many a network: the same network *before its first training step*, and a handful of *intensity statistics*.
#
# This chapter introduces them and says what each has cost. Then it does to all of them what has to be done before they are
# compared: it takes the plates out.

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
from gandl_book import figures, narrate
from gandl_book.chapters import check_parameters, need
from gandl_book.figures import show, table

from gandl_lib import profiles

check_parameters(globals(), "profile", "fresh")

# %%
cost_csv, scores_csv, replicates_csv, *paths = need(
    profile,
    "cost.csv",
    "separability.csv",
    "replicates.csv",
    "profiles/gandl.h5ad",
    "profiles/gandl-random.h5ad",
    "profiles/intensity.h5ad",
    "profiles/supervised.h5ad?",
    "profiles/imagenet-collapsed.h5ad?",
    "profiles/imagenet-concatenated.h5ad?",
    "profiles/convae.h5ad?",
    "profiles/mae.h5ad?",
    "profiles/contrad.h5ad?",
    "profiles/transformer.h5ad?",
    fresh=fresh,
)
methods = [profiles.read(path) for path in paths if path]
cost, scores, replicates = map(narrate.read, (cost_csv, scores_csv, replicates_csv))

# %% tags=["hide-input"]
table(narrate.methods(methods), "The embeddings of this build.")

# %% tags=["remove-input"]
narrate.counterparts(methods, ("supervised", "imagenet-collapsed", "imagenet-concatenated", "convae", "mae", "contrad"))

# %% [markdown]
# Every {term}`profile` is made the same way. A network sees overlapping crops of a site, each laid in two of the eight ways
# in which a square can lie, or the whole of it, and its numbers are averaged. Training loop, embedding, normalisation and
# evaluation exist once, for all of them.
#
# ## Two that cost nothing
#
# - **Untrained GAN-DL** is the network of chapter 02 with its starting weights. Whatever it can do comes from the
#   architecture: local filters, pooling, some nonlinearity. Whatever GAN-DL can do beyond it was learned.
# - **Intensity statistics** are, for each channel, mean, spread, skewness, kurtosis and seven quantiles of the pixel values.
#   They do not know where a pixel is. Whatever they can do has nothing to do with shape.
#
# ## Four from the paper
#
# - **The supervised baseline** {cite:p}`cuccarese2020` is told which compound each well received and learns to name it. Two
#   heads read its embedding and are optimised together: softmax cross-entropy, and ArcFace, which wants the angle to the
#   right class smaller by a margin than to any other. The paper's is a DenseNet-161 on the siRNA labels of another screen,
#   RxRx1. Ours learns, in the quick profile, with four convolutions on the compounds of *this* screen, training wells only.
#   It is never told what C+ and C- are. Still it has an advantage that the paper's did not have: it has seen labelled wells
#   of the plates it is judged on.
# - **ImageNet-concatenated**: each channel alone, as a grey photograph, through a network that knows dogs and trucks. The
#   channels' features are put side by side. Nothing is learned.
# - **ImageNet-collapsed**: a trainable mix of the channels to red, green and blue, learned through the frozen network on C+
#   against C-. It does see the labels of the task, those of training wells; so it has no rows where whole plates are held
#   out, for the labels of those plates are known to it. The paper keeps the pass over the data with the best *test* accuracy. That
#   is optimistic, and ours keeps the best on validation wells instead (the preset `optimistic` does as the paper did).
# - **ConvAE** has to draw the image again from 1024 numbers, judged pixel by pixel and by what an ImageNet network makes of
#   the drawing.
#
# The paper's ImageNet network is DenseNet-121. In the quick profile it is SqueezeNet, forty times cheaper, with 512 features
# instead of 1024: what an old machine embeds in minutes. Other profiles use the published ones.
#
# ## Two of today
#
# The paper's counterparts are those of 2021. What would a laboratory reach for now?
#
# - **A masked autoencoder** {cite:p}`he2022,kraus2024`, a small vision transformer trained on this very screen without a
#   label: it sees a quarter of the patches of a crop and draws the others.
# - **An encoder of others**: any vision transformer that lies in a folder on the reader's machine, be it of photographs
#   (DINOv2; each channel alone, as above) or of cells, any number of channels at once (OpenPhenom, whose licence is
#   non-commercial and which is therefore neither shipped nor fetched). `GANDL_ENCODER=FOLDER gandl embed transformer
#   SHARDS OUT` makes its row; this build has none.
#
# ## One that is asked
#
# GAN-DL's discriminator is asked one thing, real or not, and its features are what it needs for the answer. **ContraD**
# {cite:p}`jeong2021` has the same networks and asks for features first: two views of a real image are to lie close together,
# and generated images apart from real ones. A small head then judges with features that it cannot change. It is beyond the
# three papers of this book, stands in rows of its own, and has to beat the same untrained network that GAN-DL has to beat.
#
# Tables from here on may have more rows, as the profile of the run asks for them. In the quick profile *GAN-DL* comes with
# shipped weights, trained for longer on the same screen than a page can wait for, as do the supervised baseline and the
# autoencoder; *GAN-DL, minutes of training* is the run of the last chapter. *All layers of GAN-DL* is not GAN-DL as
# published: mean and deviation of every block's maps instead of the one layer before the verdict. It stands beside the same
# reading of the untrained network, or one would take for learning what is only a larger set of random filters.

# %% [markdown]
# ## What each has cost

# %% tags=["hide-input"]
table(narrate.cost_table(cost), "Cost of training, as recorded by the run that made each.")

# %% tags=["hide-input"]
show(
    figures.accuracy_against_compute(scores, cost),
    "C+ against C- on held-out wells, against minutes of training; a dotted line is the majority rate. Methods on the left have nothing to train.",
)

# %% [markdown]
# Minutes were taken on shared processors, some of them busier than others: read them to a factor of two. How many images each
# has seen stands in the table. It is not the same number for all, nor are the images of one size. The two that ship weights
# beside GAN-DL's stopped where the time for them ended; their model cards in `weights/` say where.

# %% [markdown]
# ## The loudest thing in the data
#
# Two principal components of the control wells' profiles, by GAN-DL. Above as they come out of the network, below after each
# {term}`plate` has been centred and scaled by itself. The same dots, coloured once by plate and once by role.

# %%
controls = [p[p.obs["role"].isin(["C+", "C-", "UV"])] for p in methods]
before = [profiles.aggregate(p) for p in controls]
after = [profiles.aggregate(profiles.normalise(p, "all")) for p in controls]

# %% tags=["hide-input"]
show(
    figures.pca_views({"raw": before[0], "normalised": after[0]}),
    "GAN-DL profiles of control wells on their two main components. Left: is it the plate? Right: is it the disease?",
)

# %% tags=["remove-input"]
narrate.plate_variance(before[0], after[0])

# %% [markdown]
# And the same for intensity statistics, which see little else than what a lamp or a stain does to a plate.

# %% tags=["hide-input"]
show(
    figures.pca_views({"raw": before[2], "normalised": after[2]}),
    "Intensity statistics of the same wells.",
)

# %% tags=["remove-input"]
narrate.plate_variance(before[2], after[2])

# %% [markdown]
# ## Taking the plates out
#
# The paper normalises "per plate to remove inter-plate variance" and gives no recipe. With $\mu_p$ and $\sigma_p$ the mean and
# spread of a feature over the *reference wells* of plate $p$, there are three to choose from here:
#
# - `all`: $(x - \mu_p) / \sigma_p$ over every well of the plate that holds cells. It reads no label, and is what this book uses
#   unless it says otherwise. (A few empty wells lie so far out that they would set the scale.)
# - `controls`: the same over the negative controls only. Right where plates hold different compounds, noisy where controls
#   are few.
# - `tvn`, {term}`TVN` {cite:p}`ando2017`: `controls`, then the pooled controls are whitened, then each plate's covariance is
#   turned into the common one.
#
# Two of them look at the label C-. Whoever then scores that label has to keep the test wells out of the fit; the tables of
# this book do.

# %% [markdown]
# ## Do replicates find each other?
#
# A question that needs no classifier and no control of health. Each treated well looks for the other wells that received its
# compound at its dose, among the negative controls of its plate. Mean average precision {cite:p}`kalinin2025` is one if they
# come first, and near the dotted line if they come anywhere. A compound that does nothing keeps every method at the line.

# %% tags=["hide-input"]
show(
    figures.replicate_precision(replicates),
    "Mean average precision of replicates by dose, over all compounds and both cell types.",
)

# %% tags=["remove-input"]
narrate.replicates(replicates)

# %% [markdown]
# The supervised baseline was trained to do just this for three quarters of these wells, so its line is no surprise, and no
# fair comparison either.
#
# ## What to distrust
#
# - **Two components of many.** A class can be perfectly separable and invisible in such a picture, so this one proves plate
#   effects and disproves nothing. There is no UMAP here: it makes clusters where there are none.
# - **Normalisation assumes that plates are alike.** `all` treats the average well of every plate as the same thing. A plate
#   full of strong compounds is then shifted by their strength. In the real screen most compounds do nothing, and that is why
#   it works.
# - **One seed.** "Untrained" is one draw of random weights, as every trained method is one training run. Another run of the
#   same method would move by some points; no interval in this book contains that. Chapter 04 has a second run of everything.
# - **Small networks.** The quick profile's counterparts are the published ideas at sizes that two cores can carry. A weak row
#   may be a weak idea or a small network, and this build cannot say which.
