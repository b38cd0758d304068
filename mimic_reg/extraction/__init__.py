"""Extraction: from the raw tables to a published cohort store."""

from mimic_reg.extraction.run import Result, extract, seems_up_to_date

__all__ = ["Result", "extract", "seems_up_to_date"]
