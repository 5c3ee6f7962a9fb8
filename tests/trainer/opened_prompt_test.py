"""A run whose chat template opens the think block: trained on the prompt that a server of its model makes."""

import pytest
from transformers import AutoTokenizer

import mig_jax
from mig_jax.text import tokenizer as tokenizers
from tests import tiny

STEPS = "### Step 1: 7+5=2\n### Step 2: 2-3=9\n</think>\n<answer>9</answer>"


@pytest.mark.slow
def test_run_on_a_template_that_opens_the_think_block(tmp_path):
    tokenizer = tokenizers.build_character_tokenizer()
    tokenizer.fast.chat_template = tokenizer.fast.chat_template.replace("assistant\n{%", "assistant\n<think>\n{%")
    tokenizer.save(tmp_path / "tokenizer")
    config = tiny.get_config(
        model__tokenizer=str(tmp_path / "tokenizer"), sft__steps=1, steps=1, data__system_prompt="Add."
    )
    config.data.max_prompt_tokens = 48
    run = mig_jax.train(config, tmp_path / "run")
    chat = [{"role": "system", "content": "Add."}, {"role": "user", "content": "7 +5"}]
    served = AutoTokenizer.from_pretrained(run.model).apply_chat_template(
        chat, add_generation_prompt=True, tokenize=False
    )
    assert served.endswith("<|im_start|>assistant\n<think>\n")
    policy = mig_jax.load_policy(run.model)
    assert policy.tokenizer.chat_text(policy.tokenizer.style.messages("7 +5")) == served
    # Transcripts of this model, and of one whose prompt does not open the block, are the same.
    rows = [{"question": "7 +5 -3", "response": text, "answer": "9"} for text in (STEPS, f"<think>\n{STEPS}")]
    first, second = mig_jax.score(policy, rows)
    assert first.ell_k == second.ell_k and first.format_error == second.format_error == ""
    assert first.steps == ("### Step 1: 7+5=2", "### Step 2: 2-3=9")
