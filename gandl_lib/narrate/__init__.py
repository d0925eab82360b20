"""Sentences that are made from the tables they speak of, so that no rerun leaves a false one behind.

Every function takes a table as the workflow writes it and returns what a notebook cell shows. A module a topic; what
chapters, reports and tests use is here by its name.
"""

from gandl_lib.narrate.comparison import (
    cost_table,
    counterparts,
    few_labels,
    one_task,
    pairs,
    published,
    replicates,
    second_seed,
)
from gandl_lib.narrate.data import calibration, plate_effects, screen
from gandl_lib.narrate.doses import (
    against_truth,
    axes,
    compounds_in_words,
    compounds_of,
    efficacy,
    find_compound,
    hit_scores,
    hit_table,
    hits,
    rise_and_fall,
    top,
    truth_table,
    turned,
)
from gandl_lib.narrate.mechanisms import (
    arithmetic,
    budget,
    confused,
    drugs,
    moa,
    moa_table,
    models,
    models_table,
    of_recipes,
    paper_models,
    published_moa,
    simulated,
    where_moa_comes_from,
)
from gandl_lib.narrate.own import brightness, control_separation, control_table, edge_effects, what_to_distrust
from gandl_lib.narrate.paradigms import (
    beside_paper_paradigms,
    clusters_found,
    costs,
    flaws,
    inert_drugs,
    paradigm_choices,
    paradigm_exam,
    setups,
)
from gandl_lib.narrate.results import beside_paper, provenance, summary, what_this_is
from gandl_lib.narrate.scale import cost_of_screen, throughput
from gandl_lib.narrate.separation import cell_types_normalised, eight_ways, held_out_plates, leaks, separability
from gandl_lib.narrate.training import (
    batch_mates,
    choices,
    explained,
    methods,
    plate_variance,
    precisions,
    probe,
    probe_size,
    trained_longer,
    what_matters,
)
from gandl_lib.narrate.unseen import ranks, zero_shot, zero_shot_table
from gandl_lib.narrate.words import (
    BEATS,
    BELOW,
    INTENSITY,
    METHOD,
    SAME,
    UNTRAINED,
    Score,
    listing,
    percents,
    present,
    read,
    verdict,
)
