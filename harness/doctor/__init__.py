"""`run_bench.py --doctor`: what is wrong with this machine and its interpreters, and what mends it."""
