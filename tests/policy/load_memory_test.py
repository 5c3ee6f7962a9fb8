"""Loading takes little more memory than the parameters themselves."""

import re
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("devices", ["1", "8"])
def test_peak_of_loading(devices):
    """A quarter of Qwen2.5-3B: 1.9 GB in bfloat16, in shards."""
    command = [sys.executable, "benchmarks/load_memory.py", "--layers", "8", "--devices", devices]
    done = subprocess.run([*command, "--shard-bytes", "500000000"], capture_output=True, text=True, check=True)
    net = float(re.search(r"net .* = ([\d.]+) x the parameters", done.stdout)[1])
    assert 0.9 < net < 1.3, done.stdout
