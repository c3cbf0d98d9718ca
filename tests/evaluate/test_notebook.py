"""Notebook 06 on answers that are markup, with jury's English defaults in published formats, tiny and random."""

import re

import bert_score
import nbformat
import pandas as pd
import pytest
import torch
import transformers
from tokenizers import ByteLevelBPETokenizer

from cbtllm_utils import files
from cbtllm_utils.evaluate import bleurt, systems
from cbtllm_utils.generate import kinds
from cbtllm_utils.workflow import release, report, run

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>"
REPLIES = ["It sounds hard. 慢慢来。", f"{MARKUP}Breathe, then write 三件好事。", "You are not alone. 试着休息。"]
ANSWERS = [f"It is hard.{MARKUP}", "Breathe and write 三件事。", "You are strong. 休息吧。"]
ENDED = {"finish_reason": "stop", "tokens": 9}
SIZE = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "initializer_range": 0.5}


def roberta(folder):
    """Write roberta-large's files (512 tokens), 18 layers of 16 units; the name gives bert_score's layer."""
    folder.mkdir(parents=True)
    marks = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(REPLIES + ANSWERS, vocab_size=300, special_tokens=marks, show_progress=False)
    bpe.save_model(str(folder))
    files.write_json(folder / "tokenizer_config.json", {"model_max_length": 512})
    torch.manual_seed(1)
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    places = {"max_position_embeddings": 514, "type_vocab_size": 1, "num_hidden_layers": 18}
    config = transformers.RobertaConfig(vocab_size=bpe.get_vocab_size(), **SIZE | places | ids)
    with bleurt.quiet():
        transformers.RobertaModel(config).save_pretrained(folder)
    return folder


def bert(folder, kind, layers):
    """Write a BERT that knows letters and the Chinese characters here, as an encoder or as a BLEURT conversion."""
    folder.mkdir(parents=True)
    letters = [f"{mark}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz<>()=/1.," for mark in ("", "##")]
    chinese = sorted({c for text in REPLIES + ANSWERS for c in text if c > "一"})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *chinese]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    torch.manual_seed(2)
    config = transformers.BertConfig(vocab_size=len(vocabulary), num_hidden_layers=layers, num_labels=1, **SIZE)
    model = kind(config).eval()
    with bleurt.quiet():
        model.save_pretrained(folder)
    if kind is transformers.BertForSequenceClassification:
        (folder / "model.safetensors").unlink()
        state = {re.sub("^bert", "bleurt", name): value for name, value in model.state_dict().items()}
        torch.save(state, folder / "pytorch_model.bin")
        files.write_json(folder / "config.json", config.to_diff_dict() | {"model_type": "bleurt"})
    return model


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Run notebook 06; return the folder around the run, and BLEURT's model."""
    folder = tmp_path_factory.mktemp("scores")
    head = bert(folder / "bleurt-base-128", transformers.BertForSequenceClassification, 2)
    bert(folder / "bert-zh", transformers.BertModel, 2)
    roberta(folder / "roberta-large")
    posts = [{"questionID": i, "question": f"怎么办{MARKUP}{i}", "description": "睡不着。" + MARKUP} for i in range(3)]
    rows = [post | {"reply": reply, "risk": False} for post, reply in zip(posts, REPLIES, strict=True)]
    for part in ("train", "test"):
        files.write_jsonl(folder / f"run/cbt_qa/{part}.jsonl", rows)
    answers = [
        ENDED | {"system": system, "questionID": i, "reply": text + end}
        for system, end in (("qwen-7b-untuned", "!"), ("qwen-7b", ""))
        for i, text in enumerate(ANSWERS)
    ]
    files.write_jsonl(folder / "run/answers/qwen-7b.jsonl", answers)
    models = {"bertscore_model": str(folder / "bert-zh"), "bertscore_layer": 1}
    models |= {"bleurt_model": str(folder / "bleurt-base-128"), "english_bleurt": str(folder / "bleurt-base-128")}
    models |= {"english_bertscore": str(folder / "roberta-large"), "backbones": ["qwen-7b"]}
    run.run_notebook("06_automatic_evaluation", "ci", run=str(folder / "run"), **models)
    return folder, head


def test_jurys_english_defaults_score_as_their_libraries_do(ran):
    folder, head = ran
    table = pd.read_csv(folder / "run/tables/automatic_english.csv").set_index("metric")
    assert set(table.index) == {"BERTSCORE", "BLEURT"} and set(table["system"]) == {"Qwen-7B, tuned"}
    assert "model:roberta-large#" in table["signature"]["BERTSCORE"] and "|layer:17|" in table["signature"]["BERTSCORE"]
    assert "model:bleurt-base-128#" in table["signature"]["BLEURT"]
    options = {"model_type": str(folder / "roberta-large"), "num_layers": 17, "use_fast_tokenizer": True}
    with bleurt.quiet():  # Pair by pair: padding counts as a cosine of 0, and random weights give cosines below.
        expected = [bert_score.score([a], [r], **options)[2].item() for a, r in zip(ANSWERS, REPLIES, strict=True)]
    assert table["score"]["BERTSCORE"] == pytest.approx(sum(expected) / 3, abs=1e-5)
    tokenizer = transformers.BertTokenizer.from_pretrained(folder / "bleurt-base-128")
    with torch.inference_mode():
        pairs = [tokenizer(r, a, return_tensors="pt") for r, a in zip(REPLIES, ANSWERS, strict=True)]
        scores = [head(**pair).logits.item() for pair in pairs]
    assert max(pair["input_ids"].shape[1] for pair in pairs) <= 128, "so that nothing is cut"
    assert table["score"]["BLEURT"] == pytest.approx(sum(scores) / 3, abs=1e-5)


def test_answers_that_are_markup_are_text_in_the_report_and_on_the_page(ran):
    executed = nbformat.read(ran[0] / "run/notebooks/06_automatic_evaluation.ipynb", 4)
    shown = report.chapter("06_automatic_evaluation", release.stripped(executed))["body"]
    page = (ran[0] / "run/scores/answers.html").read_text(encoding="utf-8")
    assert not re.search(r"<script>alert|<img src=x", shown + page) and "&lt;script&gt;alert" in page


def test_two_seeds_without_neural_metrics_and_without_the_untuned_systems(tmp_path):
    """Each kind may be missing, and BLEURT and BERTScore too; a second seed is a replicate and no other backbone."""
    posts = [{"questionID": i, "question": f"怎么办{i}", "description": "睡不着。", "risk": False} for i in range(3)]
    rows = [post | {"reply": reply} for post, reply in zip(posts, REPLIES, strict=True)]
    for part in ("train", "test"):
        files.write_jsonl(tmp_path / f"cbt_qa/{part}.jsonl", rows)
    for name, end in (("q", ""), ("q-seed43", "!"), ("z", "好"), ("z-seed43", "。")):
        answers = [
            ENDED | {"system": system, "questionID": i, "reply": text + end}
            for system, replies in ((f"{name}-prompted", ["好。"] * 3), (name, ANSWERS))
            for i, text in enumerate(replies)
        ]
        files.write_jsonl(tmp_path / f"answers/{name}.jsonl", answers)
    names = {"backbones": ["q", "q-seed43", "z", "z-seed43"], "bleurt_model": None, "bertscore_model": None}
    run.run_notebook("06_automatic_evaluation", "ci", run=str(tmp_path), **names)

    def table(name: str) -> pd.DataFrame:
        return pd.read_csv(tmp_path / f"tables/{name}.csv")

    prompting = table("automatic_tuned_prompted")
    assert prompting[["system", "compared with"]].drop_duplicates().values.tolist() == [
        *(["Q, tuned", "Q, prompted"], ["Z, tuned", "Z, prompted"])
    ]
    assert table("automatic_tuned_untuned").empty and set(prompting["metric"]) == {"BLEU", "METEOR", "CHRF"}
    between = table("automatic_between")
    assert between[["system", "compared with"]].drop_duplicates().values.tolist() == [["Q, tuned", "Z, tuned"]]
    assert between["95% CI over seeds low"].notna().all() and "means over seeds" in between["conditions"][0]
    assert set(table("automatic_seeds")["system"]) == {
        f"{name}, {kind}" for name in "QZ" for kind in ("tuned", "prompted")
    }
    table4 = table("table4_automatic_evaluation")
    assert table4["system"].tolist()[4:] == ["Q, tuned", "Z, tuned", *systems.BASELINES]
    assert table4["BLEURT"].notna().tolist() == [True] * 4 + [False] * 4, "only the paper has one"
    assert set(table("automatic_all_systems")["system"]) == {
        *(kinds.title(name + kind) for name in names["backbones"] for kind in ("", "-prompted")),
        *("nearest training reply", "random training reply"),
    }
