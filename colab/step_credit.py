# %% [markdown]
# # Which step earned the answer?
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/mig_jax/blob/main/colab/step_credit.ipynb)
#
# A response solves a problem in steps. Its answer is right or wrong: one bit at the end. `mig_jax` gives a reward to
# **each step**: how much more likely it made the reference answer than the best that any earlier step had reached.
# This notebook shows it from the first formula to your own transcripts. Press *Runtime → Run all* on a CPU runtime: about
# two minutes.
#
# **Different on Colab**: all of this notebook was run on two CPU cores with the packages that Colab has, but not on
# Colab itself; its CPU is about as fast. A GPU or TPU runtime works as well, and is no faster for so small a model.

# %% Install: about a minute on Colab; moves no package that is installed already
REPOSITORY = "https://github.com/OWNER/mig_jax"  # @param {type: "string"}
import importlib.util

if not importlib.util.find_spec("mig_jax"):
    # %pip install -q "mig_jax[train] @ git+{REPOSITORY}" chex==0.1.90
    pass

# %% [markdown]
# ## From log-probs to gains
#
# Take the log-probs of the tokens of the reference answer, before the first step and after each step. ℓ is their mean
# per token. The **watermark** is the highest ℓ so far. A step **gains** what it adds to the watermark.

# %%
import jax.numpy as jnp
import numpy as np
from IPython.display import HTML, display

import mig_jax
from mig_jax import assets, rewards
from mig_jax.records.html_page import fragment
from mig_jax.records.svg_chart import likelihood_chart

np.set_printoptions(precision=3, suppress=True, linewidth=110)
logprob_ky = jnp.array([[-4.0, -6.0], [-3.0, -5.0], [-7.0, -5.0], [-2.0, -4.0], [-1.0, -3.0]])
ell_k = rewards.answer_likelihood(logprob_ky[:, None], jnp.ones((1, 2), bool))
gain_k, watermark_k = rewards.watermark_gains(ell_k, jnp.ones(5, bool))
print("ℓ        ", ell_k, "nats per token")
print("watermark", watermark_k)
print("gain     ", gain_k, "of steps 1 to 4: step 2 falls back, step 3 earns only what exceeds step 1")
chart = likelihood_chart(ell_k.tolist(), watermark_k.tolist())
display(HTML(fragment([f'<div style="max-width: 400px">{chart}</div>'])))

# %% [markdown]
# ## Four responses of a small policy
#
# The package contains a policy of 0.17M parameters. It solves chains of additions and multiplications, last digits
# only, and makes slips. Darker blue: more gain. A slip earns nothing, and neither does what follows.

# %%
QUESTION, ANSWER = "Last digits of 7 +5 -3 *3 +8 -2 +6", "297539"
policy = mig_jax.load_policy(assets.QUICKSTART)
mig_jax.sample(policy, [QUESTION], [ANSWER], samples=4, kind="text", seed=5)

# %% [markdown]
# ## Change a step, and see the gain move
#
# Edit `steps` and run the cell again. Here step 2 of the second response is wrong: 2−3 is 9, not 8. The third guesses.


# %% tags=["picture"]
def write(steps, answer):
    lines = "".join(f"### Step {n}: {step}\n" for n, step in enumerate(steps, start=1))
    response = f"<think>\n{lines}</think>\n<answer>{answer}</answer>"
    return {"question": QUESTION, "answer": ANSWER, "kind": "text", "response": response}


steps = ["7+5=2", "2-3=9", "9*3=7", "7+8=5", "5-2=3", "3+6=9"]
slipped = ["7+5=2", "2-3=8", "8*3=4", "4+8=2", "2-2=0", "0+6=6"]
rows = [write(steps, "297539"), write(slipped, "284206"), write(steps[:1], "297539")]
scored = mig_jax.score(policy, rows)
scored.figure()

# %% [markdown]
# ## Other credit rules on the same responses
#
# A rule is a line in a config: `reward.credit`. `final` pays the likelihood at the end, `delta_sum` also takes back
# what a step loses, `segment_progress` counts in probability instead of nats. A rule sees the whole group. The third
# response guesses after one step; `reward.credit_args` has what such a response may earn: gates, prices, drawdown.

# %%
ell_gk = np.array([t.ell_k for t in scored[:2]])
ones_gk = np.ones(ell_gk[:, 1:].shape, int)  # a step, of 12 tokens, before each probe but the first
group = rewards.Group(ell_gk, np.ones(ell_gk.shape, bool), ones_gk, 12 * ones_gk, np.array([True, False]))
for name in rewards.CREDITS:
    credit = rewards.make_credit(name)(group)
    for reward, gain_k in zip(credit.reward_g, credit.gain_gk):
        print(f"{name:17} reward {reward:6.2f}, gains", np.array(gain_k))

# %% [markdown]
# ## Your own transcripts
#
# Rows need a question, a response and a reference answer; a jsonl, csv or parquet file works too. `response_format`
# says how the responses are written: `r1` has paragraphs in a think block and a boxed answer. For numbers that mean
# something, load the model that wrote them: `mig_jax.load_policy("Qwen/Qwen2.5-0.5B-Instruct")`.

# %%
response = "<think>\nFirst 7+5=12, so 2.\n\nThen 2-3=-1, so 9.\n\nAnd so on.\n</think>\nThe digits are \\boxed{297539}."
own = [{"question": QUESTION, "answer": ANSWER, "kind": "text", "response": response}]
mig_jax.score(policy, own, response_format="r1")

# %% [markdown]
# ## Three ways to score, the same numbers
#
# `mig_jax.score` does everything. `rewards.score_packed` scores all probes of a response in one pass of any model that is
# a function of ids, positions and a mask. `pairs` need nothing but log-probs of given tokens, which every engine has.

# %%
import jax

from mig_jax.integrations import encode, stack
from mig_jax.models import decoder

(row,) = encode(
    policy.tokenizer, [[{"role": "user", "content": QUESTION}]], [rows[0]["response"]], [ANSWER], kinds="text"
)
model = decoder.bind(policy.config, policy.params)
packed_bk, _ = rewards.score_packed(model, model.unembed_dv(), *stack([row]))


def logprobs(ids):
    """Return the log-prob of each id after the first."""
    token_bs = jnp.array([ids])
    hidden_bsd, _ = model(token_bs, jnp.arange(len(ids))[None], jnp.ones((1, len(ids)), bool))
    return np.array(jax.nn.log_softmax(hidden_bsd[0] @ model.unembed_dv()))[np.arange(len(ids) - 1), ids[1:]]


pairs = row.pairs()
given = [logprobs(pair.context + pair.continuation)[-len(pair.continuation) :] for pair in pairs]
pairs_k = rewards.pairs_likelihood(pairs, given, row.answers, n_cuts=row.n_cuts)
for name, ell_k in {"score": scored[0].ell_k, "score_packed": packed_bk[0], "pairs": pairs_k}.items():
    print(f"{name:13}", np.array(ell_k))
