"""Chains: arithmetic, answers, and the effects of slips and early guesses."""

import numpy as np
import pytest

from mig_jax.data.synthetic import chains
from mig_jax.data.synthetic.chains import Chain


def _chains(n: int, *, terms: int) -> list[Chain]:
    rng = np.random.default_rng(0)
    return [chains.draw_chain(rng, terms=terms) for _ in range(n)]


def test_chain_computed_by_hand():
    chain = Chain(7, (("+", 5), ("-", 3), ("*", 3)))
    assert chain.question == "Last digits of 7 +5 -3 *3"
    assert chain.steps == ("7+5=2", "2-3=9", "9*3=7")
    assert chain.answer == "297"


@pytest.mark.parametrize("terms", [2, 3, 7, 20])
def test_answer_has_one_digit_per_step(terms):
    for chain in _chains(300, terms=terms):
        assert len(chain.operations) == len(chain.steps) == len(chain.answer) == terms - 1
        assert chain.answer == str(int(chain.answer)) != "0"


def test_steps_are_correct_and_start_from_the_last_result():
    for chain in _chains(300, terms=7):
        value = str(chain.start)
        for step, digit in zip(chain.steps, chain.answer, strict=True):
            left, result = step.split("=")
            assert left[0] == value and result == digit == str(eval(left) % 10)
            value = result


def test_operations_are_one_to_one():
    for symbol, digit in chains.OPERATIONS:
        results = {Chain(start, ((symbol, digit),)).answer for start in range(10)}
        assert len(results) == 10, (symbol, digit)


def test_chains_are_determined_by_the_generator():
    assert _chains(5, terms=6) == _chains(5, terms=6)
    assert chains.draw_chain(np.random.default_rng(1), terms=6) != chains.draw_chain(np.random.default_rng(2), terms=6)


def test_solution_without_slips_is_correct():
    for chain in _chains(50, terms=6):
        written = chains.write_solution(np.random.default_rng(3), chain, slip_prob=0.0, early_guess_prob=0.0)
        assert written == (chain.steps, chain.answer)


def test_slips_carry_over_to_later_steps_and_the_answer():
    rng = np.random.default_rng(4)
    wrong_steps = wrong_answers = 0
    for chain in _chains(1000, terms=6):
        steps, answer = chains.write_solution(rng, chain, slip_prob=0.25, early_guess_prob=0.0)
        assert answer == "".join(step[-1] for step in steps)
        assert [step[0] for step in steps] == [str(chain.start), *answer[:-1]]
        slips = sum(int(step[-1]) != eval(step[:-2]) % 10 for step in steps)
        wrong_steps += slips
        wrong_answers += answer != chain.answer
        assert (answer == chain.answer) == (slips == 0)
    assert wrong_steps / 5000 == pytest.approx(0.25, abs=0.02)
    assert wrong_answers / 1000 == pytest.approx(1 - 0.75**5, abs=0.05)


def test_slip_prob_one_makes_every_step_wrong():
    chain = _chains(1, terms=9)[0]
    steps, _ = chains.write_solution(np.random.default_rng(5), chain, slip_prob=1.0, early_guess_prob=0.0)
    assert all(int(step[-1]) != eval(step[:-2]) % 10 for step in steps)


def test_wrong_arguments_are_rejected():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="at least 2 terms"):
        chains.draw_chain(rng, terms=1)
    with pytest.raises(ValueError, match="probability"):
        chains.write_solution(rng, chains.draw_chain(rng, terms=3), slip_prob=25, early_guess_prob=0.0)


def test_early_guess_completes_the_answer():
    rng = np.random.default_rng(6)
    counts = []
    for _ in range(500):
        chain = chains.draw_chain(rng, terms=5)
        steps, answer = chains.write_solution(rng, chain, slip_prob=0.0, early_guess_prob=1.0)
        assert steps == chain.steps[: len(steps)] and len(answer) == 4
        assert answer[: len(steps)] == chain.answer[: len(steps)]
        counts.append(len(steps))
    assert set(counts) == {1, 2, 3}
    chain = chains.draw_chain(rng, terms=2)
    assert chains.write_solution(rng, chain, slip_prob=0.0, early_guess_prob=1.0) == (chain.steps, chain.answer)
    with pytest.raises(ValueError, match="early_guess_prob must be a probability"):
        chains.write_solution(rng, chain, slip_prob=0.0, early_guess_prob=2.0)


def test_merged_steps_write_several_operations_and_the_result_of_the_last():
    chain = chains.Chain(7, (("+", 5), ("-", 3), ("*", 3)))
    rng = np.random.default_rng(7)
    steps, answer = chains.write_solution(rng, chain, slip_prob=0.0, early_guess_prob=0.0, merge_prob=1.0)
    assert (steps, answer) == (("7+5-3*3=7",), "297")
    found = {
        chains.write_solution(rng, chain, slip_prob=0.0, early_guess_prob=0.0, merge_prob=0.5)[0] for _ in range(100)
    }
    assert found == {
        ("7+5=2", "2-3=9", "9*3=7"),
        ("7+5-3=9", "9*3=7"),
        ("7+5=2", "2-3*3=7"),
        ("7+5-3*3=7",),
    }


def test_merges_change_neither_slips_nor_early_guesses():
    chain = _chains(1, terms=7)[0]
    for seed in range(20):
        options = {"slip_prob": 0.3, "early_guess_prob": 0.5}
        small, answer = chains.write_solution(np.random.default_rng(seed), chain, **options)
        large, same = chains.write_solution(np.random.default_rng(seed), chain, **options, merge_prob=0.5)
        assert same == answer and len(large) <= len(small)
        assert large[-1][-1] == small[-1][-1]
        assert "".join(step[1:-2] for step in large) == "".join(step[1:-2] for step in small)
