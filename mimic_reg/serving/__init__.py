"""A trained model as two files: raw features → predictions, without MLflow and pickle."""

from mimic_reg.serving.external import External, validate
from mimic_reg.serving.model import SETTINGS, WEIGHTS, ServedModel, export, load_run, output_names
from mimic_reg.serving.stores import is_other_store, load_samples, predict_store
