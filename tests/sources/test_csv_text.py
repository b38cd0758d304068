"""Regular text is parsed as a whole, irregular text is left to the slow way."""

import pyarrow as pa
import pytest

from mimic_reg.sources.csv_text import parse

TYPES = {"id": pa.int64(), "text": pa.string()}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_regular_text_is_parsed_as_a_whole_whatever_its_line_ends(end):
    frame = parse(f'7,"a, ""b"""{end}8,{end}'.encode(), list(TYPES), TYPES)
    assert frame.rows() == [(7, 'a, "b"'), (8, None)]
    assert parse(f'7,a{end}8,"b{end}'.encode(), list(TYPES), TYPES) is None
