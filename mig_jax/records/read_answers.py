"""What responses answered: as it was read in the format of their run, else in the default format."""

from mig_jax.records.transcripts import Transcript
from mig_jax.text.answers.lenient import extract_lenient_answer
from mig_jax.text.response_format import parse_response


def strict_answer(transcript: Transcript) -> str | None:
    """Return the answer in the answer block or box of a response; None if there is none."""
    if transcript.answered is None:
        return parse_response(transcript.response).answer
    return transcript.answered or None


def lenient_answer(transcript: Transcript) -> str | None:
    """Return the answer of a response wherever it is; None if nothing is found."""
    t = transcript
    if t.answered_lenient is None:
        return extract_lenient_answer(t.response, kind=t.kind, choices=t.choices)
    return t.answered_lenient or None
