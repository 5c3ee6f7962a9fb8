"""Row files: line ends, encodings, and where errors are reported."""

import csv

import pytest

from mig_jax.data import row_files
from mig_jax.data.row_files import read_rows
from mig_jax.data.rows import RowError
from mig_jax.errors import UserError


@pytest.mark.parametrize(
    "name, content, n_rows_before",
    [
        ("rows.csv", 'q,a\n"two\nlines",1\nfür,2\n', 1),
        ("rows.tsv", "q\ta\nfür\t2\n", 0),
        ("rows.jsonl", '{"q": "1"}\n\n{"q": "2"}\n{"q": "für"}\n', 2),
        ("rows.json", '[\n{"q": "1"},\n\n{"q": "für"}]', 0),
    ],
)
def test_encoding_errors_name_the_line(name, content, n_rows_before, tmp_path):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8-sig")
    assert any("für" in row.values.values() for row in read_rows(path))
    path.write_text(content, encoding="latin-1")
    read, line = [], content[: content.index("ü")].count("\n") + 1
    with pytest.raises(RowError, match=f"^{name}, line {line}: not in UTF-8; save the file as UTF-8$"):
        for row in read_rows(path):
            read.append(row)
    assert len(read) == n_rows_before, "rows before the error are read"


def test_all_line_ends_are_accepted(tmp_path):
    for end in ("\n", "\r\n", "\r"):
        for name, lines in {
            "rows.csv": ["q,a", "1+1,2", '"x\u2028y",3'],
            "rows.jsonl": ['{"q": "1+1"}', '{"q": 3}'],
        }.items():
            path = tmp_path / name
            path.write_bytes(end.join(lines).encode())
            read = list(read_rows(path))
            assert [row.number for row in read] == [1, 2] and read[0].values["q"] == "1+1"


def test_unclosed_quotation_mark_is_reported(tmp_path, monkeypatch):
    limit = csv.field_size_limit()
    monkeypatch.setattr(row_files, "_MAX_CELL_SIZE", 100)
    path = tmp_path / "rows.csv"
    path.write_text('q,a\n1+1,2\n"2+2,4\n' + "3+3,6\n" * 50)
    with pytest.raises(RowError, match=r"rows.csv, line \d+: not a table .*quotation mark"):
        list(read_rows(path))
    csv.field_size_limit(limit)


def test_columns_with_the_same_name_are_refused(tmp_path):
    (tmp_path / "rows.csv").write_text("q,a,a\n1+1,2,3\n")
    with pytest.raises(RowError, match="rows.csv: two columns are named 'a'; rename one"):
        list(read_rows(tmp_path / "rows.csv"))


def test_unreadable_files_are_user_errors(tmp_path, monkeypatch):
    def deny(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "rows.jsonl"
    path.write_text("{}")
    monkeypatch.setattr("builtins.open", deny)
    with pytest.raises(UserError, match="rows.jsonl: cannot be read .Permission denied"):
        list(read_rows(path))
