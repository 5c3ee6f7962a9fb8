"""Is an answer right: normalise, compare, verify."""
