"""Checks of the numbers that several methods take as options."""

from __future__ import annotations

from classmates.errors import UserError


def check_temperature(**temperatures: float) -> None:
    """Raise UserError, naming the option, for a temperature that is not above 0."""
    for name, value in temperatures.items():
        if not value > 0:
            raise UserError(f"{name}={value}: a temperature must be above 0")


def check_share(**shares: float) -> None:
    """Raise UserError, naming the option, for a share outside 0..1."""
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise UserError(f"{name}={value}: a share lies between 0 and 1")


def check_ramp(**lengths: int) -> None:
    """Raise UserError, naming the option, for a ramp of fewer than 0 epochs."""
    for name, value in lengths.items():
        if value < 0:
            raise UserError(f"{name}={value}: a number of epochs, 0 for none")
