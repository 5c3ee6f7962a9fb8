"""Files that are not what they seem: where it is said, and how to mend it. Lists of faults."""

import csv

import pytest

from mig_jax.data import row_files
from mig_jax.data.row_files import read_rows
from mig_jax.data.rows import RowError, format_errors


@pytest.mark.parametrize(
    "name, content, whole",
    [
        ("rows.csv", 'q,a\n"two\nlines",1\nfür,2\n', 1),
        ("rows.tsv", "q\ta\nfür\t2\n", 0),
        ("rows.jsonl", '{"q": "1"}\n\n{"q": "2"}\n{"q": "für"}\n', 2),
        ("rows.json", '[\n{"q": "1"},\n\n{"q": "für"}]', 0),
    ],
)
def test_what_is_not_in_utf8_is_said_with_its_line(name, content, whole, tmp_path):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8-sig")
    assert any("für" in row.values.values() for row in read_rows(path))
    path.write_text(content, encoding="latin-1")
    read, line = [], content[: content.index("ü")].count("\n") + 1
    with pytest.raises(RowError, match=f"^{name}, line {line}: not in UTF-8; save the file as UTF-8$"):
        for row in read_rows(path):
            read.append(row)
    assert len(read) == whole, "what stands before it is read"


def test_lines_end_as_they_do_on_any_machine(tmp_path):
    for end in ("\n", "\r\n", "\r"):
        for name, lines in {
            "rows.csv": ["q,a", "1+1,2", '"x\u2028y",3'],
            "rows.jsonl": ['{"q": "1+1"}', '{"q": 3}'],
        }.items():
            path = tmp_path / name
            path.write_bytes(end.join(lines).encode())
            read = list(read_rows(path))
            assert [row.number for row in read] == [1, 2] and read[0].values["q"] == "1+1"


def test_a_quotation_mark_that_is_never_closed(tmp_path, monkeypatch):
    limit = csv.field_size_limit()
    monkeypatch.setattr(row_files, "_LONGEST_CELL", 100)
    path = tmp_path / "rows.csv"
    path.write_text('q,a\n1+1,2\n"2+2,4\n' + "3+3,6\n" * 50)
    with pytest.raises(RowError, match=r"rows.csv, line \d+: not a table .*quotation mark"):
        list(read_rows(path))
    csv.field_size_limit(limit)


def test_of_many_faults_the_first_are_listed():
    faults = [f"fault {n}" for n in range(1, 22)]
    assert format_errors("title", faults[:20]) == "title:\n  " + "\n  ".join(faults[:20])
    assert format_errors("title", faults) == "title:\n  " + "\n  ".join(faults[:20]) + "\n  … and 1 more"
