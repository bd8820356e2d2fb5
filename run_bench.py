"""Run a benchmark suite: `python run_bench.py --suite train-speed`."""

from harness.cli import main

raise SystemExit(main())
