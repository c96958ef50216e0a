"""The text of ``--help``, made of signatures and docstrings, a screen for each topic."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_origin

from docstring_parser import parse as parse_docstring

from classmates.configuration.arguments import Argument, arguments_of, in_words

WIDTH = 100
COLUMN = 30

TOPICS = {
    "train": {
        "What to learn": ("data", "model", "method", "task", "recipe"),
        "The run": (
            *("epochs", "batch_size", "lr", "seed", "out", "resume", "checkpoint_steps", "max_time", "patience"),
            "keep",
        ),
        "Data": (
            *("data_dir", "label", "image_size", "mean", "std", "train_size", "val_fraction", "on_bad_image"),
            "num_workers",
        ),
        "Unequal classes": ("class_weights", "balanced_sampling"),
        "Augmentation": ("augmentation",),
        "The network": ("pretrained", "model_weights", "model_args", "stages"),
        "Optimisation": (
            *("optimizer", "optimizer_args", "schedule", "schedule_args", "warmup_epochs", "gradient_clip"),
            *("accumulate", "ema"),
        ),
        "Fine-tuning": ("layer_decay", "new_parts_lr", "freeze_stages", "freeze_epochs"),
        "Hardware": ("accelerator", "devices", "num_nodes", "strategy", "deterministic"),
        "Speed": ("precision", "memory_format", "compile", "recompute"),
        "Output": ("test", "loggers", "report", "progress"),
    },
    "improve": {
        "What is tried": ("data", "model", "methods", "seeds", "max_time"),
        "How it is trained": ("train", "val_fraction"),
        "Where it runs": ("out", "workers", "dry_run"),
    },
    "compare": {
        "What is compared": ("methods", "models", "data", "seeds", "recipe", "reference"),
        "How it is trained": ("train", "budget"),
        "Where it runs": ("out", "workers", "on", "gpus_per_run", "any_version", "dry_run"),
    },
    "sweep": {
        "What is searched": ("method", "model", "data", "space", "search", "trials", "seeds"),
        "How it is trained": ("recipe", "train", "val_fraction"),
        "Where it runs": ("out", "workers", "on", "gpus_per_run", "dry_run"),
    },
    "data": {
        "The data": ("data_dir", "label", "image_size", "val_fraction", "seed"),
        "The contact sheet": ("out",),
        "Augmentation": ("augmentation",),
    },
}
"""Which arguments belong together, by command and in the order shown; the rest are "Options"."""

EXAMPLES = {
    "train": (
        "classmates train --data ./photos --model mobilenetv3_small_100 --method MCL --method.peers 2",
        "classmates train --method.help MCL",
        "classmates train --config runs/MCL-resnet8-digits-0/config.yaml --seed 1",
    ),
    "improve": (
        "classmates improve --data ./photos --max_time 00:02:00:00",
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
}

CONFIG = Argument("config", Path, None, "a YAML file of settings, named as the flags are; flags override it.")


def command_help(command: str, function: Callable[..., Any], words: tuple[str, ...]) -> str:
    """Return the help of one command. words: the arguments that are given by position."""
    arguments = arguments_of(function)
    usage = " ".join(["classmates", command, *(placeholder(arguments[word]) for word in words), "[--FLAG VALUE ...]"])
    topics = {title: [arguments[name] for name in names] for title, names in TOPICS.get(command, {}).items()}
    placed = {argument.name for topic in topics.values() for argument in topic}
    topics["Given without a flag"] = [arguments[word] for word in words]
    topics["Options"] = [argument for name, argument in arguments.items() if name not in {*placed, *words}]
    topics["From a file"] = [CONFIG]
    parts = [usage, description(function), *sections(topics, words)]
    if command in EXAMPLES:
        parts.append("\n".join(["Examples", *(f"  {example}" for example in EXAMPLES[command])]))
    return "\n\n".join(parts)


def options_help(cls: type, options: Mapping[str, Argument], flag: str) -> str:
    """Return the help of a class that is chosen by name, such as a method; its options follow the flag with a dot."""
    rows = [flag_row(f"--{flag}.{option.name}", option) for option in options.values()]
    title = f"Options of --{flag} {cls.__name__}"
    return "\n\n".join([f"{cls.__name__}: {description(cls)}", "\n".join([title, *(rows or ["  none"])])])


def description(thing: Callable[..., Any]) -> str:
    """Return the docstring down to its first section, wrapped."""
    parsed = parse_docstring(thing.__doc__ or "")
    paragraphs = [parsed.short_description or "", *(parsed.long_description or "").split("\n\n")]
    return "\n\n".join(textwrap.fill(" ".join(text.replace("``", "").split()), WIDTH) for text in paragraphs if text)


def sections(topics: Mapping[str, Iterable[Argument]], words: tuple[str, ...]) -> Iterable[str]:
    for title, arguments in topics.items():
        rows = [text for argument in arguments for text in rows_of(argument, words)]
        if rows:
            yield "\n".join([title, *rows])


def rows_of(argument: Argument, words: tuple[str, ...]) -> Iterable[str]:
    """Yield the row of an argument, or those of the fields of a dataclass."""
    if argument.name in words:
        choices = f" ({in_words(argument.type)})" if get_origin(argument.type) is Literal else ""
        yield row(placeholder(argument), argument, choices)
    elif argument.fields:
        yield from (flag_row(f"--{argument.name}.{field.name}", field) for field in argument.fields.values())
    else:
        yield flag_row(f"--{argument.name}", argument)


def flag_row(flag: str, argument: Argument) -> str:
    """Write the row of a flag, with what it takes."""
    return row(f"{flag}.NAME VALUE" if argument.is_mapping else f"{flag} {in_words(argument.type)}", argument)


def row(start: str, argument: Argument, more: str = "") -> str:
    """Write what is typed, and beside it the help and the default."""
    indent = " " * COLUMN
    text = argument.help.replace("``", "").rstrip(".") + more + default(argument)
    lead = f"  {start} ".ljust(COLUMN)
    if len(lead) > COLUMN:
        lead = f"  {start}\n{indent}"
    return lead + f"\n{indent}".join(textwrap.wrap(text, WIDTH - COLUMN))


def placeholder(argument: Argument) -> str:
    """Write an argument that is given by position for the usage line: ``RUN``, ``IMAGES ...``, ``[WHAT]``."""
    text = argument.name.upper() + (" ..." if argument.is_list else "")
    return text if argument.required else f"[{text}]"


def default(argument: Argument) -> str:
    """Return the default in brackets, where there is one to speak of."""
    value = argument.default
    if argument.required or value in (None, "", ()):
        return ""
    if isinstance(value, bool):
        return f" [{str(value).lower()}]"
    if isinstance(value, list | tuple):
        return f" [[{','.join(map(str, value))}]]"
    return f" [{getattr(value, '__name__', value)}]"
