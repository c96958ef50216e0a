"""Arguments collected from YAML files and flags, checked by name, and turned into what a function takes.

Jsonargparse turns text into typed values and binds the chosen method's options. Names are checked before it sees
them, so that a wrong one is told with the nearest right one.
"""

from __future__ import annotations

import json
import re
from argparse import ArgumentError
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from jsonargparse import ArgumentParser

from classmates._yaml import read_yaml
from classmates.configuration.arguments import Argument, in_words, likely, names_of
from classmates.errors import UserError, check_finite


class Settings:
    """The values that a command was given, by name, which may have a dot (``method.peers``). What comes later wins.

    Args:
        command: the command's name.
        arguments: what it takes, by name.
    """

    def __init__(self, command: str, arguments: Mapping[str, Argument]):
        self.command = command
        self.arguments = arguments
        self.values: dict[str, Any] = {}
        self.spelled: dict[str, str] = {}

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

        by_method = {} if "methods" in self.arguments else content.pop("methods", {})
        self.add({str(name): value for name, value in content.items()}, spell)
        if by_method:
            kind = self.chosen("method") if method is None else self.classes.MethodSpec.find(method)
            self.add(self.classes.for_method(by_method, kind), spell)

    def add_flags(self, flags: Iterable[tuple[str, str]]) -> None:
        given = {name: self.listed(name, text) for name, text in flags}
        self.add(given, lambda name: f"flag '--{name}'")

    def listed(self, name: str, text: str) -> str | list[str]:
        """Return a flag's text, in brackets where it is a list without them (``resnet20,vgg16``); of texts, the list.

        YAML has no names of files that are not Unicode.
        """
        kind = self.arguments[name].item_type if name in self.arguments else None
        if kind is str and text.startswith("["):
            with suppress(ValueError):
                items = json.loads(text)
                return items if all(isinstance(item, str) for item in items) else text
        if text.startswith("[") or text == "null" or (kind is int and "," not in text):
            return text
        if kind is str:
            return cut_at_commas(text)
        return f"[{text}]" if kind is int else text

    def add(self, given: Mapping[str, Any], spell: Callable[[str], str]) -> None:
        """Add values; ``spell`` says of a name how the user gave it, for errors."""
        flat = dict(self.flatten(given))
        for name in [name for name in flat if name in self.arguments and self.arguments[name].is_class]:
            if flat[name] is not None:
                flat[name] = self.classes.family_for(self.arguments[name]).find(flat[name])
            if flat[name] is not self.chosen(name):  # the options so far were another one's
                self.forget_parts(name)
        flat = {self.present_name(name, flat): value for name, value in flat.items()}
        for name in flat:
            if f"{name}_args" in self.arguments and flat[name] != self.chosen(name):
                self.forget_parts(f"{name}_args")  # another optimiser's, another schedule's
        self.values |= flat
        self.spelled |= {name: spell(name) for name in flat}

    def present_name(self, name: str, given: Mapping[str, Any]) -> str:
        """Return the present name of a method's option that is given by the name it had in earlier versions."""
        head, _, part = name.partition(".")
        by_class = bool(part) and head in self.arguments and self.arguments[head].is_class
        kind = given.get(head, self.chosen(head)) if by_class else None
        return name if kind is None else f"{head}.{kind.renamed.get(part, part)}"

    def forget_parts(self, name: str) -> None:
        """Drop what was given under an argument's name and a dot."""
        self.values = {key: value for key, value in self.values.items() if not key.startswith(f"{name}.")}

    def flatten(self, given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield the values, nested ones by dotted names, and the name of a class by that of its argument."""
        for name, value in given.items():
            argument = self.arguments.get(name)
            if argument is None or not argument.has_parts or not isinstance(value, Mapping | None):
                yield name, value
                continue
            parts = {str(part): inner for part, inner in (value or {}).items()}
            if argument.is_class:
                yield name, parts.pop("class_path", argument.default)
                options = parts.pop("init_args", None) or {}
                if not isinstance(options, Mapping):
                    raise UserError(f"{name}: init_args must have lines 'option: value', not {options!r}")
                parts |= {str(option): inner for option, inner in options.items()}
            yield from ((f"{name}.{part}", inner) for part, inner in parts.items())

    def chosen(self, name: str) -> Any:
        """Return the class, or another value, that the argument ``name`` has for now."""
        return self.values.get(name, self.arguments[name].default)

    def parts_of(self, argument: Argument) -> dict[str, Argument]:
        """Return what may follow the argument's name and a dot, where that is known."""
        if not argument.is_class:
            return argument.fields
        chosen = self.chosen(argument.name)
        return {} if chosen is None else self.classes.options_of(chosen)

    def find(self, name: str) -> Argument | None:
        """Return the argument of this name, dotted or not; None where there is none."""
        head, _, part = name.partition(".")
        argument = self.arguments.get(head)
        if argument is None or not part:
            return None if argument is None or argument.fields or argument.is_mapping else argument
        if argument.is_class and self.chosen(head) is None:
            raise UserError(f"{self.spelled[name]} is an option of a {head}: say which with --{head}")
        if argument.is_mapping or (argument.is_class and self.classes.takes_any_option(self.chosen(head))):
            return Argument(part, Any, None, "")
        return self.parts_of(argument).get(part)

    def check_names(self) -> None:
        """Raise UserError for the first unknown name and for the first that is missing."""
        for name in self.values:
            if self.find(name) is None:
                head, _, part = name.partition(".")
                if head in self.arguments and self.arguments[head].is_class:
                    raise self.classes.unknown_option(part, self.chosen(head), head, self.command)
                hint = likely(name, self.every_name(), f"classmates {self.command} --help")
                raise UserError(f"unknown {self.spelled[name]}: {hint}")
        for name, argument in self.arguments.items():
            if argument.required and name not in self.values:
                raise UserError(f"{self.command} needs {name.upper()}: {argument.help.rstrip('.')}")

    def check_nulls(self) -> None:
        """Raise UserError for the first null in the place of a value; jsonargparse takes one for none given."""
        for name, value in self.values.items():
            argument = self.find(name)
            if value is None and argument is not None and not argument.takes_null:
                raise UserError(f"{self.spelled[name]} takes {in_words(argument.type)}, not 'null'")

    def every_name(self) -> Iterator[str]:
        yield from names_of(self.arguments)
        for name, argument in self.arguments.items():
            if argument.is_class:
                yield from (f"{name}.{part}" for part in self.parts_of(argument))

    def typed(self) -> dict[str, Any]:
        """Return every argument with its typed value; UserError for an unknown name or a value of another type."""
        self.check_names()
        self.check_nulls()
        parser = ArgumentParser(exit_on_error=False)
        for name, argument in self.arguments.items():
            default = None if argument.required else argument.default
            parser.add_argument(f"--{name}", type=argument.type, default=default)
        try:
            typed = dict(vars(parser.instantiate(parser.parse_object(self.nested()))))
        except ArgumentError as error:
            raise self.wrong_value(str(error)) from error
        for name, value in typed.items():
            if self.arguments[name].is_class and value is not None:
                family = self.classes.family_for(self.arguments[name])
                typed[name] = self.classes.as_spec(value, family, self.given_parts(name))
                check_finite(name, typed[name].options)
            else:
                check_finite(name, value)
        return typed

    def given_parts(self, name: str) -> frozenset[str]:
        """Return what was given under an argument's name and a dot."""
        return frozenset(key.partition(".")[2] for key in self.values if key.startswith(f"{name}."))

    def nested(self) -> dict[str, Any]:
        """Return the values as jsonargparse wants them."""
        nested: dict[str, Any] = {}
        for name, value in sorted(self.values.items()):  # a class comes before its options
            head, _, part = name.partition(".")
            if not part:
                nested[head] = self.classes.as_class(value) if isinstance(value, type) else value
            elif self.arguments[head].is_class:
                nested.setdefault(head, self.classes.as_class(self.chosen(head)))["init_args"][part] = value
            else:
                nested[head] = {**(nested.get(head) or {}), part: value}
        return nested

    def wrong_value(self, message: str) -> UserError:
        """Put jsonargparse's message, which names the arguments from the outermost inwards, into plain words."""
        name = ".".join(re.findall(r'Parser key "([\w.]+)"', message))
        argument = self.find(name)
        if argument is None or name not in self.values:
            return UserError(message)
        return UserError(f"{self.spelled[name]} takes {in_words(argument.type)}, not '{self.values[name]}'")


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
