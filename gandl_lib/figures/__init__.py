"""Every figure of the book: tables and images in, a matplotlib `Figure` out, and `show` to put it on a page.

A module a topic; what chapters, reports and tests use is here by its name.
"""

from gandl_lib.figures.axes import axes_of_all, axes_plot, efficacy_plot, ranking
from gandl_lib.figures.doses import curve, dose_curves, ec50_plot
from gandl_lib.figures.images import (
    beside_real,
    cell_types,
    centre,
    channel_strip,
    composite,
    examples,
    montage,
    samples,
    scale_bar,
    shown,
    site_grid,
    unit,
)
from gandl_lib.figures.mechanisms import drawn_cells, drug_sites, exam, latent_effect, segmented
from gandl_lib.figures.page import ABSENT, CHANNELS, MARKERS, METHODS, ROLES, Output, cell, name, png, show, table
from gandl_lib.figures.paradigms import (
    MEASURES,
    PARADIGM_NAMES,
    cluster_plane,
    probe_by_cell,
    setup_name,
    setups_plot,
    tidy_setups,
)
from gandl_lib.figures.plates import grey_values, letters, plate_effects, plate_map, well_map
from gandl_lib.figures.scores import (
    accuracy_against_compute,
    accuracy_plot,
    against,
    confusion,
    differences,
    probe_sizes,
    replicate_precision,
)
from gandl_lib.figures.training import loss_curves, pca_views, precisions, probe_curve, what_matters
