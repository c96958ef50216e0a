"""Figures as tables and sentences have them."""

from __future__ import annotations


def signed_points(share: float) -> str:
    """Return a share as percentage points with a sign: ``+0.13``."""
    return f"{100 * share:+.2f}".replace("-", "−")
