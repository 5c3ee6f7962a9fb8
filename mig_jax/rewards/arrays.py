"""The arrays that describe probes and groups, as numpy or jax arrays. Importing this module needs numpy alone."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import jax

    # Built with numpy on the host, used by jax on devices.
    Array = jax.Array | np.ndarray
else:
    Array = Any


class Trunk(NamedTuple):
    """A prompt with its response, in S slots of which any may be padding.

    position_s: `[S]` position of each token; or `[S, X]` where positions have several axes (M-RoPE).
    valid_s: `[S]` bool, False at padding.
    """

    position_s: Array
    valid_s: Array


class Cuts(NamedTuple):
    """The positions at which a trunk is probed.

    cut_k: `[K+1]` number of slots of the trunk before each cut, its padding included; at least 1.
    valid_k: `[K+1]` bool, False where there is no cut.
    prefix_kx: `[K+1, X]` ids that the leaves of each cut write before the lead-in, then padding; None for none.
    prefix_length_k: `[K+1]` number of these ids, 0 to X; None for none.
    """

    cut_k: Array
    valid_k: Array
    prefix_kx: Array | None = None
    prefix_length_k: Array | None = None


class Answers(NamedTuple):
    """The variants of one answer as leaves for any cut. Y of the P positions of a leaf predict a scored target.

    token_ap: `[A, P]` lead-in, answer and ending without the last target, then padding.
    target_aye: `[A, Y, E]` answer and ending, then padding; the last Y positions of `token_ap` predict them. A target
      is a set of ids, padded with −1, whose probabilities are summed.
    scored_ay: `[A, Y]` bool, False at padding; a row that is all False is no variant.
    """

    token_ap: Array
    target_aye: Array
    scored_ay: Array


class Group(NamedTuple):
    """The G responses of one question, as a credit rule sees them.

    ell_gk: `[G, K+1]` answer log-likelihood ℓ₀ … ℓ_K, in nats per token; ℓ₀ is before the first step.
    valid_gk: `[G, K+1]` bool, False at padding after the last step; the first entry of a row must be True.
    steps_gk: `[G, K]` int, steps between a probe and the next; more than 1 if there are more steps than probes.
    tokens_gk: `[G, K]` int, tokens of these steps.
    is_correct_g: `[G]` bool.
    """

    ell_gk: "jax.Array"
    valid_gk: "jax.Array"
    steps_gk: "jax.Array"
    tokens_gk: "jax.Array"
    is_correct_g: "jax.Array"


class Credit(NamedTuple):
    """The process rewards of a group, split into steps.

    reward_g: `[G]` process reward of each response.
    gain_gk: `[G, K]` share of each step; 0 at padding.
    """

    reward_g: "jax.Array"
    gain_gk: "jax.Array"
