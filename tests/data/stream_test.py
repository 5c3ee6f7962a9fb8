"""The stream of batches: deterministic, mixed by weights, read ahead, and exact on resume."""

import json
import threading
from collections import Counter

import pytest

from mig_jax.data.problem import Problem
from mig_jax.data.stream import in_order, iterate


def _numbered(n: int, letter: str = "") -> tuple[Problem, ...]:
    return tuple(Problem(f"{letter}{i}", f"question {i}", str(i)) for i in range(n))


def _ids(batches) -> list[list[str]]:
    return [[problem.id for problem in batch] for batch in batches]


def _take(iterator, n: int) -> list[list[Problem]]:
    return [next(iterator) for _ in range(n)]


def _open(source, **options):
    return iterate([source], weights=[1], **options)


def test_stream_is_deterministic_and_reshuffled_every_epoch():
    first, again, other = (_open(_numbered(12), seed=seed, batch_size=4) for seed in (0, 0, 1))
    batches = _ids(_take(first, 6))
    assert batches == _ids(_take(again, 6)) != _ids(_take(other, 6))
    epochs = sum(batches[:3], []), sum(batches[3:], [])
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(str(i) for i in range(12))
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("read_ahead", [0, 2])
def test_batches_of_one(read_ahead):
    batches = _ids(_take(_open(_numbered(3), seed=0, batch_size=1, read_ahead=read_ahead), 4))
    assert sorted(map(len, batches)) == [1] * 4 and len({id for batch in batches[:3] for id in batch}) == 3


# 10 problems in batches of 4: the third batch straddles the end of an epoch, the fifth ends with it.
@pytest.mark.parametrize("taken", [0, 1, 2, 3, 5])
def test_resume_is_exact_within_and_across_epochs(taken):
    iterator = _open(_numbered(10), seed=3, batch_size=4)
    _take(iterator, taken)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = _take(iterator, 6)
    resumed = _open(_numbered(10), seed=3, batch_size=4)
    _take(resumed, 1)
    resumed.set_state(state)
    assert _take(resumed, 6) == expected


def test_empty_source_is_rejected():
    with pytest.raises(ValueError, match="no problem"):
        _open((), seed=0, batch_size=2)


@pytest.mark.parametrize("read_ahead", [1, 3])
def test_read_ahead_does_not_change_the_stream(read_ahead):
    options = {"seed": 3, "batch_size": 4, "prepare": lambda problems: [p._replace(question="seen") for p in problems]}
    slow, fast = _open(_numbered(10), **options), _open(_numbered(10), read_ahead=read_ahead, **options)
    assert _take(slow, 3) == _take(fast, 3)
    # The position does not include batches that were read ahead.
    resumed = _open(_numbered(10), read_ahead=read_ahead, **options)
    resumed.set_state(json.loads(json.dumps(fast.get_state())))
    assert _take(resumed, 4) == _take(slow, 4)


def test_read_ahead_prepares_batches_in_threads():
    made, threads = threading.Event(), set()

    def prepare(problems):
        threads.add(threading.current_thread())
        if len(threads) and problems[0].id != first[0][0].id:
            made.set()
        return problems

    first = [[Problem("none", "", "")]]
    batches = _open(_numbered(8), seed=0, batch_size=2, prepare=prepare, read_ahead=2)
    first[0] = next(batches)
    assert made.wait(timeout=20), "the second batch was not prepared before it was requested"
    assert threading.current_thread() not in threads


def test_in_order_prepares_each_item_once():
    made = []
    assert list(in_order([3, 1, 2], lambda n: made.append(n) or n * 10, read_ahead=1)) == [30, 10, 20]
    assert made == [3, 1, 2] and list(in_order([], str, read_ahead=0)) == []


def test_errors_in_read_ahead_threads_are_raised():
    def prepare(problems):
        raise ValueError("no image")

    with pytest.raises(ValueError, match="no image"):
        next(_open(_numbered(4), seed=0, batch_size=2, prepare=prepare, read_ahead=2))


def test_mixture_follows_its_weights_and_shuffles_each_source():
    mixed = [_numbered(30, "a"), _numbered(7, "b")]
    batches = iterate(mixed, weights=[3, 1], seed=0, batch_size=8)
    seen = sum(_ids(_take(batches, 20)), [])
    assert Counter(id[0] for id in seen) == {"a": 120, "b": 40}
    assert all(Counter(id[0] for id in seen[n : n + 8])["b"] == 2 for n in range(0, 160, 8)), "evenly, not in blocks"
    first_epoch = [id for id in seen if id[0] == "a"][:30]
    assert len(set(first_epoch)) == 30 and first_epoch != sorted(first_epoch)


def test_mixture_resumes_exactly():
    mixed = [_numbered(5, "a"), _numbered(7, "b")]
    first, again = (iterate(mixed, weights=[1, 2], seed=1, batch_size=4, read_ahead=2) for _ in range(2))
    _take(first, 5)
    again.set_state(first.get_state())
    assert _take(first, 5) == _take(again, 5)
