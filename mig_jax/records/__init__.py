"""What a run leaves behind: transcripts, metrics, plots, pages."""
