"""Every figure of the book: tables and images in, a matplotlib `Figure` out, and `show` to put it on a page.

A module a topic; what chapters, reports and tests use is here by its name.
"""

from gandl_book.figures.axes import axes_of_all, axes_plot, ranking
from gandl_book.figures.calling import called_by_all, false_positives, power_by_design, power_by_effect
from gandl_book.figures.doses import ec50_plot
from gandl_book.figures.explain import axis_effects
from gandl_book.figures.images import beside_real, cell_types, samples, site_grid
from gandl_book.figures.mechanisms import drawn_cells, drug_sites, exam, latent_effect, real_training, segmented
from gandl_book.figures.paradigms import (
    MEASURES,
    PARADIGM_NAMES,
    cluster_plane,
    probe_by_cell,
    setup_name,
    setups_plot,
    tidy_setups,
)
from gandl_book.figures.placed import compounds, show, table
from gandl_book.figures.plates import grey_values, plate_effects, plate_map
from gandl_book.figures.real import real_plate_curves, real_plate_scores, real_plate_sites
from gandl_book.figures.scores import (
    accuracy_against_compute,
    accuracy_plot,
    against,
    confusion,
    differences,
    probe_sizes,
    replicate_precision,
)
from gandl_book.figures.training import loss_curves, precisions, probe_curve, what_matters
from gandl_lib.plots.axes import efficacy_plot
from gandl_lib.plots.doses import curve, dose_curves
from gandl_lib.plots.images import centre, channel_strip, composite, examples, montage, scale_bar, shown, unit
from gandl_lib.plots.maps import pca_views
from gandl_lib.plots.page import ABSENT, CHANNELS, MARKERS, METHODS, ROLES, Output, cell, name, png
from gandl_lib.plots.plates import well_map
from gandl_lib.plots.strips import axis_strip
