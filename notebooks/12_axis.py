# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 12 · What the axis looks like
#
# An axis says how far a well is on the way from infected to healthy, and not what changed in its cells. GAN-DL trained two
# networks and threw one away. Here the generator comes back: it is asked to move one cell along the axis. Whether what it
# then shows is what truly differs between the controls is measured, not looked at.

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
profile = "quick"  # which of config/*.yaml: its screen's profiles
fresh = False  # True: make the results here, however long it takes, instead of showing prebuilt ones

# %% tags=["remove-cell"]
from pathlib import Path

import numpy as np
import torch
from gandl_book import figures, narrate
from gandl_book.chapters import check_parameters, need, recorded
from gandl_book.figures import show, table

import gandl_lib
from gandl_lib import explain, profiles

check_parameters(globals(), "profile", "fresh")

# %%
profiles_h5ad, run = need(profile, "profiles/gandl.h5ad", "runs/gandl?", fresh=fresh)
source = run or Path(gandl_lib.__file__).with_name("weights") / "gandl-quick32.safetensors"
p = profiles.read(profiles_h5ad)
channels = ("DNA", "ER", "actin", "RNA", "golgi")
effects, moves = recorded("axis_effects"), recorded("axis_moves")

# %% [markdown]
# ## A direction in style space
#
# A style $w$ is what the generator draws from. Draw many cells and score each on the axis of chapter 05. The direction sought
# is the one along which the score, as predicted linearly from $w$, grows fastest, while the predicted brightness of no channel
# changes. In coordinates where styles have unit variance that takes a slope for each and one projection. (Where a build's
# controls set no axis, the sentence that says so stands here.)

# %%
strip = None
try:
    axis, cell_type = explain.fit_axis(p)
    method = explain.open_generator(source, channels)
    w, score, light = explain.styles(method, axis, n=1000)

    U, S, Vt = np.linalg.svd(w - w.mean(axis=0), full_matrices=False)
    keep = S > 1e-3 * S[0]  # styles leave many directions all but unused
    white, back = U[:, keep] * len(w) ** 0.5, Vt[keep].T * S[keep] / len(w) ** 0.5
    strength = len(w) + keep.sum()  # of a ridge
    s = white.T @ (score - score.mean()) / strength
    B, _ = np.linalg.qr(white.T @ (light - light.mean(axis=0)) / strength)
    beside = s - B @ (B.T @ s)  # what of the score is not brightness
    step = back @ (beside / (beside @ s))  # predicted to move the score by 1

    np.testing.assert_allclose(step, explain.learn_direction(w, score, light).axis, rtol=1e-4, atol=1e-8)
    along = torch.tensor(w[0] + np.linspace(-1, 1, 5)[:, None] * step, dtype=torch.float32)
    strip = torch.cat([explain.draw(method, one[None]) for one in along]).numpy()
    moved = explain.score(method, axis, torch.tensor(strip))
    print(f"{cell_type}: predicted to move by 2, this cell moved by {moved[-1] - moved[0]:.2f}")
except ValueError as why:
    print(why)

# %% tags=["hide-input"]
show(
    figures.axis_strip(strip, channels),
    "One generated cell moved along the axis, channel by channel (simulated screen); right, the last less the first: red is brighter towards C+. One cell is an illustration and proves nothing.",
)

# %% [markdown]
# ## Measured, not shown
#
# What follows was recorded (`gandl explain`, `book/reference/axis_effects.provenance.json`): nuclei are segmented and both
# kinds of images measured alike, real crops of control wells (intervals over wells) and drawn cells before and after a move
# (intervals over cells). A control direction of the same length should change nothing. Of each channel are measured its
# *brightness*, its *grain* (the length over which it varies), its *spots* (how many), how far from the nucleus's edge its light
# lies (*ring*), and how much brighter it is within the nucleus than around it (*nuclear*).

# %% tags=["hide-input"]
table(
    narrate.axis_moves(moves),
    "How far cells went on the axis they were moved along. Inverted: real C- cells, drawn again by the generator, then moved. Still itself: share whose nearest among the unmoved cells, beside the axis, is its own.",
    of=moves,
)

# %% tags=["remove-input"]
narrate.axis_effects(effects)

# %% tags=["hide-input"]
show(
    figures.axis_effects(effects, "simulated"),
    "Simulated screen, cell type HRCE: what changes from C- to C+, in real wells and as drawn, 95 % intervals.",
    of=effects,
)

# %% tags=["hide-input"]
show(
    figures.axis_effects(effects, "BBBC013"),
    "BBBC013, real cells: the same. FKHR-EGFP nuclear is the translocation that chapter 10 measures.",
    of=effects,
)

# %% [markdown]
# On the simulated screen the truth is known: infection moves the ER ring outwards, makes the ER coarser and actin fibres closer,
# and puts nucleoli and golgi in more pieces; C+ is the way back, and sizes and total light stay. Read the black marks
# for that, and then the orange ones for how much of it the generator shows.
#
# ## Beside the axis
#
# A cure moves cells along the axis and nowhere else. What a compound changes beyond what its place accounts for:

# %% tags=["hide-input"]
table(
    narrate.beside_axis(effects),
    "The compound furthest along each axis: changes beside it whose 95 % interval leaves out zero, in standard deviations of crops; over all its doses.",
    of=effects,
)

# %% [markdown]
# ## Beside others
#
# Others draw what a compound does, too. Phenexplain trains a StyleGAN2 that is told the class of every image, and moves between
# classes; GILEA trains one without labels and brings real images into its style space by an encoder. Here nothing is trained
# beside the embedding, labels of control wells give the direction, and the way back from a real image is an optimisation. Neither
# was run beside ours: both build on NVIDIA's code, whose licence this project keeps out.
#
# ## What to distrust
#
# - **A generator that dropped a mode shows it nowhere.** What the strip does not show may be there all the same.
# - **A moved score is not a moved phenotype.** A network's score can be moved by details that no biologist would look at; where
#   score and measurements disagree, believe the measurements.
# - **Drawn cells need not lie on the real axis.** Look at their score before the move in the table: far below -1 the
#   discriminator recognises drawings, and not infection.
# - **Linear, and one seed.** The direction is a straight line's; another training gives another.
# - **Many intervals.** Of twenty 95 % intervals one leaves out zero by chance, and the table of what lies beside the axis is drawn
#   from all measures at all doses: single rows of it are hints.
# - **A strip looks more certain than it is.** On both screens here the generator shows little of what differs. Where `gandl
#   screen` has trained its own network, its report therefore says first how far cells moved and what of it wells show too, and
#   then shows them. `gandl explain RUN screen.zarr gandl.h5ad axis.csv` asks the same of any run, with more cells.
#
# ## Worth trying
#
# 1. Leave the projection on `B` out. Which channel's brightness changes then? (In the run tried: golgi most.)
# 2. Take the slope of the brightness of ER as the step. Does the score follow it? (Not upwards in the run tried.)
# 3. Move by 4 in place of 1. Does the score keep step? (In the run tried it grew about fourfold, and no cell was checked.)
