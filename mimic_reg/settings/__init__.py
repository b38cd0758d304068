"""Settings: from YAML to frozen, typed records. Names are not looked up here.

`learners.trials` and `multitask.trials` look the names up and write out every default.
"""

from mimic_reg.settings.base import Settings, checked
from mimic_reg.settings.files import CONFIGS
from mimic_reg.settings.names import (
    BASELINE,
    STOPPING,
    acting,
    find_module,
    is_probe,
    is_real,
    module_names,
    resolve_options,
    suggest,
)
from mimic_reg.settings.size import WHOLE, TrainingSize, training_size
from mimic_reg.settings.trial import Component, Start, Together, Training, Trial
from mimic_reg.settings.yaml import load_yaml, parse_yaml

__all__ = [
    "BASELINE",
    "CONFIGS",
    "STOPPING",
    "WHOLE",
    "Component",
    "Settings",
    "Start",
    "Together",
    "Training",
    "TrainingSize",
    "Trial",
    "acting",
    "checked",
    "find_module",
    "is_probe",
    "is_real",
    "load_yaml",
    "module_names",
    "parse_yaml",
    "resolve_options",
    "suggest",
    "training_size",
]
