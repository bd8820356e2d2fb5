"""`python -m impls.evaluate ...`; the command itself is in impls/tools/evaluate."""

import sys

from impls.tools.evaluate.run import main

if __name__ == "__main__":
    sys.exit(main())
