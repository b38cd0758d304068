"""The Medical Event Data Standard (MEDS 0.4): a store as its files, and its files as a store."""

from mimic_reg.cohorts.meds.exporting import export_meds
from mimic_reg.cohorts.meds.importing import import_meds
from mimic_reg.cohorts.meds.settings import MedsSettings

__all__ = ["MedsSettings", "export_meds", "import_meds"]
