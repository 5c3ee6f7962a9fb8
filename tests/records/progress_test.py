"""Progress bars are shown at terminals and in notebooks."""

import io
import sys
import types

import pytest

from mig_jax.records.progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    "stream, is_notebook, is_shown", [(Terminal, False, True), (io.StringIO, False, False), (io.StringIO, True, True)]
)
def test_bars_are_shown_where_they_can_be_refreshed(monkeypatch, stream, is_notebook, is_shown):
    output = stream()
    monkeypatch.setattr(sys, "stderr", output)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    if is_notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    else:
        monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert list(progress(range(3), file=output, desc="train")) == [0, 1, 2]
    assert ("train" in output.getvalue()) == is_shown
