"""Problems to train and evaluate on: benchmarks, the user's own files, and generated problems.

Imports `mig_jax.errors` only: no tokenizer, no model, no config.

Start at `sources.open_source` (any source by its name), `problem.Problem` (what every source yields) and
`stream.iterate` (endless shuffled batches). Formats: `problem_files`, `row_files`, `builders/`, `synthetic/`.
"""
