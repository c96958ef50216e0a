"""Flags of ``train`` in what is said by commands that train several runs, which take them as ``--train.NAME``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from classmates._progress import say
from classmates.errors import UserError

FLAG = re.compile(r"`[^`]*`|--([a-z]\w*)\b")
"""A flag in a sentence, or something quoted, such as another command, which stays as it is."""


@contextmanager
def flags_of_runs(own: Collection[str], of_train: Collection[str]) -> Iterator[None]:
    """Let notes and errors within name flags as the command takes them.

    Args:
        own: the names of its arguments, those of settings with a dot; some begin with "train." where it takes them.
        of_train: those of ``train``; its method is never one of these.
    """
    known = first_parts(own)
    if "train" not in known:
        yield
        return
    after = first_parts(of_train) - known - {"method"}

    def spelled(text: str) -> str:
        return FLAG.sub(lambda found: f"--train.{found[1]}" if found[1] in after else found[0], text)

    with say(spelled=spelled):
        try:
            yield
        except UserError as error:
            error.args = (spelled(str(error)), *error.args[1:])
            raise


def first_parts(names: Collection[str]) -> set[str]:
    """Return the parts of names that stand before a dot."""
    return {name.partition(".")[0] for name in names}
