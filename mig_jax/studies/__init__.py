"""Studies: the paper's questions as commands, each with its hypotheses, runs, analysis and page.

Lives here: the grid of runs of each study and what it makes of them, running and resuming them, statistics over seeds
and problems, and the page. May import: every room but commands and main. Nothing imports it but they.
Main names: `table.STUDIES`, `study.Study`, `runner.run_study`.
"""
