"""`python -m impls.train ...`; the command itself is in impls/tools/train."""

from impls.ranks import end_with_launcher
from impls.tools import tool
from impls.tools.train.run import main

if __name__ == "__main__":
    end_with_launcher()
    tool.leave(main())
