"""Tables of the report: what notebooks show as HTML, made to read on a screen, on a phone and on paper."""

import re

from bs4 import BeautifulSoup, NavigableString, Tag

from cbtllm_utils.plots.pages import language

_NUMBER = r"[<>≤≥≈~]?\s?[-+−±]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?\s?[%×]?"
NUMBER = re.compile(rf"(?:[–—-]?|(?:{_NUMBER})(?:\s?(?:–|to|of|/|±)\s?(?:{_NUMBER}))?)", re.I)
TEXT, NAME = 28, 60  # characters: a table with a longer cell, or a longer name of a row, is one of texts
FOLDED = {"cards": 12, "matrix": 25}  # rows: longer tables are folded
WITH_INTERVAL = re.compile(rf"({_NUMBER}(?: of {_NUMBER})?) (\({_NUMBER}(?:–| to ){_NUMBER}\))", re.I)
WHOLE = re.compile(rf"(\({_NUMBER}(?:–| to ){_NUMBER}\)|\b\d+ of \d+\b|\b[\w-]{{1,20}}-7B\b)", re.I)
LETTERS = 1500  # a table of texts with more characters is folded too
LINES, REPLIES = 40, 3  # longer outputs are folded, and so are the replies beyond the first three to a post
FILES = ["reads", "writes", "takes"]  # rows of the table at the head of a notebook, which is folded as well
CAPTION = 90  # characters: what a longer caption has in brackets is folded on a phone, where it takes more than 2 lines
UNBROKEN = 16  # characters: a longer word may be broken after the signs below
BREAKS = re.compile(r"(?<=[^<][/|_])(?=.)")
ACTIVE = ("script", "iframe", "object", "embed", "link", "meta", "base", "form", "template")


def tidy(html: str) -> str:
    """Return HTML of a notebook without anything active, its headings one level lower, its tables to read anywhere."""
    soup = BeautifulSoup(html, "html.parser")
    disarm(soup)
    lower_headings(soup)
    for table in soup.find_all("table"):
        reshape(table)
    fold_texts(soup)
    for text in soup.find_all(["p", "pre", "td"]):
        if not text.find(["p", "pre", "td", "table"]) and language(text.get_text()) == "zh":
            text["lang"] = "zh"
    return str(soup)


def disarm(soup: BeautifulSoup) -> None:
    """Remove scripts and all else that acts or loads, styles of single tables, and ids, which might occur twice."""
    for tag in soup.find_all([*ACTIVE, "style"]):
        tag.decompose()
    for tag in soup.find_all(True):
        for name in [name for name in tag.attrs if name.startswith("on") or name == "id"]:
            del tag[name]
        if str(tag.get("href", "")).strip().lower().startswith(("javascript:", "data:")):
            del tag["href"]


def lower_headings(soup: BeautifulSoup) -> None:
    """Make h1 h2, h2 h3, and so on, and leave no level out."""
    around: list[int] = []
    for heading in soup.find_all(re.compile("^h[1-6]$")):
        level = int(heading.name[1])
        around = [*(other for other in around if other < level), level]
        heading.name = f"h{len(around) + 1}"


def fold_texts(soup: BeautifulSoup) -> None:
    """Fold long outputs, and of many replies to one post those beyond the first three."""
    for output in soup.find_all("pre"):
        if output.get_text().count("\n") > LINES and not output.find_parent("details"):
            output.wrap(tag("details", kind="table")).insert(0, tag("summary", "Output"))
    for replies in soup.find_all("div", class_="replies"):
        if more := replies.find_all("section", recursive=False)[REPLIES:]:
            further = tag("div", **replies.attrs)
            further.extend(one.extract() for one in more)
            folded = tag("details", kind="table")
            folded.extend([tag("summary", f"{len(more)} more {'reply' if len(more) == 1 else 'replies'}"), further])
            replies.insert_after(folded)


def fold_repeats(html: str, seen: set[str]) -> str:
    """Fold the tables that were shown in full before, whose words are in `seen`, and add the words of the others."""
    soup = BeautifulSoup(html, "html.parser")
    for figure in soup.find_all("figure", class_="table"):
        if figure.figcaption is None or figure.find_parent("details"):
            continue
        shown = words(figure.table)
        if shown in seen:
            label = figure.find(class_="scroll")["aria-label"]
            figure.wrap(tag("details", kind="table")).insert(0, tag("summary", f"{label}: shown above"))
        seen.add(shown)
    return str(soup)


def reshape(table: Tag) -> None:
    """Turn a table into a figure with a caption: cards or a matrix that scrolls on a phone, or a sentence if empty."""
    caption, sortable = taken_caption(table), "sortable" in table.get("class", [])
    head = table.thead.find_all("tr") if table.thead else []
    body = [row for row in table.find_all("tr") if row not in head]
    if not body:
        table.replace_with(tag("p", f"{caption}: none." if caption else "This table has no rows.", "empty"))
        return
    head = one_header(head)
    unname(grid([*head, *body]))
    for cell in table.find_all(["table", "thead", "tbody", "tr", "th", "td"]):
        cell.attrs = {name: cell[name] for name in ("rowspan", "colspan") if cell.get(name, "1") != "1"}
    cells = grid(body)
    names = [" ".join(dict.fromkeys(filter(None, map(words, column)))) for column in zip(*grid(head), strict=True)]
    align(grid(head), cells)
    lengths = [[len(words(cell)) for cell in row] for row in cells]
    texts = any(row[0] > NAME or max(row[1:], default=0) > TEXT for row in lengths) and not table.find(rowspan=True)
    table.attrs = {"class": " ".join(["cards" if texts else "matrix"] + ["sortable"] * sortable)}
    if texts:
        for row in cells:
            for name, cell in zip(names, row, strict=False):
                cell["data-label"] = name
    elif len(cells[0]) > 1:
        for cell in {id(row[0]): row[0] for row in cells}.values():
            cell.name, cell["scope"] = ("th", "row") if words(cell) else ("td", None)
            cell.attrs = {name: value for name, value in cell.attrs.items() if value}
    for text in table.find_all(string=re.compile(rf"\S{{{UNBROKEN},}}")):
        breakable(text)
    frame(table, caption, title(caption) or f"Table: {', '.join(filter(None, names[:4]))}", len(body))


def title(caption: str) -> str:
    """Return a caption without what it has in brackets."""
    return re.sub(r"\s*\(.*", "", caption)


def breakable(text: NavigableString) -> None:
    """Let lines break in signatures and paths where their parts end."""
    parts = [
        part for word in re.split(r"(\s+)", text) for part in (BREAKS.split(word) if len(word) > UNBROKEN else [word])
    ]
    pieces = [
        piece
        for part in parts
        for piece in (part, part[-1:] in "/|_" and Tag(name="wbr", can_be_empty_element=True))
        if piece
    ]
    text.replace_with(*pieces)


def captioned(caption: str) -> Tag:
    """Return a caption; what a long one has in brackets can be folded, but not that numbers cannot be compared."""
    shown, rest = title(caption), caption[len(title(caption)) :].strip()
    if len(caption) <= CAPTION or not shown or not rest:
        return tag("figcaption", caption)
    warning = re.match(r"\((.*? cannot be compared)[:;,] ?", rest)
    if warning and len(shown) + len(warning[1]) < CAPTION:
        shown, rest = f"{shown}: {warning[1]}", f"({rest[warning.end() :]}"
    fold = tag("details", kind="caption", open="")
    fold.extend([tag("summary", shown), tag("span", rest)])
    made = tag("figcaption")
    made.append(fold)
    return made


def unname(cells: list[list[Tag]]) -> None:
    """Change a table that begins with row and column of a table of the paper: only the one that differs stays."""
    columns = list(zip(*cells, strict=False))[:2]
    names = [words(column[0]) for column in columns]
    if names[0] == "row" and names[1:] != ["column"]:
        columns[0][0].string = ""  # rows that name themselves
    if names != ["row", "column"]:
        return
    for column in columns:
        if len(set(map(words, column[1:]))) == 1:
            for cell in column:
                cell.decompose()
        else:
            column[0].string = ""


def taken_caption(table: Tag) -> str:
    """Return a table's caption, which is taken out of it."""
    found = table.caption.extract() if table.caption else None
    return words(found) if found else ""


def words(cell: Tag) -> str:
    """Return a cell's text on one line."""
    return " ".join(cell.get_text(" ").split())


def tag(name: str, text: str = "", kind: str = "", **attributes: str) -> Tag:
    """Return a new tag with a text and a class."""
    made = Tag(name=name, attrs=({"class": kind} if kind else {}) | attributes)
    if text:
        made.string = text
    return made


def one_header(head: list[Tag]) -> list[Tag]:
    """Return the rows of a header. A second row with names of the index alone, as pandas writes it, joins the first."""
    if len(head) == 2:
        first, second = (row.find_all(["th", "td"]) for row in head)
        named = [words(cell) for cell in second]
        index = sum(map(bool, named))
        if len(first) == len(second) and 0 < index < len(named) and all(named[:index]):
            for cell, name in zip(first, named[:index], strict=False):
                cell.string = name
            head[1].decompose()
            return head[:1]
    return head


def grid(rows: list[Tag]) -> list[list[Tag]]:
    """Return the cell at each place of a table's rows; a cell that spans several places is at each of them."""
    found: list[dict[int, Tag]] = [{} for _ in rows]
    for number, row in enumerate(rows):
        place = 0
        for cell in row.find_all(["td", "th"], recursive=False):
            while place in found[number]:
                place += 1
            for down in found[number : number + int(cell.get("rowspan", 1))]:
                down |= dict.fromkeys(range(place, place + int(cell.get("colspan", 1))), cell)
    return [[row[place] for place in sorted(row)] for row in found]


def align(head: list[list[Tag]], body: list[list[Tag]]) -> None:
    """Align columns of numbers and their headers to the right; an empty header is a plain cell."""
    for place in range(min(map(len, body))):
        column = [row[place] for row in body]
        intervals = any(WITH_INTERVAL.fullmatch(words(cell)) for cell in column)
        numeric = all(NUMBER.fullmatch(words(cell)) or WITH_INTERVAL.fullmatch(words(cell)) for cell in column)
        numeric = numeric and any(map(words, column))
        for cell in [*column, *(row[place] for row in head if place < len(row))] if numeric else ():
            cell["class"] = "n interval" if intervals else "n"
        for cell in {id(cell): cell for cell in column}.values():
            keep_whole(cell)
    for row in head:
        for cell in row:
            cell.name = "th" if words(cell) else "td"
            if cell.name == "th":
                cell["scope"] = "col"


def keep_whole(cell: Tag) -> None:
    """Let a cell break neither an interval nor the name of a backbone over two lines."""
    text = words(cell)
    if cell.string is None or cell.find(True) or not (parts := WHOLE.split(text))[1:]:
        return
    cell.string = ""
    cell.extend(tag("span", part, "whole") if place % 2 else NavigableString(part) for place, part in enumerate(parts))


def long(table: Tag, rows: int) -> bool:
    """Return whether a table has many rows, or is one of long texts."""
    kind = table["class"].split()[0]
    return rows > FOLDED[kind] or (kind == "cards" and len(words(table)) > LETTERS)


def frame(table: Tag, caption: str, label: str, rows: int) -> None:
    """Put a table into a figure: its caption, and a region to scroll in by keyboard; fold it when it is long."""
    figure = table.wrap(tag("figure", kind="table"))
    table.wrap(tag("div", kind="scroll", role="region", tabindex="0", **{"aria-label": label}))
    if caption:
        figure.insert(0, captioned(caption))
    summary = f"{label}: {rows} rows"
    if [words(row.find(["th", "td"])) for row in table.find_all("tr")][-3:] == FILES:
        summary = "Files and time"
    elif "file" in map(words, table.find_all("th", scope="col")):
        summary = f"{label}: {rows} files"
    elif not ("sortable" in table["class"] or long(table, rows)):
        return
    if not figure.find_parent("details"):
        figure.wrap(tag("details", kind="table")).insert(0, tag("summary", summary))
