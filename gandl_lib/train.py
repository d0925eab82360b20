"""The training loop, written once for all methods.

Everything random in iteration k is drawn from a generator seeded by (seed, images seen so far), and image k of the
stream is a function of (seed, k). So a run that was killed and resumed ends in the same bits as one that was not.

A run folder holds

    config.json           everything resolved
    stats.jsonl           one line a tick: images seen, losses, images a second, probe
    samples/              one PNG a tick: rows are channels, columns are samples
    state.safetensors     the last tick, to resume from
    weights.safetensors   the end, to embed with

**Methods that learn from labels** (see `methods`) are shown sites of training wells only: those that `splits.by_well`
with the run's own seed does not put aside, so that the evaluation with that seed tests on wells no label was taken
from. `config.keep` of such a method says which tick becomes the weights (`KEEP`); until then the best one waits in
`best.safetensors`.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode
from tqdm import tqdm

from gandl_lib import checkpoints, files
from gandl_lib.embed import embed
from gandl_lib.evaluate import svm
from gandl_lib.evaluate.separability import TASKS, separability
from gandl_lib.methods import Method, lookup
from gandl_lib.shards import Shards
from gandl_lib.splits import by_well
from gandl_lib.train_config import TrainConfig
from gandl_lib.views import TrainingCrops, crop_grid, scale

if TYPE_CHECKING:
    import lightning_fabric

PROBE_SITES = 600
"""Control sites that the running linear probe looks at: enough to see the trend, cheap enough for every tick."""


KEEP = {
    "last": "the last tick",
    "validation": "the tick with the best balanced accuracy on validation wells, a fifth of the training wells",
    "test": "the tick with the best balanced accuracy on the test wells, which is optimistic",
}


PRECISIONS = {
    "32-true": "fp32 throughout",
    "bf16-mixed": "matrix products and convolutions in bfloat16",
    "16-mixed": "the same in fp16, gradients scaled into its range",
}
"""What a run may be told. 16-mixed is for a GPU without bfloat16, like a T4; it was tested on a CPU and measured on no
GPU, neither for speed nor for what it costs in accuracy. Weights, their gradients and optimisers are fp32 in each, and
gradient penalties are in 16-mixed (`without_fp16`)."""

HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
SMALLEST_SCALE = 2.0**-24
"""fp16's smallest number: gradients that overflow even at this scale of the loss do so because they are not finite."""


@dataclass(frozen=True)
class Labels:
    """Class names, the class of each site (N,) (-1: none), and (N,) bool: sites that teach, and that choose a tick."""

    classes: list[str]
    codes: np.ndarray
    learn: np.ndarray
    choose: np.ndarray | None


def train(name: str, shards: Shards, run: Path, *, preset: str | None = None, config: TrainConfig) -> Path:
    """Train method `name` and leave `run/weights.safetensors`; returns that path.

    The same command continues an interrupted run, extends a finished one if `config.images` has grown, and does nothing
    where all is done.

    Raises:
        ValueError: unknown names, a precision that the device lacks, crops larger than the images, or a run folder
            begun with another configuration.
    """
    cls, method_config = lookup(name, preset)
    if not cls.trainable:
        raise ValueError(f"{name!r} has nothing to train; embed with it directly.")
    check_precision(config.precision, config.accelerator)
    run.mkdir(parents=True, exist_ok=True)
    import lightning_fabric  # takes seconds, and whoever reports on a run imports this module too

    fabric = lightning_fabric.Fabric(accelerator=config.accelerator, devices=config.devices, plugins=_launcher())
    fabric.launch()
    torch.manual_seed(config.seed)
    labels = labelled(cls, method_config, shards.wells, config.seed)
    method = cls(method_config, len(shards.channels), *([labels.classes] if labels else []))
    shown = labels.learn if labels else shards.wells["role"].ne("blank").to_numpy()
    crops = TrainingCrops(shards, method.crop_px or min(shards.shape[1:]), config.seed, config.rotate, shown)
    header = {
        "method": name,
        "config": checkpoints.config_to_json(method_config),
        "channels": list(shards.channels),
        "pixel_um": shards.pixel_um,
        "seed": config.seed,
        "simulated": shards.simulated,
        "sites": len(crops),
    }
    if labels:
        header |= {"label": cls.label, "classes": labels.classes}
    if fabric.is_global_zero:
        _agree(run, header | {"train": asdict(config), "preset": preset})
    done = _n_seen(run / "weights.safetensors")
    if done >= config.images:
        print(f"{run}: already trained on {done} images.", file=sys.stderr)
        return run / "weights.safetensors"
    method.scaler = torch.amp.GradScaler(fabric.device.type, enabled=config.precision == "16-mixed")
    n_seen = resume(run, method)
    share = share_between(fabric, method)
    method.to(fabric.device)
    shards.preload(max_bytes=4 * 2**30)
    loop(method, crops, run, header, config, n_seen, fabric, share, labels)
    return run / "weights.safetensors"


def check_precision(precision: str, accelerator: str = "auto") -> None:
    """Refuse a precision that is unknown, or that the device at hand would only imitate.

    Raises:
        ValueError: naming it and what to take.
    """
    if precision not in PRECISIONS:
        known = "; ".join(f"{name}: {what}" for name, what in PRECISIONS.items())
        raise ValueError(f"unknown precision {precision!r}. Known are {known}.")
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    if precision == "bf16-mixed" and on_gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError(
            f"{torch.cuda.get_device_name()} has no bfloat16, and imitating it is slower than fp32; "
            "train with --precision 16-mixed, fp16 with scaled gradients, or 32-true."
        )
    if precision == "16-mixed" and not on_gpu and accelerator != "cpu":
        raise ValueError(
            "16-mixed is for CUDA GPUs, and none is here; a CPU imitates fp16 more slowly than it computes fp32. "
            "Train with --precision 32-true, or with --accelerator cpu to see fp16's rounding all the same."
        )


def labelled(cls: type[Method], method_config: Any, wells: pd.DataFrame, seed: int) -> Labels | None:
    """The labels of a method that learns from them; None for one that does not.

    Raises:
        ValueError: fewer than two classes in the training wells.
    """
    if cls.label is None:
        return None
    value, test = wells[cls.label].astype(str), by_well(wells, seed=seed)
    counts = value.ne("") if cls.label_values is None else value.isin(cls.label_values)
    learn, choose = (counts & ~test).to_numpy(), None
    if method_config.keep == "test":
        choose = (counts & test).to_numpy()
    elif method_config.keep == "validation":
        choose = learn.copy()
        choose[learn] = by_well(wells[learn], 0.2, seed)
        learn = learn & ~choose
    classes = sorted(set(value[learn]))
    if len(classes) < 2:
        found = ", ".join(map(repr, classes)) or "none"
        raise ValueError(f"learning {cls.label!r} takes two classes among the training wells; found {found}.")
    codes = value.map({name: k for k, name in enumerate(classes)}).where(counts).fillna(-1).astype(int).to_numpy()
    return Labels(classes, codes, learn, choose)


def _launcher() -> list[Any]:
    """Who starts the processes of a run: nobody yet, unless this one is among several of `srun` or `torchrun`.

    Lightning finds those two by itself. Tasks of one node meet on it, whatever it calls itself: a node's name in Slurm
    need not be a host's. But where neither was used it warns wherever an `srun` is installed, and in a
    batch script that asks for several tasks it waits for the others. A step of Slurm that has one task may start
    `--devices` processes of its own.
    """
    from lightning_fabric.plugins.environments import LightningEnvironment

    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    srun = "SLURM_STEP_ID" in os.environ and int(os.environ.get("SLURM_NTASKS", 1)) > 1 and not interactive
    if srun and os.environ.get("SLURM_STEP_NUM_NODES") == "1":
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    return [] if srun or torch.distributed.is_torchelastic_launched() else [LightningEnvironment()]


def share_between(fabric: lightning_fabric.Fabric, method: Method) -> Callable[[], None]:
    """Make several processes one learner: gradients are averaged before each step, buffers by the returned function.

    Each process sees its share of every batch. The gradient is then that of one process on the whole batch, for a loss
    is a mean over images or over groups of `method.together` neighbours, and random numbers are `ShareOfDraws`'.

    Raises:
        ValueError: where the batch does not divide between the processes, or not without parting what belongs together.
    """
    if fabric.world_size == 1:
        return lambda: None
    if method.batch % fabric.world_size:
        raise ValueError(f"a batch of {method.batch} cannot be shared by {fabric.world_size} processes; change either.")

    share, together = method.batch // fabric.world_size, method.together
    if together is None or share % together:
        why = "has to see a batch as a whole" if together is None else f"looks at images in groups of {together}"
        raise ValueError(
            f"{type(method).__name__} as configured {why}; to share {method.batch} between {fabric.world_size} "
            "processes would be another training. Take fewer processes, or one."
        )

    def average(tensors: Iterable[torch.Tensor]) -> None:
        tensors = list(tensors)
        flat = fabric.all_reduce(torch.cat([t.detach().float().flatten() for t in tensors]), reduce_op="mean")
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    method.mean_of_processes = lambda mean: fabric.all_reduce(mean, reduce_op="mean")
    method.sync_gradients = lambda parameters: average(p.grad for p in parameters if p.grad is not None)
    return lambda: average(method.buffers())


class ShareOfDraws(TorchFunctionMode):
    """Within it, a process draws random numbers for the whole batch, as one alone would, and keeps its share of them.

    All processes must be seeded alike. What is drawn must have the images as its first axis.
    """

    def __init__(self, rank: int, world: int):
        super().__init__()
        self.rank, self.world = rank, world

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in (torch.rand, torch.randn):
            shape = args if isinstance(args[0], int) else args[0]
            return self._mine(function((shape[0] * self.world, *shape[1:]), **kwargs))
        if function is torch.randint:
            *ends, shape = args
            return self._mine(function(*ends, (shape[0] * self.world, *shape[1:]), **kwargs))
        if function in (torch.rand_like, torch.randn_like):
            like = torch.empty_like(args[0], **kwargs)  # its strides: numbers are drawn in the order of memory
            whole = torch.empty_strided(
                (len(like) * self.world, *like.shape[1:]), like.stride(), dtype=like.dtype, device=like.device
            )
            return self._mine(function(whole))
        return function(*args, **kwargs)

    def _mine(self, whole: torch.Tensor) -> torch.Tensor:
        return whole.chunk(self.world)[self.rank]


def loop(
    method: Method,
    crops: TrainingCrops,
    run: Path,
    header: dict[str, Any],
    config: TrainConfig,
    n_seen: int,
    fabric: lightning_fabric.Fabric,
    share: Callable[[], None],
    labels: Labels | None = None,
) -> None:
    """Step until `config.images` have been seen; at every tick log, probe, draw and save."""
    n_tick = max(1, round(config.images / config.ticks / method.batch)) * method.batch
    sums, steps, n_steps, begun, minutes = defaultdict(float), defaultdict(int), 0, time.monotonic(), _minutes(run)
    method.train()
    rank, world, first = fabric.global_rank, fabric.world_size, fabric.is_global_zero
    progress = tqdm(total=config.images, initial=n_seen, unit="img", desc=header["method"], disable=not first)
    if n_seen == 0 and first:
        _tick(method, crops, run, header, config, 0, {"minutes": 0.0}, labels)
    draws = ShareOfDraws(rank, world) if world > 1 else contextlib.nullcontext()
    half = HALF.get(config.precision)
    for images in crops.batches(n_seen, method.batch, config.workers, rank, world):
        if n_seen >= config.images:
            break
        torch.manual_seed(int(np.random.SeedSequence((config.seed, n_seen, 0)).generate_state(1)[0]))
        answers = []
        if labels:
            mine = range(n_seen + rank * len(images), n_seen + (rank + 1) * len(images))
            answers = [torch.from_numpy(labels.codes[[crops.site(k) for k in mine]]).to(fabric.device)]
        with torch.autocast(fabric.device.type, half, enabled=half is not None), draws:
            terms = method.step(images.to(fabric.device, non_blocking=True), n_seen, *answers)
        share()
        n_seen, n_steps = n_seen + method.batch, n_steps + 1
        for key, value in terms.items():
            sums[key] += value
            steps[key] += 1
        progress.update(method.batch)
        if n_seen % n_tick == 0 or n_seen >= config.images:
            elapsed = time.monotonic() - begun
            minutes += elapsed / 60
            line = {key: float(method.mean_of_processes(sums[key])) / steps[key] for key in sums}
            if not all(np.isfinite(v) for v in line.values()):
                raise FloatingPointError(f"{run}: training diverged before image {n_seen}: {line}.")
            if method.scaler.get_scale() < SMALLEST_SCALE:
                raise FloatingPointError(f"{run}: gradients overflow at any scale, seen before image {n_seen}.")
            line |= {"images_per_second": n_steps * method.batch / elapsed, "minutes": minutes}
            line["peak_memory_MB"] = peak_memory_MB()
            if first:
                _tick(method, crops, run, header, config, n_seen, line, labels)
            sums, steps, n_steps, begun = defaultdict(float), defaultdict(int), 0, time.monotonic()
    progress.close()
    if first:
        # As logged, not as measured now: a run that was killed after its last tick ends in the same file.
        cost = {"n_seen": n_seen, "minutes": minutes, "peak_memory_MB": read_stats(run)[-1].get("peak_memory_MB")}
        best = run / "best.safetensors"
        tensors, chosen = checkpoints.read(best) if best.exists() else (checkpoints.weights(method), {})
        checkpoints.save(run / "weights.safetensors", tensors, header | chosen | cost | checkpoints.environment())
    fabric.barrier()


def resume(run: Path, method: Method) -> int:
    """Load the last saved state into `method`; returns the images it has seen, 0 where there is none."""
    path = run / "state.safetensors"
    if not path.exists():
        return 0
    tensors, header = checkpoints.read(path)
    optimisers = {name: t for name, t in tensors.items() if name.startswith("optimiser.")}
    method.load_state_dict({name: t for name, t in tensors.items() if name not in optimisers})
    checkpoints.load_optimisers(method, optimisers)
    method.scaler.load_state_dict(header.get("scaler", {}))
    return header["n_seen"]


def probe(method: Method, shards: Shards, seed: int, sites: int = PROBE_SITES) -> dict[str, float]:
    """Linear separability of C+ and C- on a fixed sample of control sites: the curve that tells how training goes.

    Returns accuracy and balanced accuracy on held-out wells, or nothing where the screen has no such controls.
    """
    controls = np.flatnonzero(shards.wells["role"].isin(["C+", "C-"]))
    if shards.wells["role"].iloc[controls].nunique() < 2:
        return {}
    chosen = np.zeros(len(shards), bool)
    chosen[np.random.default_rng(seed).permutation(controls)[:sites]] = True
    profiles = embed(method, shards, provenance={"method": "probe"}, sites=chosen, progress=False)
    task = {"C+ vs C-": TASKS["C+ vs C-"]}
    table = separability(profiles, tasks=task, splits=["well"], n_bootstrap=0, seed=seed, shuffled=False)
    return {
        "probe_accuracy": float(table["accuracy"].iloc[0]),
        "probe_balanced_accuracy": float(table["balanced_accuracy"].iloc[0]),
    }


def score(method: Method, crops: TrainingCrops, labels: Labels, sites: int = PROBE_SITES) -> float:
    """Balanced accuracy of `method.predict` on the centres of up to `sites` sites of `labels.choose`."""
    rows = np.random.default_rng(0).permutation(np.flatnonzero(labels.choose))[:sites]
    was_training, device = method.training, next(method.parameters()).device
    method.eval()
    found = []
    for part in np.array_split(rows, -(-len(rows) // method.batch)):
        images = scale(torch.from_numpy(crops.shards.read_many(part)), crops.limits)
        found.append(method.predict(crop_grid(images, crops.size, 1).to(device)).cpu().numpy())
    method.train(was_training)
    return svm.balanced_accuracy(labels.codes[rows], np.concatenate(found))


def peak_memory_MB() -> float:
    """The most memory that this process has held: on the GPU where there is one, else in all."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, kilobytes elsewhere


def _tick(
    method: Method,
    crops: TrainingCrops,
    run: Path,
    header: dict[str, Any],
    config: TrainConfig,
    n_seen: int,
    line: dict[str, float],
    labels: Labels | None = None,
) -> None:
    """Save the state last: after a kill, the log is cut back to it."""
    line = {"n_seen": n_seen, **line, **probe(method, crops.shards, config.seed)}
    kept = [old for old in read_stats(run) if old["n_seen"] < n_seen]
    if labels and labels.choose is not None:
        line["choice_accuracy"] = score(method, crops, labels)
        if line["choice_accuracy"] > max((old["choice_accuracy"] for old in kept), default=-1.0):
            chosen = {"kept_n_seen": n_seen, "choice_accuracy": line["choice_accuracy"]}
            checkpoints.save(run / "best.safetensors", checkpoints.weights(method), chosen)
    files.write(run / "stats.jsonl", "".join(json.dumps(x) + "\n" for x in [*kept, line]))
    if method.latent:
        _draw(method, run / "samples" / f"{n_seen:09d}.png", config.seed)
    checkpoints.save(
        run / "state.safetensors",
        method.state_dict() | checkpoints.optimiser_tensors(method),
        header | {"n_seen": n_seen, "scaler": method.scaler.state_dict()},
    )


def read_stats(run: Path) -> list[dict[str, float]]:
    """The lines of a run's stats.jsonl, oldest first; empty where nothing has been logged."""
    path = run / "stats.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _draw(method: Method, path: Path, seed: int, n: int = 8) -> None:
    """Grey samples: one row a channel, one column a fixed latent."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, method.latent, generator=generator)
    was = torch.get_rng_state()
    images = method.sample(z.to(next(method.parameters()).device)).float().cpu()  # [NCHW]
    torch.set_rng_state(was)
    grey = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0, 3)  # [CHNW]
    path.parent.mkdir(exist_ok=True)
    grid = grey.reshape(grey.shape[0] * grey.shape[1], -1).numpy()
    with files.replacing(path) as partial:
        Image.fromarray(grid).save(partial, format="PNG")


def _agree(run: Path, resolved: dict[str, Any]) -> None:
    """Write the run's configuration, or check it against the one already there; only its length may change."""
    path, free = run / "config.json", {"images", "ticks", "workers", "devices", "accelerator"}
    if path.exists():
        before = json.loads(path.read_text())
        flat = lambda d: {**{k: v for k, v in d.items() if k != "train"}, **d["train"]}  # noqa: E731
        old, new = flat(before), flat(json.loads(json.dumps(resolved)))
        differing = [k for k in new if k not in free and old.get(k) != new[k]]
        if differing:
            found = "; ".join(f"{k} was {old.get(k)!r}, is {new[k]!r}" for k in differing)
            raise ValueError(f"{run} was begun with another configuration ({found}); give a new folder.")
    files.write(path, json.dumps(resolved, indent=2) + "\n")


def _n_seen(weights: Path) -> int:
    return checkpoints.read(weights)[1]["n_seen"] if weights.exists() else 0


def _minutes(run: Path) -> float:
    stats = read_stats(run)
    return stats[-1]["minutes"] if stats else 0.0
