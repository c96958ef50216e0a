"""What was typed, cut into flags: names with underscores, values still text."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Mapping, Sequence

from classmates.cli.arguments import Argument, in_words
from classmates.errors import UserError

NUMBER = re.compile(r"-\.?\d")


def read(typed: Sequence[str], arguments: Mapping[str, Argument], positions: Sequence[str]) -> list[tuple[str, str]]:
    """(name, text) of every flag, and of every word without one, in the order typed.

    Takes ``--name value``, ``--name=value``, dashes for underscores, and dotted names (``--method.peers``).

    Args:
        typed: what follows the command.
        arguments: the command's, by name.
        positions: which of them are given without a flag, in their order; a list among them takes all that is left.

    Raises:
        UserError: a flag without a value, or a word that is none too many.
    """
    left = deque(typed)
    flags: list[tuple[str, str]] = []
    words: list[str] = []
    while left:
        word = left.popleft()
        if not word.startswith("--"):
            if word.startswith("-") and not NUMBER.match(word):
                raise UserError(
                    f"unknown flag '{word}': flags begin with two dashes, such as --{next(iter(arguments))}"
                )
            words.append(word)
            continue
        name, equals, text = word[2:].partition("=")
        name = name.replace("-", "_")
        if not equals and left and not left[0].startswith("--"):
            text = left.popleft()
        elif not equals and name.partition(".")[0] in (*arguments, "config"):  # an unknown name is another error
            takes = in_words(arguments[name].type) if name in arguments else "VALUE"
            raise UserError(f"--{name} needs a value: --{name} {takes}")
        flags.append((name, text))
    return [*flags, *by_position(words, arguments, [name for name in positions if name not in dict(flags)])]


def by_position(
    words: list[str], arguments: Mapping[str, Argument], positions: Sequence[str]
) -> list[tuple[str, str]]:
    """The words without a flag, under the names that they are given for."""
    found = []
    for name in positions:
        if words and arguments[name].is_list:
            found.append((name, json.dumps(words)))
            words = []
        elif words:
            found.append((name, words.pop(0)))
    if words:
        raise UserError(f"'{words[0]}' is one word too many: every value follows its flag, --FLAG VALUE")
    return found
