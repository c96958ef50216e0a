"""The settings that a search tries: every combination of lists, or random draws."""

from __future__ import annotations

import ast
import itertools
import math
import random
from collections.abc import Callable, Mapping
from typing import Any

from classmates.errors import UserError, unknown

Draw = Callable[[random.Random], Any]
FIX = "give a list ([0.01,0.1]) or, for a random search, one of uniform, loguniform and integers (LOW, HIGH)"

MOST_TRIALS = 10_000


def require_trials(option: str, count: int) -> None:
    """Raise UserError for more trials than anybody could run."""
    if count > MOST_TRIALS:
        raise UserError(f"{option}: {count:,} trials, give {MOST_TRIALS:,} at most")


def grid(space: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every combination of the values of each setting.

    Args:
        space: a list of values for each setting.

    Raises:
        UserError: a setting has no list of values, or there are more combinations than can be run.
    """
    for name, values in space.items():
        if not isinstance(values, list) or not values:
            raise UserError(
                f"space: {name} is {values!r}; a grid needs a list of values, such as [0.01,0.1], and draws from a "
                "distribution need --search random"
            )
    require_trials("space", math.prod(map(len, space.values())))
    return [dict(zip(space, chosen, strict=True)) for chosen in itertools.product(*space.values())]


def draws(space: Mapping[str, Any], count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Draw ``count`` combinations at random, the same ones for the same seed; the first of them whatever the count.

    Args:
        space: for each setting a list to choose from, or a text: ``uniform(LOW, HIGH)``, ``loguniform(LOW, HIGH)``
            (even in the logarithm) or ``integers(LOW, HIGH)`` (both included).
        count: how many.
        seed: of the draws.

    Raises:
        UserError: a setting has something else.
    """
    random_numbers = random.Random(seed)
    made = {name: draw_of(name, values) for name, values in space.items()}
    return [{name: draw(random_numbers) for name, draw in made.items()} for _ in range(count)]


def draw_of(name: str, values: Any) -> Draw:
    """Return the function that draws a value of one setting; UserError where there is none."""
    if isinstance(values, list) and values:
        return lambda numbers: numbers.choice(values)
    try:
        call = ast.parse(str(values).strip(), mode="eval").body
        if not isinstance(call, ast.Call) or call.keywords:
            raise ValueError
        low, high = (float(ast.literal_eval(bound)) for bound in call.args)
    except (SyntaxError, ValueError, TypeError) as error:
        raise UserError(f"space: {name} is {values!r}; {FIX}") from error
    kind = ast.unparse(call.func)
    if kind not in DISTRIBUTIONS:
        raise unknown(f"distribution of {name}", kind, DISTRIBUTIONS)
    if not -math.inf < low < high < math.inf or (kind == "loguniform" and low <= 0):
        raise UserError(f"space: {name} is {values!r}; LOW must be below HIGH, and above 0 for loguniform")
    if kind == "integers" and math.ceil(low) > math.floor(high):
        raise UserError(f"space: {name} is {values!r}; there is no whole number from LOW to HIGH")
    return lambda numbers: DISTRIBUTIONS[kind](numbers, low, high)


DISTRIBUTIONS: dict[str, Callable[[random.Random, float, float], float]] = {
    "uniform": lambda numbers, low, high: rounded(numbers.uniform(low, high), low, high),
    "loguniform": lambda numbers, low, high: rounded(
        math.exp(numbers.uniform(math.log(low), math.log(high))), low, high
    ),
    "integers": lambda numbers, low, high: numbers.randint(math.ceil(low), math.floor(high)),
}


def rounded(value: float, low: float, high: float) -> float:
    """Round to three digits of the value, or of a narrower range, within it: names of trials stay short."""
    places = 2 - math.floor(math.log10(min(abs(value) or high - low, high - low)))
    return min(max(round(value, places), low), high)
