"""Rollouts: problems to completions, grades, scores and a batch to train on.

Lives here: choosing the problems of a run, sampling and grading them, step scores, batches for RL and for SFT.
May import: policy, records, models, learning, rewards, text, data, distributed. Knows nothing of updates or runs.
Main names: `rollout.Rollout`, `batch.make_train_batch_fn`, `problem_set.open_train_problems`.
"""
