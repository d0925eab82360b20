# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · Training a network to throw half of it away
#
# Nobody needs invented pictures of cells. GAN-DL trains a machine that makes them, very carefully, for a day or two, and
# then deletes it. What it keeps is the critic: the network that had to tell invented cells from real ones. To do that well
# it must know what real cells look like, and it was never told. So what it knows may be of use for other things.
#
# This chapter trains such a pair on the screen of chapter 01, shows what the paper changed in StyleGAN2
# {cite:p}`karras2020` to fit five channels of microscopy, and ends with the one curve that says whether it was worth it. It
# is not the loss.

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
import pandas as pd
import torch
from gandl_book import figures, narrate
from gandl_book.chapters import check_parameters, need, paper, recorded
from gandl_book.code import source
from gandl_book.figures import show, table
from gandl_book.generate import between

from gandl_lib import losses
from gandl_lib.embed import open_method
from gandl_lib.methods import gandl
from gandl_lib.nn.layers import adam_groups
from gandl_lib.shards import Shards
from gandl_lib.train import read_stats
from gandl_lib.views import TrainingCrops

check_parameters(globals(), "profile", "fresh")

# %%
store, generation_csv, live, own = need(
    profile,
    "shards/screen.zarr",
    "generation.csv",
    "runs/gandl-live?",
    "runs/gandl?",
    fresh=fresh,
)
run = live or own  # where `gandl` is embedded with shipped weights, `gandl-live` is trained here
shards = Shards(store)
method, made = open_method(str(run), shards.channels)
stats = pd.DataFrame(read_stats(run))

# %% [markdown]
# ## The game
#
# Two networks, one score {cite:p}`goodfellow2014`. The generator $G$ turns a random vector $z$ into an image; the
# discriminator $D$ turns an image into a number, its *logit*: high for real, low for invented. Each step, $D$ is moved to
# give
#
# $$ \mathcal{L}_D = -\log \sigma(D(x)) \; - \log\bigl(1 - \sigma(D(G(z)))\bigr) $$
#
# a smaller value, and $G$ to give
#
# $$ \mathcal{L}_G = -\log \sigma(D(G(z))) $$
#
# a smaller one. That is the non-saturating loss of StyleGAN2; everything else is there to keep the game from falling apart.
#
# **The generator** does not feed $z$ to an image directly. A *mapping* network turns it into a style $w$, and the *synthesis*
# network starts from a learned 4 × 4 constant and doubles it until it has the full size; at every layer $w$ scales the
# feature maps before they are convolved, and the weights are normalised back (*demodulation*), so that no style can shout.
# At every resolution an image is read off and the coarser one, enlarged, added.
#
# **The discriminator** goes the other way: residual blocks that halve the image down to 4 × 4, then a dense layer, then the
# logit. The dense layer's output, 512 numbers one step before the verdict, is the {term}`embedding`.
#
# ## What GAN-DL changes, and what it does not say
#
# The paper {cite:p}`mascolini2022` makes the mapping network three layers deep instead of eight, takes five channels in and
# out, and keeps latent, style and last layer at 512. To StyleGAN2's two penalties,
#
# $$ R_1 = \tfrac{\gamma}{2}\, \mathbb{E}\,\lVert\nabla D(x)\rVert^2
# \qquad\text{and}\qquad
# \mathrm{PL} = \mathbb{E}\bigl(\lVert J_w^{\top} y\rVert - a\bigr)^2, $$
#
# the first keeping the critic flat around real images {cite:p}`mescheder2018`, the second keeping a step in style the same
# size everywhere, it adds a third, on mixes $\hat x$ of real and invented images {cite:p}`petzka2018`:
#
# $$ \mathrm{LP} = \lambda\, \mathbb{E}\,\max\bigl(0,\; \lVert\nabla D(\hat x)\rVert - 1\bigr)^2 . $$
#
# It is one-sided. A critic that is steeper than one is pulled back; one that is flatter is left in peace. Penalties are
# *lazy*, computed every few steps and weighed up for it. The generator that draws the samples is a running average of the
# trained one (EMA).
#
# What the paper leaves unsaid is longer than what it says. Whoever reproduces it has to choose, so here are the choices.

# %% tags=["hide-input"]
table(
    narrate.choices(method.config, len(shards.channels)),
    "What the paper states, and what this run uses. Each number is a field of a frozen dataclass and can be changed.",
)

# %% [markdown]
# The shapes, from a random vector to an image and from an image to a verdict:

# %%
with torch.no_grad():
    z = torch.randn(2, method.config.network.latent)
    images = method.sample(z)
    shapes = {
        "random vector z": z.shape,
        "image G(z)": images.shape,
        "embedding": method.embed(images).shape,
        "verdict D(G(z))": method.discriminator(method.see(images)).shape,
    }
for what, shape in shapes.items():
    print(f"{what:16}{tuple(shape)}")

# %% [markdown]
# ## One step, in the open
#
# $R_1$ and the one-sided penalty are a line or two each. Both take the gradient of the verdict with respect to the images,
# and that gradient has to be differentiable itself:

# %%
source(losses.input_gradient, losses.r1, losses.lipschitz_one_sided)

# %% [markdown]
# With these pieces a whole step fits in a cell. The pair is a tiny one, on crops of this screen, so that it takes a second. It
# is the first step, in which every lazy penalty falls due.

# %%
torch.manual_seed(0)
by_hand = gandl.GANDL(gandl.PRESETS["tiny"], len(shards.channels))
torch.manual_seed(0)
library = gandl.GANDL(gandl.PRESETS["tiny"], len(shards.channels))
c, G, D = by_hand.config, by_hand.generator, by_hand.discriminator
adam_G, adam_D = (
    torch.optim.Adam(adam_groups(net, c.learning_rate), betas=(0.0, c.beta2), fused=True) for net in (G, D)
)
small_crops = TrainingCrops(shards, by_hand.crop_px, seed=0)
real = small_crops.batch(0, c.batch)

# %%
torch.manual_seed(1)
fake = G.synthesis(G.styles(torch.randn(c.batch, c.network.latent), c.style_mixing))

# The discriminator: tell them apart, and stay flat around real images and not too steep in between.
x = real.clone().requires_grad_(True)
verdict = D(x, real=True)
loss = losses.discriminator_logistic(verdict, D(fake.detach()))
loss = loss + c.r1_every * c.gamma / 2 * losses.r1(losses.input_gradient(verdict, x))
mix = losses.uniform_mix(real, fake.detach()).requires_grad_(True)
loss = loss + c.r1_every * c.lipschitz_weight * losses.lipschitz_one_sided(losses.input_gradient(D(mix), mix))
loss.backward()
adam_D.step()

# The generator: be taken for real, and let a step in style be as large everywhere.
D.requires_grad_(False)
loss = losses.generator_nonsaturating(D(fake))
w = G.styles(torch.randn(c.batch // 2, c.network.latent), c.style_mixing)
lengths = losses.path_lengths(G.synthesis(w), w)
mean = c.path_decay * lengths.detach().mean()  # the running mean starts at 0
loss = loss + c.path_every * c.path_weight * (lengths - mean).square().mean()
loss.backward()
adam_G.step()

# %% [markdown]
# And the library's step, from the same start with the same seed. Every parameter of both networks must be the same.

# %%
torch.manual_seed(1)
library.step(real, n_seen=0)
for net, same in ((G, library.generator), (D, library.discriminator)):
    for mine, theirs in zip(net.parameters(), same.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)

# %% [markdown]
# Eight steps more, live, with the losses they give. A dash is a penalty that was not due.

# %%
steps = [library.step(small_crops.batch(i * c.batch, c.batch), n_seen=i * c.batch) for i in range(1, 9)]
table(
    pd.DataFrame([{name: float(value) for name, value in step.items()} for step in steps]).round(3),
    "Eight steps of the tiny pair; losses and penalties before they are weighed.",
)

# %% [markdown]
# Two changes of our own are no matter of taste. Training crops are turned and flipped at random, in all eight ways a square
# can lie, for a field of cells has no up. And the feature of an image must depend on that image alone; see below why it
# would not by itself.
#
# ## What it imagines
#
# The same random vectors, drawn by the averaged generator as training goes on. Minutes of training give blobs of about the
# right colour; cells take hours, and the paper's took two days.

# %% tags=["hide-input"]
show(
    figures.montage(
        figures.samples(run / "samples", shards.channels),
        shards.channels,
        shards.pixel_um,
        shards.simulated,
        "generated from the same latents",
    ),
    "Generated images: a column is one random vector, a row a stage of training.",
)

# %% [markdown]
# And at the end, beside what it tries to imitate, channel by channel.

# %%
torch.manual_seed(0)
generated = method.sample(torch.randn(3, method.config.network.latent))
crops = TrainingCrops(shards, method.crop_px, seed=0).batch(0, 32)

# %% tags=["hide-input"]
show(
    figures.site_grid(
        {"screen": figures.shown(crops[:3]), "generated": figures.shown(generated)},
        shards.channels,
        shards.pixel_um,
        shards.simulated,
    ),
    f"Three crops of the screen{' (simulated)' if shards.simulated else ''} over three generated ones. Channels of one image must fit each other: nuclei where the ER leaves room, golgi beside them.",
)

# %% [markdown]
# Between two invented cells there is a straight line. If the images along it are cells too, and change little by little, the
# generator has not merely learned a few of them by heart.

# %% tags=["hide-input"]
show(
    figures.montage(
        {letter: figures.shown(images) for letter, images in zip("abc", between(method, 3, 7), strict=True)},
        shards.channels,
        shards.pixel_um,
        shards.simulated,
        "generated on straight lines between two styles",
    ),
    "From one random style to another in six steps, three times.",
)

# %% [markdown]
# The eye is easily pleased, so here are four numbers. FID and KID are distances between generated and real crops, in features
# of a small random network that took no part; precision asks how many generated crops lie among real ones, recall how many
# real ones lie among the generated. The first row says what perfect means, the last what nothing means. (The features are
# not those of other people's FID, so the numbers compare within this table only.) ContraD, where it has a row, is told of
# in the next chapter.

# %% tags=["hide-input"]
generation = pd.read_csv(generation_csv).round(3)
generation["what"] = [
    " ".join(f"{int(w):,}" if w.isdigit() else figures.name(w) for w in what.split()) for what in generation["what"]
]
table(
    generation.rename(columns={"kid_sd": "KID sd", "fid": "FID", "kid": "KID", "what": ""}),
    "Generated crops against crops of the screen.",
)

# %% [markdown]
# ## What the losses say
#
# Little. In a game both losses are measured against an opponent who learns as well, so neither has to fall when both
# players improve. They are good for spotting a game that is over: a discriminator's loss that goes to zero, logits that
# drift apart without end.

# %% tags=["hide-input"]
show(
    figures.loss_curves(stats),
    "Losses, mean logits of real and generated images, and the penalties before they are weighed, against images seen.",
)

# %% [markdown]
# ## The curve that matters
#
# Every so often the features of the discriminator are put to the first question of this book: does a straight line tell
# {term}`C+` from {term}`C-`, on wells it has not seen? The network knows nothing of this test. The first point is the
# network before its first step, and it is the level to beat: a random network with the right architecture is already a
# decent set of filters.

# %% tags=["hide-input"]
majority, n_wells = narrate.probe_size(wells=shards.wells)
published = paper("table1").query("method == 'GAN-DL' and task == 'C+ vs C-'")["accuracy"].iloc[0]
longer = recorded("gandl-quick32_probe") if live else None
show(
    figures.probe_curve(stats, majority, published, longer),
    "Accuracy of a linear probe on the features as training goes on: the run of this page and, where there is one, beside it the longer run whose weights are shipped and used from the next chapter on. Dashes: each before its first step. The paper's value is from the real screen and two days of training.",
)

# %% tags=["remove-input"]
narrate.probe(stats, n_wells, longer)

# %% [markdown]
# ## What made it work
#
# Our first GAN-DL was worse than its own random weights. It saw crops of 64 pixels and read a flattened last layer; both were
# changed, and it was better. Was it that? What follows changes one choice of the present default at a time and trains each
# variant anew on the same images in the same order. The screen is a simulated one of another seed, on which none of these
# choices was made. *arcsinh scaling* makes dim details brighter before either network sees an image, $v$ in $[0, 1]$ becoming
# $\operatorname{arsinh}(8 v) / \operatorname{arsinh}(8)$; fluorescence is dark. Two rows are no change of recipe: *bf16* is the
# default in half precision, and *adaptive augmentation* {cite:p}`karras2020ada` shows both kinds of image to the discriminator
# moved, turned, scaled and with each channel brighter or darker, the more often the surer it is of real ones.

# %% tags=["hide-input"]
ablation = recorded("what_matters")
show(
    figures.what_matters(ablation, "penultimate", "plate"),
    f"One choice changed at a time, {ablation['n_seen'].max()} images each, plates held out (simulated, recorded; `benchmarks/what_matters.py`). The distance from the open mark is what training bought; the dotted line is what pixel statistics give without any network.",
)

# %% tags=["remove-input"]
narrate.what_matters(ablation, "plate")

# %% [markdown]
# The row where both are changed back, beside the two where one is, tells whether one of the changes would have done. Read the
# open marks before the filled ones. Some choices help before anything is learned: they make a better random
# network, and whoever reports the filled mark alone would call that learning. Reading *all layers* is the clearest case. And
# this is a short training: what is slower here may be better after days. One training a variant, so a difference that only
# just leaves the interval may be this one start's.
#
# Half precision deserves a closer look, for it is what makes a GPU fast. The default once more, in fp32 and in bf16, on the same
# images. (A GPU without bf16, such as the T4 that Colab lends, can take `--precision 16-mixed`: fp16 with scaled gradients. That
# it trains was tested on a CPU; what it costs in accuracy, and what it saves in time, was not measured.)

# %% tags=["hide-input"]
both = recorded("precisions")
show(
    figures.precisions(both),
    "The running probe of two trainings that differ in precision alone (simulated, recorded; `book/reference/precisions.provenance.json`). Embeddings are computed in fp32 either way.",
)

# %% tags=["remove-input"]
narrate.precisions(both)

# %% [markdown]
# What is ahead after a few minutes need not be so after an hour. So two of the variants that were ahead were trained for longer
# on the screen of seed 0, as `quick32`, the default, had been, and asked about its control wells and those of a screen of
# seed 2:

# %% tags=["hide-input"]
trained_longer = recorded("trained_longer")
table(
    narrate.trained_longer(trained_longer),
    "C+ against C- after longer training, crops as they lie (simulated, recorded; `book/reference/trained_longer.provenance.json`).",
    of=trained_longer,
)

# %% [markdown]
# Both had their lead before they had learnt anything, and lost it. The wider network gets as far with half as many images, each
# of which takes three times as long. So `quick32` stayed the default.
#
# ## An image and its neighbours
#
# There is a trap in the recipe. Just before the dense layer StyleGAN2's discriminator looks at how much the images of a batch
# differ, one number for all, so that a generator which always draws the same cell is found out. Features taken after that
# point therefore depend on *which other images happened to be in the batch*. For a game that is fine. For an embedding it
# would mean that a well's profile depends on its neighbours in a file.
#
# The verdict does depend on them, as designed:

# %%
with torch.no_grad():
    together, alone = method.discriminator(crops), torch.cat([method.discriminator(crop[None]) for crop in crops])
narrate.batch_mates(together, alone, "verdict")

# %% [markdown]
# The embedding must not. When embedding, the statistic is fixed to its average over real batches in training:

# %%
together, alone = method.embed(crops), torch.cat([method.embed(crop[None]) for crop in crops])
narrate.batch_mates(together, alone)

# %% [markdown]
# ## What to distrust
#
# - **A short run.** The paper trained for 24 hours on a TPU v3-8 or 48 on a V100. Minutes on a processor show that the
#   machinery turns, and which way; not how far it goes.
# - **The last tick.** The probe wobbles from tick to tick. Picking the best one would be choosing on the test set; what is
#   used from here on is the end of training, whatever it is.
# - **Nice pictures.** A generator that looks better does not prove a discriminator that knows more. Nothing in this book is
#   judged by the look of a sample.
# - **Our reading of "filter size 5".** The paper's sentence can be read as convolutions of five pixels; we read it as five
#   channels in the layers next to the image.
#
# ## Worth trying
#
# In the cells of the step by hand, at the quick profile:
#
# - **Forget a detach.** `D(fake)` in place of `D(fake.detach())` in the discriminator's loss, and `loss.backward(retain_graph=True)`.
#   The comparison with the library still holds for $D$ and fails for $G$: it has been taught to be found out as well.
# - **A penalty with two sides.** `(losses.input_gradient(D(mix), mix).flatten(1).norm(dim=1) - 1).square().mean()` in place of
#   `losses.lipschitz_one_sided(...)`. Gradients begin at a length of 0.05. One side leaves them in peace, the penalty is 0; two
#   sides come to 0.91, and both networks go another way from the first step on.
# - **A flatter critic.** Build both with `dataclasses.replace(gandl.PRESETS["tiny"], r1_gamma=100.0)` in place of the 0.026 that it
#   works out for itself, and take forty steps in place of eight. Logits of real and invented images end 1.9 apart, not 3.4. With
#   `r1_gamma=0.0` they end as at 0.026: so early, and in so small a network, $R_1$ has nothing to do.
