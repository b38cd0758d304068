"""Experiments: a grid in YAML → the trials it stands for, what they need, what they may cost.

    title: LSTM, in-hospital mortality
    focus: dropout                   # the method that the report puts against all others
    grids:                             # an experiment is the union of its grids
    - tasks: [in_hospital_mortality]
      models: [lstm]
      methods: [none, dropout]         # in configs/methods; or {dropout: {rate: 0.1}}
      supervision: [0.25, 1]
      seeds: 5                         # 0 to 4, or a list
    training: {max_epochs: 20}         # replaces what the tasks' own YAML says

`search: {dropout.rate: [0.2, 0.5]}` in a grid multiplies the methods, or models, that have that
option by its values. Whatever is unknown is refused, with the nearest name that is known.
"""

from mimic_reg.experiments.costs import (
    KNOWN_SIZES,
    Estimate,
    Past,
    estimate,
    past,
    sizes,
    step_cost,
    total_seconds,
)
from mimic_reg.experiments.grid import IMAGE_TASK, SINGLE, Experiment, Grid
from mimic_reg.experiments.planning import (
    Combination,
    Planned,
    combinations,
    left_out,
    plan,
)
from mimic_reg.experiments.reading import FOLDER, check_data, load, names, parse, within

__all__ = [
    "FOLDER",
    "IMAGE_TASK",
    "KNOWN_SIZES",
    "SINGLE",
    "Combination",
    "Estimate",
    "Experiment",
    "Grid",
    "Past",
    "Planned",
    "check_data",
    "combinations",
    "estimate",
    "left_out",
    "load",
    "names",
    "parse",
    "past",
    "plan",
    "sizes",
    "step_cost",
    "total_seconds",
    "within",
]
