"""Cohorts from other people's tables: dyn (hours), sta (stays) and outc (labels), as ricu's."""

from mimic_reg.cohorts.exporting import export_cohort
from mimic_reg.cohorts.importing import Imported, import_cohort
from mimic_reg.cohorts.settings import ImportSettings

__all__ = ["ImportSettings", "Imported", "export_cohort", "import_cohort"]
