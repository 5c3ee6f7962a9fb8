"""One side of `against_peers.py` in its own process and environment: mig_jax, tunix or TRL, each as its package comes.

    python benchmarks/peers/worker.py SIDE TASK_JSON

Reads lines from stdin. For each it does one unit of work, and answers with a line of JSON on stdout: seconds (`wall`),
CPU seconds of all threads (`cpu`), and the process's peak memory (`peak_mib`) and CPU seconds (`process_cpu`) so far.
Ends with its input. What libraries print goes to stderr. The first line it writes, before any work, is
`{"ready": true}`.
"""

import importlib
import json
import sys

from protocol import Channel, Task

SIDES = {"ours": "our_side", "before": "our_side", "tunix": "tunix_side", "trl": "trl_side"}


def main() -> None:
    side, task = sys.argv[1:]
    importlib.import_module(SIDES[side]).run(Task(**json.loads(task)), Channel())


if __name__ == "__main__":
    main()
