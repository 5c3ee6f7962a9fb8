"""Throughput of the data pipeline, and the share of time that an accelerator would wait for it.

    python benchmarks/data_pipeline.py

Text comes from a synthetic GSM8K, images of 448 × 448 pixels from a synthetic Super-CLEVR, both written here in the
published file formats. Their builders convert them to array_record. The pipeline then shuffles, tokenizes and, for
images, decodes and splits into patches. The first measurement runs as fast as possible. In the second, a step takes 1.5
times as long as making a batch (the process sleeps), and the share of time spent waiting for batches is measured, with
batches read ahead and without.
"""

import argparse
import functools
import io
import json
import pathlib
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from mig_jax.configs import scenes
from PIL import Image

from mig_jax.data import builders, stream
from mig_jax.data.problem import Problem
from mig_jax.distributed import sharding
from mig_jax.policy.load import load_policy
from mig_jax.policy.prompts import encode_prompts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"problems": 400, "batch_size": 16, "batches": 20, "pixels": 448}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    config = scenes.get_config()
    config.model.vision.max_patches = 1024
    config.data.max_prompt_tokens = 1024
    with tempfile.TemporaryDirectory() as folder:
        data_dir = pathlib.Path(folder)
        write_gsm8k(data_dir, args.problems)
        write_super_clevr(data_dir, args.problems, args.pixels)
        policy = load_policy(config.model, sharding.make_mesh({}, devices=jax.devices()[:1]), seed=0)
        for name, split in (("gsm8k", "test"), ("super_clevr", "train")):
            source = builders.open_benchmark(name, split=split, data_dir=data_dir)
            measure(functools.partial(encode_prompts, policy, config), source, name, args)


def measure(
    prepare: Callable[[list[Problem]], Any], source: Sequence[Problem], name: str, args: argparse.Namespace
) -> None:
    """Print a line for one source; also check that the stream resumes within an epoch."""

    def open_stream(read_ahead: int) -> Any:
        return stream.iterate(
            [source], weights=[1], seed=0, batch_size=args.batch_size, prepare=prepare, read_ahead=read_ahead
        )

    def seconds(read_ahead: int, busy_s: float) -> float:
        batches = open_stream(read_ahead)
        next(batches)  # starts the threads
        began = time.perf_counter()
        for _ in range(args.batches):
            next(batches)
            time.sleep(busy_s)
        return time.perf_counter() - began

    alone = seconds(0, 0.0)
    busy_s = 1.5 * alone / args.batches
    waited = {ahead: 1 - args.batches * busy_s / seconds(ahead, busy_s) for ahead in (0, 2)}
    batches, resumed = open_stream(2), open_stream(2)
    for _ in range(3):
        next(batches)
    resumed.set_state(batches.get_state())
    assert next(resumed).problems == next(batches).problems
    print(
        f"{name:12} {args.batch_size * args.batches / alone:6.0f} examples/s; "
        f"the accelerator waits {waited[0]:.0%} of the time without reading ahead, {waited[2]:.1%} with two batches "
        "read ahead; a stream resumed within an epoch yields the same batch"
    )


def write_gsm8k(data_dir: pathlib.Path, n: int) -> None:
    """Write n word problems of about 50 words."""
    rng, folder = np.random.default_rng(0), data_dir / "gsm8k"
    folder.mkdir()
    words = "Natalia sold clips to her friends in April and then half as many in May how much does she earn".split()
    rows = [
        {"question": f"{k} " + " ".join(rng.choice(words, 50)) + "?", "answer": f"She sold {k}.\n#### {k}"}
        for k in range(n)
    ]
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))


def write_super_clevr(data_dir: pathlib.Path, n: int, pixels: int) -> None:
    """Write a question about each of n noise images, the slowest kind to decode."""
    rng, folder = np.random.default_rng(0), data_dir / "super_clevr"
    folder.mkdir()
    questions = []
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for k in range(n):
            name = f"superCLEVR_new_{k:06d}.png"
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (pixels // 4, pixels // 4, 3), np.uint8)).resize(
                (pixels, pixels)
            ).save(file, "PNG")
            archive.writestr(f"images/{name}", file.getvalue())
            question = {"question": "How many cars are there?", "answer": k % 9}
            questions.append(question | {"image_filename": name, "image_index": k})
    (folder / "superCLEVR_questions_30k.json").write_text(json.dumps({"questions": questions}))


if __name__ == "__main__":
    main()
