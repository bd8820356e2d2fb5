"""`python -m impls.sample ...`; the command itself is in impls/tools/sample."""

from impls.tools import tool
from impls.tools.sample.run import main

if __name__ == "__main__":
    tool.leave(main())
