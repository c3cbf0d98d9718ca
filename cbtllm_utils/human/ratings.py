"""Ratings from the files that people return: each file is listed, each entry checked, and each loss has a reason."""

import csv
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cbtllm_utils import files, safe_spreadsheets
from cbtllm_utils.human import blinding, exports, forms, returned
from cbtllm_utils.human.blinding import SCALES
from cbtllm_utils.human.returned import FILES, Grid, Header, Returned, fold, plain, timestamp, typed_name

FIELDS = ["rater", "kind", "questionID", "system", "form", "entry", "repeat", *SCALES, "harmful", "comment"]
FIELDS += ["file", "line"]
PUBLIC = ["file", "line", "rater", "entry", "reason"]  # of a problem; a comment may quote a post and is not published
PROBLEMS = [*PUBLIC, "kind", "harmful", "comment"]
PEOPLE, MODELS = KINDS = ("person", "language model")
TEXTS = ("question", "description", "answer")
UNTICKED = ("", *"0 0.0 false no none n f 否 无 没有 不 无害 - – — /".split())  # how a file says "not ticked"
SCORE = re.compile(r"([012])(?:\.0*)?(?:分|points?)?")  # after NFKC and without blanks: 2, 2.0, ２, 2分
ALIKE, SHARED = 0.8, 10  # two people do not give the same three scores to 8 of 10 entries; of at least so many
PROJECT = re.compile(r"project-(\d+)-at-")  # how Label Studio calls its exports
SAME = 5  # nor to each of five: such a file is somebody's draft
# What a reader may raise on a file that is not a filled form: each of them means a damaged file or one of another kind.
UNREADABLE = (
    files.InputError,
    csv.Error,
    RecursionError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    OSError,
)


class EditedError(ValueError):
    """An entry's text is not the form's."""


class Read(NamedTuple):
    """What files hold.

    Attributes:
        ratings: With the columns `FIELDS`: scores 0 to 2; `harmful` is None where a file does not ask.
        problems: With the columns `PROBLEMS`: what was left out and why.
        files: With the columns `returned.FILES`: a row for each file, and for each rater in it.
    """

    ratings: pd.DataFrame
    problems: pd.DataFrame
    files: pd.DataFrame


@dataclass(eq=False)
class Part(returned.Part):
    """What one rater gave in one file; `name` is what they typed, or "".

    Attributes:
        kind: Who rated.
        form: Which form it is; "" for ratings that name their systems.
        code: The form's name for its rater, such as R1; or the rater, where the ratings name their systems.
        hint: What the file's name says about whose it is, and the login.
        user, address, project: The account in Label Studio, its address where that is said, and the project; or "".
        login: What the account is called: "user 3", or "address 1" where its number is not said.
        ratings, problems: What can be read, and what cannot count.
        rater: What the rater is called in every table.
    """

    kind: str = PEOPLE
    form: str = ""
    code: str = ""
    hint: str = ""
    user: str = ""
    address: str = ""
    project: str = ""
    login: str = ""
    ratings: list[dict] = field(default_factory=list)
    problems: list[dict] = field(default_factory=list)
    rater: str = ""

    def is_like(self, other: "Part") -> bool:
        """Return whether two parts must be one person's: nearly all entries have the same scores, or all of a few."""
        shared = self.given.keys() & other.given.keys()
        same = sum(self.given[entry][: len(SCALES)] == other.given[entry][: len(SCALES)] for entry in shared)
        return same >= ALIKE * len(shared) if len(shared) >= SHARED else same == len(shared) >= SAME

    def may_be(self, other: "Part") -> bool:
        """Return whether two parts are of one login: of one address, or of one number in one project.

        Everybody is number 1 in a Label Studio of their own, so that other scores tell two people of one number.
        """
        if self.address and other.address:
            return self.address == other.address
        known = bool(self.user and self.project)
        return known and (self.user, self.project) == (other.user, other.project) and not self.contradicts(other)

    def contradicts(self, other: "Part") -> bool:
        """Return whether two parts give other scores to more of the same entries than one person's would."""
        shared = self.given.keys() & other.given.keys()
        same = sum(self.given[entry][: len(SCALES)] == other.given[entry][: len(SCALES)] for entry in shared)
        return same < ALIKE * len(shared)

    def is_ones(self, other: "Part") -> bool:
        """Return whether two parts without a name are one person's: by their scores, the login, or the file's name."""
        named_alike = plain(self.hint) == plain(other.hint)
        if self.user and other.user:
            named_alike = self.may_be(other) and (named_alike or bool(self.address))
        return named_alike or self.is_like(other)

    def label(self, first: dict[str, str]) -> None:
        """Name the rater in every row; `first` has the form that is R1 in this run, where earlier ones were too."""
        earlier = self.expected and first.get(self.code, self.form) != self.form
        self.rater = " ".join(filter(None, [self.code, f"(form {self.form[:4]})" if earlier else "", self.name]))
        for row in (*self.ratings, *self.problems):
            row["rater"] = self.rater

    def line(self, counted: int) -> dict:
        """Return the row of this part in the table of files."""
        note = "; ".join(filter(None, [self.unfinished, self.note, returned.left_out(self.problems)]))
        numbers = {"entries read": len(self.ratings), "entries counted": counted}
        return {"file": self.file.name, "read as": self.taken_for, "rater": self.rater, "note": note} | numbers


def find(name: str | Path, run: str | Path) -> Path:
    """Return where filled forms are: below the run or else below the repository; below the run if there are none."""
    return next((p for p in (files.path(run) / name, files.path(name)) if p.exists()), files.path(run) / name)


def read(path: str | Path, key: pd.DataFrame | None = None, kind: str = PEOPLE) -> Read:
    """Read the ratings in a file or in all files of a folder, at any depth.

    A rater is a form and the name typed into it; without a typed name the form alone, or where several files of one
    form say whose they are, the form and that name. Of several files of one rater the latest complete one counts
    (see `returned.choose`).

    Args:
        path: A file or folder; one that does not exist has no ratings.
        key: From `blinding.make_sheets`. Not needed for files that name questionID and system themselves.
        kind: Who rated, where a file does not say: "person" or "language model".

    Returns:
        An entry without any score, flag or comment is in none of the three tables.
    """
    known = {} if key is None else {form: rows.set_index("entry") for form, rows in key.groupby("form", sort=False)}
    parts, problems, listed = [], [], []
    for file in returned.collect(path):
        try:
            if file.kind in (returned.PASSED_OVER, returned.UNUSABLE):
                raise files.InputError(file.reason)
            parts += read_file(file, known, kind)
        except UNREADABLE as error:
            passed = file.kind == returned.PASSED_OVER
            reason = f"{'passed over' if passed else 'not a filled form'}: {files.one_line(error)}"
            problems += [] if passed else [{"file": file.name, "line": 0, "reason": reason}]
            listed.append({"file": file.name, "read as": file.unread("not a rating form"), "note": reason})
    settle(parts)
    first = {str(form["rater"].iloc[0]): name for name, form in reversed(known.items())}
    for part in parts:
        part.label(first)
        problems += part.problems
    rows = [row for part in parts for row in part.ratings if not part.form or row["entry"] in part.counts]
    ratings, duplicates = without_duplicates(pd.DataFrame(rows, columns=FIELDS))
    count = ratings.groupby(["file", "rater"]).size()
    listed += [
        part.line(int(count.get((part.file.name, part.rater), 0)) if part.counts or not part.form else 0)
        for part in parts
    ]
    return Read(
        ratings,
        pd.concat([pd.DataFrame(problems, columns=PROBLEMS), duplicates], ignore_index=True).sort_values(
            ["file", "line"], kind="stable", ignore_index=True
        ),
        returned.table(listed),
    )


def read_all(sources: dict[str | None, str], key: pd.DataFrame, run: str | Path) -> Read:
    """Read the ratings of several places as `read` does; `sources` maps each path to who rated there.

    Raises:
        InputError: For a file without a rating that counts; folders may be absent or empty.
    """
    parts = [read(find(name, run), key, kind) for name, kind in sources.items() if name]
    for name, part in zip(filter(None, sources), parts, strict=True):
        place = find(name, run)
        if place.suffix and not place.is_dir() and part.ratings.empty:
            why = [*part.problems["reason"], "holds no rating" if place.exists() else "no such file"][0]
            raise files.InputError(f"{files.shown(name)}: {why}; `ratings: null` goes without")
    found, problems, listed = (
        pd.concat(full, ignore_index=True) if (full := [t for t in tables if len(t)]) else pd.DataFrame(columns=columns)
        for tables, columns in zip(zip(*parts, strict=True), (FIELDS, PROBLEMS, FILES), strict=True)
    )
    ratings, duplicates = without_duplicates(found)
    problems = pd.concat([problems, duplicates], ignore_index=True) if len(duplicates) else problems
    return Read(ratings, problems, listed)


def read_file(file: Returned, known: dict[str, pd.DataFrame], kind: str) -> list[Part]:
    """Return the parts of a file, one for each rater in it.

    Raises:
        UNREADABLE: For a file that is not a filled form.
    """
    taken_for, rows = entries(file, known)
    parts: dict[tuple, Part] = {}
    for row in rows:
        row = {"kind": kind, "file": file.name} | row
        try:
            rating = to_rating(row, known)
        except ValueError as error:
            problem = row | {"reason": str(error), "harmful": is_ticked(row.get("harmful"))}
            part = part_of(row, file, taken_for, known, parts)
            part.problems.append(problem)
            entry = find_entry(row.get("entry"), known[part.form].index) if part.form in known else None
            part.filled |= {entry} if entry and all(map(safe_spreadsheets.cell_text, map(row.get, SCALES))) else set()
            part.edited |= {entry} if isinstance(error, EditedError) else set()
        else:
            part = part_of(row, file, taken_for, known, parts)
            if rating:
                part.ratings.append(rating)
                part.given[str(rating.get("entry"))] = *(rating[scale] for scale in SCALES), *remark(rating)
    return list(parts.values())


def part_of(row: dict, file: Returned, taken_for: str, known: dict, parts: dict[tuple, Part]) -> Part:
    """Return the part that a row belongs to, a new one for the first row of a rater."""
    form = "" if "system" in row else str(row.get("form") or "")
    given = " ".join(str(row.get("rater") or "").split())
    code, entries = given, 0
    if form in known:
        code, entries = str(known[form]["rater"].iloc[0]), len(known[form])
    name = typed_name(row.get("name")) or ("" if plain(given) == plain(code) else typed_name(given.removeprefix(code)))
    user = typed_name(row.get("annotator")) if form else ""
    address, project = row.get("address", ""), row.get("project") or "".join(PROJECT.findall(file.name)[:1])
    who = row["kind"], form, code, fold(name), user, row.get("sheet")
    if who not in parts:
        named = returned.name_hint(f"{file.name}/{row.get('sheet', '')}", (code,))
        saved = timestamp(row.get("saved")) or file.modified
        parts[who] = Part(
            file, taken_for, name, entries, saved, kind=row["kind"], form=form, code=code, hint=named, user=user
        )
        parts[who].project = project
    parts[who].address = parts[who].address or address
    return parts[who]


def settle(parts: list[Part]) -> None:
    """Decide what of each part counts: of each rater the latest complete file."""
    for part in parts:
        lost = [row["entry"] for row in part.ratings if row.get("lost")]
        said = ["" if part.ratings or part.problems else "nothing is filled in"]
        said += [f"characters lost in GBK: the texts of {', '.join(lost)} cannot be checked"] if lost else []
        part.note = "; ".join(filter(None, [*said, *{row["shared"]: 0 for row in part.ratings if row.get("shared")}]))
    name_logins(parts)
    rated = [part for part in parts if part.form and part.ratings]
    split_names(rated)
    for form in dict.fromkeys(part.form for part in rated):
        name_raters([part for part in rated if part.form == form])
    who = [(part.form, fold(part.name)) for part in rated]  # brackets count: people of one name have them behind it
    for rater in dict.fromkeys(who):
        of_rater = [part for part, other in zip(rated, who, strict=True) if other == rater]
        returned.choose(of_rater)
        rows = [(part, row) for part in of_rater for row in part.ratings]
        said = {remark(row) for part, row in rows if row["entry"] in part.counts}
        for part in of_rater:
            part.name = of_rater[0].name  # "Li Wei" and "li wei" are one person
            lost = [row | {"reason": part.note} for row in part.ratings if row["entry"] not in part.counts]
            part.problems = [row for row in part.problems if part.counts or has_remark(row)]
            part.problems += [row for row in lost if has_remark(row) and remark(row) not in said]
    for one, other in combinations([part for part in rated if part.counts], 2):
        if one.form == other.form and fold(one.name) != fold(other.name) and one.is_like(other):
            alike = f"nearly the same scores as {one.name or one.code} in {one.file.name}: one person? both count"
            other.note = "; ".join(filter(None, [other.note, alike]))


def remark(row: dict) -> tuple:
    """Return what was said about an entry."""
    return row.get("entry"), is_ticked(row.get("harmful")), str(row.get("comment") or "").strip()


def name_logins(parts: list[Part]) -> None:
    """Call each login by its number; one whose address alone is known by its place among them, since that is private.

    Of two files one may have the number to the other's address.
    """
    addresses = sorted({part.user for part in parts if "@" in part.user})
    for part in parts:
        is_address = "@" in part.user
        shown = f"address {addresses.index(part.user) + 1}" if is_address else f"user {part.user}"
        part.login = shown if part.user else ""
        part.hint = " ".join(filter(None, [part.hint, part.login]))


def split_names(parts: list[Part]) -> None:
    """Put the login behind a name that two logins of one export gave with other scores for the same entries."""
    differ = set()
    for one, other in combinations([part for part in parts if part.name and part.user], 2):
        same = one.file is other.file and (one.form, fold(one.name)) == (other.form, fold(other.name))
        if same and one.user != other.user and one.contradicts(other):
            differ |= {(part.form, fold(part.name), part.user) for part in (one, other)}
    for part in parts:
        if (part.form, fold(part.name), part.user) in differ:
            said = f"several logins gave the name {part.name}, with other scores: each is a rater"
            part.note = "; ".join(filter(None, [part.note, said]))
            part.name = f"{part.name} ({part.login})"


def name_raters(parts: list[Part]) -> None:
    """Name the raters of one form whose files hold no name.

    Files with the same scores are one person's, and so are files that are called alike, or of one login. If that leaves
    several people on one form, they are called what their files are called, or the sheets of a file with one for each,
    or their logins.
    """
    typed = {fold(part.name): part.name for part in parts if part.name}
    nameless = [part for part in parts if not part.name]
    hints = {plain(part.hint) for part in nameless if part.hint}
    sheets = {(part.file.name, plain(part.hint)) for part in nameless}
    several = len(hints) > 1 or any(part.user for part in nameless) or len(sheets) > len({file for file, _ in sheets})
    groups: list[list[Part]] = [] if typed or several else [nameless]
    for part in nameless if not groups else []:
        like = [group for group in groups if any(part.is_ones(p) for p in group)]
        groups = [group for group in groups if group not in like] + [[p for group in like for p in group] + [part]]
    named, called = [part for part in parts if part.name], []
    for group in groups:
        own = [(typed[fold(p.hint)], "what the file is called") for p in group if fold(p.hint) in typed]
        own += [(p.name, "its scores") for p in named if any(p.is_like(part) for part in group)]
        own += [(p.name, "its login") for p in named if any(p.may_be(part) for part in group)]
        if not own and len(groups) + len(typed) > 1:
            own = [(p.hint, "" if p.login else "what the file is called") for p in group if p.hint][:1]
            called += [fold(name) for name, _ in own]
        for part in group if own or typed else []:
            part.name, by = own[0] if own else ("", "")
            taken = f"no name in the form: taken for {part.name}'s by {by}" if by else ""
            if not own:
                taken = "no name in the form: counted as one more rater"
            elif (number := called.count(fold(part.name))) > 1:
                taken = f"another {part.name} gave other scores, or is of another project: one more rater"
                part.name = f"{part.name} ({number})"
            part.note = "; ".join(filter(None, [part.note, taken]))


def has_remark(row: dict) -> bool:
    """Return whether a row has a flag or a comment."""
    return is_ticked(row.get("harmful")) or bool(str(row.get("comment") or "").strip())


def progress(key: pd.DataFrame, ratings: pd.DataFrame) -> pd.DataFrame:
    """Return how many entries of each form each of its raters rated; a form that is half done counts with its half."""
    rated = ratings[ratings["form"].isin(key["form"])].groupby(["form", "rater"], sort=False).size()
    counts = rated.rename("entries rated").reset_index()
    sizes = key.groupby(["form", "rater"], sort=False).size().rename("entries").reset_index()
    table = sizes.merge(counts, on="form", how="left", suffixes=(" in the key", ""))
    table["rater"] = table["rater"].fillna(table.pop("rater in the key"))
    table["entries rated"] = table["entries rated"].fillna(0).astype(int)
    return table.assign(**{"entries left": table["entries"] - table["entries rated"]})[
        ["form", "rater", "entries", "entries rated", "entries left"]
    ]


def partial_forms(far: pd.DataFrame) -> str:
    """Return which forms of `progress` came back unfinished, such as "partial forms: R1 2 of 5"; "" if none did."""
    begun = far[(far["entries rated"] > 0) & (far["entries left"] > 0)]
    counts = begun[["rater", "entries rated", "entries"]].itertuples(index=False)
    found = ", ".join(f"{rater} {rated} of {entries}" for rater, rated, entries in counts)
    return f"partial forms: {found}" if found else ""


def remarks(ratings: pd.DataFrame, problems: pd.DataFrame) -> pd.DataFrame:
    """Return every reply that a rater flagged as harmful or commented on; harmful ones come first.

    Entries without a full set of scores are included, with the reason why they do not count: the person responsible
    for a study should read every remark.
    """
    columns = ["kind", "rater", "entry", "questionID", "system", "harmful", "comment", "file", "line", "reason"]
    both = pd.DataFrame(
        [*ratings.to_dict("records"), *problems.to_dict("records")], columns=columns, dtype=object
    )  # so that no ID becomes 1.0
    flagged = both["harmful"].eq(True)
    commented = both["comment"].fillna("").astype(str).str.strip().ne("")
    return pd.concat([both[flagged], both[commented & ~flagged]], ignore_index=True)


def entries(file: Returned, known: dict[str, pd.DataFrame]) -> tuple[str, list[dict]]:
    """Return what a file is and its rows: of every row whatever the file says, by the names of `FIELDS`.

    Raises:
        InputError: For a file that is no form of raters.
    """
    if file.kind == returned.JSON:
        rows = exports.read_rows(returned.decode(file.content))
        return f"rating form, {'Label Studio' if any('annotator' in row for row in rows) else 'page'}", rows
    headed = file.headed(NAME_OF, set(SCALES))
    if not headed:
        raise files.InputError(not_a_form(file.titles()))
    several = len(headed) > 1
    rows = [
        row | ({"sheet": sheet} if several else {})
        for sheet, grid, top in headed
        for row in grid_rows(grid, top, known, file.lossy)
    ]
    if rows and all("system" in row for row in rows):
        return "ratings that name their systems", rows
    made_by = "Label Studio" if any("annotator" in row for row in rows) else file.kind
    return f"rating form, {made_by}", exports.by_person(rows)


def not_a_form(titles: set[str]) -> str:
    """Return why a table or a workbook with these cells has no ratings."""
    if {"evidence", "risk"} <= titles:
        return "a form for annotators; it belongs into data/annotations"
    if {"form", "position", "check", "system"} <= titles:
        return "the key to the codes, which must not be handed out; keep it beside the forms"
    missing = [name for name in SCALES if not TITLES_OF[name] & titles]
    return f"no column {', '.join(missing) or 'with all three scales in one row'}"


def titles() -> dict[str, set[str]]:
    """Return what each column may be called: by its name, and as the forms call it in any language."""
    found = {name: {name} for name in ("form", "rater", "kind", "check", "system", "repeat")}
    found |= {name: {name} for name in exports.FLAT}
    found |= {"entry": {"entry", "条目", "条目代码", "代码"}, "questionID": {"questionid"}}
    found["name"] = {"name", "ratersname", "姓名", "名字"}
    for texts in forms.rubric().values():
        ui = texts["ui"]
        shown = {"notice": texts["heading"]["notice"], **{n: ui[n] for n in ("question", "description", "answer")}}
        shown |= {scale: texts["scales"][scale]["name"] for scale in SCALES}
        shown |= {name: ui[name] for name in ("harmful", "comment", "name", "rater")}
        for name, title in shown.items():
            found.setdefault(name, {name}).add(plain(title))
    return found


TITLES_OF = titles()
NAME_OF = {title: name for name, group in TITLES_OF.items() for title in group}


def grid_rows(grid: Grid, top: Header, known: dict[str, pd.DataFrame], lossy: bool) -> Iterator[dict]:
    """Yield the rows of a table below its header. A row without an entry and without scores says nothing."""
    place, columns = top
    below = grid[place + 1 :]
    codes = {entry for form in known.values() for entry in form.index}
    if "entry" not in columns.values() and codes:
        hits = [sum(code(cells[i]) in codes for _, cells in below) for i in range(len(grid[place][1]))]
        columns |= {hits.index(max(hits)): "entry"} if max(hits) else {}
    above = heading(grid[:place], known)
    if above.get("form") not in known and "form" not in columns.values():
        above |= form_of([cells[i] for _, cells in below for i, name in columns.items() if name == "entry"], known)
    last: dict[str, str] = {}
    for line, cells in below:
        row = {name: safe_spreadsheets.cell_text(cells[i]) for i, name in columns.items() if i < len(cells)}
        last |= {name: row[name] for name in TEXTS if row.get(name, "").strip()}
        if all(NAME_OF.get(plain(row.get(scale))) == scale for scale in SCALES):
            continue  # the titles in the form's language
        row = above | {name: text for name, text in row.items() if text.strip() or name in ("system", "harmful")}
        yield from filled_row(row | {"line": line}, set(columns.values()), last, lossy)


def filled_row(row: dict, columns: set[str], last: dict[str, str], lossy: bool) -> Iterator[dict]:
    """Yield a row of a table as `to_rating` takes it; nothing for one without an entry and without scores.

    A text that is not there may be the `last` one above it: programs merge equal cells.
    """
    if "system" in columns:
        number = row.get("questionID", "")
        yield row | ({"questionID": int(number)} if number.isdecimal() else {})
    elif row.get("entry") and "annotator" in columns:
        yield exports.table_row(row, columns, lossy)
    elif row.get("entry"):
        texts = [row.pop(name, "") for name in TEXTS]
        if "check" not in columns and columns.issuperset(TEXTS):
            lost = lossy and "?" in "".join(texts)  # what stood there is not known, so that no check is possible
            merged = [text or last.get(name, "") for name, text in zip(TEXTS, texts, strict=True)]
            checks = {"check": blinding.checksum(*texts), "merged check": blinding.checksum(*merged)}
            row |= {"lost": True} if lost else checks
        yield row
    elif any(row.get(scale) for scale in SCALES):
        yield row | {"problem": "scores without an entry code: a sum, or the code was deleted"}


def heading(rows: Grid, known: dict[str, pd.DataFrame]) -> dict:
    """Return form, rater and name from the rows above a table's header."""
    found: dict[str, str] = {}
    for _, cells in rows:
        texts = [text for cell in cells if (text := safe_spreadsheets.cell_text(cell).strip())]
        behind = [unicodedata.normalize("NFKC", text).partition(":")[::2] for text in texts]  # 姓名：王芳 in one cell
        for label, text in [*pairwise(texts), *behind]:
            name = NAME_OF.get(plain(label))
            if name in ("form", "rater", "name") and text and NAME_OF.get(plain(text)) is None:
                found.setdefault(name, text.strip())
        if numbers := [text for text in texts if text in known]:
            found["form"] = numbers[0]
    return found


def form_of(cells: list, known: dict[str, pd.DataFrame]) -> dict:
    """Return the form that most of these entry codes belong to, where its number is gone: codes are drawn for each."""
    codes = {code(cell) for cell in cells} - {""}
    hits = {form: len(codes.intersection(sheet.index)) for form, sheet in known.items()}
    best = [form for form in hits if 2 * hits[form] > len(codes)]
    return {"form": best[0]} if len(best) == 1 else {}


def code(value: object) -> str:
    """Return an entry's code as the key has it, whatever width and case it was typed in."""
    return fold(value).upper()


def to_rating(row: dict, known: dict[str, pd.DataFrame]) -> dict | None:
    """Return a row of a form as a rating, or None for an entry that was left out.

    Raises:
        ValueError: With the reason why the row does not count.
    """
    if row.get("problem"):  # A line that is not one, or a model rater's answer that could not be read.
        raise ValueError(row["problem"])
    given = {scale: safe_spreadsheets.cell_text(row.get(scale)).strip() for scale in SCALES}
    if not any(given.values()) and not has_remark(row):
        return None
    row = row if "system" in row else row | unblind(row, known)
    if not any(given.values()):
        raise ValueError("a flag or a comment without scores: it is listed among the remarks, and in no mean")
    if row["kind"] not in KINDS:
        raise ValueError(f"kind is {row['kind']}, expected {' or '.join(KINDS)}")
    for name in ("rater", "questionID", "system"):
        if row.get(name) in (None, ""):
            raise ValueError(f"{name} is missing")
    scores = {scale: to_score(scale, text) for scale, text in given.items()}
    marks = {name: is_ticked(row.get(name)) for name in ("harmful", "repeat")}
    if "harmful" not in row:
        marks["harmful"] = None  # Nobody was asked, which is not the same as "no".
    texts = {"rater": str(row["rater"]), "comment": str(row.get("comment") or "")}
    return row | texts | marks | scores


def to_score(scale: str, text: str) -> int:
    """Return a score; 2.0, ２, 2分 and the words of the scale count, and nothing that is not certain.

    Raises:
        ValueError: For a text that is not a score.
    """
    if not text:
        raise ValueError(f"{scale} is missing")
    if found := SCORE.fullmatch(fold(text)):
        return int(found[1])
    words = re.sub(r"\W", "", fold(text))
    for texts in forms.rubric().values():
        for score, anchor in enumerate(map(fold, texts["scales"][scale]["anchors"])):
            if words in (anchor, f"{score}{anchor}", f"{score}分{anchor}"):
                return score
    raise ValueError(f"{scale} is {files.one_line(text)[:60]}, expected 0, 1 or 2")


def is_ticked(value: object) -> bool:
    """Return whether a box is ticked, however a file says so."""
    return fold(value) not in UNTICKED


def unblind(row: dict, known: dict[str, pd.DataFrame]) -> dict:
    """Return form, entry, rater, questionID, system and repeat of a form's entry, by the key.

    Raises:
        ValueError: For a form or an entry that the key does not have.
        EditedError: For an edited text.
    """
    if row.get("form") not in known:
        raise ValueError("unknown form: the key does not list it; is it from another run, and was its key.csv kept?")
    sheet = known[row["form"]]
    entry = find_entry(row.get("entry"), sheet.index)
    if entry is None:
        raise ValueError("unknown entry: this form has no such code")
    truth = sheet.loc[entry]
    if "check" in row and truth["check"] not in (row["check"], row.get("merged check")):
        raise EditedError("edited entry: its text is not the form's")
    return truth[["rater", "questionID", "system", "repeat"]].to_dict() | {"entry": entry}


def find_entry(value: object, codes: pd.Index) -> str | None:
    """Return the code that a cell holds, even one that a spreadsheet made a number (12E4 is then 120000), or None."""
    found = code(value)
    if found in codes:
        return found
    try:
        number = float(found)
    except ValueError:
        return None
    alike = [entry for entry in codes if re.fullmatch(r"\d+(E\d+)?", entry) and float(entry) == number]
    return alike[0] if len(alike) == 1 else None


def without_duplicates(ratings: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the ratings that count, and problems for replies that a rater rated twice.

    Equal scores count once. Of different scores none counts, since nobody knows which is meant.
    """
    who = ["rater", "kind", "questionID", "system", "repeat"]
    duplicated, later = ratings.duplicated(who, keep=False), ratings.duplicated(who)
    lines = ratings.groupby(who)["rater"].transform("size")
    equal = duplicated & (ratings.groupby([*who, *SCALES])["rater"].transform("size") == lines)
    once = "rated twice with the same scores, in another file or line; counted once"
    never = "rated twice with different scores: keep one of the two; none was counted"
    problems = [ratings[equal & later].assign(reason=once), ratings[duplicated & ~equal].assign(reason=never)]
    return ratings[~duplicated | (equal & ~later)].reset_index(drop=True), pd.concat(problems)[PROBLEMS]
