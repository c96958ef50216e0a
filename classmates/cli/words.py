"""The words of a command line as flags: names with underscores, values still text."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from classmates.configuration.arguments import Argument, in_words, likely, names_of, nearly
from classmates.errors import UserError

VERY = 0.75
"""From this likeness on a flag is taken for another one that was mistyped; options of methods are less like it."""
NUMBER = re.compile(r"-\.?\d")


def read(typed: Sequence[str], arguments: Mapping[str, Argument], positions: Sequence[str]) -> list[tuple[str, str]]:
    """Return (name, text) of every flag, and of every word without one, in the order typed.

    Takes ``--name value``, ``--name=value``, dashes for underscores, dotted names (``--method.peers``), the name of a
    list without its s (``--model resnet20`` where there are ``models``), and a flag that is true or false alone.

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
        if is_value(word):
            if word.startswith("-") and word != "-" and not NUMBER.match(word):  # - alone is standard input
                raise UserError(
                    f"unknown flag '{word}': flags begin with two dashes, such as --{next(iter(arguments))}"
                )
            words.append(word)
            continue
        name, equals, text = word[2:].partition("=")
        name = full_name(name.replace("-", "_"), arguments)
        if not equals and name in arguments and arguments[name].type is bool and not (left and is_value(left[0])):
            text = "true"
        elif not equals and left and is_value(left[0]):
            text = left.popleft()
        elif not equals and name.partition(".")[0] in (*arguments, "config"):  # an unknown name is another error
            takes = in_words(arguments[name].type) if name in arguments else "VALUE"
            raise UserError(f"--{name} needs a value: --{name} {takes}")
        flags.append((name, text))
    return [*flags, *by_position(words, arguments, [name for name in positions if name not in dict(flags)])]


def full_name(name: str, arguments: Mapping[str, Argument]) -> str:
    """Return the argument's name, of which a list's may lack its s."""
    several = arguments.get(f"{name}s")
    return f"{name}s" if name not in arguments and several is not None and several.is_list else name


def check_names(command: str, flags: Iterable[tuple[str, str]], arguments: Mapping[str, Argument]) -> None:
    """Raise UserError for a flag that is none and is very much like one that there is.

    Any other may be like an option of the method, which is for ``Settings`` to tell.
    """
    for name, _ in flags:
        head, _, part = name.partition(".")
        known = arguments.get(head)
        right = head == "config" or (known is not None and (not known.fields or part in known.fields))
        names = list(names_of(arguments))
        if not right and nearly(name, names, VERY):
            raise UserError(f"unknown flag '--{name}': {likely(name, names, '')}")


def is_value(word: str) -> bool:
    return not word.startswith("--")


def by_position(
    words: list[str], arguments: Mapping[str, Argument], positions: Sequence[str]
) -> list[tuple[str, str]]:
    """Return the words without a flag, under the names that they are given for."""
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
