"""Every command as argparse has it, by signature and docstring, for its help and for what completes its words."""

from __future__ import annotations

import textwrap
from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter, _ArgumentGroup, _SubParsersAction
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import get_terminal_size
from typing import Any, Literal, get_args, get_origin

from docstring_parser import parse as parse_docstring

from classmates._outlines import OUTLINES
from classmates._text import filled
from classmates.cli.fitting import NARROWEST
from classmates.configuration.arguments import (
    Argument,
    alternatives,
    arguments_of,
    flat,
    for_terminal,
    in_words,
    spellings,
)

TOPICS = {
    "train": {
        "data": "What to learn",
        "epochs": "The run",
        "data_dir": "Data",
        "augmentation": "Augmentation",
        "class_weights": "Unequal classes",
        "num_workers": "Data",
        "pretrained": "The network",
        "optimizer": "Optimisation",
        "layer_decay": "Fine-tuning",
        "accumulate": "Optimisation",
        "freeze_stages": "Fine-tuning",
        "patience": "The run",
        "gradient_clip": "Optimisation",
        "accelerator": "Hardware",
        "precision": "Speed",
        "deterministic": "Hardware",
        "max_time": "The run",
        "loggers": "Output",
    },
    "improve": {"data": "What is tried", "val_fraction": "How it is trained", "out": "Where it runs"},
    "compare": {
        "methods": "What is compared",
        "train": "How it is trained",
        "reference": "What is compared",
        "out": "Where it runs",
    },
    "sweep": {"method": "What is searched", "recipe": "How it is trained", "out": "Where it runs"},
    "data": {"data_dir": "The data", "augmentation": "Augmentation", "out": "The contact sheet"},
}
"""The topic from each of these arguments on, in the signature's order, by command; else it is "Options"."""

EXAMPLES = {
    "": (
        "classmates train --data ./photos --model mobilenetv3_small_100 --method MCL",
        "classmates compare --methods Baseline,MCL --data ./photos --model mobilenetv3_small_100 --seeds 3",
        "classmates predict runs/MCL-mobilenetv3_small_100-photos-0 ./new_photos",
    ),
    "train": (
        "classmates train --data ./photos --model mobilenetv3_small_100 --method MCL --method.peers 2",
        "classmates train --method.help MCL",
        "classmates train --config runs/MCL-resnet8-digits-0/config.yaml --seed 1",
    ),
    "improve": (
        "classmates improve --data ./photos --max_time 2h",
        "classmates improve --data ./photos --model mobilenetv3_small_100 --methods MCL,DML --seeds 5",
    ),
    "compare": (
        "classmates compare --methods Baseline,CORSD,MCL --data cifar100 --model resnet32 --seeds 3",
        "classmates compare --methods 'MCL,MCL(peers=2)' --reference MCL --train.epochs 30 --dry_run",
        "classmates compare --recipe papers/mcl-okd/table1 --model resnet32 --out comparisons/table1",
    ),
    "sweep": (
        "classmates sweep --method MCL --space.method.beta [0.01,0.025,0.1] --space.lr [0.05,0.1]",
        "classmates sweep --method CORSD --search random --trials 20 --space.lr 'loguniform(0.01, 0.2)'",
    ),
    "evaluate": (
        "classmates evaluate runs/photos --data ./other_photos --answers answers.csv",
        "classmates evaluate runs/photos --calibrated --corruptions",
    ),
    "transfer": ("classmates transfer runs/photos --data ./flowers",),
    "predict": (
        "classmates predict runs/photos ./new_photos --out predictions.csv",
        "classmates predict runs/photos ./new_photos --support ./new_classes --none_above 1",
    ),
    "export": (
        "classmates export runs/photos --formats all",
        "classmates export runs/photos --format onnx --preprocessing true",
    ),
    "push": ("classmates push runs/photos OWNER/NAME --license mit",),
    "report": ("classmates report runs/photos", "classmates report comparisons/table1 --out table1.html"),
    "describe": (
        "classmates describe mobilenetv3_small_100 --image_size 96",
        "classmates describe my_net.py:MyNet --num_classes 10",
    ),
    "data": ("classmates data ./photos", "classmates data ./photos --augmentation.policy RandAugment"),
    "list": ("classmates list methods", "classmates list models --pattern 'mobilenet*'"),
    "completion": (
        "classmates completion bash > ~/.local/share/bash-completion/completions/classmates",
        "classmates completion zsh > FOLDER/_classmates",
        "classmates completion fish > ~/.config/fish/completions/classmates.fish",
    ),
}
"""The examples of each command, and those of the overview."""

CONFIG = Argument(
    name="config",
    type=Path,
    default=None,
    help="settings in YAML, named as the flags are; flags go over the file. Or the name of a file that comes with "
    "the package, such as recipes/demo.yaml",
)
"""What every command takes beside its function's arguments, and ``GENERAL``."""
GENERAL = {
    "--quiet": "only results and errors: no notes, no progress",
    "--verbose": "also what the libraries underneath say, and where in the code an error arose",
    "--help": "show this",
}
"""Flags without a value that every command takes."""

NAMES = {"method": "classmates.methods", "methods": "classmates.methods", "model": "classmates.models"}
"""The modules whose public names complete the value of an argument."""
FILES = ("data", "images", "recipe")
"""The arguments that are often a file or a folder, beside those that always are."""


def overview_parser() -> tuple[ArgumentParser, _SubParsersAction[ArgumentParser]]:
    """Return the parser of the program, and what takes the commands, which its help lists with their summaries."""
    parser = ArgumentParser(
        prog="classmates",
        usage="classmates COMMAND [--FLAG VALUE ...]",
        description="More accurate image classifiers without a bigger teacher.",
        epilog=f"{examples(EXAMPLES[''])}\n\nclassmates COMMAND --help explains a command.",
        **FORM,
    )
    return parser, parser.add_subparsers(title="Commands", metavar="COMMAND [--help]")


def command_parser(
    command: str,
    function: Callable[..., Any],
    words: tuple[str, ...],
    make: Callable[..., ArgumentParser] = ArgumentParser,
) -> ArgumentParser:
    """Return a command with all that it takes, in groups by topic.

    words: the arguments that are given by position. make: makes the parser, from texts.
    """
    arguments = arguments_of(function)
    typed = spellings(arguments, words)
    placeholders = [placeholder(arguments[word]) for word in words]
    parser = make(
        prog=f"classmates {command}",
        usage=" ".join(["classmates", command, *placeholders, "[--FLAG VALUE ...]"]),
        description=description(function, typed),
        epilog=examples(EXAMPLES[command]),
        **FORM,
    )
    group = parser.add_argument_group("Given without a flag")
    for name in words:
        add_word(group, arguments.pop(name), typed)
    title, groups = "Options", {}
    for name, argument in arguments.items():
        title = TOPICS.get(command, {}).get(name, title)
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        for flag, part in flat({name: argument}).items():
            add(groups[title], f"--{flag}", part, typed)
    group = parser.add_argument_group("Every command")
    add(group, "--config", CONFIG, {})
    for flag, text in GENERAL.items():
        group.add_argument(flag, help=text, action="store_true")
    return parser


def options_parser(cls: type, options: Mapping[str, Argument], flag: str) -> ArgumentParser:
    """Return a class that is chosen by name, such as a method, with its options, which follow the flag with a dot."""
    typed = {name: f"--{flag}.{name}" for name in options}
    parser = ArgumentParser(usage=SUPPRESS, description=description(cls, typed, f"{cls.__name__}: "), **FORM)
    group = parser.add_argument_group(f"Options of --{flag} {cls.__name__}", None if options else "none")
    for name, option in options.items():
        add(group, typed[name], option, typed)
    return parser


class HelpFormatter(RawDescriptionHelpFormatter):
    """argparse's, which breaks no word at a hyphen, so that names and paths can be copied."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return filled(" ".join(text.split()), width, "")


FORM: dict[str, Any] = {
    "formatter_class": partial(HelpFormatter, max_help_position=30),
    "add_help": False,
}
"""How all parsers write their help."""


def description(thing: Callable[..., Any], typed: Mapping[str, str], start: str = "") -> str:
    """Return the docstring down to its first section, wrapped; the arguments in it as they are typed."""
    parsed, width = parse_docstring(thing.__doc__ or ""), max(get_terminal_size().columns, NARROWEST) - 2
    paragraphs = [start + (parsed.short_description or ""), *(parsed.long_description or "").split("\n\n")]
    shown = (for_terminal(" ".join(text.split()), typed) for text in paragraphs if text)
    return escaped("\n\n".join("\n".join(filled(text, width, "")) for text in shown))


def examples(lines: Sequence[str]) -> str:
    """Return commands to copy, long ones over several lines."""
    columns = max(get_terminal_size().columns, NARROWEST)
    words = textwrap.TextWrapper(columns - 8, break_long_words=False, break_on_hyphens=False)
    wrapped = [" \\\n      ".join(words.wrap(line)) for line in lines]
    return "\n  ".join(["Examples:", *wrapped])


def add_word(group: _ArgumentGroup, argument: Argument, typed: Mapping[str, str]) -> None:
    """Add an argument that is given by position."""
    listed = f" ({in_words(argument.type)})" if choices_of(argument) else ""
    told = replace(argument, help=argument.help.rstrip(".") + listed)
    add(group, argument.name, told, typed, metavar=argument.name.upper(), nargs="*" if argument.item_type else None)


def add(group: _ArgumentGroup, name: str, argument: Argument, typed: Mapping[str, str], **how: Any) -> None:
    """Add an argument: its name as typed, what it takes, its help, and what completes its value.

    typed: how the others, which its help may speak of, are typed.
    """
    file = Path in alternatives(argument.type) or argument.name in FILES
    how = {"metavar": in_words(argument.type), "type": Path if file else None, **how}
    group.add_argument(name, help=help_of(argument, typed), choices=choices_of(argument), **how)


def choices_of(argument: Argument) -> list[str] | None:
    """Return the words that an argument takes, or the names of this package's that it takes beside others."""
    literals = [part for part in alternatives(argument.type) if get_origin(part) is Literal]
    if argument.name in NAMES:
        return [*OUTLINES.named(NAMES[argument.name], "__all__")]
    return ["true", "false"] if argument.type is bool else [*get_args(literals[0])] if literals else None


def help_of(argument: Argument, typed: Mapping[str, str]) -> str:
    """Return what the docstring says, and the default in brackets, where there is one to speak of."""
    value, shown = argument.default, ""
    if isinstance(value, bool):
        shown = str(value).lower()
    elif isinstance(value, list | tuple):
        shown = f"[{','.join(map(str, value))}]" if value else ""
    elif value is not None and not argument.required:
        shown = getattr(value, "__name__", str(value))
    return escaped(for_terminal(argument.help, typed).rstrip(".") + (f" [{shown}]" if shown else ""))


def escaped(text: str) -> str:
    """Return a text as argparse shows it unchanged."""
    return text.replace("%", "%%")


def placeholder(argument: Argument) -> str:
    """Write an argument that is given by position for the usage line: ``RUN``, ``IMAGES ...``, ``[WHAT]``."""
    text = argument.name.upper() + (" ..." if argument.item_type else "")
    return text if argument.required else f"[{text}]"
