"""Figures on held-out problems and benchmarks; scores of given transcripts."""
