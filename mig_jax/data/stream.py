"""The order of training: an endless, shuffled, resumable stream of batches, read ahead while the accelerator works."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain

from mig_jax.data.problem import Problem


def iterate(
    sources: Sequence[Sequence[Problem]],
    *,
    weights: Sequence[float],
    seed: int,
    batch_size: int,
    prepare: Callable[[list[Problem]], Any] = list,
    read_ahead: int = 0,
) -> grain.DatasetIterator:
    """Endless batches of problems, each source in a new order every epoch.

    Args:
      sources: random-access sequences.
      weights: how much of the stream each source is, in parts of their sum.
      seed: of the order.
      batch_size: problems in a batch.
      prepare: what becomes of a batch, such as prompts and the patches of their images; in threads of its own where
        batches are read ahead, so it must not depend on what was prepared before. Where several processes train, each
        has this stream, and prepares of a batch what it needs.
      read_ahead: batches that are made ready before they are asked for; 0 makes each when it is.

    Returns:
      An iterator of what `prepare` makes. Its `get_state()` is a small JSON-able dict, whatever was read ahead;
      `set_state()` resumes exactly.

    Raises:
      ValueError: a source is empty.
    """
    if not all(sources):
        raise ValueError("a source holds no problem")
    shuffled = [grain.MapDataset.source(source).seed(seed + n).shuffle().repeat() for n, source in enumerate(sources)]
    stream = grain.MapDataset.mix(shuffled, list(weights)) if len(shuffled) > 1 else shuffled[0]
    batches = stream.batch(batch_size, batch_fn=list).map(prepare)
    return _made_ahead(batches, read_ahead)


def in_order(items: Sequence[Any], prepare: Callable[[Any], Any], *, read_ahead: int) -> Iterator[Any]:
    """What `prepare` makes of each item, once and in order, `read_ahead` of them before they are asked for.

    `prepare` must not make None: to grain that is an item that was filtered out.
    """
    return _made_ahead(grain.MapDataset.source(items).map(prepare), read_ahead)


def _made_ahead(dataset: grain.MapDataset, read_ahead: int) -> grain.DatasetIterator:
    """In order, in as many threads as elements are made before they are asked for."""
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=read_ahead, prefetch_buffer_size=read_ahead)))
