"""The words of a command line as flags: names with underscores, values still text."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import takewhile
from shlex import quote
from typing import Any

from classmates._outlines import OUTLINES
from classmates.cli.help import GENERAL
from classmates.configuration.arguments import Argument, flat, from_elsewhere, in_words, likely, named
from classmates.errors import UserError

VERY = 0.75
"""From this likeness on a flag is taken for another one that was mistyped; options of methods are less like it."""
NUMBER = re.compile(r"-\.?\d")


def read(typed: Sequence[str], arguments: Mapping[str, Argument], positions: Sequence[str]) -> list[tuple[str, Any]]:
    """Return (name, text) of every flag, and of the words without one, in the order typed.

    Takes ``--name value``, ``--name=value``, dashes for underscores, dotted names (``--method.peers``), the name of a
    list without its s (``--model resnet20`` where there are ``models``), and a flag that is true or false alone.

    Args:
        typed: what follows the command.
        arguments: the command's, by name.
        positions: which of them are given without a flag, in their order; a list among them takes all that is left.

    Raises:
        UserError: a flag that is like another one, a flag without a value, or a word that is none too many.
    """
    known, left = flat(arguments), deque(typed)
    flags: list[tuple[str, Any]] = []
    words: list[str] = []
    while left:
        word = left.popleft()
        if word.startswith("--"):
            name, equals, text = word[2:].partition("=")
            if f"--{name}" in GENERAL:  # alone, it was taken out before
                raise UserError(f"--{name} takes no value: leave '={text}' out")
            name = full_name(name.replace("-", "_"), arguments)
            check_name(name, arguments, known)
            if name in dict(flags) and name != "config":
                raise UserError(f"--{name} is given twice: once is enough; several values are --{name} A,B")
            flags.append((name, text if equals else value_of(name, left, arguments, known)))
        elif word.startswith("-") and word != "-" and not NUMBER.match(word):  # - alone is standard input
            raise UserError(f"unknown flag '{word}': flags begin with two dashes, such as --{next(iter(arguments))}")
        else:
            words.append(word)
    for name in positions:
        if words and name not in dict(flags):
            several = arguments[name].item_type is not None
            flags.append((name, words if several else words[0]))
            words = [] if several else words[1:]
    if words:
        leading = words[0] in takewhile(lambda word: not word.startswith("--"), typed)
        flag = flag_of(words[0]) if leading else None
        fits = flag in arguments and flag not in dict(flags)
        fix = f"did you mean --{flag} {quote(words[0])}?" if fits else "every value follows its flag, --FLAG VALUE"
        raise UserError(f"'{words[0]}' is one word too many: {fix}")
    return flags


def flag_of(word: str) -> str | None:
    """Return the flag that is likely meant by a word without one, by what the word looks like."""
    if word.endswith((".yaml", ".yml")):
        return "config"
    data_sets = OUTLINES.named("classmates.data.readers.by_name", "NAMED")
    return "data" if "/" in word or word.startswith("hf:") or word in data_sets or os.path.exists(word) else None


def full_name(name: str, arguments: Mapping[str, Argument]) -> str:
    """Return the argument's name, of which a list's may lack its s."""
    several = arguments.get(f"{name}s")
    return f"{name}s" if name not in arguments and several is not None and several.item_type else name


def check_name(name: str, arguments: Mapping[str, Argument], known: Mapping[str, Argument]) -> None:
    """Raise UserError for a flag that is none and is what others call one, or very much like one, that there is.

    Any other may be like an option of the method, which is for ``Settings`` to tell.
    """
    head = name.partition(".")[0]
    of_class = head in arguments and arguments[head].base is not None
    if of_class or named(name, known):
        return
    if from_elsewhere(name, known) or get_close_matches(name, known, 1, VERY):
        raise UserError(f"unknown flag '--{name}': {likely(name, known, '')}")


def value_of(name: str, left: deque[str], arguments: Mapping[str, Argument], known: Mapping[str, Argument]) -> str:
    """Take the value of a flag from the words that are left, where it is there; true is one that need not be."""
    argument = named(name, known)
    if left and not left[0].startswith("--"):
        return left.popleft()
    if argument is not None and argument.type is bool:
        return "true"
    if name.partition(".")[0] in arguments:  # an unknown name is another error
        raise UserError(f"--{name} needs a value: --{name} {in_words(argument.type) if argument else 'VALUE'}")
    return ""
