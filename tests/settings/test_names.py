"""Names and options: what is unknown or of another kind is refused, with the nearest name."""

from collections.abc import Sequence
from typing import Literal

import pytest

from mimic_reg.errors import InputError
from mimic_reg.settings import acting, find_module, module_names, resolve_options, suggest


def test_a_name_is_a_module():
    assert {"lstm", "dnn"} <= set(module_names("mimic_reg.models"))
    assert "base" not in module_names("mimic_reg.models")
    assert find_module("mimic_reg.tasks", "phenotyping").__name__ == "mimic_reg.tasks.phenotyping"


def test_options_are_the_signature():
    def build(*, tau=(-0.1, 0.1), beta=0.1, generator=None):
        pass

    resolved = resolve_options(build, {"beta": 0.2}, "X", skip=("generator",))
    assert resolved == {"tau": [-0.1, 0.1], "beta": 0.2}
    with pytest.raises(InputError, match="X has no option 'generator'"):
        resolve_options(build, {"generator": 1}, "X", skip=("generator",))
    with pytest.raises(InputError, match="X needs the option 'a'"):
        resolve_options(lambda a: a, {}, "X")


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [
        ("rate", "0.5", "a number"),
        ("rate", None, "a number"),
        ("rate", 10**400, "a number"),
        ("rate", True, "a number"),
        ("count", 1.5, "a whole number"),
        ("count", False, "a whole number"),
        ("flag", "no", "true or false"),
        ("flag", 1, "true or false"),
        ("name", 3, "a text"),
        ("sizes", 3, "a list, each a whole number"),
        ("sizes", [1, 2.5], "a list, each a whole number"),
        ("tau", "0.1", "a number or a list, each a number"),
        ("tau", [0.1, "x"], "a number or a list, each a number"),
        ("limit", "5", "a whole number or null"),
        ("mode", "c", "one of 'a', 'b'"),
    ],
)
def test_options_are_of_the_kind_that_the_signature_says(option, value, kind):
    def build(
        rate: float = 0.1,
        count: int = 1,
        flag: bool = False,
        name: str = "x",
        sizes: tuple[int, ...] = (),
        tau: float | Sequence[float] = 0.1,
        limit: int | None = None,
        mode: Literal["a", "b"] = "a",
    ):
        pass

    allowed = {"rate": 1, "sizes": [1, 2], "tau": (0, 1.5), "limit": None, "mode": "b"}
    assert resolve_options(build, allowed, "X")["tau"] == [0, 1.5]
    with pytest.raises(InputError) as error:
        resolve_options(build, {option: value}, "X")
    assert str(error.value) == f"X: {option} must be {kind}, got {value!r}."


def test_suggestions():
    assert (
        suggest("droput", ["dropout", "itps"]) == "Did you mean 'dropout'? Allowed: dropout, itps."
    )
    assert suggest("zzz", []) == "Allowed: none."
    many = suggest("itpz", [*(f"method{i}" for i in range(20)), "itps"], "mimic-reg list methods")
    assert many.startswith("Did you mean 'itps'? Allowed: itps, method")
    assert many.endswith(", …; all 21: `mimic-reg list methods`.")
    assert many.count(", ") == 10


def test_a_fit_is_named_after_its_methods():
    names = ["dropout", "none", "hessian_probe", "itps", "early_stopping"]
    assert acting(names) == ("dropout", "itps")
    assert acting(names, silent=()) == ("dropout", "none", "itps", "early_stopping")
    assert acting(["hessian_probe", "early_stopping"]) == acting([]) == ("none",)
