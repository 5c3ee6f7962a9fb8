"""Error messages that list many errors."""

from mig_jax.data.rows import format_errors


def test_format_errors_lists_the_first_twenty():
    errors = [f"error {n}" for n in range(1, 22)]
    assert format_errors("title", errors[:20]) == "title:\n  " + "\n  ".join(errors[:20])
    assert format_errors("title", errors) == "title:\n  " + "\n  ".join(errors[:20]) + "\n  … and 1 more"
