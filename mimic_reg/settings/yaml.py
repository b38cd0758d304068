"""Read YAML from any source within a second, or refuse it with a sentence."""

import re
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from mimic_reg.errors import InputError
from mimic_reg.urls import refuse_url

# what PyYAML raises for a text that is not YAML
_NOT_YAML = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError),
    yaml.YAMLError,
)
_MOST_CHARACTERS = 1 << 16
_MOST_NODES = 5_000  # our largest file has 311
_DEEPEST = 64
_LONGEST_NUMBER = 100  # characters


class _Loader(yaml.SafeLoader):
    """Read safe YAML, refuse a repeated key, and read 1e-3 as a number.

    It ends within a second for any text: it counts nodes while it reads them, those behind aliases
    each time they are used.
    """

    def __init__(self, text: str) -> None:
        if len(text) > _MOST_CHARACTERS:
            raise InputError(
                f"The text has more than {_MOST_CHARACTERS:,} characters; settings have fewer."
            )
        super().__init__(text)
        self._num_nodes = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        before, alias = self._num_nodes, self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if alias and id(node) not in self._sizes:
            raise InputError(f"An alias in line {self._line()} refers to itself.")
        self._num_nodes += self._sizes[id(node)] if alias else 1
        if self._num_nodes > _MOST_NODES:
            raise InputError(
                f"The text has more than {_MOST_NODES:,} values up to line {self._line()}, with "
                "those behind aliases counted each time they are used; settings have fewer."
            )
        if not alias:
            self._sizes[id(node)] = self._num_nodes - before
        return node

    def _line(self) -> int:
        return int(self.line) + 1

    def fetch_flow_collection_start(self, kind: type[yaml.Token]) -> None:
        if self.flow_level > _DEEPEST:
            raise InputError(f"The brackets in line {self._line()} are nested too deeply.")
        super().fetch_flow_collection_start(kind)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        if len(node.value) > _LONGEST_NUMBER:
            raise InputError(f"The number in line {node.start_mark.line + 1} is too long.")
        whole = node.tag.endswith(":int")
        return self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        counts = Counter(key for key in keys if isinstance(key, Hashable))
        if repeated := [key for key, count in counts.items() if count > 1]:
            line = node.start_mark.line + 1
            raise InputError(
                f"The key {repeated[0]!r} is given twice in the mapping at line {line}."
            )
        return super().construct_mapping(node, deep)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)
# YAML 1.1, which PyYAML follows, requires 1.0e-3; people write 1e-3
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    [*"-+0123456789"],
)


def parse_yaml(text: str) -> Any:
    """Return the content of a YAML text; raise PyYAML's errors if it is not YAML."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def load_yaml(path: Path) -> Any:
    """Return the content of a YAML file.

    Raises:
        InputError: it is missing, or not YAML.
    """
    refuse_url(path)
    try:
        with path.open(encoding="utf-8") as file:
            return parse_yaml(file.read(_MOST_CHARACTERS + 1))
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except InputError as error:
        raise InputError(f"{path} cannot be used. {error}") from error
    except _NOT_YAML as error:
        raise InputError(f"{path} is not valid YAML: {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
