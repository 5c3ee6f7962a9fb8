"""Records of runs and evaluations: transcripts, metrics, plots and pages.

Lives here: files of transcripts and metrics, statistics of evaluations, training curves, HTML pages.
May import: text, data, distributed. Knows nothing of policies, rollouts or runs.
Main names: `transcripts.Transcript`, `metrics.open_metrics`, `eval_metrics.compute_eval_metrics`.
"""
