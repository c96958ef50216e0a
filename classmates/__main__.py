"""``python -m classmates`` is ``classmates``."""

import sys

from classmates._path import leave_out_current_folder

leave_out_current_folder()

from classmates.cli import main  # noqa: E402

sys.exit(main())
