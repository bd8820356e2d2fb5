"""`python -m impls.sample ...`; the command itself is in impls/tools/sample."""

from impls.ranks import end_with_launcher
from impls.tools import tool
from impls.tools.sample.run import main

if __name__ == "__main__":
    end_with_launcher()
    tool.leave(main())
