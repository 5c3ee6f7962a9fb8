"""Copy the page of a study into docs/studies/, below the summary that is written by hand.

    python -m tools.publish_study /tmp/sparse

Everything after the line `MARK` of docs/studies/NAME.md is replaced by report.md; the figure becomes NAME.png. The name
is that of WORKDIR/study.json.
"""

import json
import re
import shutil
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs" / "studies"
MARK = "<!-- The rest is report.md of the study: python -m tools.publish_study WORKDIR -->"


def publish(workdir: Path, docs: Path = DOCS) -> Path:
    """Return the page that was written."""
    name = json.loads((workdir / "study.json").read_text(encoding="utf-8"))["study"]
    page = docs / f"{name}.md"
    summary = page.read_text(encoding="utf-8").partition(MARK)[0] if page.is_file() else f"# {name}\n\n"
    report = (workdir / "report.md").read_text(encoding="utf-8").partition("\n\n")[2]
    report = report.replace("](figure.png)", f"]({name}.png)")
    # Its sections become parts of one: the summary has sections of its own.
    report = re.sub(r"^(#+) ", r"#\1 ", report, flags=re.MULTILINE)
    page.write_text(f"{summary}{MARK}\n\n## Report\n\n{report}", encoding="utf-8")
    if (workdir / "figure.png").is_file():
        shutil.copyfile(workdir / "figure.png", docs / f"{name}.png")
    return page


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        print(publish(Path(folder)))
