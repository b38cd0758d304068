"""YAML: numbers as everyone writes them; what is no YAML is refused with a sentence."""

import pytest

from mimic_reg.errors import InputError
from mimic_reg.settings import load_yaml


def test_yaml(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: 1e-3\nb: [1.5e2, 5E-1, 1e-3x, 12]\n")
    assert load_yaml(path) == {"a": 1e-3, "b": [150.0, 0.5, "1e-3x", 12]}
    path.write_text("a: 1\nb:\n  c: 1\n  c: 2\n")
    with pytest.raises(InputError, match="'c' is given twice"):
        load_yaml(path)
    path.write_text("a: [1")
    with pytest.raises(InputError, match="not valid YAML"):
        load_yaml(path)
    path.write_text("a: !!python/object/apply:os.getcwd []")
    with pytest.raises(InputError, match="not valid YAML"):
        load_yaml(path)
    with pytest.raises(InputError, match="no file"):
        load_yaml(tmp_path / "y.yaml")
