"""`python -m refute` is the command `refute`."""

import sys

from refute.cli import main

sys.exit(main())
