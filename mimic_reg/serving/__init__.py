"""A trained model as two files: raw features → predictions, without MLflow and pickle."""

from mimic_reg.serving.model import SETTINGS, WEIGHTS, ServedModel, export, output_names
from mimic_reg.serving.stores import predict_store

__all__ = ["SETTINGS", "WEIGHTS", "ServedModel", "export", "output_names", "predict_store"]
