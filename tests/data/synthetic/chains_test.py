"""The chains: their arithmetic, their answers, and slips that show."""

import numpy as np
import pytest

from mig_jax.data.synthetic import chains
from mig_jax.data.synthetic.chains import Chain


def _chains(n: int, *, terms: int) -> list[Chain]:
    rng = np.random.default_rng(0)
    return [chains.chain(rng, terms=terms) for _ in range(n)]


def test_a_chain_by_hand():
    chain = Chain(7, (("+", 5), ("-", 3), ("*", 3)))
    assert chain.question == "Last digits of 7 +5 -3 *3"
    assert chain.steps == ("7+5=2", "2-3=9", "9*3=7")
    assert chain.answer == "297"


@pytest.mark.parametrize("terms", [2, 3, 7, 20])
def test_answer_is_a_number_of_one_digit_a_step(terms):
    for chain in _chains(300, terms=terms):
        assert len(chain.operations) == len(chain.steps) == len(chain.answer) == terms - 1
        assert chain.answer == str(int(chain.answer)) != "0"


def test_every_step_is_right_and_starts_where_the_last_one_ended():
    for chain in _chains(300, terms=7):
        value = str(chain.start)
        for step, digit in zip(chain.steps, chain.answer, strict=True):
            left, result = step.split("=")
            assert left[0] == value and result == digit == str(eval(left) % 10)
            value = result


def test_no_operation_lets_two_values_meet():
    for symbol, digit in chains.OPERATIONS:
        results = {Chain(start, ((symbol, digit),)).answer for start in range(10)}
        assert len(results) == 10, (symbol, digit)


def test_same_generator_same_chain_other_seed_other_chain():
    assert _chains(5, terms=6) == _chains(5, terms=6)
    assert chains.chain(np.random.default_rng(1), terms=6) != chains.chain(np.random.default_rng(2), terms=6)


def test_a_writer_without_noise_writes_the_solution():
    for chain in _chains(50, terms=6):
        written = chains.solution(np.random.default_rng(3), chain, slip_prob=0.0, early_guess_prob=0.0)
        assert written == (chain.steps, chain.answer)


def test_a_slip_is_carried_on_and_answered():
    rng = np.random.default_rng(4)
    wrong_steps = wrong_answers = 0
    for chain in _chains(1000, terms=6):
        steps, answer = chains.solution(rng, chain, slip_prob=0.25, early_guess_prob=0.0)
        assert answer == "".join(step[-1] for step in steps)
        assert [step[0] for step in steps] == [str(chain.start), *answer[:-1]]
        slips = sum(int(step[-1]) != eval(step[:-2]) % 10 for step in steps)
        wrong_steps += slips
        wrong_answers += answer != chain.answer
        assert (answer == chain.answer) == (slips == 0)
    assert wrong_steps / 5000 == pytest.approx(0.25, abs=0.02)
    assert wrong_answers / 1000 == pytest.approx(1 - 0.75**5, abs=0.05)


def test_with_certain_noise_every_step_is_wrong():
    chain = _chains(1, terms=9)[0]
    steps, _ = chains.solution(np.random.default_rng(5), chain, slip_prob=1.0, early_guess_prob=0.0)
    assert all(int(step[-1]) != eval(step[:-2]) % 10 for step in steps)


def test_impossible_requests_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="at least 2 terms"):
        chains.chain(rng, terms=1)
    with pytest.raises(ValueError, match="probability"):
        chains.solution(rng, chains.chain(rng, terms=3), slip_prob=25, early_guess_prob=0.0)


def test_a_hasty_writer_guesses_what_is_left():
    rng = np.random.default_rng(6)
    counts = []
    for _ in range(500):
        chain = chains.chain(rng, terms=5)
        steps, answer = chains.solution(rng, chain, slip_prob=0.0, early_guess_prob=1.0)
        assert steps == chain.steps[: len(steps)] and len(answer) == 4
        assert answer[: len(steps)] == chain.answer[: len(steps)]
        counts.append(len(steps))
    assert set(counts) == {1, 2, 3}
    chain = chains.chain(rng, terms=2)
    assert chains.solution(rng, chain, slip_prob=0.0, early_guess_prob=1.0) == (chain.steps, chain.answer)
    with pytest.raises(ValueError, match="early_guess_prob is a probability"):
        chains.solution(rng, chain, slip_prob=0.0, early_guess_prob=2.0)
