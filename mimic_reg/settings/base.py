"""The base of all settings: frozen, typed, without unknown keys; errors are sentences."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic_core import ErrorDetails

from mimic_reg.errors import InputError
from mimic_reg.settings.names import suggest


class Settings(BaseModel):
    """Frozen settings with strict types and without unknown keys; lists of YAML become tuples."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _tuples(cls, given: Any) -> Any:
        return tuple(given) if isinstance(given, list) else given


Kind = TypeVar("Kind", bound=Settings)


def checked(
    kind: type[Kind], content: Mapping[str, Any], inner: type[Settings] | None = None
) -> Kind:
    """Return settings of a kind from plain values.

    inner: the settings within them, whose names are suggested for an unknown key there

    Raises:
        InputError: unknown keys, wrong types, values out of range; one line for each.
    """
    try:
        return kind.model_validate(dict(content))
    except ValidationError as error:
        lines = (_explain(e, kind, inner or kind) for e in _innermost(error.errors()))
        raise InputError("\n".join(lines)) from error


def _innermost(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Return the errors without those that only follow from an error inside them."""
    places = [error["loc"] for error in errors]
    return [
        error
        for error, place in zip(errors, places, strict=True)
        if not any(len(p) > len(place) and p[: len(place)] == place for p in places)
    ]


def _explain(error: ErrorDetails, kind: type[Settings], inner: type[Settings]) -> str:
    reason = error["msg"].removeprefix("Value error, ").replace("tuple", "list")
    reason = reason.replace("Tuple", "List").replace(" after validation, not 0", "").rstrip(".")
    if not error["loc"]:  # about all settings together
        return f"Invalid settings: {reason}."
    *parents, name = error["loc"]
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        fields = (inner if parents else kind).model_fields
        return f"There is no setting {where!r}. {suggest(str(name), fields)}"
    if error["type"] == "missing":
        return f"The setting {where!r} is missing."
    given = list(error["input"]) if isinstance(error["input"], tuple) else error["input"]
    return f"The setting {where!r} is {given!r}: {reason}."
