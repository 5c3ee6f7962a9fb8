"""Shares of responses that were cut off by the length limit or are malformed, and warnings where they are high."""

from collections.abc import Callable, Mapping, Sequence

from mig_jax.records.transcripts import Transcript
from mig_jax.text.response_format import TRUNCATED

# What can be wrong with a response; at most one of these is.
KINDS: dict[str, Callable[[Transcript], bool]] = {
    "truncated": lambda t: t.format_error == TRUNCATED,
    "malformed": lambda t: bool(t.format_error) and t.format_error != TRUNCATED,
}

# Shares above which a warning is printed.
LIMITS = {"truncated": 0.05, "malformed": 0.20}

# The end of each warning: what it means, and what to do.
ADVICE = {
    "truncated": "were cut off by the length limit: raise rollout.max_new_tokens",
    "malformed": "are malformed, and count as wrong in the strict columns: train the format first (SFT), or check the "
    "prompt (data.system_prompt); the lenient columns do not require it",
}

# kind → "greedy", "sampled" or "" → share of the responses.
Shares = Mapping[str, Mapping[str, float]]


def share(transcripts: Sequence[Transcript], kind: str) -> float:
    """Return the share of the responses that are of a kind, a key of `KINDS`; 0 if there are no responses."""
    return sum(map(KINDS[kind], transcripts)) / max(1, len(transcripts))


def find_warnings(shares: Shares, *, of: str) -> list[str]:
    """Return a sentence for each kind whose share exceeds its limit, of any sampling.

    Args:
      shares: of one source.
      of: name of the source.
    """
    return [
        f"{_list_shares(by_sampling)} responses to {of} {ADVICE[kind]}."
        for kind, by_sampling in shares.items()
        if max(by_sampling.values(), default=0.0) > LIMITS[kind]
    ]


def _list_shares(by_sampling: Mapping[str, float]) -> str:
    """Return such as "12.5 % of the greedy and 3.1 % of the sampled"; a sampling may be unknown, ""."""
    return " and ".join(f"{100 * value:.1f} % of the {sampling}".rstrip() for sampling, value in by_sampling.items())
