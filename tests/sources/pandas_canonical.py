"""The canonical form of a time-series file by pandas: slow but readable."""

import pandas as pd

from mimic_reg.clinical.schema import MISSING_TEXTS


def canonical_text(file):
    """Read a CSV; numbers to one decimal; sort by the first distinct column; print."""
    table = pd.read_csv(file, keep_default_na=False, na_values=list(MISSING_TEXTS))
    table = table.astype(object).map(_cell).astype(object)
    for column in table:
        if table[column].is_unique:
            table = table.sort_values(column)
            break
    return table.reset_index(drop=True).to_string()


def _cell(value):
    try:
        return f"{float(value):.1f}"
    except ValueError:
        return value
