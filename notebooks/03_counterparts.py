# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What it has to be compared with
#
# An embedding on its own is neither good nor bad. It becomes one or the other next to something simpler. The paper sets
# GAN-DL beside four networks that were trained with labels, or on photographs of dogs. Before those come two comparisons
# that cost next to nothing, that the paper does not make, and that have embarrassed many a network: the same network *before
# its first training step*, and a handful of *intensity statistics*.
#
# This chapter introduces them, and then does to all of them what has to be done before they are compared: it takes the
# plates out.

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
from gandl_lib import figures, narrate, profiles
from gandl_lib.chapters import check_parameters, need
from gandl_lib.figures import show, table

check_parameters(globals(), "profile")

# %%
paths = need(profile, "profiles/gandl.h5ad", "profiles/gandl-random.h5ad", "profiles/intensity.h5ad")
methods = [profiles.read(path) for path in paths]

# %% tags=["hide-input"]
table(narrate.methods(methods), "The embeddings of this build.")

# %% [markdown]
# - **GAN-DL** is the discriminator of chapter 02, cut before its verdict.
# - **Untrained GAN-DL** is the same network with its starting weights. Whatever it can do comes from the architecture: local
#   filters, pooling, some nonlinearity. Whatever GAN-DL can do beyond it was learned.
# - **Intensity statistics** are, for each channel, mean, spread, skewness, kurtosis and seven quantiles of the pixel values.
#   They do not know where a pixel is. Whatever they can do has nothing to do with shape.
#
# Tables and figures from here on may have more rows, as the profile of the run asks for them. In the quick profile *GAN-DL*
# comes with shipped weights, trained for longer on the same screen than a page can wait for, and *GAN-DL, minutes of
# training* is the run of the last chapter. *All layers of GAN-DL* is not GAN-DL as published: mean and deviation of every
# block's maps instead of the one layer before the verdict. It stands beside the same reading of the untrained network, or
# one would take for learning what is only a larger set of random filters.
#
# Every {term}`profile` here is made the same way. A network sees overlapping crops of a site, and its 512 numbers are
# averaged over them; statistics see the whole site.
#
# Still to come are the paper's own counterparts: the DenseNet of Cuccarese and co-authors {cite:p}`cuccarese2020` trained on
# the siRNA labels of RxRx1, ImageNet networks with five channels collapsed to three or concatenated, and a convolutional
# autoencoder. They pass through the same door, so that training loop, embedding and evaluation need no change for them.

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
# - `all`: $(x - \mu_p) / \sigma_p$ over every well of the plate. It reads no label, and is what this book uses unless it says
#   otherwise.
# - `controls`: the same over the negative controls only. Right where plates hold different compounds, noisy where controls
#   are few.
# - `tvn`, {term}`TVN` {cite:p}`ando2017`: `controls`, then the pooled controls are whitened, then each plate's covariance is
#   turned into the common one.
#
# Two of them look at the label C-. Whoever then scores that label has to keep the test wells out of the fit; the tables of
# this book do.

# %% [markdown]
# ## What to distrust
#
# - **Two components of many.** A class can be perfectly separable and invisible in such a picture, so this one proves plate
#   effects and disproves nothing. There is no UMAP here: it makes clusters where there are none.
# - **Normalisation assumes that plates are alike.** `all` treats the average well of every plate as the same thing. A plate
#   full of strong compounds is then shifted by their strength. In the real screen most compounds do nothing, and that is why
#   it works.
# - **One seed.** "Untrained" is one draw of random weights, as GAN-DL is one training run.
