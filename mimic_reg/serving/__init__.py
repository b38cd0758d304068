"""A trained model as two files: raw features → predictions, without MLflow and pickle."""

from mimic_reg.serving.external import External, is_other_store, validate
from mimic_reg.serving.model import SETTINGS, WEIGHTS, ServedModel, export, load_run, output_names
from mimic_reg.serving.stores import check_features, load_samples, predict_store

__all__ = [
    "SETTINGS",
    "WEIGHTS",
    "External",
    "ServedModel",
    "check_features",
    "export",
    "is_other_store",
    "load_run",
    "load_samples",
    "output_names",
    "predict_store",
    "validate",
]
