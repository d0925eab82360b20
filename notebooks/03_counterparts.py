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
# The book has all four, and three comparisons that cost next to nothing, that the paper does not make, and that have
# embarrassed many a network: the same network *before its first training step*, a handful of *intensity statistics*, and five
# more numbers a stain that say how much happens at which scale, *texture statistics*.
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
import json
from itertools import pairwise

import numpy as np
import torch
from gandl_book import figures, narrate
from gandl_book.chapters import check_parameters, need
from gandl_book.figures import show, table
from scipy import ndimage

from gandl_lib import profiles
from gandl_lib.embed import crops_per_side, embed
from gandl_lib.methods import gandl
from gandl_lib.nn import pretrained
from gandl_lib.shards import Shards
from gandl_lib.views import crop_grid, lay, scale

check_parameters(globals(), "profile", "fresh")

# %%
store, cost_csv, scores_csv, replicates_csv, *paths = need(
    profile,
    "shards/screen.zarr",
    "cost.csv",
    "separability.csv",
    "replicates.csv",
    "profiles/gandl.h5ad",
    "profiles/gandl-random.h5ad",
    "profiles/intensity.h5ad",
    "profiles/texture.h5ad?",
    "profiles/supervised.h5ad?",
    "profiles/imagenet-collapsed.h5ad?",
    "profiles/imagenet-concatenated.h5ad?",
    "profiles/convae.h5ad?",
    "profiles/mae.h5ad?",
    "profiles/contrad.h5ad?",
    "profiles/transformer.h5ad?",
    fresh=fresh,
)
shards = Shards(store)
methods = [profiles.read(path) for path in paths if path]
cost, scores, replicates = map(narrate.read, (cost_csv, scores_csv, replicates_csv))

# %% tags=["hide-input"]
table(narrate.methods(methods), "The embeddings of this build.")

# %% tags=["remove-input"]
narrate.counterparts(methods, ("supervised", "imagenet-collapsed", "imagenet-concatenated", "convae", "mae", "contrad"))

# %% [markdown]
# ## From a site to a profile
#
# Every {term}`profile` is made the same way. A network sees overlapping crops of a site, or the whole of it, and its numbers are
# averaged. Each crop is laid in two of the eight ways in which a square can lie. Here for one site, by GAN-DL's network with
# its starting weights:

# %%
torch.manual_seed(0)
network = gandl.RandomGANDL(gandl.PRESETS["quick32"], len(shards.channels)).eval()

site = scale(shards.read(0), shards.limits)[None]  # (1, channels, height, width) in [-1, 1]
side = crops_per_side(min(site.shape[2:]), network.crop_px)  # so many that neighbours overlap by half
crops = lay(crop_grid(site, network.crop_px, side), side, ways=2)
features = network.embed(crops)
by_hand = features.mean(dim=0)
print(f"{side}² crops in two ways: {tuple(crops.shape)} -> {tuple(features.shape)} -> {tuple(by_hand.shape)}")

# %% [markdown]
# The library does the same, for all methods and any number of sites:

# %%
first = np.arange(len(shards)) == 0
library = embed(network, shards, provenance={"method": "by hand"}, sites=first, ways=2, exact=True, progress=False)
np.testing.assert_allclose(by_hand, library.X[0], rtol=1e-4, atol=1e-4)

# %% [markdown]
# ## Those that cost nothing
#
# - **Untrained GAN-DL** is the network just used: that of chapter 02 before its first step. Whatever it can do comes from the
#   architecture: local filters, pooling, some nonlinearity. Whatever GAN-DL can do beyond it was learned.
# - **Intensity statistics** are, for each channel, mean, spread, skewness, kurtosis and seven quantiles of the pixel values.
#   They do not know where a pixel is. Whatever they can do has nothing to do with shape.
# - **Texture statistics** keep the quantiles and add, for each channel, how much a blur takes away: of 0.5, 1, 2, 4, 8 and 16
#   pixels, each less the next. They know of a pixel's neighbours, and still nobody has trained anything.
# - **Cell count** is one number a site, where a build has it: what an embedding has to know more than.
#
# The intensity statistics of one site:

# %%
grey = site[0].flatten(1)  # (channels, pixels): from here on nobody knows where a pixel was
mean, sd = grey.mean(dim=1, keepdim=True), grey.std(dim=1, keepdim=True)
u = (grey - mean) / sd
moments = torch.cat([mean, sd, (u**3).mean(dim=1, keepdim=True), (u**4).mean(dim=1, keepdim=True) - 3], dim=1)
levels = torch.tensor([0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])
quantiles = grey.sort(dim=1).values[:, (levels * (grey.shape[1] - 1)).round().long()]
statistics = torch.cat([moments, quantiles], dim=1).flatten()  # 11 numbers a channel

# The site's row in the workflow's profiles:
np.testing.assert_allclose(statistics, methods[2].X[0], rtol=1e-3, atol=1e-4)

# %% [markdown]
# And its texture statistics:

# %%
image = site[0].numpy()
blurred = [ndimage.gaussian_filter(image, (0, s, s), mode="nearest", truncate=3) for s in (0.5, 1, 2, 4, 8, 16)]
energies = [np.log((fine - coarse).std(axis=(1, 2), ddof=1) + 1e-3) for fine, coarse in pairwise(blurred)]
textures = np.concatenate([quantiles.numpy(), np.stack(energies, axis=1)], axis=1).ravel()  # 12 numbers a channel

made = {json.loads(p.uns["provenance"])["method"]: p for p in methods}
if "texture" in made:
    np.testing.assert_allclose(textures, made["texture"].X[0], rtol=1e-3, atol=1e-3)

# %% [markdown]
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
# The two of ImageNet differ in one line, in how five channels become the three that a photograph has:

# %%
photographs = {json.loads(p.uns["provenance"])["method"]: p for p in methods}.get("imagenet-concatenated")
if photographs is None:
    print("This build has no row of ImageNet, so there is nothing to repeat by hand.")
else:
    config = json.loads(photographs.uns["provenance"])["config"]
    frozen = pretrained.network(config["network"])  # three channels -> its features
    each = frozen(site[0][:, None].expand(-1, 3, -1, -1))  # every channel as a grey photograph
    concatenated = each.flatten()

    mix = torch.full((3, len(shards.channels)), 1 / len(shards.channels))  # what learning begins with
    collapsed = frozen(torch.einsum("rc,nchw->nrhw", mix, site))

    np.testing.assert_allclose(concatenated, photographs.X[0], rtol=1e-2, atol=1e-2)  # of about 50
    print(f"concatenated {tuple(each.shape)} -> {concatenated.shape[0]}; collapsed {collapsed.shape[1]}")

# %% [markdown]
# The paper's ImageNet network is DenseNet-121. In the quick profile it is SqueezeNet, forty times cheaper, with 512 features
# instead of 1024: what an old machine embeds in minutes. Other profiles use the published ones.
#
# ## Two of today
#
# The paper's counterparts are those of 2021. What would a laboratory reach for now?
#
# - **A masked autoencoder** {cite:p}`he2022,kraus2024`, a small vision transformer trained on this very screen without a
#   label: it sees a quarter of the patches of a crop and draws the others.
# - **Somebody else's encoder**: any vision transformer that lies in a folder on the reader's machine, be it of photographs
#   (DINOv2; each channel alone, as above) or of cells, any number of channels at once (OpenPhenom, whose licence is
#   non-commercial and which is therefore neither shipped nor fetched). `GANDL_ENCODER=FOLDER gandl embed transformer
#   SHARDS OUT` makes its row; this build has none.
#
# ## GAN-DL's networks, taught otherwise
#
# GAN-DL's discriminator has to say real or not, and its features are what it needs for the answer. **ContraD**
# {cite:p}`jeong2021` has the same networks and teaches features first: two views of a real image are to lie close together,
# and generated images apart from real ones. A small head then judges with features that it cannot change. It is beyond the
# three papers of this book, stands in rows of its own, and has to beat the same untrained network that GAN-DL has to beat.
#
# ## More rows of GAN-DL
#
# In the quick profile *GAN-DL* comes with shipped weights, trained for longer on the same screen than a page can wait for, as
# do the supervised baseline and the autoencoders; *GAN-DL, trained in this build* is the run of chapter 02. *All layers of
# GAN-DL* is not GAN-DL as published: mean and deviation of every block's maps instead of the one layer before the verdict. It
# stands beside the same reading of the untrained network, or one would take for learning what is only a larger set of random
# filters.

# %% [markdown]
# ## What each has cost

# %% tags=["hide-input"]
table(narrate.cost_table(cost), "Cost of training, as recorded by the run that made each.")

# %% tags=["hide-input"]
show(
    figures.accuracy_against_compute(scores, cost),
    "Accuracy on C+ against C-, wells held out, by minutes of training; the dotted line is the majority rate. Methods at the left edge have nothing to train.",
)

# %% [markdown]
# Minutes were taken on shared processors, some of them busier than others: read them to a factor of two. How many images each
# has seen stands in the table. It is not the same number for all, nor are the images of one size. Those whose weights
# are shipped stopped where the time for them ended; their model cards in `weights/` say where.

# %% [markdown]
# ## Plates are the loudest thing in the data
#
# Two principal components of the control wells' profiles: above as they come out of the network, below after each {term}`plate`
# has been centred and scaled by itself.

# %%
controls = [p[p.obs["role"].isin(["C+", "C-", "UV"])] for p in methods]
before = [profiles.aggregate(p) for p in controls]
after = [profiles.aggregate(profiles.normalise(p, "all")) for p in controls]

# %% tags=["hide-input"]
show(
    figures.pca_views({"raw": before[0], "normalised": after[0]}),
    "Control wells by GAN-DL, coloured by plate (left) and by role (right).",
    of="gandl",
)

# %% tags=["remove-input"]
narrate.plate_variance(before[0], after[0])

# %% [markdown]
# And the same for intensity statistics:

# %% tags=["hide-input"]
show(
    figures.pca_views({"raw": before[2], "normalised": after[2]}),
    "The same wells by intensity statistics, coloured by plate (left) and by role (right).",
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
# The first of them, written out:

# %%
p = methods[0]
by_hand = np.empty_like(p.X)
for _, rows in p.obs.reset_index(drop=True).groupby(["plate_id", "cell_type"], observed=True):
    reference = p.X[rows.index[rows["role"] != "blank"]]
    by_hand[rows.index] = (p.X[rows.index] - reference.mean(axis=0)) / reference.std(axis=0)

np.testing.assert_allclose(by_hand, profiles.normalise(p, "all").X, rtol=1e-3, atol=1e-3)

# %% [markdown]
# The other two look at the label C-. Whoever then scores that label has to keep the test wells out of the fit; the tables of
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
    "Mean average precision (mAP) of replicates by dose, over all compounds and cell types.",
)

# %% tags=["hide-input"]
table(
    narrate.replicates(replicates),
    "Mean average precision of replicates, over all compounds and cell types.",
    of=replicates,
)

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
#
# ## Worth trying
#
# At the quick profile:
#
# - **Fewer crops, or more ways.** In the first cell, `ways=1` or `ways=8`: the profile of the site moves by 0.3 % of its length
#   between the two. `crop_grid(site, 32, 1)` with `side = 1`, the crop in the middle alone: 8.5 %.
# - **Pixels shuffled**, all channels in the same way: `site = site.flatten(2)[..., torch.randperm(128 * 128)].view_as(site)` just
#   before the cell of intensity statistics. They stay as they are, to the last digit but rounding. The concatenated features
#   have a cosine of 0.28 with what they were (and their check fails); to another well's site it is 0.88.
# - **Empty wells in the reference.** Take out `[rows["role"] != "blank"]`. There are 64 such sites among 3,088, and wells with
#   cells then have a standard deviation of 0.87 instead of 1 in the median feature, 0.48 in the worst.
# - **Another method's plates.** `narrate.plate_variance(before[k], after[k])` for other `k`: before normalisation plates hold half
#   of the variance of the untrained network and of the intensity statistics, and 6 % of that of ImageNet-concatenated.
# - **What the mix has learned.** In a clone with ImageNet's weights,
#   `open_method("weights/imagenet-collapsed.safetensors", shards.channels)[0].collapse.weight` (from `gandl_lib.embed`): fifteen
#   numbers between 0.18 and 0.22 that began at 0.2. It still shows the network little else than a grey photograph.
