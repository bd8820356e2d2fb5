"""`python -m impls.train ...`; the command itself is in impls/tools/train."""

from impls.tools import tool
from impls.tools.train.run import main

if __name__ == "__main__":
    tool.leave(main())
