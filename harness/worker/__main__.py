"""`python -m harness.worker`: started by the runner, never by hand."""

from harness.worker.worker import main

if __name__ == "__main__":
    raise SystemExit(main())
