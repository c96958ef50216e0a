"""Whether a run can go on where it was cut off, for those that start runs unattended."""

from __future__ import annotations

import shutil
from pathlib import Path

from classmates._files import exclusive
from classmates.errors import UserError
from classmates.runs.folder import RunFolder, read_record, stored_settings
from classmates.training.checkpoints import require_whole


def resumable(folder: Path) -> bool:
    """Return whether a run's folder has a checkpoint to go on from; what cannot be gone on with is removed."""
    if not folder.exists():
        return False
    cut_off = (folder / "result.json").exists() and read_record(folder / "result.json") is None
    run = RunFolder(folder, {}, folder.name)
    try:
        require_whole(run)
        cut_off = cut_off or not stored_settings(folder)
    except UserError:  # no checkpoint, or a damaged one
        cut_off = True
    if cut_off:
        with exclusive(run.lock) as mine:
            if mine:
                shutil.rmtree(folder)
    return not cut_off
