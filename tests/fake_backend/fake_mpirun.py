"""Starts ranks as mpirun does, in sessions of their own; it ends where one dies, and leaves the others alone."""

import os
import subprocess
import sys

words = sys.argv[1:]
at = words.index("-np") + 2
size, command = int(words[at - 1]), words[at:]
while command[0] in ("-x", "--npernode"):
    command = command[2:]
print("ranks", size, flush=True)
ranks = []
for rank in range(size):
    own = {"RANK": rank, "SIZE": size, "LOCAL_RANK": rank, "LOCAL_SIZE": size}
    env = {**os.environ, **{f"OMPI_COMM_WORLD_{name}": str(number) for name, number in own.items()}}
    if str(rank) != os.environ.get("FAKE_MPIRUN_WITHOUT"):
        ranks.append(subprocess.Popen(command, env=env, start_new_session=True))
while ranks:
    _, status = os.wait()
    if status:
        sys.exit(9)
    ranks.pop()
