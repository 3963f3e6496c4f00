"""Run the command line with `python -m app.cli`."""

import sys

from app.cli.main import main

sys.exit(main(sys.argv[1:]))
