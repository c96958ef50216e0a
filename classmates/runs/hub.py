"""Runs on the Hugging Face Hub: ``hf:OWNER/NAME``, or ``hf:OWNER/NAME@REVISION`` for one as it was then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from classmates._progress import bars_of
from classmates.errors import UserError, first_line
from classmates.runs.student_files import CARD, student_folder

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Rest = ParamSpec("Rest")
Returned = TypeVar("Returned")

MARK = "hf:"
READ = (CARD, "config.yaml", "*.safetensors")
"""The files of a repository that are fetched; none of them can carry code."""


def from_anywhere(function: Callable[Concatenate[Any, Rest], Returned]) -> Callable[Concatenate[Any, Rest], Returned]:
    """Let a function whose first argument is a run's folder take whatever ``local_run`` does."""

    @wraps(function)
    def call(run: Any, *arguments: Rest.args, **options: Rest.kwargs) -> Returned:
        return function(local_run(run), *arguments, **options)

    return call


def is_on_hub(run: object) -> bool:
    return isinstance(run, str | Path) and str(run).startswith(MARK)


def local_run(run: Any) -> Any:
    """Return a run's folder, which is fetched from the Hub, or is in its cache, where ``hf:`` says so.

    What names its weights, or the folder that ``improve`` wrote, means the folder of the student.

    Raises:
        UserError: no such repository or revision, no right to it, or a network that is closed.
    """
    if not is_on_hub(run):
        return student_folder(Path(run)) if isinstance(run, str | Path) else run
    repository, at, revision = str(run).removeprefix(MARK).partition("@")
    if at and not revision:
        raise UserError(f"'{run}' names no revision after @: give a branch, a tag or a commit, or leave out @")
    with client(f"'{run}' cannot be fetched from the Hub") as api:
        return Path(api.snapshot_download(repository, revision=revision or None, allow_patterns=[*READ]))


@contextmanager
def client(failing: str) -> Iterator[HfApi]:
    """Give what talks to the Hub, with progress bars where there are others.

    Raises:
        UserError: anything went wrong; it begins with ``failing``.
    """
    from huggingface_hub import (
        HfApi,  # takes a while, and is needed for few
        utils,
    )

    try:
        with bars_of(utils):
            yield HfApi()
    except UserError:
        raise
    except Exception as error:  # what the Hub's client raises has no common type
        raise UserError(f"{failing}: {first_line(error)}; `hf auth login` gives access to what is private") from error
