# simulate → shard → train → embed → evaluate → chapters → book. One rule a stage, plain commands, nothing hidden:
#
#     snakemake --cores all --config profile=quick            all of it
#     snakemake --cores all --config profile=quick tables     as far as results/quick/*.csv
#     snakemake --cores all results/quick/runs/gandl-live/weights.safetensors
#
# A job runs again when the content of an input, its command or its parameters changed. Its inputs hold the library files
# that its result depends on, found by following imports (`sources`), so that work on one stage leaves the others alone.

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path[:0] = [workflow.basedir, str(Path(workflow.basedir, "book"))]
from gandl_book import chapters, sources
from gandl_lib.datasets import bbbc013

# A run that was killed leaves Snakemake's lock behind, and the next would refuse to start. The system's lock dies with its
# holder: whoever gets it knows that nobody else is here.
Path(".snakemake").mkdir(exist_ok=True)
running = open(".snakemake/running", "w")
try:
    fcntl.flock(running, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for left_behind in Path(".snakemake/locks").glob("*.lock"):
        left_behind.unlink()
except BlockingIOError:
    pass


def end_orphans():
    """Cancel what an earlier run of this folder, killed since, still has on a Slurm cluster: two jobs would write one file.

    They go on from where they are when they are submitted anew. The plugin names jobs by a UUID and comments them with
    their rule; other jobs of this folder, such as one that Snakemake itself runs in, are left alone.
    """
    mine = ["squeue", "--me", "--noheader"]
    found = subprocess.run([*mine, "--format=%i|%j|%k|%Z"], capture_output=True, text=True, timeout=60)
    named = [line.split("|", 3) for line in found.stdout.splitlines() if line.count("|") >= 3]
    uuid = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    ids = [i for i, name, rule, folder in named if folder == os.getcwd() and rule.startswith("rule_") and re.search(uuid, name)]
    for job in ids:
        print(f"Slurm job {job} is left of an earlier run here that was killed; cancelling it.", file=sys.stderr)
        subprocess.run(["scancel", job], check=True, timeout=60)
    while ids and subprocess.run([*mine, f"--jobs={','.join(ids)}"], capture_output=True, text=True).stdout.strip():
        time.sleep(1)


onstart:
    if shutil.which("squeue") and "SLURM_JOB_ID" not in os.environ:
        end_orphans()


LAYOUTS_SRC = sources.closure("shards", "datasets")
TRAIN_SRC, EMBED_SRC = sources.closure("train"), sources.closure("embed")
BOOK_SRC = ["_config.yml", "_toc.yml", "CITATION.cff"]
BOOK_SRC += sorted(str(p) for p in Path("book").rglob("*.*") if not {"chapters", "gandl_book", "__pycache__"} & set(p.parts))


# ---- profile ----

PROFILES = sorted(path.stem for path in Path(workflow.basedir, "config").glob("*.yaml"))
config.setdefault("profile", "quick")
if config["profile"] not in PROFILES:
    raise WorkflowError(f"unknown profile {config['profile']!r}; the profiles in config/ are {', '.join(PROFILES)}.")


configfile: f"config/{config['profile']}.yaml"


R = f"results/{config['profile']}"
SEED = config["seed"]
METHODS = config["methods"]

# ImageNet's weights are found or fetched; where neither can be, those rows are left out and the book says so.
if any(name.startswith("imagenet") for name in METHODS) and "GANDL_NO_IMAGENET" not in os.environ:
    from gandl_lib.nn import pretrained

    try:
        pretrained.find("squeezenet1_1")
    except ValueError as error:
        os.environ["GANDL_NO_IMAGENET"] = "1"  # for the jobs of this run, which read this file again
        print(f"No rows of ImageNet networks: {error}", file=sys.stderr)
if "GANDL_NO_IMAGENET" in os.environ:
    METHODS = {name: s for name, s in METHODS.items() if not s.get("method", name).startswith("imagenet")}

# Screens by name: made by the simulator, or a folder that is there already.
SCREENS = {"screen": config["screen"]} | ({"unseen": config["unseen"]} if config.get("unseen") else {})
REAL = os.environ.get("GANDL_DATA")  # a folder of real screens, as `gandl fetch` leaves them
REAL_CELLS = Path(REAL or "GANDL_DATA", "rxrx1")
if REAL and (REAL_CELLS / "metadata.csv").exists():
    SCREENS["rxrx1"] = {"folder": str(REAL_CELLS)}
else:
    print(f"No {REAL_CELLS}/metadata.csv (GANDL_DATA): no zero-shot test on real RxRx1 cells.", file=sys.stderr)

# The comparison of paradigms: rows of its own, on the screen's drugs and their controls.
PARADIGMS = config.get("paradigms")
SETUPS = {
    f"{method}-{setup}": {"method": method, "preset": f"{PARADIGMS['size']}-{setup}", "images": PARADIGMS["images"]}
    for method, setups in (PARADIGMS["setups"] if PARADIGMS else {}).items()
    for setup in setups
}
if PARADIGMS:
    SETUPS["paradigm-random"] = {"preset": f"{PARADIGMS['size']}-plain"}
    asked = [part for part in (SCREENS["screen"].get("where"), PARADIGMS["where"]) if part]
    SCREENS["drugs"] = {"folder": SCREENS["screen"].get("folder", f"{R}/data/screen"), "where": " and ".join(map("({})".format, asked))}
PARADIGM_TABLES = [f"paradigms{part}.csv" for part in ("", "_cells", "_distances", "_drug_control", "_clusters", "_points", "_flaws")]

# CytoGAN's exam: mechanisms of drugs, from single cells of a simulated screen. `learnt` and `beside`: method to preset.
CYTOGAN = config.get("cytogan")
LEARNT, BESIDE = (CYTOGAN["learnt"], CYTOGAN["beside"]) if CYTOGAN else ({}, {})

TABLES = ["separability.csv", "paired.csv", "confusion.csv", "cost.csv", "probe_size.csv", "replicates.csv"]
TABLES += ["axes.csv", "efficacy.csv", "dose_response.csv", "dose_points.csv"]
if "simulate" in SCREENS["screen"]:
    TABLES += ["dose_truth.csv"]
if "unseen" in SCREENS:
    TABLES += ["zero_shot.csv", "zero_shot_summary.csv"]
if "rxrx1" in SCREENS:
    TABLES += ["zero_shot_rxrx1.csv", "zero_shot_rxrx1_summary.csv"]
GENERATORS = [
    m
    for m, s in METHODS.items()
    if s.get("method", m) in ("gandl", "contrad") and {"weights", "images"} & set(s) and "tap" not in s
]
if GENERATORS:
    TABLES += ["generation.csv"]
REAL_DRUGS = REAL_CELLS.with_name("bbbc021")
if not REAL or not REAL_DRUGS.is_dir():
    print(f"No {REAL_DRUGS} (GANDL_DATA): no mechanisms of action from real profiles.", file=sys.stderr)

# The real plate of chapter 10: rows of its own, among them a network that has seen nothing but this plate.
REAL_PLATE = Path(REAL or "GANDL_DATA", "bbbc013")
PLATE_TABLE = next((t for name in (bbbc013.PLATE_MAP, bbbc013.TABLE) if (t := REAL_PLATE / name).is_file()), None)
if not REAL or not PLATE_TABLE:
    print(f"No BBBC013 in {REAL_PLATE} (GANDL_DATA; `gandl fetch bbbc013` brings it): chapter 10 shows a recorded run.", file=sys.stderr)
    PLATE_TABLE = None
PLATE_ROWS = (config.get("real_plate") or {}) if PLATE_TABLE else {}
DRUG_PROFILES = [f"{R}/profiles/bbbc021/cellprofiler.h5ad"] * bool(REAL and REAL_DRUGS.is_dir())
DRUG_PROFILES += [f"{R}/profiles/cells/{method}.h5ad" for method in (LEARNT | BESIDE)]
if DRUG_PROFILES:
    TABLES += ["moa.csv", "moa_confusion.csv"]
if CYTOGAN:
    TABLES += ["latent_arithmetic.csv", "latent_arithmetic_directions.csv"]
if PARADIGMS:
    TABLES += PARADIGM_TABLES
if PLATE_ROWS:
    TABLES += ["real_plate.csv", "real_plate_wells.csv"]
TABLES += ["provenance.json"]

CHAPTERS = sorted(path.stem for path in Path("notebooks").glob("[0-9][0-9]_*.py"))


wildcard_constraints:
    screen="|".join(SCREENS),
    method="|".join(METHODS),
    setup="|".join(SETUPS) or "none",
    model="|".join(LEARNT | BESIDE) or "none",
    plate_row="|".join(PLATE_ROWS) or "none",
    other=f"({'|'.join(f'{screen}/' for screen in SCREENS if screen != 'screen')})?",
    part="[0-9]+",
    chapter=r"[0-9]{2}_\w+",


# ---- what all commands get ----

os.environ[chapters.INSIDE] = "1"
os.environ["PATH"] = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
# glibc gives large blocks back to the system after each use, and PyTorch then waits for fresh pages: 2-3 times slower.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(4 << 30))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(8 << 30))
os.environ.setdefault("MALLOC_TOP_PAD_", str(256 << 20))

# The long stages resume what an interrupted run left in their folder, but they cannot know what code made it. So
# `fresh FOLDER THING...`, a function exported to their shells, removes FOLDER if it was begun with other THINGs: contents
# of files, or plain words.
os.environ["BASH_FUNC_fresh%%"] = r"""() {
    local folder=$1 key; shift
    key=$(for thing in "$@"; do if [ -f "$thing" ]; then cat "$thing"; else echo "$thing"; fi; done | sha256sum)
    if [ "$key" != "$(cat "$folder.key" 2>/dev/null)" ]; then rm -rf "$folder" "$folder.partial"; fi
    echo "$key" > "$folder.key"
}"""


rule book:
    input:
        "_build/html/index.html",
        [f"{R}/{table}" for table in TABLES],


rule tables:
    input:
        [f"{R}/{table}" for table in TABLES],


# ---- data ----


def data_folder(screen):
    """Where a screen's images lie: the simulator's folder, or one that is its owner's and only read."""
    return SCREENS[screen].get("folder", f"{R}/data/{screen}")


rule simulate:
    input:
        sources.closure("simulate.screens"),
    output:
        f"{R}/data/{{screen}}/metadata.csv",
        f"{R}/data/{{screen}}/truth.csv",
    params:
        out=f"{R}/data/{{screen}}",
        preset=lambda w: SCREENS[w.screen]["simulate"],
        layout=lambda w: "rxrx19a" if w.screen == "screen" else "rxrx1",
        seed=SEED,
    threads: 1 # a job of two cores would wait until nothing else runs, and all else for it
    shell:
        "fresh {params.out} {input} {params} && "
        "gandl simulate {params.out} --screen {params.preset} --layout {params.layout} --seed {params.seed} "
        "--jobs {threads}"


rule shard:
    input:
        lambda w: f"{data_folder(w.screen)}/metadata.csv",
        LAYOUTS_SRC,
    output:
        f"{R}/shards/{{screen}}.zarr/zarr.json",
    params:
        data=lambda w: data_folder(w.screen),
        out=f"{R}/shards/{{screen}}.zarr",
        where=lambda w: ["--where", SCREENS[w.screen]["where"]] if "where" in SCREENS[w.screen] else [],
    threads: lambda w: 2 if "folder" in SCREENS.get(w.get("screen"), {}) else 1 # real screens are large
    shell:
        "fresh {params.out} {input} {params.data}.key {params:q} && rm -rf {params.out} && "
        "gandl shard {params.data} {params.out} {params.where:q} --workers {threads}"


# ---- methods ----


EMBEDDING = ("tap",)  # settings of a row that its training knows nothing of


def options(settings):
    """Command line options, without what names a row's method or its weights."""
    named = {name: value for name, value in settings.items() if name not in ("method", "weights")}
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in named.items()]


def method_of(w):
    """What a row of the tables runs: the method of that name, unless its settings name another."""
    return METHODS[w.method].get("method", w.method)


# What has weights already, or nothing to learn, is not trained because a chapter would also look at a run.
rule train:
    input:
        f"{R}/shards/screen.zarr/zarr.json",
        TRAIN_SRC,
        lambda w: sources.method(method_of(w)),
    wildcard_constraints:
        method="|".join(m for m in METHODS if "images" in METHODS[m]) or "none",
    output:
        f"{R}/runs/{{method}}/weights.safetensors",
    params:
        shards=f"{R}/shards/screen.zarr",
        run=f"{R}/runs/{{method}}",
        method=method_of,
        options=lambda w: options({name: value for name, value in METHODS[w.method].items() if name not in EMBEDDING}),
        seed=SEED,
    threads: 1 # two runs side by side see half as many images again as one on two cores
    shell:
        "fresh {params.run} {input} {params.shards}.key {params} && "
        "gandl train {params.method} {params.shards} {params.run} {params.options:q} --seed {params.seed} "
        "--threads {threads}"


rule generation:
    input:
        [METHODS[m].get("weights", f"{R}/runs/{m}/weights.safetensors") for m in GENERATORS],
        shards=f"{R}/shards/screen.zarr/zarr.json",
        src=sources.closure("gandl_book.generate") + sources.method("contrad"),
    output:
        f"{R}/generation.csv",
    params:
        sources=[METHODS[m].get("weights", f"{R}/runs/{m}") for m in GENERATORS],
        shards=f"{R}/shards/screen.zarr",
        seed=SEED,
    shell:
        "gandl generate {params.sources} {params.shards} {output} --seed {params.seed}"


def screen_of(w):
    """Profiles of the screen itself lie in profiles/, those of other screens in a folder of theirs."""
    return w.other.rstrip("/") or "screen"


def embedded(w):
    """What is embedded with: shipped weights, or the run of a method that names a number of images, or else its name."""
    settings = METHODS[w.method]
    if "weights" in settings:
        return settings["weights"]
    return f"{R}/runs/{w.method}" if "images" in settings else method_of(w)


def embed_options(w):
    settings = METHODS[w.method]
    if "weights" in settings or "images" in settings:
        settings = {name: settings[name] for name in EMBEDDING if name in settings}
    else:
        settings = settings | {"seed": SEED}
    return options(settings | {"ways": config.get("ways", 1), "name": w.method})


rule embed:
    input:
        lambda w: f"{R}/runs/{w.method}/weights.safetensors" if "images" in METHODS[w.method] else METHODS[w.method].get("weights", []),
        lambda w: f"{R}/shards/{screen_of(w)}.zarr/zarr.json",
        EMBED_SRC,
        lambda w: sources.method(method_of(w)),
    output:
        f"{R}/profiles/{{other}}{{method}}.h5ad",
    params:
        source=embedded,
        shards=lambda w: f"{R}/shards/{screen_of(w)}.zarr",
        options=embed_options,
        tiles=lambda w: 4 if screen_of(w) == "rxrx1" else 1,  # few large sites: every sixteenth is a row
    threads: 1 # two rows at a time go faster than one row on two cores
    shell:
        "gandl embed {params.source} {params.shards} {output[0]} {params.options:q} --tiles {params.tiles}"


# A row that is another one read elsewhere, `gandl-blocks` beside `gandl`, comes out of that one's pass.
def shares(rows, name):
    """The tap of row `<name>-<tap>` of `rows`, if there is one that differs from row `name` by its tap alone."""
    plain = {"method": name} | rows[name]
    for other, settings in rows.items():
        tap = settings.get("tap")
        untapped = {"method": other} | {key: value for key, value in settings.items() if key != "tap"}
        if tap and other == f"{name}-{tap}" and untapped == plain:
            return tap


def shared(rows):
    """Rows whose pass serves two, and their one other tap; nothing where rows have several, or embed in parts."""
    taps = {name: tap for name in rows if (tap := shares(rows, name))}
    return (list(taps), taps.popitem()[1]) if len(set(taps.values())) == 1 and config.get("parts", 1) == 1 else ([], None)


SHARED, TAP = shared(METHODS)
if SHARED:

    use rule embed as embed_taps with:
        wildcard_constraints:
            method="|".join(SHARED),
        output:
            f"{R}/profiles/{{other}}{{method}}.h5ad",
            f"{R}/profiles/{{other}}{{method}}-{TAP}.h5ad",
        params:
            source=embedded,
            shards=lambda w: f"{R}/shards/{screen_of(w)}.zarr",
            options=lambda w: [*embed_options(w), "--tap", "penultimate", TAP],
            tiles=lambda w: 4 if screen_of(w) == "rxrx1" else 1,

    ruleorder: embed_taps > embed


# A screen that is too large for one process, or one node, is embedded in `parts`, as jobs of their own.
PARTS = config.get("parts", 1)
if not isinstance(PARTS, int) or PARTS < 1:
    raise WorkflowError(f"parts must be a whole number from 1; found {PARTS!r}.")
if PARTS > 1:

    use rule embed as embed_part with:
        output:
            f"{R}/parts/{PARTS}/{{other}}{{method}}/{{part}}.h5ad",
        params:
            source=embedded,
            shards=lambda w: f"{R}/shards/{screen_of(w)}.zarr",
            options=lambda w: [*embed_options(w), f"--part={w.part}/{PARTS}"],
            tiles=lambda w: 4 if screen_of(w) == "rxrx1" else 1,

    rule join:
        input:
            parts=[f"{R}/parts/{PARTS}/{{other}}{{method}}/{k}.h5ad" for k in range(1, PARTS + 1)],
            src=sources.closure("profiles"),
        output:
            f"{R}/profiles/{{other}}{{method}}.h5ad",
        shell:
            "gandl join {input.parts} {output}"

    ruleorder: join > embed


# ---- setups of paradigms: as methods, a core each ----


use rule train as train_setup with:
    input:
        f"{R}/shards/drugs.zarr/zarr.json",
        TRAIN_SRC,
        lambda w: sources.method(SETUPS[w.setup].get("method", w.setup)),
    output:
        f"{R}/runs/{{setup}}/weights.safetensors",
    params:
        shards=f"{R}/shards/drugs.zarr",
        run=f"{R}/runs/{{setup}}",
        method=lambda w: SETUPS[w.setup]["method"],
        options=lambda w: [*options(SETUPS[w.setup]), "--ticks=1", "--no-rotate"],  # turning is an augmentation too
        seed=SEED,


use rule embed as embed_setup with:
    input:
        lambda w: f"{R}/runs/{w.setup}/weights.safetensors" if "images" in SETUPS[w.setup] else [],
        f"{R}/shards/drugs.zarr/zarr.json",
        EMBED_SRC,
        lambda w: sources.method(SETUPS[w.setup].get("method", w.setup)),
    output:
        f"{R}/profiles/drugs/{{setup}}.h5ad",
    params:
        source=lambda w: f"{R}/runs/{w.setup}" if "images" in SETUPS[w.setup] else w.setup,
        shards=f"{R}/shards/drugs.zarr",
        options=lambda w: options({"name": w.setup} | ({} if "images" in SETUPS[w.setup] else {**SETUPS[w.setup], "seed": SEED})),
        tiles=1,


# ---- single cells of drugs, for CytoGAN's models ----


rule simulate_drugs:
    input:
        sources.closure("simulate.drugs"),
    output:
        f"{R}/data/mechanisms/BBBC021_v1_image.csv",
    params:
        out=f"{R}/data/mechanisms",
        preset=CYTOGAN["simulate"] if CYTOGAN else "",
        seed=SEED,
    threads: 1
    shell:
        "fresh {params.out} {input} {params} && "
        "gandl simulate {params.out} --screen {params.preset} --layout bbbc021 --seed {params.seed} --jobs {threads}"


use rule shard as shard_drugs with:
    input:
        f"{R}/data/mechanisms/BBBC021_v1_image.csv",
        LAYOUTS_SRC,
    output:
        f"{R}/shards/mechanisms.zarr/zarr.json",
    params:
        data=f"{R}/data/mechanisms",
        out=f"{R}/shards/mechanisms.zarr",
        where=[],


rule cells:
    input:
        f"{R}/shards/mechanisms.zarr/zarr.json",
        sources.closure("cells"),
    output:
        f"{R}/shards/cells.zarr/zarr.json",
    params:
        sites=f"{R}/shards/mechanisms.zarr",
        out=f"{R}/shards/cells.zarr",
        size=CYTOGAN["size"] if CYTOGAN else "",
    threads: 1
    shell:
        "fresh {params.out} {input} {params} && rm -rf {params.out} && "
        "gandl cells {params.sites} {params.out} --size {params.size} --own-range --jobs {threads}"


use rule train as train_model with:
    input:
        f"{R}/shards/cells.zarr/zarr.json",
        TRAIN_SRC,
        lambda w: sources.method(w.model),
    output:
        f"{R}/runs/cells-{{model}}/weights.safetensors",
    params:
        shards=f"{R}/shards/cells.zarr",
        run=f"{R}/runs/cells-{{model}}",
        method="{model}",
        options=lambda w: options({"preset": LEARNT[w.model], "images": CYTOGAN["images"], "ticks": 4}),
        seed=SEED,


use rule embed as embed_model with:
    input:
        lambda w: f"{R}/runs/cells-{w.model}/weights.safetensors" if w.model in LEARNT else [],
        f"{R}/shards/cells.zarr/zarr.json",
        EMBED_SRC,
        lambda w: sources.method(w.model),
    output:
        f"{R}/profiles/cells/{{model}}.h5ad",
    params:
        source=lambda w: f"{R}/runs/cells-{w.model}" if w.model in LEARNT else w.model,
        shards=f"{R}/shards/cells.zarr",
        options=lambda w: options({} if w.model in LEARNT else {"preset": BESIDE[w.model], "seed": SEED}),
        tiles=1,


# ---- tables ----


def profiles(other=""):
    return [f"{R}/profiles/{other}{method}.h5ad" for method in METHODS]


rule separability:
    input:
        profiles=profiles(),
        src=sources.evaluation("separability"),
    output:
        f"{R}/separability.csv",
        f"{R}/paired.csv",
        f"{R}/confusion.csv",
        f"{R}/cost.csv",
    params:
        normalisation=config["normalisation"],
        seed=SEED,
    shell:
        "gandl evaluate separability {input.profiles} {output[0]} --normalisation {params.normalisation} --seed {params.seed}"


rule probe_size:
    input:
        profiles=profiles(),
        src=sources.evaluation("probe-size"),
    output:
        f"{R}/probe_size.csv",
    params:
        seed=SEED,
    shell:
        "gandl evaluate probe-size {input.profiles} {output} --seed {params.seed}"


rule replicates:
    input:
        profiles=profiles(),
        src=sources.evaluation("replicates"),
    output:
        f"{R}/replicates.csv",
    params:
        seed=SEED,
    shell:
        "gandl evaluate replicates {input.profiles} {output} --seed {params.seed}"


rule axes:
    input:
        profiles=profiles(),
        src=sources.evaluation("axes"),
    output:
        f"{R}/axes.csv",
        f"{R}/efficacy.csv",
    params:
        seed=SEED,
    shell:
        "gandl evaluate axes {input.profiles} {output[0]} --seed {params.seed}"


rule dose_response:
    input:
        profiles=profiles(),
        truth=f"{R}/data/screen/truth.csv" if "simulate" in SCREENS["screen"] else [],
        src=sources.evaluation("dose-response"),
    output:
        [f"{R}/{table}" for table in TABLES if table.startswith("dose_")],
    params:
        truth=lambda w, input: ["--truth", input.truth] if input.truth else [],
        seed=SEED,
    shell:
        "gandl evaluate dose-response {input.profiles} {output[0]} {params.truth} --seed {params.seed}"


rule zero_shot:
    input:
        profiles=profiles("unseen/"),
        src=sources.evaluation("zero-shot"),
    output:
        f"{R}/zero_shot.csv",
        f"{R}/zero_shot_summary.csv",
    params:
        seed=SEED,
    shell:
        "gandl evaluate zero-shot {input.profiles} {output[0]} --seed {params.seed}"


use rule zero_shot as zero_shot_rxrx1 with:
    input:
        profiles=profiles("rxrx1/"),
        src=sources.evaluation("zero-shot"),
    output:
        f"{R}/zero_shot_rxrx1.csv",
        f"{R}/zero_shot_rxrx1_summary.csv",


rule bbbc021:
    input:
        sources.closure("datasets.bbbc021", "profiles"),
    output:
        f"{R}/profiles/bbbc021/cellprofiler.h5ad",
    params:
        data=str(REAL_DRUGS),
    shell:
        "gandl bbbc021 {params.data} {output}"


rule moa:
    input:
        profiles=DRUG_PROFILES,
        src=sources.evaluation("moa"),
    output:
        f"{R}/moa.csv",
        f"{R}/moa_confusion.csv",
    params:
        seed=SEED,
    shell:
        "gandl evaluate moa {input.profiles} {output[0]} --seed {params.seed}"


rule latents:
    input:
        [f"{R}/runs/cells-{model}/weights.safetensors" for model in LEARNT],
        shards=f"{R}/shards/cells.zarr/zarr.json",
        src=sources.closure("gandl_book.latents") + [file for model in LEARNT for file in sources.method(model)],
    output:
        f"{R}/latent_arithmetic.csv",
        f"{R}/latent_arithmetic_directions.csv",
    params:
        runs=[f"{R}/runs/cells-{model}" for model in LEARNT],
        shards=f"{R}/shards/cells.zarr",
        seed=SEED,
    shell:
        "gandl latents {params.runs} {params.shards} {output[0]} --seed {params.seed}"


# ---- a real plate ----


use rule shard as shard_plate with:
    input:
        str(PLATE_TABLE) if PLATE_TABLE else [],
        LAYOUTS_SRC,
    output:
        f"{R}/shards/real_plate.zarr/zarr.json",
    params:
        data=str(REAL_PLATE),
        out=f"{R}/shards/real_plate.zarr",
        where=[],


def plate_method(w):
    return PLATE_ROWS[w.plate_row].get("method", w.plate_row)


use rule embed as embed_plate with:
    input:
        lambda w: PLATE_ROWS[w.plate_row].get("weights", []),
        f"{R}/shards/real_plate.zarr/zarr.json",
        EMBED_SRC,
        lambda w: sources.method(plate_method(w)),
    output:
        f"{R}/profiles/real_plate/{{plate_row}}.h5ad",
    params:
        source=lambda w: PLATE_ROWS[w.plate_row].get("weights", plate_method(w)),
        shards=f"{R}/shards/real_plate.zarr",
        options=lambda w: options(PLATE_ROWS[w.plate_row] | {"name": w.plate_row}),
        tiles=1,


PLATE_SHARED, PLATE_TAP = shared(PLATE_ROWS)
if PLATE_SHARED:

    use rule embed_plate as embed_plate_taps with:
        wildcard_constraints:
            plate_row="|".join(PLATE_SHARED),
        output:
            f"{R}/profiles/real_plate/{{plate_row}}.h5ad",
            f"{R}/profiles/real_plate/{{plate_row}}-{PLATE_TAP}.h5ad",
        params:
            source=lambda w: PLATE_ROWS[w.plate_row].get("weights", plate_method(w)),
            shards=f"{R}/shards/real_plate.zarr",
            options=lambda w: [*options(PLATE_ROWS[w.plate_row] | {"name": w.plate_row}), "--tap", "penultimate", PLATE_TAP],
            tiles=1,

    ruleorder: embed_plate_taps > embed_plate


rule classical:
    input:
        f"{R}/shards/real_plate.zarr/zarr.json",
        sources.closure("gandl_book.real_plate"),
    output:
        f"{R}/profiles/real_plate/classical.h5ad",
    params:
        shards=f"{R}/shards/real_plate.zarr",
    threads: 1
    shell:
        "gandl classical {params.shards} {output}"


rule real_plate:
    input:
        profiles=[f"{R}/profiles/real_plate/{row}.h5ad" for row in ["classical", *PLATE_ROWS]],
        src=sources.closure("gandl_book.real_plate"),
    output:
        f"{R}/real_plate.csv",
        f"{R}/real_plate_wells.csv",
    params:
        seed=SEED,
    shell:
        "gandl evaluate real-plate {input.profiles} {output[0]} --seed {params.seed}"


# ---- a plate of somebody's own ----


rule own_plate:
    input:
        sources.closure("simulate.screens"),
    output:
        f"{R}/own/data/metadata.csv",
    params:
        out=f"{R}/own/data",
        preset=config["own"]["simulate"],
        seed=SEED,
    threads: 1
    shell:
        "fresh {params.out} {input} {params} && "
        "gandl simulate {params.out} --screen {params.preset} --layout own --seed {params.seed} --jobs {threads}"


rule own_screen:
    input:
        f"{R}/own/data/metadata.csv",
        # What decides the numbers; a change begins anew. The rest only rewrites the report.
        numbers=sorted({*sources.closure("screen.run"), *sources.method("gandl"), *sources.method("intensity")}),
        page=sources.closure("screen.report"),
    output:
        f"{R}/own/out/report.html",
    params:
        out=f"{R}/own/out",
        data=f"{R}/own/data",
        images=config["own"]["images"],
        seed=SEED,
    threads: 1
    shell:
        "fresh {params.out} {input.numbers} {params.data}.key {params} && "
        "gandl screen {params.data} --out {params.out} --images {params.images} --seed {params.seed} --threads {threads}"


rule paradigms:
    input:
        profiles=[f"{R}/profiles/drugs/{setup}.h5ad" for setup in SETUPS]
        + [f"{R}/profiles/{m}.h5ad" for m in (PARADIGMS["beside"] if PARADIGMS else [])],
        src=sources.closure("gandl_book.paradigms"),
    output:
        [f"{R}/{table}" for table in PARADIGM_TABLES],
    params:
        normalisation=config["normalisation"][0],
        seed=SEED,
    threads: 2
    shell:
        "gandl evaluate paradigms {input.profiles} {output[0]} --normalisation {params.normalisation} --seed {params.seed}"


rule provenance:
    input:
        [f"{R}/{table}" for table in TABLES if table != "provenance.json"],
    output:
        f"{R}/provenance.json",
    params:
        profile=config["profile"],
        seed=SEED,
    shell:
        "gandl provenance $(dirname {output}) {output} --profile {params.profile} --seed {params.seed}"


# ---- book ----


def chapter_needs(w):
    """What the chapter itself asks `chapters.need` for; what may be missing, only if this profile makes it."""
    made = [*TABLES, *(f"shards/{s}.zarr" for s in SCREENS), *(f"runs/{m}" for m, s in (METHODS | SETUPS).items() if "images" in s)]
    made += [*("shards/mechanisms.zarr", "shards/cells.zarr") * bool(CYTOGAN), *(f"runs/cells-{model}" for model in LEARNT)]
    made += [f"data/{s}{part}" for s in SCREENS if "simulate" in SCREENS[s] for part in ("", "/truth.csv")]
    made += ["shards/real_plate.zarr"] * bool(PLATE_ROWS) + [f"profiles/real_plate/{row}.h5ad" for row in PLATE_ROWS]
    made += [f"profiles/cells/{model}.h5ad" for model in LEARNT | BESIDE]
    names = chapters.needs(Path(f"notebooks/{w.chapter}.py"))
    return [f"{R}/{chapters.target(n.rstrip('?'))}" for n in names if not n.endswith("?") or n[:-1] in made]


rule chapter:
    input:
        "notebooks/{chapter}.py",
        chapter_needs,
        lambda w: sources.chapter(Path(f"notebooks/{w.chapter}.py")),
    output:
        f"{R}/chapters/{{chapter}}.ipynb",
    params:
        # Chapters have the default profile as their own, and are easier to read without a second parameters cell.
        profile=[] if config["profile"] == "quick" else ["-p", "profile", config["profile"]],
        draft=f"{R}/chapters/.{{chapter}}",
    shell:
        "jupytext --quiet --to ipynb --output {params.draft}.ipynb {input[0]} && "
        "papermill {params.draft}.ipynb {params.draft}.partial.ipynb -k python3 {params.profile} && "
        "mv {params.draft}.partial.ipynb {output} && rm {params.draft}.ipynb"


rule html:
    input:
        BOOK_SRC,
        chapters=[f"{R}/chapters/{chapter}.ipynb" for chapter in CHAPTERS],
    output:
        "_build/html/index.html",
    shell:
        "rm -rf _build book/chapters && mkdir book/chapters && cp {input.chapters} book/chapters && "
        "jupyter-book build book --config _config.yml --toc $PWD/_toc.yml --path-output . -W -n --keep-going"
