"""A trained model as two files: raw features → predictions, without MLflow and pickle."""

from mimic_reg.serving.model import SETTINGS, WEIGHTS, ServedModel, export, load_run, output_names
from mimic_reg.serving.stores import check_features, load_samples, predict_store

__all__ = [
    "SETTINGS",
    "WEIGHTS",
    "ServedModel",
    "check_features",
    "export",
    "load_run",
    "load_samples",
    "output_names",
    "predict_store",
]
