"""Pages of studies keep their summary when their report is replaced."""

import json

from tools.publish_study import MARK, publish


def test_report_is_replaced_below_the_summary(tmp_path):
    work, docs = tmp_path / "work", tmp_path / "docs"
    work.mkdir()
    docs.mkdir()
    (work / "study.json").write_text(json.dumps({"study": "sparse"}))
    (work / "figure.png").write_bytes(b"png")
    for found in ("old", "new"):
        (work / "report.md").write_text(f"# sparse\n\nWhen?\n\n## Found\n\n* {found}\n\n![sparse](figure.png)\n")
        page = publish(work, docs)
        if found == "old":
            page.write_text(page.read_text().replace("# sparse\n\n", "# Few right samples\n\nIt helps.\n\n", 1))
    text = page.read_text()
    assert text.startswith("# Few right samples\n\nIt helps.\n\n" + MARK) and text.count(MARK) == 1
    assert "### Found\n\n* new" in text and "old" not in text and "![sparse](sparse.png)" in text
    assert (docs / "sparse.png").read_bytes() == b"png"
