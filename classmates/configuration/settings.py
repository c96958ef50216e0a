"""Arguments collected from YAML files and flags, checked by name, and turned into what a function takes.

Names are checked here, so that a wrong one is told with the nearest right one; jsonargparse makes a typed value of
each text.
"""

from __future__ import annotations

import os
from argparse import ArgumentError
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_origin

from jsonargparse import ArgumentParser

from classmates._names import in_unicode
from classmates._yaml import is_text, read_yaml
from classmates.configuration.arguments import (
    ANY_NAME,
    Argument,
    alternatives,
    flat,
    for_terminal,
    from_elsewhere,
    in_words,
    likely,
    named,
    spellings,
)
from classmates.errors import UserError, check_finite


class Settings:
    """What a command was given, by name, which may have a dot (``method.peers``). What comes later wins.

    Args:
        command: the command's name.
        arguments: what it takes, by name.
        positions: those of them that are typed without a flag.

    Attributes:
        kinds: the class that is chosen for each argument that takes one by name; None where none is.
        values: of all else, at first the defaults.
        spelled: how the user gave each value, for errors.
        chosen: the arguments whose class was named, and is not the default alone.
    """

    def __init__(self, command: str, arguments: Mapping[str, Argument], positions: Sequence[str] = ()):
        self.command = command
        self.arguments = arguments
        self.positions = positions
        self.kinds = {name: argument.default for name, argument in arguments.items() if argument.base}
        self.values = {
            name: argument.default
            for name, argument in arguments.items()
            if not (argument.base or argument.parts or argument.required)
        }
        self.spelled: dict[str, str] = {}
        self.chosen: set[str] = set()

    @cached_property
    def classes(self) -> ModuleType:
        """What is known of classes that are chosen by name; imported for them alone, with all of PyTorch."""
        from classmates.configuration import choosing

        return choosing

    def add_file(self, path: Path, method: str | None = None) -> None:
        """Add what a YAML file says.

        Args:
            path: of the file. Under ``methods`` it may have settings for single methods, by name.
            method: the name of the method that flags choose, over the file's.

        Raises:
            UserError: the file cannot be read.
        """
        content = read_yaml(path, f"--config {path}")
        if not isinstance(content, dict):
            raise UserError(f"--config {path} must have lines 'name: value', the names those of the flags")
        if "rows" in content and "rows" not in self.arguments:
            raise UserError(f"--config {path} is a recipe for several runs: classmates compare --recipe {path}")

        def spell(name: str) -> str:
            return f"key '{name}' in {path}"

        by_method = content.pop("methods", {}) if "method" in self.kinds else {}
        self.add({str(name): value for name, value in content.items()}, spell)
        if by_method:
            kind = self.kinds["method"] if method is None else self.find("method", method)
            self.add(self.classes.for_method(by_method, kind), spell)

    def add_flags(self, flags: Iterable[tuple[str, Any]]) -> None:
        """Add flags, in the order typed."""

        def spell(name: str) -> str:
            return f"flag '--{name}'"

        given = dict(flags)
        self.add({name: given.pop(name) for name in self.kinds if name in given}, spell)
        known = self.known()  # among it the options of the classes that these have chosen
        self.add({name: self.listed(name, value, known) for name, value in given.items()}, spell)

    def listed(self, name: str, value: Any, known: Mapping[str, Argument]) -> Any:
        """Return what a flag gives for a list: its items, which commas may part (``resnet20,vgg16``)."""
        argument = named(name, known)
        kind, takes = (None, ()) if argument is None else (argument.item_type, alternatives(argument.type))
        if name not in self.arguments and str in takes:
            return value  # the path of one teacher, which may have a comma in it
        one_word = kind in (int, float, str) or get_origin(kind) is Literal
        if not one_word or isinstance(value, list) or value.startswith("[") or value == "null":
            return value
        number = kind is int and int in takes and "," not in value  # how many, which is no list of one
        return value if number else cut_at_commas(value)

    def add(self, given: Mapping[str, Any], spell: Callable[[str], str]) -> None:
        """Add values; ``spell`` says of a name how the user gave it, for errors."""
        new = dict(self.flatten(given))
        for name in [name for name in self.kinds if name in new]:
            kind = self.find(name, new.pop(name))
            if kind is not self.kinds[name] and name in self.chosen:
                self.forget_parts(name)  # options of the one so far; those given for none so far are this one's
            self.kinds[name] = kind
            self.chosen.add(name)
        for name, value in new.items():
            before = self.values.get(name)
            if f"{name}_args" in self.arguments and before and str(before).lower() != str(value).lower():
                self.forget_parts(f"{name}_args")  # another optimiser's, another schedule's
        for name, value in new.items():
            head, _, part = name.partition(".")
            kind = self.kinds.get(head)
            present = name if kind is None else f"{head}.{kind.renamed.get(part, part)}"
            self.values[present], self.spelled[present] = value, spell(present)

    def find(self, name: str, called: Any) -> Any:
        """Return the class that an argument takes by what it is called; None stays None."""
        return None if called is None else self.classes.family_of(self.arguments[name].base).find(called)

    def forget_parts(self, name: str) -> None:
        """Drop what was given under an argument's name and a dot."""
        self.values = {key: value for key, value in self.values.items() if not key.startswith(f"{name}.")}

    def flatten(self, given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield the values, nested ones by dotted names, and the name of a class by that of its argument."""
        for name, value in given.items():
            argument = self.arguments.get(name)
            nested = argument is not None and (argument.base or argument.parts)
            if argument is None or not nested or not isinstance(value, Mapping | None):
                yield name, value
                continue
            parts = dict(value or {})
            if argument.base:
                if value is None or "class_path" in parts:
                    yield name, parts.pop("class_path", argument.default)
                options = parts.pop("init_args", None) or {}
                if not isinstance(options, Mapping):
                    raise UserError(f"{name}: init_args must have lines 'option: value', not {options!r}")
                parts |= options
            yield from ((f"{name}.{part}", inner) for part, inner in parts.items())

    def checked(self) -> dict[str, Argument]:
        """Return ``known``; UserError for a name that is not known, or an argument that is needed and not given."""
        known = self.known()
        for name in self.values:
            if named(name, known) is None:
                raise self.unknown(name, known)
        typed = spellings(self.arguments, self.positions)
        for name, argument in self.arguments.items():
            if argument.required and name not in self.values:
                value = "" if name in self.positions else f" {in_words(argument.type)}"
                told = for_terminal(argument.help, typed).rstrip(".")
                raise UserError(f"{self.command} needs {typed[name]}{value}: {told}")
        return known

    def typed(self) -> dict[str, Any]:
        """Return every argument with its typed value; UserError as of ``checked``, or for a value of another type."""
        known = self.checked()
        values = {name: self.typed_value(name, known) for name in self.values}
        return {name: self.whole(name, argument, values) for name, argument in self.arguments.items()}

    def known(self) -> dict[str, Argument]:
        """Return all that can be given a value, by name; among it the options of the classes that are chosen."""
        known = flat(self.arguments)
        for name, kind in self.kinds.items():
            options = {} if kind is None else self.classes.options_of(kind)
            known |= {f"{name}.{option}": argument for option, argument in options.items()}
        return known

    def unknown(self, name: str, known: Mapping[str, Argument]) -> UserError:
        """Make the error for a name that is not known."""
        head, _, option = name.partition(".")
        if head in self.kinds and self.kinds[head] is None:
            return UserError(f"{self.spelled[name]} is an option of a {head}: say which with --{head}")
        if head in self.kinds:
            return self.classes.unknown_option(option, self.kinds[head], head, self.command)
        if meant := from_elsewhere(name, known):
            return UserError(f"unknown {self.spelled[name]}: did you mean {meant}?")
        hint = likely(name, known, f"classmates {self.command} --help")
        having = self.classes.having(name, self.kinds) if self.kinds else None
        if having and not any(one.endswith(f".{name}") for one in known):
            hint = f"did you mean {having}?"
        if option == "help":
            hint = f"`classmates train --{name} NAME` shows the options of one"
        elif f"train.{ANY_NAME}" in known:
            hint = (
                f"settings of every run are given as --train.{name} (`classmates train --help` shows which there are)"
            )
        return UserError(f"unknown {self.spelled[name]}: {hint}")

    def typed_value(self, name: str, known: Mapping[str, Argument]) -> Any:
        """Return one value with its type; UserError for another, and for a number that is not finite."""
        argument, value = named(name, known), self.values[name]
        assert argument is not None  # names have been checked
        takes = alternatives(argument.type)
        if isinstance(value, str) and Path in takes:
            value = os.path.expanduser(value)  # a Path would take a slash off an address
        text = bool({str, Path} & {*takes}) and not {int, float, Any} & {*takes}
        if type(value) is int and text:  # a class or a folder called 7, in a file
            value = str(value)
        if argument.type is Any and isinstance(value, str) and is_text(value):
            return value
        try:
            if value is None and not argument.takes_null:  # which jsonargparse takes for none given
                raise ArgumentError(None, "null")
            if value == "" and argument.default != "" and argument.type is not Any:  # a variable that was not set
                raise ArgumentError(None, "empty")
            if isinstance(value, str) and value != in_unicode(value) and Path in takes:
                return Path(value)  # jsonargparse reads no text that is not Unicode
            typed = parser_for(argument.type).parse_object({"value": value}).as_dict()["value"]
        except ArgumentError as error:
            shown = "null" if value is None else value
            fix = ": put it in quotes" if text and isinstance(value, bool | float) else ""
            raise UserError(f"{self.spelled[name]} takes {in_words(argument.type)}, not '{shown}'{fix}") from error
        check_finite(name, typed)
        return typed

    def whole(self, name: str, argument: Argument, values: Mapping[str, Any]) -> Any:
        """Return an argument made of its typed value, or of those of its parts."""
        parts = {key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{name}.")}
        if name in self.kinds:
            return self.kinds[name] and self.classes.spec_of(self.kinds[name], parts)
        if is_dataclass(argument.type):
            return replace(argument.default, **parts)
        return values.get(name, parts or argument.default)


@cache
def parser_for(hint: Any) -> ArgumentParser:
    """Return what makes typed values for an annotation."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    return parser


def cut_at_commas(text: str) -> list[str]:
    """Cut a text at its commas outside brackets: ``MCL(peers=2, beta=0.1),CORSD`` are two."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]
