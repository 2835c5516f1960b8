"""``python -m halopy``: the command line."""

import sys

from halopy.cli import main

if __name__ == "__main__":
    sys.exit(main())
