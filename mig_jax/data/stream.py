"""Batches for training and evaluation: shuffled, resumable, and prepared ahead of time in threads."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import logging

from mig_jax.data.problem import Problem
from mig_jax.errors import UserError

# grain warns at import that jax before 0.11 cannot profile its worker processes; it starts none here.
logging.get_absl_logger().addFilter(lambda record: "multiprocess worker profiling" not in record.getMessage())
import grain  # noqa: E402


def iterate(
    sources: Sequence[Sequence[Problem]],
    *,
    weights: Sequence[float],
    seed: int,
    batch_size: int,
    prepare: Callable[[list[Problem]], Any] = list,
    read_ahead: int = 0,
) -> grain.DatasetIterator:
    """Return an endless iterator of batches; each source is reshuffled every epoch.

    Args:
      sources: random-access sequences of problems.
      weights: mixture weight of each source, relative to their sum.
      seed: of the shuffling.
      batch_size: problems in a batch.
      prepare: maps a batch to what is yielded, such as prompts with image patches. It runs in threads when batches are
        read ahead, so it must not depend on earlier calls. In a run with several processes each has the same stream
        and prepares the parts of a batch that it needs.
      read_ahead: batches prepared before they are requested; 0 prepares each batch on request.

    Returns:
      An iterator of prepared batches. Its `get_state()` is a small dict that JSON can hold and does not depend on
      `read_ahead`; `set_state()` resumes exactly.

    Raises:
      UserError: a source is empty.
    """
    if not all(sources):
        raise UserError("a source holds no problem")
    shuffled = [grain.MapDataset.source(source).seed(seed + n).shuffle().repeat() for n, source in enumerate(sources)]
    stream = grain.MapDataset.mix(shuffled, list(weights)) if len(shuffled) > 1 else shuffled[0]
    # An endless stream has no remainder, but grain's length of batches with one is too large for batches of 1.
    batches = stream.batch(batch_size, drop_remainder=True, batch_fn=list).map(prepare)
    return _prefetch(batches, read_ahead)


def in_order(items: Sequence[Any], prepare: Callable[[Any], Any], *, read_ahead: int) -> Iterator[Any]:
    """Yield `prepare(item)` for each item, once and in order.

    Args:
      items: a random-access sequence.
      prepare: must not return None, because grain treats None as an item to skip.
      read_ahead: items prepared before they are requested.
    """
    return _prefetch(grain.MapDataset.source(items).map(prepare), read_ahead)


def _prefetch(dataset: grain.MapDataset, read_ahead: int) -> grain.DatasetIterator:
    """Iterate in order, with one thread per element that is prepared ahead."""
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=read_ahead, prefetch_buffer_size=read_ahead)))
