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
)
from mimic_reg.settings.nearest import suggest
from mimic_reg.settings.size import WHOLE, TrainingSize, training_size
from mimic_reg.settings.trial import Component, Start, Training, Trial
from mimic_reg.settings.yaml import load_yaml, parse_yaml
