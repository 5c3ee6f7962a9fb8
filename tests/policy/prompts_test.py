"""Prompts in the style of a config: instructions, templates by source, and think blocks that templates open."""

import dataclasses

import pytest

from mig_jax.data.problem import Problem
from mig_jax.errors import UserError
from mig_jax.policy import encoding
from mig_jax.policy.completions import parse_completion
from mig_jax.policy.prompts import style_tokenizer
from mig_jax.text import tokenizer as tokenizers
from mig_jax.text.step_format import FORMATS
from tests import tiny
from tests.text.byte_pairs import to_fast, train_core
from tests.text.template_shapes import CHATML, SHAPES

PROBLEM = Problem("1", "7 +5 -3", "9", solution=(("7+5=12", "12-3=9"), "9"))
OPENS = CHATML.replace("%}<|im_start|>assistant\n{% endif", "%}<|im_start|>assistant\n<think>\n{% endif")


@pytest.fixture(scope="module")
def core():
    return train_core()


def styled(core, template, **changes):
    return style_tokenizer(tokenizers.wrap(to_fast(core, chat_template=template)), tiny.get_config(**changes))


def parse(tokenizer, text):
    ids = [*tokenizer.encode(text), tokenizer.eos_ids[0]]
    options = {"is_truncated": False, "max_steps": 4, "width": len(ids), "process_mask": "closing"}
    return parse_completion(tokenizer, ids, **options)


def test_instructions(core):
    tokenizer, notices = styled(core, CHATML, data__system_prompt="format")
    assert not notices and FORMATS["mig"].instructions in encoding.prompt_text(tokenizer, PROBLEM)
    tokenizer, _ = styled(core, CHATML, data__system_prompt="Add up.", data__user_template="Q: {question}")
    prompt = "<|im_start|>system\nAdd up.<|im_end|>\n<|im_start|>user\nQ: 7 +5 -3<|im_end|>\n<|im_start|>assistant\n"
    assert encoding.prompt_text(tokenizer, PROBLEM) == prompt
    tokenizer, _ = styled(core, CHATML, data__user_templates={"gsm8k": "{question} Add."})
    assert "7 +5 -3 Add." in encoding.prompt_text(tokenizer, PROBLEM._replace(source="gsm8k"))
    assert "7 +5 -3<|im_end|>" in encoding.prompt_text(tokenizer, PROBLEM)


def test_system_role_is_dropped(core):
    template = SHAPES["smollm3"].template
    tokenizer, notices = styled(core, template, data__system_prompt="format")
    assert any("user turn" in notice for notice in notices) and any("date" in notice for notice in notices)
    assert tokenizer.format.system_prompt() in encoding.prompt_text(tokenizer, PROBLEM)


def test_question_that_the_template_changes(core):
    tokenizer, _ = styled(core, CHATML.replace("m['content']", "m['content'].replace('/think', '')"))
    with pytest.raises(encoding.QuestionChangedError):
        encoding.prompt_text(tokenizer, PROBLEM._replace(question="What is </think>?"))
    with pytest.raises(UserError, match="no argument 'enable_thinkin'; it has none"):
        styled(core, CHATML, data__template_args="enable_thinkin=False")


@pytest.mark.parametrize("tag", ["<think>", "<think>\n", "<think>\n\n"])
def test_template_that_opens_the_think_block(core, tag):
    """Prompt, SFT target and sampled response together are the whole response, with the tag once."""
    tokenizer, notices = styled(core, OPENS.replace("<think>\n", tag))
    assert len(notices) == 1 and "goes on from there" in notices[0]
    prompt, target = encoding.prompt_text(tokenizer, PROBLEM), encoding.sft_target_ids(tokenizer, PROBLEM)
    assert prompt.endswith(f"assistant\n{tag}")
    written = tokenizer.decode(target[:-1])
    assert (prompt + written).count("<think>") == 1 and written.startswith(
        "\n### Step 1" if tag == "<think>" else "### "
    )
    assert tokenizer.decode(encoding.opening_ids(tokenizer)) == ("\n" if tag == "<think>" else "")
    parsed = parse(tokenizer, written)
    assert parsed.response.is_well_formed and parsed.n_steps == 2 and parsed.response.answer == "9"
    assert parsed.step_t[0] == 0, "the first token is open reasoning"
    assert parse(tokenizer, f"<think>\n{written}").response.format_error == "<think> 2 times"


@pytest.mark.parametrize("response_format", ["tunix", "plain"])
def test_format_that_does_not_close_the_block(core, response_format):
    tokenizer, notices = styled(core, OPENS, response_format=response_format)
    assert "never closes" in notices[0] and tokenizer.format.prompt_opening == ""
    assert not styled(core, CHATML, response_format=response_format)[1]


def test_closed_block(core):
    """Without thinking, mig writes a block of its own; qwen3 reads the text after the empty block as reasoning."""
    template, args = SHAPES["qwen3"].template, {"data__template_args": "enable_thinking=False"}
    tokenizer, notices = styled(core, template, **args)
    assert "one of their own" in notices[0] and tokenizer.format.prompt_opening == ""
    assert encoding.prompt_text(tokenizer, PROBLEM).endswith("<think>\n\n</think>\n\n")
    written = tokenizer.decode(encoding.sft_target_ids(tokenizer, PROBLEM)[:-1])
    assert written.startswith("<think>\n") and parse(tokenizer, written).response.is_well_formed
    tokenizer, notices = styled(core, template, response_format="qwen3", **args)
    assert "goes on from there" in notices[0]
    parsed = parse(tokenizer, "7+5=12.\n\n12-3=9.\n\nThe answer is \\boxed{9}.")
    assert parsed.response.answer == "9" and parsed.n_steps == 2 and parsed.response.is_well_formed


def test_policy_without_style_still_prompts(core):
    tokenizer = tokenizers.wrap(to_fast(core, chat_template=CHATML))
    assert dataclasses.replace(tokenizer.style, instructions="") == tokenizer.style
    assert encoding.prompt_ids(tokenizer, PROBLEM) == encoding.prompt_ids(styled(core, CHATML)[0], PROBLEM)


def test_ready_made_responses_are_sft_targets(core):
    response = "<think>\n### Step 1: 7+5=12\n### Step 2: 12-3=9\n</think>\n<answer>9</answer>"
    ready = Problem("1", "7 +5 -3", "9", response=response)
    for template, written in ((CHATML, response), (OPENS, response.removeprefix("<think>\n"))):
        tokenizer, _ = styled(core, template)
        assert tokenizer.decode(encoding.sft_target_ids(tokenizer, ready)[:-1]) == written
        assert encoding.rejection_reason(tokenizer, ready, max_answer_tokens=9, max_new_tokens=99) is None
        plain = ready._replace(response="12-3=9. \\boxed{9}")
        reason = encoding.rejection_reason(tokenizer, plain, max_answer_tokens=9, max_new_tokens=99)
        assert reason is not None and reason.startswith("with a response that is not in the response_format (")
    tokenizer, _ = styled(core, CHATML, response_format="plain")
    assert encoding.rejection_reason(tokenizer, plain, max_answer_tokens=9, max_new_tokens=99) is None
