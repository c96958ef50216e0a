"""``classmates completion``: what a shell needs to complete commands, their flags and the values of these."""

from __future__ import annotations

from argparse import SUPPRESS
from functools import partial
from pathlib import Path
from typing import Literal

import shtab

from classmates.cli.commands import COMMANDS
from classmates.cli.help import command_parser, overview_parser
from classmates.configuration.arguments import ANY_NAME

Shell = Literal["bash", "zsh", "fish"]


def completion(shell: Shell) -> str:
    """Write a script by which a shell completes commands, flags and their values.

    It goes into a file where the shell looks for such; FOLDER is one of those in zsh's $fpath.

    Args:
        shell: which one.

    Returns:
        The script.
    """
    parser, below = overview_parser()
    for name, command in COMMANDS.items():
        make = partial(below.add_parser, name, help=command.summary)
        for action in command_parser(name, command.outline(), command.positions, make)._actions:
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            if action.option_strings and action.option_strings[0].endswith(f".{ANY_NAME}"):
                action.help = SUPPRESS  # it stands for any name, and is none to type
    # Where it knows nothing better, bash offers files.
    return shtab.complete(parser, shell).replace("complete -o bashdefault", "complete -o bashdefault -o default")
