"""Sentences that are made from the tables they speak of, so that no rerun leaves a false one behind.

Every function takes a table as the workflow writes it and returns what a notebook cell shows. A module a topic; what
chapters, reports and tests use is here by its name.
"""

from gandl_book.narrate.calling import (
    advice,
    agreement,
    by_cell,
    called,
    cells_as_replicates,
    cells_instead_of_sites,
    clouds_against_means,
    error_rates,
    floors,
    means_or_clouds,
    power_table,
    real_doses,
    real_source,
    what_callers_ask,
    whose_wells,
)
from gandl_book.narrate.comparison import (
    beside_each_other,
    cost_table,
    counterparts,
    errors,
    few_labels,
    one_task,
    pairs,
    published,
    replicates,
    second_seed,
)
from gandl_book.narrate.data import calibration, plate_effects
from gandl_book.narrate.doses import (
    against_truth,
    axes,
    compounds_in_words,
    compounds_of,
    efficacy,
    find_compound,
    hit_scores,
    hits_with_doubts,
    killers,
    rise_and_fall,
    set_aside,
    toxicity_judged,
    toxicity_table,
    truth_table,
    turned,
)
from gandl_book.narrate.explain import axis_effects, axis_moves, beside_axis
from gandl_book.narrate.mechanisms import (
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
from gandl_book.narrate.paradigms import (
    beside_paper_paradigms,
    by_class,
    choices_of_paradigms,
    clusters_found,
    costs,
    flaws,
    inert_drugs,
    paradigm_choices,
    paradigm_exam,
    setups,
)
from gandl_book.narrate.real import plate25, real_plate, real_plate_source, real_plate_table
from gandl_book.narrate.real_mechanisms import (
    asked,
    chosen_elsewhere,
    real_cells_in_short,
    real_pixels,
    real_pixels_source,
    real_pixels_table,
    training_on_real_cells,
)
from gandl_book.narrate.results import (
    beside_paper,
    columns_of_table_1,
    hardest,
    on_real_cells,
    on_simulated,
    provenance,
    summary,
    unlearnt,
    what_this_is,
)
from gandl_book.narrate.scale import cost_of_screen, plan, throughput
from gandl_book.narrate.separation import cell_types_normalised, eight_ways, leaks
from gandl_book.narrate.training import (
    batch_mates,
    choices,
    methods,
    plate_variance,
    precisions,
    probe,
    probe_size,
    trained_longer,
    what_matters,
)
from gandl_book.narrate.unseen import mistaken, ranks, zero_shot, zero_shot_table
from gandl_lib.evaluate.scores import BEATS, BELOW, SAME, Score, verdict
from gandl_lib.plots.sentences import (
    brightness,
    control_separation,
    control_table,
    edge_effects,
    held_out_plates,
    hit_table,
    hits,
    screen,
    separability,
    suspicious,
    top,
    usable,
    what_to_distrust,
)
from gandl_lib.plots.words import INTENSITY, METHOD, UNTRAINED, listing, percents, present, read
