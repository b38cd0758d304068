"""Columns of any origin with one kind of missing value and few types.

The types are Int64 or another integer, Float64 or Float32, Boolean, String, Duration; text that
holds numbers or booleans alone becomes these.
"""

import polars as pl

INDEX = ("", "__index_level_0__", "Unnamed: 0")  # pandas' index, written as a column
_EMPTY = ["", "NA", "NaN", "nan", "NULL", "null", "None"]  # R, pandas and SQL write these


def plain(column: pl.Series) -> pl.Series:
    """Return a whole column with its plain type; an empty one is Float64."""
    column = _without_empty(column)
    if column.null_count() == len(column):
        return pl.Series(column.name, [None] * len(column), pl.Float64)
    if isinstance(column.dtype, pl.Decimal):
        return column.cast(pl.Float64)
    if column.dtype == pl.String:
        for dtype in (pl.Int64, pl.Float64):
            numbers = column.cast(dtype, strict=False)
            if numbers.null_count() == column.null_count():
                return numbers.fill_nan(None) if dtype == pl.Float64 else numbers
        lower = column.str.to_lowercase()
        if lower.drop_nulls().is_in(["true", "false"]).all():
            return lower == "true"
    return column


def as_plain(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Return a part of a column, with the plain type of the whole."""
    column = _without_empty(column)
    if column.dtype == pl.String and dtype == pl.Boolean:
        return column.str.to_lowercase() == "true"
    column = column.cast(dtype, strict=False)
    return column.fill_nan(None) if dtype.is_float() else column


def _without_empty(column: pl.Series) -> pl.Series:
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        return column.set(column.is_in(_EMPTY), None)
    return column.fill_nan(None) if column.dtype.is_float() else column
