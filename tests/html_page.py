"""An HTML page as tests read it."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"img", "input", "meta"}


class Page(HTMLParser):
    """Checks that every element is closed in order, and keeps what the page holds.

    Attributes:
        texts: All texts but the style sheet, in order.
        rows: Of every table row with labelled cells: the text of each cell by its label; the first cell is "".
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.rows: list[dict[str, str]] = []
        self._cell: str | None = None
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append({})
        if tag == "td":
            self._cell = dict(attrs).get("data-label") or ""
            self.rows[-1][self._cell] = ""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "td":
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)
            if self._cell is not None:
                self.rows[-1][self._cell] = f"{self.rows[-1][self._cell]} {data}".strip()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def cells(self, label: str) -> int:
        return self.attributes.count(("data-label", label))
