"""A model card says what the model was trained from, on what, how, and how accurate it is."""

import dataclasses
import shlex
from types import SimpleNamespace

import pytest

from mig_jax.models.huggingface.origin import Origin
from mig_jax.models.lora import LoraConfig
from mig_jax.text import tokenizer as tokenizers
from mig_jax.trainer import model_card
from tests import tiny

ROWS = [
    {"step": 0, "eval/sampled": 0.125, "eval/greedy": 0.0, "eval/greedy_lenient": 0.5, "eval/problems": 8.0},
    {"step": 1, "reward/accuracy": 0.5},
    {"step": 2, "eval/sampled": 0.5, "eval/greedy": float("nan"), "eval/greedy_lenient": 0.5, "eval/problems": 8.0},
    {"step": 4, "eval/sampled": 0.75, "eval/greedy": 1.0},
]


@dataclasses.dataclass
class FakePolicy:
    """What a card reads of a policy."""

    base: str = ""
    origin: Origin = dataclasses.field(default_factory=Origin)
    config: SimpleNamespace = dataclasses.field(default_factory=lambda: SimpleNamespace(lora=None))
    tokenizer: tokenizers.Tokenizer = tokenizers.build_character_tokenizer()


def card(config, policy=None, *, mode="train", step=2, rows=ROWS, command=None):
    return model_card.render_card(
        policy or FakePolicy(), config, mode=mode, step=step, rows=rows, name="run", command=command
    )


def test_license_is_named_only_if_the_base_names_one():
    licensed = FakePolicy("Qwen/Qwen2.5-3B", Origin(license={"license": "other", "license_name": "qwen-research"}))
    text = card(tiny.get_config(), licensed)
    front = text.split("---\n")[1].splitlines()
    assert front[:4] == ["library_name: transformers", "base_model: Qwen/Qwen2.5-3B", "license: other",
                         "license_name: qwen-research"]  # fmt: skip
    assert "| license of the base model | other, qwen-research |" in text
    assert "license" not in card(tiny.get_config(), FakePolicy("/folder/of/mine"))
    assert "base_model:" not in card(tiny.get_config(), FakePolicy("/folder/of/mine"))
    assert "| base model | none: random parameters |" in card(tiny.get_config())


@pytest.mark.parametrize(
    "mode, changes, words",
    [
        ("train", {}, "step-wise credit (MIG)"),
        ("train", {"loss__alpha": 0.5, "loss__kl_coef": 0.01}, "MIG: α = 0.5 (process reward, credit watermark by"),
        ("train", {"loss__kl_coef": 0.01}, "κ = 0.01 (KL to the start)"),
        ("train", {"loss__alpha": 0.0, "loss__gamma": 0.0}, "by reinforcement learning (GRPO)"),
        ("train", {"loss__alpha": 0.0, "loss__gamma": 0.0}, "GRPO: α = 0 (process reward), β = 1"),
        ("train", {"sft__steps": 9, "sft__data": "gsm8k"}, "| SFT before RL | 9 steps on `gsm8k`; the result is `/b`"),
        ("sft", {"sft__steps": 9}, "by supervised fine-tuning (SFT) on written solutions"),
        ("sft", {}, "| each step | 16 written solutions |"),
        ("train", {}, "| each step | 8 questions × 2 responses of at most 40 tokens, temperature 1 |"),
        ("train", {"data__train": "3 chain + 1 gsm8k"}, "| training data | `3 chain + 1 gsm8k` |"),
        ("train", {}, "| steps | 2 of 2 |"),
    ],
)
def test_method_and_data(mode, changes, words):
    assert words in card(tiny.get_config(**changes), FakePolicy("/b"), mode=mode)


def test_base_of_a_run_with_an_sft_stage_is_where_that_started():
    config = tiny.get_config(sft__steps=9, model__path="Qwen/Qwen2.5-3B")
    assert "| base model | `Qwen/Qwen2.5-3B` |" in card(config, FakePolicy("/run/sft/model"))
    assert "| base model | `/b` |" in card(config, FakePolicy("/b"), mode="sft")


def test_adapters_are_described():
    policy = FakePolicy("/b", config=SimpleNamespace(lora=LoraConfig(4, 8.0, ("query", "up"))))
    merged, adapter = (card(tiny.get_config(model__lora__save=save), policy) for save in ("merged", "adapter"))
    assert "| adapters | LoRA of rank 4, alpha 8, on query, up; merged |" in merged
    assert "in PEFT's format |" in adapter and "library_name: peft" in adapter


def test_evaluation_of_the_step_and_of_the_start_have_intervals():
    """Wilson's, as computed by hand: 1 of 8 gives [0.022, 0.471], 4 of 8 [0.215, 0.785], 0 of 8 [0, 0.324]."""
    text = card(tiny.get_config())
    assert "8 held-out problems of `chain:terms=3`; sampled at temperature 1, 1 per problem." in text
    table = text.split("## Evaluation")[1].split("## Settings")[0].strip().splitlines()[2:]
    assert table == [
        "| accuracy | after step 0 | after step 2 |",
        "| --- | --- | --- |",
        "| sampled | 0.125 [0.022, 0.471] | 0.500 [0.215, 0.785] |",
        "| greedy | 0.000 [0.000, 0.324] | unknown |",
        "| greedy, lenient | 0.500 [0.215, 0.785] | 0.500 [0.215, 0.785] |",
    ]


def test_evaluation_of_another_step_is_said_to_be_that():
    text = card(tiny.get_config(), step=5)
    assert "The model after step 5 itself was not evaluated." in text
    assert "| sampled | 0.125 [0.022, 0.471] | 0.750 |" in text and "In brackets" not in text
    assert "| after step 4 |" not in card(tiny.get_config(), step=3)
    assert "was not evaluated during the run" in card(tiny.get_config(), rows=ROWS[1:2])


def test_prompt_is_shown():
    text = card(tiny.get_config(data__system_prompt="Add.", data__user_template="Q: {question}"))
    prompt = (
        "<|im_start|>system\nAdd.<|im_end|>\n<|im_start|>user\nQ: What is 6 times 7?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert f"made by the chat template, as this one:\n\n````text\n{prompt}\n````" in text


def test_settings_are_those_that_differ():
    text = card(tiny.get_config(loss__alpha=0.5, model__lora__modules=("query",)))
    settings = text.split("\n```text\n")[1].split("\n```")[0].splitlines()
    assert "--config.loss.alpha=0.5" in settings and "--config.model.lora.modules=('query',)" in settings
    assert not [line for line in settings if "loss.beta" in line]


@pytest.mark.parametrize(
    "argv, command",
    [
        (["/usr/bin/mig-jax", "train", "--workdir=/tmp/my run"], "mig-jax train '--workdir=/tmp/my run'"),
        (["/x/mig_jax/main.py", "export"], "mig-jax export"),
        (["/x/mig_jax/__main__.py", "export"], "mig-jax export"),
        (["/x/pytest/__main__.py", "tests"], None),
        (["/usr/bin/ipython"], None),
    ],
)
def test_command_is_that_of_mig_jax(monkeypatch, argv, command):
    monkeypatch.setattr(model_card.sys, "argv", argv)
    assert model_card.command_line() == command
    if command:
        assert shlex.split(command)[1:] == argv[1:]
        assert f"```bash\n{command}\n```" in card(tiny.get_config(), command=command)
