"""``python -m classmates`` is ``classmates``."""

import sys

from classmates.cli import main

sys.exit(main())
