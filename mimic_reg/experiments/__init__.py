"""Experiments: grids in YAML → trials, what they need and what they may cost.

    title: LSTM, in-hospital mortality
    focus: dropout                     # the method that the report compares with all others
    grids:                             # an experiment has all trials of its grids
    - tasks: [in_hospital_mortality]
      models: [lstm]
      methods: [none, dropout]         # in configs/methods; or {dropout: {rate: 0.1}}
      supervision: [0.25, 1]
      seeds: 5                         # 0 to 4; or a list
      folds: all                       # of a cohort with folds; or [1, 2]
    training: {max_epochs: 20}         # replaces settings of the tasks' YAML

`search: {dropout.rate: [0.2, 0.5]}` in a grid runs each method or model that has this option with
each of the values. Unknown names are refused; the error suggests the nearest known name.
"""

from mimic_reg.experiments.costs import (
    KNOWN_SIZES,
    Past,
    estimate,
    past,
    sizes,
    step_cost,
)
from mimic_reg.experiments.grid import IMAGE_TASK, Experiment
from mimic_reg.experiments.planning import Combination, Planned, combinations, left_out, plan
from mimic_reg.experiments.reading import (
    check_data,
    for_store,
    for_tasks,
    load,
    names,
    parse,
    within,
)
