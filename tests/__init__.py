"""The tests; they compute on one thread, as small trials do: two wait for each other where the cores are wanted."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
