"""`python -m impls.evaluate ...`; the command itself is in impls/tools/evaluate."""

from impls.ranks import end_with_launcher
from impls.tools import tool
from impls.tools.evaluate.run import main

if __name__ == "__main__":
    end_with_launcher()
    tool.leave(main())
