"""`make verify` tells a run that reproduces the committed tables from one that does not."""

import pytest

from cbtllm_utils import files
from cbtllm_utils.workflow import verify

COMMITTED = "system,metric,score,95% CI\nA,BLEU,0.25,0.20–0.30\nA,chrF,0.5,0.4–0.6\nB,BLEU,0.1,0.05–0.15\n"


def told(tmp_path, made, committed=COMMITTED, tolerance=1e-6):
    for folder, text in (("made", made), ("committed", committed)):
        (tmp_path / folder).mkdir()
        if text is not None:
            (tmp_path / folder / "scores.csv").write_text(text, encoding="utf-8")
    return verify.compare(tmp_path / "made", tmp_path / "committed", tolerance)["scores.csv"]


@pytest.mark.parametrize(
    "made",
    [
        COMMITTED,
        COMMITTED.replace("0.25", "0.2500000001"),
        "metric,system,score,95% CI\nBLEU,B,0.1,0.05–0.15\nchrF,A,0.5,0.4–0.6\nBLEU,A,0.25,0.20–0.30\n",
    ],
    ids=["the same", "noise below the tolerance", "other order of rows and columns"],
)
def test_equal_tables(tmp_path, made):
    assert told(tmp_path, made) == []


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (COMMITTED.replace("0.25", "0.26"), "A / BLEU, score: '0.26', committed '0.25'"),
        (COMMITTED.replace("0.20–0.30", "0.20–0.31"), "95% CI"),
        (COMMITTED.replace("A,chrF,0.5,0.4–0.6\n", ""), "row 'A / chrF' is missing in the run"),
        (COMMITTED + "C,BLEU,0,0–0\n", "row 'C / BLEU' is not in the committed table"),
        (COMMITTED.replace("score", "mean"), "column 'score' is missing in the run"),
        (COMMITTED.replace("0.1,", ","), "B / BLEU, score: '', committed '0.1'"),
        (None, "missing in the run"),
    ],
)
def test_what_differs_is_named(tmp_path, made, said):
    assert any(said in line for line in told(tmp_path, made))


def test_the_tolerance_is_the_callers(tmp_path):
    assert told(tmp_path, COMMITTED.replace("0.25", "0.2501"), tolerance=1e-2) == []


def test_the_exit_status_and_the_count(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(files, "ROOT", tmp_path)
    for folder in ("runs/demo/tables", "figures/demo"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "scores.csv").write_text(COMMITTED, encoding="utf-8")
    assert verify.main([]) == 0
    assert "1 of 1 tables equal the committed ones within 1e-06" in capsys.readouterr().out
    (tmp_path / "runs/demo/tables/scores.csv").write_text(COMMITTED.replace("0.25", "0.35"), encoding="utf-8")
    assert verify.main([]) == 1
    out = capsys.readouterr().out
    assert "scores.csv: 1 differences" in out and "note:" not in out
    (tmp_path / "data/ratings").mkdir(parents=True)
    (tmp_path / "data/ratings/R1.xlsx").touch()
    assert verify.main([]) == 1
    assert "note: what people filled in (data/ratings) is in the tables" in capsys.readouterr().out
    made = tmp_path / "runs/ci/tables"
    made.mkdir(parents=True)
    (made / "scores.csv").write_text(COMMITTED, encoding="utf-8")
    assert verify.main(["--profile", "ci"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: the profile ci has no committed results to compare with (figures/ci ")
    assert "--profile ci --against FOLDER" in said
    assert verify.main(["--profile", "ci", "--against", "figures/demo"]) == 0
    assert verify.main(["--profile", "ci", "--against", "nowhere"]) == 1
    assert "nowhere: no tables there; --against takes a folder" in capsys.readouterr().err
    assert verify.main(["--profile", "none"]) == 1
    assert "make reproduce PROFILE=none" in capsys.readouterr().err
