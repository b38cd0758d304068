"""Building blocks of a page: text is escaped where it becomes HTML, and only there."""

import html
from collections.abc import Iterable, Sequence


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str) -> Html:
    """An element; children that are not `Html` are escaped. `class_="x"` gives class="x"."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for key, value in attributes.items()
        if value
    )
    return Html(f"<{name}{given}>{join(*children)}</{name}>")


def join(*children: str) -> Html:
    """Children one after the other, escaped where they are not `Html`."""
    return Html("".join(c if isinstance(c, Html) else html.escape(c) for c in children))


def grid(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str] | Html],
    *,
    left: Sequence[int] = (),
    wrap: Sequence[int] = (),
) -> Html:
    """A table in a box that scrolls by itself; the first cell of a row is its heading.

    rows: cells, or a whole row that is `Html` already
    left, wrap: columns of names, and of longer texts that may take several lines; else numbers
    """
    kinds = ["wrap left" if i in wrap else "left" * (i in left) for i in range(len(header))]
    columns = [
        tag("th", cell, scope="col", class_="left" if kind else "")
        for cell, kind in zip(header, kinds, strict=True)
    ]
    body = [row if isinstance(row, Html) else _row(row, kinds) for row in rows]
    head = tag("thead", tag("tr", *columns))
    table = tag("table", tag("caption", tag("span", caption)), head, tag("tbody", *body))
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _row(cells: Sequence[str], kinds: Sequence[str]) -> Html:
    others = zip(cells[1:], kinds[1:], strict=True)
    return tag(
        "tr", tag("th", cells[0], scope="row"), *(tag("td", c, class_=kind) for c, kind in others)
    )


def section(name: str, heading: str, *children: str) -> Html:
    """A section of the page; `name` is what links lead to."""
    return tag("section", tag("h2", heading), *children, id=name)


def details(summary: str, *children: str) -> Html:
    """What is shown when the summary is clicked."""
    return tag("details", tag("summary", summary), *children)


def soft(text: str) -> Html:
    """A paragraph of lesser weight."""
    return tag("p", text, class_="soft")


def items(texts: Iterable[str]) -> Html:
    """A list."""
    return tag("ul", *(tag("li", text) for text in texts))
