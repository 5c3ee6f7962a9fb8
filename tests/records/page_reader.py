"""Reads a page back, as far as tests want to know it."""

import html.parser
from pathlib import Path


class PageReader(html.parser.HTMLParser):
    """Collects the tags, each with its attributes and those it stands in, and the text outside of styles and scripts.

    Fails on tags that do not close.
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
        """The attributes of all tags of a name."""
        return [attributes for name, attributes in self.tags if name == tag]


def read_page(path: Path) -> PageReader:
    reader = PageReader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert not reader.open
    return reader
