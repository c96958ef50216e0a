"""The methods, one file each: what it adds to a network, and the terms of its loss."""

from classmates.methods.base import Method, Output
from classmates.methods.baseline import Baseline
from classmates.methods.corsd import CORSD
from classmates.methods.mcl import MCL

__all__ = ["CORSD", "MCL", "Baseline", "Method", "Output"]
