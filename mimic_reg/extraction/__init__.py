"""Extraction: from the raw tables to a published cohort store."""

from mimic_reg.extraction.existing import seems_up_to_date
from mimic_reg.extraction.run import Result, extract

__all__ = ["Result", "extract", "seems_up_to_date"]
