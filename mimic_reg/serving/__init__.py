"""A trained model as two files: raw features → predictions, without MLflow and pickle."""

from mimic_reg.serving.external import External, is_other_store, validate
from mimic_reg.serving.model import SETTINGS, WEIGHTS, ServedModel, export, load_run, output_names
from mimic_reg.serving.stores import load_samples, predict_store
