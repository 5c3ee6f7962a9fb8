"""A parser of HTML pages for tests."""

import html.parser
from pathlib import Path


class PageReader(html.parser.HTMLParser):
    """Collects a page's tags and text, and fails on tags that are not closed.

    tags: name and attributes of each tag.
    inside: names of the tags that contain each tag, outermost first.
    text: the text outside of styles and scripts.
    """

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.inside, self.text = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside.append([*self.open])
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & {*self.open}:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of all tags of a name."""
        return [attributes for name, attributes in self.tags if name == tag]


def read_page(path: Path) -> PageReader:
    """Read a whole page."""
    reader = PageReader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert not reader.open
    return reader
