"""Extraction: from the raw tables to a published cohort store."""

from mimic_reg.extraction.run import Result, extract

__all__ = ["Result", "extract"]
