"""Pure statistics on arrays: where a process is steady, and which arm is faster."""
