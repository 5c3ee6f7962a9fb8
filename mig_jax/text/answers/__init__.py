"""Comparing an answer with the reference answer.

Lives here: normalization, one comparison per kind of answer, answer variants, and the verifier with its worker
processes.
May import: errors and `text.response_format`. Algebra (math-verify, reasoning-gym) runs in worker processes only.
Main names: `verifier.Verifier`, `compare.COMPARISONS`, `variants.answer_variants`.
"""
