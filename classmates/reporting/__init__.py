"""The report: everything a finished run says about itself, as one HTML file that needs no network."""

from classmates.reporting.html import report

__all__ = ["report"]
