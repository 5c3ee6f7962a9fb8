"""Texts and ids to probes, in several formats; no model is needed."""

import inspect

import numpy as np
import pytest
from mig_jax.configs import default

from mig_jax import rewards
from mig_jax.errors import UserError
from mig_jax.integrations import encode, stack
from mig_jax.text.tokenizer import build_character_tokenizer

TOKENIZER = build_character_tokenizer()
RESPONSE = "<think>\n### Step 1: a\n### Step 2: b\n</think>\n<answer>3</answer>"


def probes(*args, **kwargs):
    """Return the text of each probe of one response, with its continuation in brackets; it ends in the closing tag."""
    (row,) = encode(TOKENIZER, *([x] for x in args), **({"terminator": "tag"} | kwargs))
    return [f"{TOKENIZER.decode(pair.context)}[{TOKENIZER.decode(pair.continuation)}]" for pair in row.pairs()]


def test_probes_are_written_as_the_policy_would():
    assert probes("1+2", RESPONSE, "3") == [
        "1+2<think>\n</think>\n<answer>[3</answer>]",
        "1+2<think>\n### Step 1: a\n</think>\n<answer>[3</answer>]",
        "1+2<think>\n### Step 1: a\n### Step 2: b\n</think>\n<answer>[3</answer>]",
    ]


def test_any_ending_is_scored_as_in_training_by_default():
    """As the config says, and as `pack_answers` does: the same answer with each ending."""
    default_of = inspect.signature(rewards.pack_answers).parameters["terminator"].default
    assert default_of == default.get_config().reward.terminator == "event"
    assert encode(TOKENIZER, ["1+2"], [RESPONSE], ["3"])[0].answers.target_aye.shape[2] > 1
    texts = probes("1+2", RESPONSE, "3", terminator="event")
    endings = [text.partition("[")[2] for text in texts]
    assert len(set(endings)) > 1 and len(endings) == 3 * len(set(endings))


def test_formats_have_their_own_tags():
    response = "<reasoning>\n1+2=3\n</reasoning>\n<answer>3</answer>"
    assert probes("?", response, "3", format="tunix") == [
        "?<reasoning>\n</reasoning>\n<answer>[3</answer>]",
        "?<reasoning>\n1+2=3\n</reasoning>\n<answer>[3</answer>]",
    ]
    boxed = "<think>\nIt is 3.\n\nYes.\n</think>\n\n\\boxed{3}"
    assert [text.endswith("</think>\n\n\\boxed{[3}]") for text in probes("?", boxed, "3", format="r1")] == [True] * 3


def test_prompts_may_open_the_reasoning():
    whole = probes("1+2", RESPONSE, "3")
    opened = probes("1+2<think>\n", RESPONSE.removeprefix("<think>\n"), "3")
    assert opened == whole


def test_texts_ids_and_chats_give_the_same():
    chat = [{"role": "user", "content": "1+2"}]
    ids = TOKENIZER.chat_prompt(chat)
    sampled = [*TOKENIZER.encode(RESPONSE), TOKENIZER.eos_ids[0]]
    prompts = [chat, ids, TOKENIZER.decode(ids)]
    completions = [[{"role": "assistant", "content": RESPONSE}], sampled, RESPONSE]
    rows = encode(TOKENIZER.fast, prompts, completions, ["3"] * 3)
    assert [row.token_s for row in rows] == [[*ids, *sampled]] * 3
    assert not rows[0].parsed.is_truncated
    assert encode(TOKENIZER, [ids], [sampled[:-1]], ["3"])[0].parsed.is_truncated


def test_a_response_without_steps_has_one_probe():
    assert len(probes("1+2", "3", "3")) == 1
    assert len(probes("1+2", "", "3")) == 1


def test_tokenizers_without_a_chat_template_can_be_used():
    fast = build_character_tokenizer().fast
    fast.chat_template = None
    assert encode(fast, ["1+2"], [RESPONSE], ["3"])[0].n_cuts == 3
    assert fast.chat_template is None


def test_longer_answers_than_the_limit_keep_their_own_spelling():
    assert probes("?", RESPONSE, "0.50", max_answer_tokens=1, max_variants=8)[0].endswith("[0.50</answer>]")
    assert len(probes("?", RESPONSE, "0.5", kinds="number", max_variants=8)) > 3


def test_trees_end_at_the_last_cut():
    (row,) = encode(TOKENIZER, ["1+2"], [RESPONSE], ["3"])
    tree = row.tree()
    n_trunk = int((tree.start_t == 0).sum())
    assert TOKENIZER.decode(tree.token_t[:n_trunk]) == "1+2" + RESPONSE.split("</think>")[0]
    assert TOKENIZER.decode(tree.token_t[n_trunk:]) == "<think>\n</think>\n<answer>3" + "</think>\n<answer>3" * 2


def test_rows_of_all_shapes_are_stacked():
    rows = encode(TOKENIZER, ["1+2", "?"], [RESPONSE, "so"], ["1/2", "12"], kinds="number", terminator="event")
    token_bs, trunk, cuts, answers = stack(rows, pad_id=9)
    assert token_bs.shape == trunk.valid_s.shape == trunk.position_s.shape
    assert trunk.valid_s.sum(1).tolist() == [len(row.token_s) for row in rows]
    assert cuts.valid_k.sum(1).tolist() == [3, 1]
    assert answers.scored_ay.any(-1).sum(1).tolist() == [np.asarray(r.answers.scored_ay).any(-1).sum() for r in rows]
    assert answers.token_ap.shape[2] - answers.scored_ay.shape[2] == len(TOKENIZER.encode("</think>\n<answer>")) - 1


@pytest.mark.parametrize(
    "args, kwargs, match",
    [
        ((["a"], ["b"], [""]), {}, "response 0 has no reference answer: ''"),
        ((["a"], ["b"], [3]), {}, "response 0 has no reference answer: 3"),
        ((["a"], ["b", "c"], ["3"]), {}, "1 prompts, 2 completions and 1 answers"),
        ((["a"], ["b"], ["3"]), {"format": "r2"}, "format='r2'"),
        ((["a"], ["b"], ["3"]), {"max_step": 3}, "no option 'max_step'; choose from advantage"),
        ((["a"], ["b"], ["3"]), {"max_steps": "many", "credits": 1}, "no option 'credits'.*max_steps='many'"),
    ],
)
def test_wrong_arguments_are_explained(args, kwargs, match):
    with pytest.raises(UserError, match=match):
        encode(TOKENIZER, *args, **kwargs)


def test_slow_tokenizers_are_refused():
    with pytest.raises(UserError, match="object is no fast tokenizer"):
        encode(object(), ["a"], ["b"], ["3"])
