"""Files that people return: each one is recognized by its content, passed over by a stated rule, or refused by name.

People rename, copy, pack and convert what they fill in, so a file's name decides nothing but whether it is passed over.
"""

import codecs
import contextlib
import csv
import fnmatch
import io
import os
import re
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import pandas as pd

from cbtllm_utils import files, safe_spreadsheets
from cbtllm_utils.text.quotations import unseen

WORKBOOK, TABLE, JSON = "workbook", "table", "JSON"  # what can be read
PASSED_OVER, UNUSABLE = "passed over", "not usable"
FILES = ["file", "read as", "rater", "entries read", "entries counted", "note"]  # columns of the table of all files
LARGEST = safe_spreadsheets.UNPACKED  # bytes: far more than any form has
TRASH = {  # names of files that programs leave behind, by their usual pattern
    "~$*": "lock file of Excel or WPS",
    ".~*": "lock file of LibreOffice or WPS",
    "._*": "macOS's notes on another file",
    **dict.fromkeys((".ds_store", "icon\r"), "macOS's notes on the folder"),
    **dict.fromkeys(("thumbs.db", "ehthumbs.db", "desktop.ini"), "Windows' notes on the folder"),
    **dict.fromkeys((".gitkeep", ".gitignore"), "git's notes on the folder"),
    **dict.fromkeys(("__macosx/*", "*/__macosx/*"), "macOS's notes on an archive"),
    **dict.fromkeys((".ipynb_checkpoints/*", "*/.ipynb_checkpoints/*"), "Jupyter's copies"),
}
SAVE_AS = "open it and save it as .xlsx"
SIGNATURES = (  # how a file that cannot be read begins, what it is, and what to do
    (b"%PDF", "a PDF; ask for the form itself"),
    (b"\x89PNG", "a picture; ask for the form itself"),
    (b"\xff\xd8\xff", "a picture; ask for the form itself"),
    (b"GIF8", "a picture; ask for the form itself"),
    (b"BM", "a picture; ask for the form itself"),
    (b"Rar!", "a RAR archive; unpack it here"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it here"),
    (b"\x1f\x8b", "a packed file; unpack it here"),
    (b"{\\rtf", "a text document; ask for the form itself"),
    (b"\x00\x05\x16\x07", "macOS's notes on another file; delete it"),
)
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # Excel 97 to 2003, and any workbook with a password
PACKED = (  # a member of a zip file that says what the file is
    ("xl/workbook.bin", f"a binary workbook (.xlsb); {SAVE_AS}"),
    ("word/", "a Word document; ask for the form itself"),
    ("ppt/", "a presentation; ask for the form itself"),
    ("Index/", f"a file of Apple's Numbers or Pages; export it as Excel (.xlsx) in Numbers or {SAVE_AS}"),
    ("Index.zip", f"a file of Apple's Numbers or Pages; export it as Excel (.xlsx) in Numbers or {SAVE_AS}"),
)
OLE_PARTS = (  # what a file of Office before 2007 holds, what it is, and what to do
    ("EncryptedPackage", f"a file with a password; {SAVE_AS} without one"),
    ("Workbook", f"a workbook of Excel before 2007 (.xls); {SAVE_AS}"),
    ("WordDocument", "a Word document; ask for the form itself"),
    ("__substg1.0", "an e-mail; save its attachments here"),
)
OPEN_DOCUMENT = "application/vnd.oasis.opendocument."
DAMAGED = "damaged, or cut off while it was copied; ask for it again"
Grid = list[tuple[int, tuple]]  # rows that are not blank, with their line numbers
Header = tuple[int, dict[int, str]]  # which row of a grid has the columns' names, and which column is which


@dataclass(frozen=True)
class Returned:
    """One file that lay in the folder, or in an archive there.

    Attributes:
        name: Below the folder, such as `anna/R1.xlsx`, or `forms.zip/R1.xlsx` inside an archive.
        kind: `WORKBOOK`, `TABLE` or `JSON`, which can be read; `PASSED_OVER`; `UNUSABLE`.
        reason: Why it cannot be read and what to do, or by which rule it was passed over.
        modified: Seconds since 1970.
        packed: Whether it lay in an archive.
    """

    name: str
    kind: str
    reason: str = ""
    content: bytes = b""
    modified: float = 0.0
    packed: bool = False

    def unread(self, other: str) -> str:
        """Return what a file that was not read is taken for, `other` for one that could be read."""
        return self.kind if self.kind in (PASSED_OVER, UNUSABLE) else other

    @property
    def lossy(self) -> bool:
        """Return whether the file is in an encoding that cannot hold every character, and writes ? instead."""
        return self.kind == TABLE and not self.content.startswith(UTF16) and not can_decode(self.content, "utf-8")

    def grids(self) -> Iterator[tuple[str, Grid]]:
        """Yield title and rows of each sheet of a workbook, or of a table once for each delimiter it may have.

        Raises:
            InputError: For a damaged workbook.
        """
        if self.kind == WORKBOOK:
            yield from safe_spreadsheets.read_sheets(self.content).items()
        elif self.kind == TABLE:
            lines = decode(self.content)
            for delimiter in sorted(",;\t|", key=lines.count, reverse=True):
                rows = csv.reader(io.StringIO(lines, newline=""), delimiter=delimiter)
                with contextlib.suppress(csv.Error):  # a text without this delimiter may be one field without end
                    yield "", [(rows.line_num, tuple(row)) for row in rows if any(cell.strip() for cell in row)]

    def headed(self, names: dict[str, str], needed: set[str], at_least: int = 0) -> list[tuple[str, Grid, Header]]:
        """Return the sheets that have a header (see `header`); of a table the one with the right delimiter."""
        found = [(sheet, grid, top) for sheet, grid in self.grids() if (top := header(grid, names, needed, at_least))]
        return found[:1] if self.kind == TABLE else found

    def titles(self) -> set[str]:
        """Return all cells as titles are compared, which tell forms of another kind."""
        return {plain(cell) for _, grid in self.grids() for _, cells in grid for cell in cells}


def header(grid: Grid, names: dict[str, str], needed: set[str], at_least: int = 0) -> Header | None:
    """Return the row with the columns' names; None without such a row.

    Args:
        names: The column that a title means, by the title as `plain` has it.
        needed: Columns that such a row has.
        at_least: How many columns it has.
    """
    for place, (_, cells) in enumerate(grid):
        columns: dict[int, str] = {}
        for column, cell in enumerate(cells):
            name = names.get(plain(cell))
            if name and name not in columns.values():
                columns[column] = name
        if needed <= set(columns.values()) and len(columns) >= at_least:
            return place, columns
    return None


@dataclass(eq=False)
class Part:
    """What one person gave in one file.

    Attributes:
        name: Who it is.
        given: What was given for each entry that can be read, in a form that can be compared.
        filled: The entries that were filled in whole, even where that cannot be read.
        edited: The entries whose text is not the form's.
        expected: How many entries the form has.
        saved: When it was saved, in seconds since 1970.
        counts: The entries that count.
        note: What became of the rest.
    """

    file: Returned
    taken_for: str
    name: str
    expected: int = 0
    saved: float = 0.0
    given: dict = field(default_factory=dict)
    filled: set = field(default_factory=set)
    edited: set = field(default_factory=set)
    counts: set = field(default_factory=set)
    note: str = ""

    @property
    def unfinished(self) -> str:
        """Return how far an unfinished form was filled in, or ""."""
        unfinished = self.given and self.expected and not self.complete
        return f"unfinished: {len(self.given)} of {self.expected} entries" if unfinished else ""

    @property
    def complete(self) -> bool:
        """Return whether every entry of the form was filled in: a slip in one does not make an older file better."""
        return len(self.filled | self.given.keys()) >= self.expected > 0


def table(rows: list[dict]) -> pd.DataFrame:
    """Return the table of all files, with the columns `FILES`."""
    numbers = {"entries read": "Int64", "entries counted": "Int64"}
    found = pd.DataFrame(sorted(rows, key=lambda row: row["file"]), columns=FILES)
    return found.astype({"rater": object, **numbers}).fillna({"rater": ""})


def in_words(listed: pd.DataFrame, folder: str) -> str:
    """Return a note on the files of people that hold something which does not count; "" when there are none."""
    lost = listed["read as"].eq(UNUSABLE) | listed["read as"].str.startswith("not a") | listed["note"].ne("")
    names = list(dict.fromkeys(listed["file"][lost & listed["read as"].ne(PASSED_OVER)]))
    more = ", …" if len(names) > 3 else ""
    return (
        f"{folder}: not all counts of {len(names)} files ({', '.join(names[:3])}{more}); see their table"
        if names
        else ""
    )


def left_out(problems: list[dict]) -> str:
    """Return how many entries cannot count."""
    return f"{len(problems)} left out, see the table of problems" if problems else ""


def choose(parts: list[Part]) -> None:
    """Decide which of one person's files count, and note it in the others.

    Of files that say the same one counts. Of complete files the latest counts; where it has another text for an entry,
    that entry counts from the file before. Where none is complete, the latest counts, with the entries of earlier ones
    that it lacks.
    """
    ranked = sorted(parts, key=lambda part: (part.complete, part.saved, not part.file.packed), reverse=True)
    same = [part for part in ranked if part.given == ranked[0].given]
    chosen = min(same, key=lambda part: (part.file.packed, len(part.file.name)))
    known = dict(chosen.given)
    chosen.counts = set(known)
    for part in (part for part in ranked if part is not chosen):
        own = part.given.keys() - known.keys()
        part.counts = own & chosen.edited if chosen.complete else own
        known |= part.given
        if part.given == chosen.given:
            part.note = f"says the same as {chosen.file.name}"
        else:
            latest = "the latest complete file" if chosen.complete else "a later file"
            part.note = f"superseded by {chosen.file.name}, {latest} of this person"
            lacks = "whose text was edited there" if chosen.complete else "that it lacks"
            part.note += f"; {len(part.counts)} entries {lacks} count" if part.counts else ""


def collect(folder: str | Path) -> list[Returned]:
    """Return every file in a folder, at any depth and in zip archives; none where there is no such folder.

    `folder` may be a single file.
    """
    top = files.path(folder)
    if not top.exists():
        return []
    if not top.is_dir():
        return list(expand(look(top, top.name)))
    found: list[Returned] = []
    seen = {top.resolve()}  # folders: a link may lead back to one
    for place, folders, names in os.walk(top, followlinks=True, onerror=lambda error: found.append(closed(top, error))):
        below = {name: (Path(place) / name).resolve() for name in sorted(folders)}
        folders[:] = [name for name, real in below.items() if real not in seen]
        seen |= set(below.values())
        for path in (Path(place) / name for name in sorted(names)):
            found.extend(expand(look(path, path.relative_to(top).as_posix())))
    return found


def closed(top: Path, error: OSError) -> Returned:
    """Return a folder that cannot be listed."""
    name = Path(error.filename).relative_to(top).as_posix()
    return Returned(name, UNUSABLE, f"a folder: {error.strerror}; make it readable")


def look(path: Path, name: str) -> Returned:
    """Return a file with what it is."""
    if rule := trash(name):
        return Returned(name, PASSED_OVER, rule)
    if name.endswith(".md") and path.with_suffix(".jsonl").exists():
        return Returned(name, PASSED_OVER, "the prompt of a model rater")
    try:
        if not path.is_file():
            return Returned(name, UNUSABLE, "a link to a file that is not there; copy the file itself")
        stat = path.stat()
        if stat.st_size > LARGEST:
            return Returned(name, UNUSABLE, f"{stat.st_size / 1e6:,.0f} MB, which no form has; take it out")
        return recognize(Returned(name, "", content=path.read_bytes(), modified=stat.st_mtime))
    except OSError as error:
        return Returned(name, UNUSABLE, f"{error.strerror}; make it readable")


def trash(name: str) -> str:
    """Return which program left a file of this name behind, or ""."""
    whole = name.casefold()
    own = whole.rpartition("/")[2]
    return next((rule for mark, rule in TRASH.items() if fnmatch.fnmatchcase(whole if "/" in mark else own, mark)), "")


def recognize(file: Returned) -> Returned:
    """Return a file with the kind that its content has, and the reason where it cannot be read."""
    content = file.content
    if not content.strip(b"\x00\r\n\t \xef\xbb\xbf"):
        return replace(file, kind=UNUSABLE, reason="empty; ask for it again")
    if content.startswith(OLE):
        inside = (reason for mark, reason in OLE_PARTS if mark.encode("utf-16-le") in content)
        return replace(file, kind=UNUSABLE, reason=next(inside, f"a file of Office before 2007; {SAVE_AS}"))
    if content.startswith(b"PK"):
        return recognize_zip(file)
    if reason := next((reason for start, reason in SIGNATURES if content.startswith(start)), ""):
        return replace(file, kind=UNUSABLE, reason=reason)
    try:
        start = decode(content).lstrip("\ufeff \r\n\t")[:300]
    except files.InputError as error:
        return replace(file, kind=UNUSABLE, reason=str(error))
    if re.match(r"(From|Received|MIME-Version|Return-Path|Delivered-To|X-[\w-]+): ?\S", start):
        return replace(file, kind=UNUSABLE, reason="an e-mail; save its attachments here")
    if start.startswith("<"):
        return replace(file, kind=UNUSABLE, reason=markup(content))
    return replace(file, kind=JSON if start.startswith(("{", "[")) else TABLE)


def markup(content: bytes) -> str:
    """Return what a file in HTML or XML is."""
    text = decode(content).casefold()
    if 'id="begin"' in text:
        return "the page itself, which holds no ratings; open it where it was filled in, save there and send that file"
    if "<view" in text[:300]:
        return "Label Studio's configuration, which holds no ratings"
    return f"a web page or another text with markup; if it is a table, {SAVE_AS}"


def recognize_zip(file: Returned) -> Returned:
    """Return a zip file with its kind: a workbook, a document of another kind, or an archive, whose kind is ""."""
    try:
        with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
            names = archive.namelist()
            mime = archive.read("mimetype")[:80].decode("ascii", "replace") if "mimetype" in names else ""
    except Exception:  # On a damaged file zipfile fails with whatever its code meets.
        return replace(file, kind=UNUSABLE, reason=DAMAGED)
    if mime.startswith(OPEN_DOCUMENT):
        what = "a spreadsheet of LibreOffice (.ods)" if "spreadsheet" in mime else "a document of LibreOffice"
        return replace(file, kind=UNUSABLE, reason=f"{what}; {SAVE_AS}")
    for start, reason in PACKED:
        if any(name.startswith(start) for name in names):
            return replace(file, kind=UNUSABLE, reason=reason)
    is_workbook = "[Content_Types].xml" in names and any(name.startswith("xl/") for name in names)
    return replace(file, kind=WORKBOOK if is_workbook else "")


def expand(file: Returned) -> Iterator[Returned]:
    """Yield a file; of a zip archive what it is, and then every file in it."""
    if file.kind:
        yield file
        return
    try:
        with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            size = sum(member.file_size for member in members)
            if size > LARGEST:
                raise files.InputError(f"unpacks to {size / 1e6:,.0f} MB, which no form does; take it out")
            inside = [unpack(archive, member, file) for member in members]
    except files.InputError as error:
        yield replace(file, kind=UNUSABLE, reason=str(error))
        return
    except Exception:
        yield replace(file, kind=UNUSABLE, reason=DAMAGED)
        return
    count = "1 file" if len(inside) == 1 else f"{len(inside)} files"
    yield replace(file, kind=PASSED_OVER, reason=f"a zip archive of {count}, which are listed one by one")
    yield from inside


def unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: Returned) -> Returned:
    """Return a file of an archive."""
    name = member.filename
    if not member.flag_bits & 0x800:  # Windows in Chinese writes names in GBK and does not say so.
        raw = name.encode("cp437", "replace")
        name = next((raw.decode(c) for c in ("utf-8", "gb18030") if can_decode(raw, c)), name)
    name = f"{file.name}/{name}"
    if rule := trash(name):
        return Returned(name, PASSED_OVER, rule, packed=True)
    if member.flag_bits & 1:
        return Returned(name, UNUSABLE, "in an archive with a password; unpack it here", packed=True)
    with archive.open(member) as opened:
        content = opened.read(LARGEST + 1)
    try:
        modified = datetime(*member.date_time).timestamp()
    except ValueError:  # some programs write no date
        modified = file.modified
    found = recognize(Returned(name, "", content=content, modified=modified, packed=True))
    return found if found.kind else replace(found, kind=UNUSABLE, reason="an archive in an archive; unpack it here")


def can_decode(content: bytes, encoding: str) -> bool:
    """Return whether bytes are a text in an encoding."""
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def decode(content: bytes) -> str:
    """Return a text in UTF-8, in UTF-16 with its mark, or in GB18030, which includes GBK.

    A character that is cut at the end of a file is left out.

    Raises:
        InputError: For another encoding.
    """
    for encoding in ("utf-16",) if content.startswith(UTF16) else ("utf-8-sig", "gb18030"):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(content)
        except UnicodeDecodeError:
            continue
        if "\x00" not in text:
            return text
    raise files.InputError("neither a form nor a text in UTF-8 or GBK; ask for the form itself")


def timestamp(text: object) -> float:
    """Return a time in ISO 8601 in seconds since 1970; 0 for none."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


def typed_name(value: object) -> str:
    """Return a name as it is shown: on one line, in the usual width."""
    return files.one_line(unicodedata.normalize("NFKC", safe_spreadsheets.cell_text(value)))


def fold(value: object) -> str:
    """Return a cell's text without width and case, blanks and characters that nobody sees."""
    text = unicodedata.normalize("NFKC", safe_spreadsheets.cell_text(value)).casefold()
    return "".join(c for c in text if not c.isspace() and not unseen(c))


def plain(value: object) -> str:
    """Return a title or a name as it is compared: folded, without what stands in brackets at its end."""
    return re.sub(r"\(.*\)$", "", fold(value)).strip(":")


# What file names hold besides a person's name.
NOISE = re.compile(
    r"project-\d+-at-[\w-]+|rating-\w+?-\d+-of-\d+|mmexport\d+|\((?:\d+|[^()]*conflict[^()]*)\)"  # given by programs
    r"|\d{4}[-.年]?\d{1,2}[-.月]?\d{1,2}日?|\d{1,2}月\d{1,2}[日号]?|\d{4,}"  # dates
    r"|副本|复件|复制|拷贝|备份|附件|下载|邮件|新建|工作[表簿]\d*|终稿|定稿|初稿|草稿|终版|最终版?|最新版?|修改[稿版]?|修订[稿版]?"
    r"|心理问答回复|评分表?|标注表?|\b[Ss]heet\d+|表格|已?填写?好?[了的]?|已?完成[了的版]?|已?评完了?|回收|提交|第?[一二三]版"
)
NOISE_WORDS = frozenset(
    "export rating ratings form forms annotation annotations posts entries label studio copy of filled done final finished "
    "complete completed returned new latest revised version half draft backup the attachment download microsoft excel wps "
    "新 改 新版 改版 半 全 表 版 稿".split()
)
ENDINGS = re.compile(r"(\.(xlsx?|xlsm|csv|tsv|txt|jsonl?|zip|ods|numbers|html?))+$", re.I)


def name_hint(file: str, codes: tuple[str, ...] = ()) -> str:
    """Return what a file's name and its folders say about whose it is: without marks of copies, versions and dates.

    Args:
        file: As `Returned.name` has it.
        codes: Words that name the form and not a person, such as R1.
    """
    parts = (ENDINGS.sub("", part) for part in unicodedata.normalize("NFKC", file).split("/"))
    words = re.split(r"[\s_\-—–.,+&()\[\]【】#@]+", NOISE.sub(" ", " ".join(parts)))
    known = {code.casefold() for code in codes} | NOISE_WORDS
    kept = [w for w in words if w and w.casefold() not in known and not re.fullmatch(r"v\d+", w, re.I)]
    return " ".join(dict.fromkeys(kept))
