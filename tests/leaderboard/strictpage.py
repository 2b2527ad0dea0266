"""A strict parser of the pages that the leaderboard writes."""

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """Parses a page strictly: every tag must be closed in order; keeps tags, attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def shown(self):
        return re.sub(r"\s+", " ", "".join(self.text))

    def named(self, tag, style=None):
        return [
            a for name, a in self.tags if name == tag and (style is None or style in (a.get("class") or "").split())
        ]
