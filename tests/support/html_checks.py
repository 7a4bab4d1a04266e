"""What a page has to be whatever is in it: well formed, whole in itself, and of the same structure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "input", "img", "hr"}
REFERRING = {"href", "aria-labelledby", "aria-describedby", "for"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    line: int
    text: str = ""


@dataclass
class Page(HTMLParser):
    """A page as a browser would read it, with everything in which it departs from strict nesting."""

    elements: list[Element] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    text: str = ""
    _open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    @classmethod
    def of(cls, data: bytes) -> "Page":
        page = cls()
        page.feed(data.decode())
        page.close()
        page.faults += [f"<{each.tag}> of line {each.line} is never closed" for each in page._open]
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        line = self.getpos()[0]
        if len(dict(attrs)) != len(attrs):
            self.faults.append(f"line {line}: <{tag}> has an attribute twice")
        element = Element(tag, dict(attrs), line)
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs), self.getpos()[0]))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1].tag != tag:
            inner = self._open[-1].tag if self._open else "nothing"
            self.faults.append(f"line {self.getpos()[0]}: </{tag}> closes <{inner}>")
        while self._open and self._open.pop().tag != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1].tag in ("script", "style"):
            self._open[-1].text += data
        else:
            self.text += data

    def handle_comment(self, data: str) -> None:
        self.faults.append(f"line {self.getpos()[0]}: a comment: {data}")

    def unknown_decl(self, data: str) -> None:
        self.faults.append(f"line {self.getpos()[0]}: {data}")

    handle_pi = unknown_decl

    def structure(self) -> list[tuple[str, tuple[str, ...]]]:
        """Tags and the names of their attributes, in order."""
        return [(each.tag, tuple(each.attributes)) for each in self.elements]

    def problems(self) -> Iterator[str]:
        """Yield all that no page of ours may have."""
        yield from self.faults
        ids = [each.attributes["id"] for each in self.elements if "id" in each.attributes]
        yield from (f"id {each} is there twice" for each in sorted(set(ids)) if ids.count(each) > 1)
        for element in self.elements:
            for name, value in element.attributes.items():
                where = f"line {element.line}: <{element.tag} {name}={value!r}>"
                if name.startswith("on") or name in ("style", "src", "srcset", "action", "http"):
                    yield f"{where}: nothing runs or is fetched by an attribute"
                if name in REFERRING and element.tag != "link":
                    for target in (value or "").split():
                        aim = target.removeprefix("#") if name == "href" else target
                        if (name == "href" and not target.startswith("#")) or aim not in ids:
                            yield f"{where}: leads nowhere in this page"
