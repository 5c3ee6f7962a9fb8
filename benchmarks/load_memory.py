"""Peak host memory of loading a checkpoint, relative to the size of the parameters.

    python benchmarks/load_memory.py                     # Qwen2.5-3B in bfloat16: 6.2 GB, in /tmp meanwhile
    python benchmarks/load_memory.py --layers 4 --devices 8

Writes random parameters in several shards, and loads them in a child process. Prints that process's peak resident
memory, in total and net of what it used before loading (Python, jax and its first program). On a CPU the parameters
themselves are in that memory, so 1 is the minimum; anything above it is overhead of loading.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mig_jax.models.decoder import DecoderConfig


def qwen_3b(layers: int, param_dtype: str) -> "DecoderConfig":
    """Return the shape of Qwen2.5-3B with this number of layers."""
    from mig_jax.models.decoder import DecoderConfig

    return DecoderConfig(
        vocab_size=151_936,
        width=2048,
        layers=layers,
        heads=16,
        kv_heads=2,
        head_size=128,
        mlp_width=11_008,
        rope_theta=1e6,
        qkv_bias=True,
        dtype="bfloat16",
        param_dtype=param_dtype,
    )


def write(folder: pathlib.Path, layers: int, shard_bytes: int) -> int:
    """Write a checkpoint of random bfloat16, one shard at a time; return its size in bytes."""
    import jax.numpy as jnp
    import numpy as np

    from mig_jax.models.huggingface import config as hf_config
    from mig_jax.models.huggingface import layout, tensor_files

    config = qwen_3b(layers, "bfloat16")
    block = np.random.default_rng(0).normal(scale=0.02, size=1_000_003).astype(jnp.bfloat16)
    tensors = {
        name: tensor_files.NewTensor(2 * int(np.prod(shape)), lambda shape=shape: np.resize(block, shape))
        for name, shape in layout.disk_shapes(config).items()
    }
    tensor_files.write_folder(tensors, folder, max_shard_bytes=shard_bytes)
    hf_config.write_config(config, folder, dtype="bfloat16")
    return sum(tensor.nbytes for tensor in tensors.values())


def resident_bytes(field: str) -> int:
    """Return this process's resident memory: VmRSS is the current value, VmHWM the peak so far."""
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(rf"{field}:\s+(\d+) kB", status)[0])


def measure(folder: str, layers: int, devices: int, param_dtype: str) -> dict[str, float]:
    """Load the checkpoint in this process; return bytes and seconds."""
    import jax

    from mig_jax.distributed import sharding
    from mig_jax.models import decoder
    from mig_jax.models.huggingface import weights as hf_weights

    jax.config.update("jax_num_cpu_devices", devices)
    config = qwen_3b(layers, param_dtype)
    mesh = sharding.make_mesh({"fsdp": devices // 2 or 1, "tensor": 2 if devices > 1 else 1})
    shardings = sharding.shardings(decoder.abstract_params(config), decoder.param_axes(config), mesh)
    jax.block_until_ready(jax.jit(lambda x: x + 1)(1))
    before, start = resident_bytes("VmRSS"), time.perf_counter()
    params = jax.block_until_ready(hf_weights.load(folder, config, shardings=shardings))
    seconds = time.perf_counter() - start
    nbytes = sum(x.nbytes for x in jax.tree.leaves(params))
    return {"before": before, "peak": resident_bytes("VmHWM"), "params": nbytes, "seconds": seconds}


def run(layers: int, devices: int, param_dtype: str, shard_bytes: int) -> dict[str, float]:
    """Write a checkpoint, measure its loading in a child process, and delete it."""
    with tempfile.TemporaryDirectory() as folder:
        size = write(pathlib.Path(folder), layers, shard_bytes)
        arguments = ["--measure", folder, "--layers", str(layers), "--devices", str(devices), "--dtype", param_dtype]
        child = subprocess.run(
            [sys.executable, __file__, *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
        if child.returncode:
            raise RuntimeError(child.stderr)
        return {"size": size} | json.loads(child.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=36, help="decoder layers")
    parser.add_argument("--devices", type=int, default=1, help="number of fake CPU devices")
    parser.add_argument("--dtype", default="bfloat16", help="dtype of the parameters; the checkpoint is bfloat16")
    parser.add_argument("--shard-bytes", type=int, default=2_000_000_000, help="bytes per file of the checkpoint")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.layers, args.devices, args.dtype)))
        return
    measured = run(args.layers, args.devices, args.dtype, args.shard_bytes)
    size, params, net = measured["size"], measured["params"], measured["peak"] - measured["before"]
    print(f"checkpoint {size / 1e9:.2f} GB, parameters {params / 1e9:.2f} GB, loaded in {measured['seconds']:.1f} s")
    print(f"before     {measured['before'] / 1e9:.2f} GB")
    print(f"peak       {measured['peak'] / 1e9:.2f} GB = {measured['peak'] / params:.2f} x the parameters")
    print(f"net        {net / 1e9:.2f} GB = {net / params:.2f} x the parameters")


if __name__ == "__main__":
    main()
