"""Reports: what a finished run, or a comparison of runs, says about itself, as one HTML file without a network."""

from classmates.reporting.html import report

__all__ = ["report"]
