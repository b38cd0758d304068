"""Extract a cohort store from MIMIC's raw tables."""

from mimic_reg.extraction.existing import seems_up_to_date
from mimic_reg.extraction.run import Result, extract

__all__ = ["Result", "extract", "seems_up_to_date"]
