"""Texts that would do something if they became markup, and a parser that tells what a page holds."""

from html.parser import HTMLParser

SCRIPT = "<script>alert(1)</script>"
IMG = '"><img src=x onerror="alert(2)">'
CLOSING = "</script></title></style><!-- <script>"
HOSTILE = [SCRIPT, IMG, CLOSING, "&lt;b&gt; & ' \" $$x$$ @{key}{safe} {{ 7 * 7 }} {title}"]


class Page(HTMLParser):
    """The tags of a page with their attributes, its texts, and what its scripts hold."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[tuple[str | None, str]] = []
        self._open = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts.append((self.tags[-1][1].get("type"), data))
        else:
            self.texts.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)

    def loaded(self) -> list[str | None]:
        """Everything that a tag asks the browser to get, other than data in the page itself."""
        wanted = [a.get(k) for _, a in self.tags for k in ("src", "href", "srcset", "data") if k in a]
        return [url for url in wanted if not str(url).startswith("data:image/")]

    def handlers(self) -> list[str]:
        return [key for _, attributes in self.tags for key in attributes if key.startswith("on")]
