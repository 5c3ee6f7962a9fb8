"""Likelihoods of reference answers under a torch model of transformers. Needs no jax."""

# pyright: reportMissingImports=false

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mig_jax.errors import UserError
from mig_jax.integrations.encoding import Encoded
from mig_jax.rewards import numpy_twins, pairs_likelihood, stack_trees, tree_mask

if TYPE_CHECKING:
    import torch

# Attention that takes a mask of any form.
MASKED = ("sdpa", "eager")
# Tokens whose log-sum-exp over the vocabulary is computed at once, in float32.
_CHUNK = 256


def likelihoods(
    model: Any,
    rows: Sequence[Encoded],
    *,
    scoring: str = "auto",
    batch_size: int = 4,
    vocab_size: int | None = None,
    over_tokens: str = "mean_logprob",
    over_spellings: str = "max",
) -> list[np.ndarray]:
    """Return ℓ before the first step and after each, for each response, under a causal language model.

    Args:
      model: of transformers, on any device; gradients are off, and dropout too while it is scored.
      rows: responses with their probes.
      scoring: "tree": a response and all its probes are one sequence, under a mask of four axes. "pairs": each probe is
        a sequence of its own, for any model; far slower. "auto": a tree where the model allows it, see `tree_error`.
      batch_size: sequences in a pass.
      vocab_size: number of ids; columns of the output layer after them have probability 0. None: all count.
      over_tokens, over_spellings: as in `rewards.answer_likelihood`.

    Returns:
      ell_k `[K+1]` of each response, in nats per token. Logits are in the dtype of the model, what follows in
      float32.

    Raises:
      UserError: trees are asked for, and the model cannot compute them.
    """
    if scoring not in ("auto", "tree", "pairs"):
        raise UserError(f"scoring={scoring!r}: must be auto, tree or pairs")
    error = tree_error(model)
    if scoring == "tree" and error:
        raise UserError(f"scoring='tree': {error}; take scoring='pairs'")
    import torch

    score = _score_pairs if scoring == "pairs" or error else _score_trees
    options = {"over_tokens": over_tokens, "over_spellings": over_spellings}
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return score(model, rows, batch_size, vocab_size, options)
    finally:
        model.train(was_training)


def tree_error(model: Any) -> str | None:
    """Return why a model cannot compute trees, or None: its attention or its layers take no mask of their own."""
    config = model.config.get_text_config()
    attention = getattr(config, "_attn_implementation", None) or "eager"
    if attention not in MASKED:
        return f"attn_implementation={attention!r} takes no mask of four axes, but {' and '.join(MASKED)} do"
    layers = {*(getattr(config, "layer_types", None) or ())} - {"full_attention"}
    if layers:
        return f"the model has layers of another kind: {', '.join(sorted(layers))}"
    if getattr(config, "sliding_window", None) and getattr(config, "layer_types", None) is None:
        return f"the model has a sliding window of {config.sliding_window} tokens"
    return None


def _score_trees(
    model: Any, rows: Sequence[Encoded], batch_size: int, vocab_size: int | None, options: dict[str, str]
) -> list[np.ndarray]:
    import torch

    device, dtype = model.device, model.dtype
    found: list[Any] = [None] * len(rows)
    for batch in _batches([row.tree() for row in rows], batch_size, key=lambda tree: len(tree.token_t)):
        stacked = stack_trees([tree for _, tree in batch], pad_id=0)
        first = min(int(tree.query_kay[tree.query_kay >= 0].min()) for _, tree in batch)
        mask = torch.from_numpy(tree_mask(stacked)[:, None]).to(device)
        logits = model(
            input_ids=torch.from_numpy(stacked.token_t).long().to(device),
            position_ids=torch.from_numpy(stacked.position_t).long().to(device),
            attention_mask=torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min),
            use_cache=False,
            logits_to_keep=stacked.token_t.shape[1] - first,
        ).logits
        for logit_tv, (number, tree) in zip(logits, batch, strict=True):
            answers = rows[number].answers
            n_cuts = tree.query_kay.shape[0]
            target_kaye = np.broadcast_to(answers.target_aye, (n_cuts, *np.shape(answers.target_aye)))
            logprob_kay = np.zeros(tree.query_kay.shape, np.float32)
            is_query = tree.query_kay >= 0
            logprob_kay[is_query] = _logprobs(
                logit_tv, tree.query_kay[is_query] - first, target_kaye[is_query], vocab_size
            )
            found[number] = numpy_twins.answer_likelihood(logprob_kay, np.asarray(answers.scored_ay), **options)
    return found


def _score_pairs(
    model: Any, rows: Sequence[Encoded], batch_size: int, vocab_size: int | None, options: dict[str, str]
) -> list[np.ndarray]:
    import torch

    pairs = [row.pairs() for row in rows]
    flat = [pair for of_row in pairs for pair in of_row]
    logprobs: list[Any] = [None] * len(flat)
    for batch in _batches(flat, batch_size, key=lambda pair: len(pair.context) + len(pair.continuation)):
        texts = [pair.context + pair.continuation for _, pair in batch]
        width, first = max(map(len, texts)), min(len(pair.context) for _, pair in batch) - 1
        ids = torch.tensor([text + [0] * (width - len(text)) for text in texts], device=model.device)
        is_token = torch.tensor([[t < len(text) for t in range(width)] for text in texts], device=model.device)
        logits = model(
            input_ids=ids, attention_mask=is_token.long(), use_cache=False, logits_to_keep=width - first
        ).logits
        for logit_tv, (number, pair) in zip(logits, batch, strict=True):
            slots = np.arange(len(pair.continuation)) + len(pair.context) - 1 - first
            logprobs[number] = _logprobs(logit_tv, slots, np.array(pair.continuation)[:, None], vocab_size)
    given = iter(logprobs)
    return [
        pairs_likelihood(of_row, [next(given) for _ in of_row], row.answers, n_cuts=row.n_cuts, **options)
        for row, of_row in zip(rows, pairs, strict=True)
    ]


def _batches(items: Sequence[Any], size: int, *, key: Any) -> Iterator[list[tuple[int, Any]]]:
    """Yield numbered items of similar length together, so that little is padded."""
    ordered = sorted(enumerate(items), key=lambda numbered: key(numbered[1]))
    return (ordered[first : first + size] for first in range(0, len(ordered), size))


def _logprobs(
    logit_tv: "torch.Tensor", slot_n: np.ndarray, target_ne: np.ndarray, vocab_size: int | None
) -> np.ndarray:
    """Return the log of the summed probability of each set of targets, `[N]`; sets are padded with −1."""
    import torch

    target = torch.from_numpy(np.ascontiguousarray(target_ne)).long().to(logit_tv.device)
    slots = torch.from_numpy(np.ascontiguousarray(slot_n)).long().to(logit_tv.device)
    found = []
    for some, targets in zip(slots.split(_CHUNK), target.split(_CHUNK), strict=True):
        logits = logit_tv[some, :vocab_size].float()
        picked = logits.gather(1, targets.clamp(min=0)).masked_fill(targets < 0, -torch.inf)
        found.append(picked.logsumexp(1) - logits.logsumexp(1))
    return torch.cat(found).cpu().numpy()
