"""Lines of central functions, each broken in turn: a test must fail. By hand: python tests/mutations.py [NUMBER …]

Works in a copy; two minutes on two cores. A line that survives says so, and the exit status is their number.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MUTATIONS = [  # module, a piece of a line, what takes its place, the test that must see it
    ("questions", "and found.questionID in seen", "and found.questionID is None", "questions.py -k id_counts_once"),
    ("journal", "file.truncate(size - len(content) + start)", "pass", "journal.py"),
    ("completions", 'if key != "id"}', 'if key not in ("id", "attempt")}', "endpoint.py -k known_by"),
    ("spending", "self.spent + self.in_flight + cost >", "self.spent + cost >", "endpoint.py -k in_flight_count"),
    ("splits", "len(test) + len(group) <= wanted", "len(test) + len(group) < wanted", "splits.py"),
    ("splits", "radius=1 - threshold", "radius=threshold", "splits.py"),
    ("sections", "len(told) == len(NAMES)", "len(told) >= 3", "sections.py"),
    ("conformity", "len(absent) > 5 - rules.min_parts", "len(absent) > 5", "conformity.py"),
    ("distortions", 'cues()["denial"].search(clause) or ', "", "distortions.py -k not_said"),
    ("distortions", "if not any(taken[start:end]):", "if True:", "distortions.py -k alone"),
    ("ngrams", "1 - there / said", "1 - said / there", "metrics.py -k bleu"),
    ("ngrams", "found[found[:, 1] == 0, 0] = 0", "pass", "metrics.py -k too_short"),
    ("statistics", "np.arange(len(p), 0, -1)", "len(p)", "statistics.py -k holm"),
    ("agreement", "*found, *scores.shape", "*found, *scores.T.shape", "agreement.py -k apart_from"),
    ("trainer", "max(first - 1, 0)", "first", "training.py -k 'equation_3 or batch_is_padded'"),
    ("instructions", "[IGNORED] * ", "[0] * ", "training.py -k labels_cover"),
    ("checkpoints", "(b.float() @ a.float()).mul_(scale)", "b.float() @ a.float()", "backbones.py -k 'delta or merge'"),
    (
        "answering",
        "json.dumps([system, key, settings, prompt]",
        "json.dumps([system, settings, prompt]",
        "answering.py -k taken",
    ),
    ("kept", "json.dumps([self.key, *pair])", "json.dumps([*pair])", "kept.py"),
    ("ratings", 'if row.get("check") != truth["check"]:', "if False:", "ratings.py -k 'fault or workbook'"),
    ("safety", 'unicodedata.normalize("NFKC", text)', "text", "safety.py -k hide"),
    ("files", "made.replace(final)", "shutil.copy(made, final.with_name('x'))", "files.py"),
    ("faults", 'text.replace(key, "…") if len(key) >= SECRET else text', "text", "secrets.py -k echo"),
    ("changes", "node.body[0] = ast.Pass()", "pass", "changes.py"),
]


def broken(module: str, old: str, new: str, tests: str, copy: Path) -> bool:
    """Whether the test fails once the line is broken. AssertionError where the line is not there, or not once."""
    place = copy / "cbtllm_utils" / f"{module}.py"
    source = place.read_text(encoding="utf-8")
    assert source.count(old) == 1, f"{module}: {old!r} stands there {source.count(old)} times"
    place.write_text(source.replace(old, new), encoding="utf-8")
    command = f"{sys.executable} -m pytest -x -q --durations=0 -p no:cacheprovider tests/test_{tests}"
    env = os.environ | {"PYTHONPATH": str(copy)}
    done = subprocess.run(command, shell=True, cwd=copy, env=env, capture_output=True, text=True, check=False)
    place.write_text(source, encoding="utf-8")
    assert done.returncode in (0, 1), done.stdout[-800:] + done.stderr[-800:]
    return done.returncode == 1


def main(numbers: list[str]) -> int:
    """How many broken lines no test has seen."""
    chosen, survived = [int(n) for n in numbers] or range(1, len(MUTATIONS) + 1), 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv", ".git", "runs", "rendered", "figures"))
        for number in chosen:
            seen = broken(*MUTATIONS[number - 1], copy)
            survived += not seen
            module, old, new, tests = MUTATIONS[number - 1]
            print(
                f"{number:2} {'seen' if seen else 'SURVIVED'}: {module}: {old!r} -> {new!r} (test_{tests})", flush=True
            )
    return survived


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
