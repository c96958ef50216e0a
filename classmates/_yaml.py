"""Settings and records in YAML, read without running anything and without surprises."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from classmates._files import regular_text
from classmates.errors import UserError

MOST_NODES = 100_000
"""How many values a file may hold, those that it repeats by an alias counted each time."""


TEXT = "tag:yaml.org,2002:str"
STRICT = {
    "tag:yaml.org,2002:bool": re.compile(r"(true|True|TRUE|false|False|FALSE)$"),
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(0|[1-9][0-9]*)$"),
    "tag:yaml.org,2002:float": re.compile(
        r"([-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
}
"""What a word that is no text looks like."""


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader that refuses what it takes in silence: a key given twice, aliases that multiply.

    What only YAML 1.1 takes for a number, a date or true or false is a text, as where a flag gives it: 010 (8), 1:30
    (90), 2024-01-01, on, yes.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, STRICT.get(tag, pattern)) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        check_size(node)
        return self.construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen and key.value != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' is given twice: leave one of them out", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def check_size(root: yaml.Node) -> None:
    """Raise an error of YAML for aliases that make a small file hold a great many values, or itself."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        key = id(node)
        if key in open_nodes:
            raise yaml.constructor.ConstructorError(
                None, None, "an alias stands within what it names", node.start_mark
            )
        if key not in sizes:
            open_nodes.add(key)
            inner = [] if isinstance(node, yaml.ScalarNode) else node.value
            parts = [part for entry in inner for part in (entry if isinstance(entry, tuple) else (entry,))]
            sizes[key] = 1 + sum(map(size, parts))
            open_nodes.remove(key)
        return sizes[key]

    if size(root) > MOST_NODES:
        raise yaml.constructor.ConstructorError(
            None, None, f"it holds more than {MOST_NODES:,} values", root.start_mark
        )


def is_text(word: str) -> bool:
    """Return whether a word is a text that only YAML 1.1 takes for a number or a date: 007, 1:30, 2024-01-01."""
    own, other = (loader("").resolve(yaml.ScalarNode, word, (True, False)) for loader in (Loader, yaml.SafeLoader))
    return own == TEXT and other not in (TEXT, "tag:yaml.org,2002:bool")


def parse_yaml(text: str) -> Any:
    """Return what a text in YAML holds; ``yaml.YAMLError`` or ``ValueError`` where it cannot be used."""
    return yaml.load(text, Loader)


def read_yaml(path: Path, what: str) -> Any:
    """Return what a YAML file holds, plain values alone.

    Args:
        path: of the file.
        what: begins the message of an error, such as ``--config FILE``.

    Raises:
        UserError: the file cannot be read, is no YAML, gives a key twice, or its aliases multiply.
    """
    try:
        return parse_yaml(regular_text(path))
    except OSError as error:
        raise UserError(f"{what}: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # values: not UTF-8, a date that there is not
        raise UserError(f"{what} is no YAML file that can be used: {' '.join(str(error).split())}") from error
