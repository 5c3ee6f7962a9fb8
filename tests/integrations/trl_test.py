"""One step of GRPO with our rewards inside the real TRL, on the quickstart's model (CONTRIBUTING.md)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mig_jax
from mig_jax.errors import UserError
from tests.integrations.quickstart import ANSWERS, CHAIN, MAX_TOKENS, MODEL, PROMPTS, RESPONSES

pytestmark = [pytest.mark.trl, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def model():
    """A fresh copy; TRL makes models compute in bfloat16."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    torch.set_num_threads(1)
    return transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype="float32")


@pytest.fixture(scope="module")
def tokenizer():
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture
def make_trainer(model, tokenizer, tmp_path):
    from datasets import Dataset
    from trl import GRPOConfig

    def make(trainer_class, **kwargs):
        args = GRPOConfig(
            output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=4, num_generations=4,
            max_completion_length=MAX_TOKENS, learning_rate=1e-3, report_to=[], use_cpu=True, logging_steps=1, seed=1,
            save_strategy="no", loss_type="grpo", beta=0.0,
        )  # fmt: skip
        rows = [{"prompt": [{"role": "user", "content": CHAIN.question}], "answer": CHAIN.answer}]
        return trainer_class(
            model=model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, **kwargs
        )

    return make


def length(completion_ids, **columns):
    return [-len(ids) / MAX_TOKENS for ids in completion_ids]


def test_a_step_with_advantages_of_tokens(make_trainer, tokenizer):
    from mig_jax.integrations.trl import MIGTrainer, mig_reward

    process = mig_reward(tokenizer, credit_level="step", alpha=0.5)
    trainer = make_trainer(MIGTrainer, reward_funcs=[length], process=process)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    seen = []
    compute_loss = trainer._compute_loss
    trainer._compute_loss = lambda model, inputs: seen.append(inputs) or compute_loss(model, inputs)
    trainer.train()
    (inputs,) = seen
    assert inputs["advantages"].shape == inputs["completion_ids"].shape
    spread = [len({round(a, 6) for a in row.tolist()}) for row in inputs["advantages"]]
    assert max(spread) > 2  # steps of a response have advantages of their own
    assert any(not np.array_equal(p.detach(), before[name]) for name, p in trainer.model.named_parameters())
    logged = {key: value for row in trainer.state.log_history for key, value in row.items()}
    assert logged["mig/steps"] > 0.5 and logged["mig/ell_last"] > logged["mig/ell_first"]


def test_a_step_with_the_reward_as_a_function(make_trainer, tokenizer):
    from trl import GRPOTrainer

    from mig_jax.integrations.trl import mig_reward

    reward = mig_reward(tokenizer, scoring="tree")
    trainer = make_trainer(GRPOTrainer, reward_funcs=[length, reward])
    reward.attach(trainer)
    trainer.train()
    logged = {key: value for row in trainer.state.log_history for key, value in row.items()}
    assert logged["mig/process"] > 0.1
    assert logged["rewards/mig_reward/mean"] == pytest.approx(logged["mig/process"], rel=1e-5)


def test_a_group_may_be_divided_among_processes(tmp_path):
    """Two processes with two of four responses each have the advantages of the whole group."""
    (tmp_path / "two.py").write_text(TWO_PROCESSES)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", str(tmp_path / "two.py")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("rank*.json"))]
    assert len(found) == 2 and found[0]["ell"] == found[1]["ell"] and len(found[0]["ell"]) == 4
    total = np.array([sum(first) for rank in found for first in rank["first"]])
    assert np.abs(total).max() > 0.1 and abs(total.sum()) < 1e-4  # deviations from the mean of the group


TWO_PROCESSES = """
import json
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig
from mig_jax.integrations.trl import MIGTrainer, mig_reward
from tests.integrations.quickstart import CHAIN, MAX_TOKENS, MODEL

args = GRPOConfig(
    output_dir="out", max_steps=1, per_device_train_batch_size=2, num_generations=4, max_completion_length=MAX_TOKENS,
    report_to=[], use_cpu=True, save_strategy="no", beta=0.0,
)
tokenizer = AutoTokenizer.from_pretrained(MODEL)
row = {"prompt": [{"role": "user", "content": CHAIN.question}], "answer": CHAIN.answer}
process = mig_reward(tokenizer, process_scale="none")
trainer = MIGTrainer(
    model=AutoModelForCausalLM.from_pretrained(MODEL, dtype="float32"), args=args, processing_class=tokenizer,
    train_dataset=Dataset.from_list([row]), reward_funcs=[lambda completions, **_: [0.0] * len(completions)],
    process=process,
)
score = process.token_advantages

def keep(batch, columns):
    advantages, probed = score(batch, columns)
    first = [[x for x in row if x][:1] for row in advantages.tolist()]
    with open(f"rank{trainer.accelerator.process_index}.json", "w") as file:
        json.dump({"ell": probed.ell_bk.tolist(), "first": first}, file)
    return advantages, probed

process.token_advantages = keep
trainer.train()
"""


def test_trees_equal_pairs(model, tokenizer):
    from mig_jax.integrations import encode
    from mig_jax.integrations.transformers import likelihoods

    for terminator in ("tag", "event"):
        rows = encode(tokenizer, PROMPTS, RESPONSES, ANSWERS, terminator=terminator)
        trees, pairs = (likelihoods(model, rows, scoring=scoring) for scoring in ("tree", "pairs"))
        for tree, pair in zip(trees, pairs, strict=True):
            np.testing.assert_allclose(tree, pair, atol=2e-5)


def test_likelihoods_equal_those_of_our_own_model(model, tokenizer):
    import jax

    from mig_jax import rewards
    from mig_jax.integrations import encode, stack
    from mig_jax.integrations.transformers import likelihoods
    from mig_jax.models import decoder

    rows = encode(tokenizer, PROMPTS, RESPONSES, ANSWERS)
    with jax.default_device(jax.devices("cpu")[0]):
        policy = mig_jax.load_policy(MODEL)
        ours = decoder.bind(policy.config, policy.params)
        ell_bk, _ = rewards.score_packed(ours, ours.unembed_dv(), *stack(rows))
    for want_k, got_k in zip(np.asarray(ell_bk), likelihoods(model, rows), strict=True):
        np.testing.assert_allclose(got_k, want_k[: len(got_k)], atol=2e-5)


def test_wrong_use_is_explained(make_trainer, tokenizer, model):
    from trl import GRPOTrainer

    from mig_jax.integrations.transformers import tree_error
    from mig_jax.integrations.trl import mig_reward

    with pytest.raises(UserError, match="no option 'terminators'; choose from advantage, credit"):
        mig_reward(tokenizer, terminators="event")
    with pytest.raises(UserError, match=r"call reward.attach\(trainer\)"):
        make_trainer(GRPOTrainer, reward_funcs=[mig_reward(tokenizer)]).train()
    reward = mig_reward(tokenizer, answers="solution")
    trainer = make_trainer(GRPOTrainer, reward_funcs=[reward])
    reward.attach(trainer)
    with pytest.raises(UserError, match="the data has no column 'solution', but answer"):
        trainer.train()
    assert tree_error(model) is None
    model.config._attn_implementation = "flash_attention_2"
    try:
        assert "takes no mask of four axes" in tree_error(model)
    finally:
        model.config._attn_implementation = "sdpa"


def test_no_jax_is_imported():
    code = (
        "import sys; from transformers import AutoTokenizer; import mig_jax.integrations.trl as ours; "
        f"ours.mig_reward(AutoTokenizer.from_pretrained({str(MODEL)!r})); print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
