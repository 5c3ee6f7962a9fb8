"""One step of GRPO with our rewards inside the real tunix, on the quickstart's model (CONTRIBUTING.md)."""

import jax
import numpy as np
import pytest

import mig_jax
from mig_jax import rewards
from mig_jax.errors import UserError
from mig_jax.integrations import encode, stack
from mig_jax.models import decoder
from tests.integrations import quickstart
from tests.integrations.quickstart import ANSWERS, CHAIN, MAX_TOKENS, PROMPTS, RESPONSES

pytestmark = [pytest.mark.tunix, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def rank_promotion():
    """Allow tunix, in all its threads, what our own code does without."""
    before = jax.config.jax_numpy_rank_promotion
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_rank_promotion", before)


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(quickstart.MODEL)


@pytest.fixture
def cluster(tokenizer):
    return quickstart.tunix_cluster(tokenizer)


@pytest.fixture
def data(tokenizer):
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": CHAIN.question}], add_generation_prompt=True, tokenize=False
    )
    return [{"prompts": np.array([prompt]), "answer": np.array([CHAIN.answer])}]


def length(prompts, completions, **columns):
    return [-len(text) / MAX_TOKENS for text in completions]


def config():
    from tunix.rl.grpo.grpo_learner import GRPOConfig

    return GRPOConfig(num_generations=4, beta=0.0)


def test_a_step_with_advantages_of_tokens(cluster, tokenizer, data):
    from mig_jax.integrations.tunix import MIGLearner, mig_reward

    process = mig_reward(tokenizer, credit_level="step", alpha=0.5)
    learner = MIGLearner(cluster, config(), reward_fns=[length], process=process)
    before = jax.tree.map(np.array, parameters(cluster))
    seen = []
    make_example = learner._generate_and_compute_advantage
    learner._generate_and_compute_advantage = lambda *args: seen.append(make_example(*args)) or seen[-1]
    learner.train(data)
    (example,) = seen
    assert example.advantages.shape == example.completion_ids.shape
    assert max(len(np.unique(np.round(row, 6))) for row in np.asarray(example.advantages)) > 2
    changed = jax.tree.map(lambda old, new: not np.array_equal(old, new), before, parameters(cluster))
    assert any(jax.tree.leaves(changed))


def test_a_step_with_the_reward_as_a_function(cluster, tokenizer, data):
    from tunix.rl.grpo.grpo_learner import GRPOLearner

    from mig_jax.integrations.tunix import mig_reward

    reward = mig_reward(tokenizer, scoring="tree").attach(cluster)
    seen = []
    score = reward.process.credit
    reward.process.credit = lambda *args, **kwargs: seen.append(score(*args, **kwargs)) or seen[-1]
    GRPOLearner(cluster, config(), reward_fns=[length, reward]).train(data)
    assert seen[0][0].shape == (4,) and seen[0][0].max() > 0.1


@pytest.mark.parametrize("terminator", ["tag", "event"])
def test_likelihoods_equal_those_of_our_own_model(cluster, tokenizer, terminator):
    from mig_jax.integrations import tunix

    rows = encode(tokenizer, PROMPTS, RESPONSES, ANSWERS, terminator=terminator)
    policy = mig_jax.load_policy(quickstart.MODEL)
    ours = decoder.bind(policy.config, policy.params)
    ell_bk, _ = rewards.score_packed(ours, ours.unembed_dv(), *stack(rows))
    for score in (tunix.pair_likelihoods, tunix.tree_likelihoods):
        for want_k, got_k in zip(np.asarray(ell_bk), score(cluster, rows, 8, {}), strict=True):
            np.testing.assert_allclose(got_k, want_k[: len(got_k)], atol=2e-5)


def test_padding_that_is_also_a_token_is_replaced(cluster, tokenizer):
    from mig_jax.integrations import tunix

    pad = cluster.rollout.pad_id()
    prompt = [pad, *tokenizer.encode(CHAIN.question)]
    rows = encode(tokenizer, [prompt], RESPONSES[:1], ANSWERS[:1])
    pairs, trees = (score(cluster, rows, 8, {}) for score in (tunix.pair_likelihoods, tunix.tree_likelihoods))
    np.testing.assert_allclose(pairs[0], trees[0], atol=2e-5)


def test_wrong_use_is_explained(tokenizer):
    from mig_jax.integrations.tunix import mig_reward

    with pytest.raises(UserError, match="must be pairs or tree"):
        mig_reward(tokenizer, scoring="auto")
    with pytest.raises(UserError, match=r"call reward.attach\(cluster\) first"):
        mig_reward(tokenizer)(PROMPTS, RESPONSES, num_generations=2, answer=ANSWERS)


def parameters(cluster):
    from flax import nnx

    return nnx.state(cluster.actor_trainer.model, nnx.Param)
