"""One search of `scale.py`, in a process of its own: `python scale_arm.py FOLDER CONCURRENT TRIALS`."""

from __future__ import annotations

import sys
from pathlib import Path

from hosted_trials import hosted
from ray.cluster_utils import Cluster
from scale import EPOCHS
from turnaround_arms import search_null_trials


def main(folder: Path, concurrent: int, trials: int) -> None:
    """A cluster that has as many CPUs as trials run at once, in name only."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": concurrent, "include_dashboard": False})
    try:
        with hosted(concurrent):
            early = f"{{asha: {{max_epochs: {EPOCHS}, grace_period: 1, reduction_factor: 3}}}}"
            search_null_trials(folder, trials, early, address=cluster.address)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
