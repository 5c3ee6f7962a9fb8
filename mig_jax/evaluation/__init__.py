"""Evaluation: answers to held-out problems and benchmarks, step scores of given transcripts, answer variants.

Lives here: sampling and grading answers, results of several sources, scoring transcripts, proposing answer variants.
May import: rollout, policy, records, models, rewards, text, data, distributed. Knows nothing of training.
Main names: `evaluator.Evaluator`, `run.evaluate_sources`, `score_transcripts.score_transcripts`.
"""
