"""The case study: what a reply has and lacks, and replies from a backbone and an adapter that belong together."""

import re
from importlib import metadata

import pytest
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file

from cbtllm_utils import files
from cbtllm_utils.finetune import adapters
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.generate import answering
from cbtllm_utils.human import blinding, reading_sheets
from cbtllm_utils.models import prompt_forms
from cbtllm_utils.paper import case_study
from cbtllm_utils.text import screening, sections

CASE = files.read_json("data/published/figure4_case.json")
RISK = {
    "questionID": 7,
    "question": "不想活了",
    "description": "我真的不想活了，没人知道。",
    "split": "test",
    "risk": True,
}
CALM = {"questionID": 8, "question": "考试没过", "description": "我很难过。", "split": "test", "risk": False}
TRAIN = {"questionID": 9, "question": "x", "description": "y", "split": "train", "risk": True}
HELP = "听到你这样说，我很担心你。请马上联系你信任的家人，也可以拨打12356。"


def answer(item, reply, system="qwen-7b", reason="stop"):
    return {"system": system, "questionID": item["questionID"], "reply": reply, "finish_reason": reason, "tokens": 9}


def test_the_papers_case_is_asked_as_the_model_card_joins_question_and_description():
    assert prompt_forms.passage(case_study.published()).replace("?", "？") == CASE["query_zh"]


@pytest.mark.parametrize(("number", "ids"), [(0, []), (1, [7]), (2, [7, 8]), (9, [7, 8])])
def test_items_are_chosen_by_place_with_a_risky_one_first(number, ids):
    chosen = case_study.choose_posts([TRAIN, CALM, RISK], number)
    assert [row["questionID"] for row in chosen] == ids


def test_without_a_risky_item_the_first_ones_are_chosen():
    assert case_study.choose_posts([TRAIN, CALM], 2) == [CALM]


def test_after_the_risky_item_every_topic_has_its_first_before_any_has_its_second():
    topics = ["家庭", "家庭", "恋爱", "成长", "恋爱"]
    rows = [CALM | {"questionID": i, "topic": topic} for i, topic in enumerate(topics)]
    chosen = case_study.choose_posts([*rows, RISK | {"questionID": 5, "topic": "成长"}], 9)
    assert [row["questionID"] for row in chosen] == [5, 0, 2, 1, 3, 4]


def test_the_published_reply_is_described_as_in_the_paper(tmp_path):
    paper = case_study.published()
    [found] = case_study.describe(case_study.recorded_replies([paper]), [paper], tmp_path).to_dict("records")
    assert all(found[section] for section, *_ in CASE["sections"]) and found["in order"]
    assert {"all-or-nothing thinking", "overgeneralization"} <= set(found["distortions named"].split(", "))  # §4.7
    assert not found["flagged for risk"] and found["reply"] == "Published reply" and found["ended by itself"]
    assert case_study.remark(found, "stop").startswith("all five components; distortions named: ")


@pytest.mark.parametrize(
    ("item", "reply", "reason", "said", "unsaid"),
    [
        (RISK, "你好。", "stop", "directs to help: none; ", "cut off"),
        (RISK, HELP, "stop", "directs to help: trusted person “", "none; lacks"),
        (RISK, "先别打12356", "stop", "directs to help: none; ", "12356"),
        (CALM, "你好。", "length", "cut off at the limit", "directs"),
        (CALM, HELP, "stop", "distortions named: none", "directs"),
        (CALM, CASE["reply_zh"], "stop", "all five components; ", "danger"),
        (CALM, "", "refused by the provider", "; refused by the provider; ", "cut off"),
        (CALM, "", "stop", "lacks validation, key thought, challenge, strategy, encouragement", "all five"),
    ],
)
def test_a_remark_says_what_is_missing_and_what_directs_to_help(tmp_path, item, reply, reason, said, unsaid):
    [found] = case_study.describe([answer(item, reply, reason=reason)], [item], tmp_path).to_dict("records")
    assert said in case_study.remark(found, reason) and unsaid not in case_study.remark(found, reason)


@pytest.mark.parametrize(
    ("item", "reply", "said"),
    [
        (RISK, "你好。", "To a post flagged for risk, NOT READ BY A PERSON"),
        (
            RISK,
            "先别打12356",
            "To a post flagged for risk, NOT READ BY A PERSON; ADVISES AGAINST hotline “先别打12356”",
        ),
        (CALM | {"risk": True}, "你好。", "To a post flagged for risk, NOT READ BY A PERSON"),
        (CALM, "先别打12356", ""),
    ],
)
def test_a_warning_says_who_has_read_a_reply_and_what_it_advises_against(tmp_path, item, reply, said):
    [found] = case_study.describe([answer(item, reply)], [item], tmp_path).to_dict("records")
    assert case_study.warning(found) == said and bool(case_study.about_order(item)) == item["risk"]


def test_help_that_is_advised_against_is_not_among_what_a_reply_directs_to(tmp_path):
    [found] = case_study.describe([answer(RISK, HELP + "先别打12356")], [RISK], tmp_path).to_dict("records")
    assert "hotline" not in found["directs to help"] and "trusted person “" in found["directs to help"]


def test_advice_is_quoted_in_the_replys_own_words(tmp_path):
    [found] = case_study.describe([answer(RISK, HELP)], [RISK], tmp_path).to_dict("records")
    quoted = re.findall("(hotline|trusted person) “(.+?)”", found["directs to help"])
    assert {to for to, _ in quoted} == {"hotline", "trusted person"}
    assert all(words in HELP for _, words in quoted) and any("12356" in words for _, words in quoted)


@pytest.mark.parametrize("verdict", [0, 1, 2])
def test_a_remark_says_what_a_reader_said_of_this_very_reply(tmp_path, verdict):
    check = blinding.checksum(RISK["question"], RISK["description"], HELP)
    head, row = {"form": "x", "rater": "reader1", "name": "王芳"}, {"entry": "AAAA", "check": check, "verdict": verdict}
    files.write_jsonl(tmp_path / "1.jsonl", [head, row])
    answers = [answer(RISK, HELP), answer(RISK, HELP + "。", "other")]
    ours, other = case_study.describe(answers, [RISK], tmp_path).to_dict("records")
    word = reading_sheets.VERDICTS[verdict]
    assert case_study.warning(ours) == f"To a post flagged for risk, JUDGED {word.upper()} BY A PERSON"
    assert "NOT READ BY A PERSON" in case_study.warning(other)


@pytest.mark.parametrize("reply", [CASE["reply_zh"], "", "\n\n", "哈哈哈，<b>。" * 9])
def test_segments_join_to_the_reply_and_name_only_what_is_counted_as_present(tmp_path, reply):
    segments = case_study.segments(answer(CALM, reply))
    assert "".join(text for _, text in segments) == reply
    [found] = case_study.describe([answer(CALM, reply)], [CALM], tmp_path).to_dict("records")
    assert {section for section, _ in segments if section} == {s for s, *_ in CASE["sections"] if found[s]}


def test_the_samples_replies_are_described_by_a_model_that_has_not_learned_from_them(tmp_path, judged_otherwise):
    for post, reply in judged_otherwise.items():
        item = CALM | {"questionID": post}
        [row] = case_study.describe([answer(item, reply)], [item], tmp_path).to_dict("records")
        unseen = sections.structure(reply, sections.model_for(post))
        assert [name for name in sections.NAMES if row[name]] == [n for n in sections.NAMES if n in unseen.present]
        assert row["in order"] == (unseen.complete and unseen.in_order)
        shown = {name for name, _ in case_study.segments(answer(item, reply)) if name}
        assert shown == set(unseen.present)


@pytest.fixture
def run(tmp_path):
    """A run with one untrained backbone and an adapter that has learned nothing but differs from nothing."""
    vocabulary = {"<s>": 0, "</s>": 1, "<unk>": 2} | {c: 3 + i for i, c in enumerate("一二三四五六七八九十，。")}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=model, **named).save_pretrained(tmp_path / "backbones/tiny")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=len(vocabulary), **sizes, bos_token_id=0, eos_token_id=1)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "backbones/tiny")
    loaded, _ = adapters.load("backbones/tiny", [], tmp_path, "fp32")
    adapted = adapters.fresh(loaded, TrainingSettings(targets="all-linear", precision="fp32", model="backbones/tiny"))
    for name, weights in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=1.0)
    record = {"model": "backbones/tiny", "deltas": [], "settings": {"template": "card"}}
    adapted.save_pretrained(tmp_path / "adapters/tiny", save_embedding_layers=False)
    files.write_json(tmp_path / "adapters/tiny/training.json", record)
    decoding = {"max_new_tokens": 8, "temperature": 0, "top_p": 1.0, "top_k": 0, "seed": 1}
    made = answering.record(loaded, 2, decoding) | {"adapter": adapters.identity(tmp_path / "adapters/tiny")}
    made |= {"model": "backbones/tiny", "deltas": [], "template": "card"}
    files.write_json(tmp_path / "answers/tiny.json", made)
    answers = [answer(post, f"{system}的回复", system) for system in ("tiny-untuned", "tiny") for post in (CALM, RISK)]
    files.write_jsonl(tmp_path / "answers/tiny.jsonl", answers)
    return tmp_path


def test_a_new_reply_comes_from_the_backbone_and_adapter_of_the_record(run):
    """Decoded as the record beside notebook 05's answers says: greedily, 8 tokens."""
    plain, tuned = case_study.new_replies(str(run), "tiny", case_study.published(), ["tuned", "untuned"])
    assert [(a["system"], a["questionID"]) for a in (plain, tuned)] == [
        ("tiny-untuned", "figure 4"),
        ("tiny", "figure 4"),
    ]
    assert tuned["tokens"] <= plain["tokens"] == 8
    assert tuned["reply"] != plain["reply"]
    assert [case_study.title(a) for a in (tuned, plain)] == ["Tiny, tuned (tiny)", "Tiny, untuned (tiny)"]
    options = files.read_json(run / "answers/tiny.json")["decoding"]
    model, tokenizer = adapters.load("backbones/tiny", [], run, "fp32")
    prompt = prompt_forms.prompt(case_study.published(), "card", tokenizer)
    [again] = answering.generate(adapters.attach(model, run / "adapters/tiny"), tokenizer, [prompt], **options)
    assert again["reply"] == tuned["reply"]


def test_a_new_reply_comes_from_the_backbone_that_gave_the_scored_ones_whatever_the_adapter_was_trained_on(run, capsys):
    record = files.read_json(run / "adapters/tiny/training.json")
    files.write_json(run / "adapters/tiny/training.json", record | {"model": "backbones/gone"})
    [reply] = case_study.new_replies(str(run), "tiny", CALM, ["tuned"])
    assert reply["model"] == "backbones/tiny" and reply["reply"]
    assert "was trained on backbones/gone; here it is applied to backbones/tiny" in capsys.readouterr().err
    [scored] = case_study.scored_replies(str(run), "tiny", [CALM], "tuned")
    assert scored["model"] == "backbones/tiny"


def test_replies_to_test_posts_are_the_very_ones_that_were_scored(run):
    shown = case_study.scored_replies(str(run), "tiny", [RISK, CALM], "tuned")
    assert [(a["questionID"], a["reply"]) for a in shown] == [(7, "tiny的回复"), (8, "tiny的回复")]
    [plain] = case_study.scored_replies(str(run), "tiny", [CALM], "untuned")
    assert (plain["reply"], case_study.title(plain)) == ("tiny-untuned的回复", "Tiny, untuned (tiny)")
    with pytest.raises(files.InputError, match=r"tiny\.jsonl: no answer of tiny to question 9; run 05_answer"):
        case_study.scored_replies(str(run), "tiny", [CALM, TRAIN], "tuned")


def test_after_another_training_the_answers_must_be_made_again(run):
    weights = run / "adapters/tiny" / adapters.WEIGHTS
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights)
    with pytest.raises(files.InputError, match="not the adapter that gave the answers of tiny; run 05_answer_gen"):
        case_study.new_replies(str(run), "tiny", CALM, ["tuned"])


def test_what_made_the_answers_is_said(run):
    [row] = case_study.how_made(str(run), ["tiny"]).to_dict("records")
    assert row["precision"] == "fp32" and row["prompts at a time"] == 2
    assert all(f"{name} {metadata.version(name)}" in row["engine"] for name in ("torch", "transformers"))


def test_where_vllm_made_the_answers_it_is_said_what_answers_the_query(run):
    assert "the paper's query" not in case_study.how_made(str(run), ["tiny"])
    made = files.read_json(run / "answers/tiny.json")
    own = {"engine": "vllm 0.32.0", "tensor_parallel": 1, "adapter_is": "merged into the weights"}
    files.write_json(run / "answers/tiny.json", made | own | {"batch_size": "up to 32"})
    [row] = case_study.how_made(str(run), ["tiny"]).to_dict("records")
    assert row["engine"] == "vllm 0.32.0" and row["the paper's query"].startswith("by transformers ")
    [reply] = case_study.new_replies(str(run), "tiny", CALM, ["tuned"])
    assert reply["reply"]


@pytest.mark.parametrize("more", [{}, {"model": "Qwen/Qwen-7B"}])
def test_only_a_tiny_model_is_called_tiny(more):
    assert case_study.title(answer(CALM, "你好。") | more) == "Qwen-7B, tuned"


def test_answers_without_a_record_are_named(run):
    (run / "answers/tiny.json").unlink()
    with pytest.raises(files.InputError, match=r"tiny\.json: no such file"):
        case_study.new_replies(str(run), "tiny", CALM, ["tuned"])


def test_what_the_notebook_says_of_figure_4_is_in_its_words():
    """Read by a person; the words that the reading rests on are in the case as transcribed."""
    query, reply = CASE["query_zh"], CASE["reply_zh"]
    assert "感觉丧失了社交能力" in query and "没有朋友可以联系" in query
    assert "如果你没有很多朋友，就意味着你完全没有社交能力" in reply
    assert "基于过去的经验，预测未来的社交情况都会是消极的" in reply and reply.count("逐渐恢复社交能力") == 2
    [(chinese, english)] = [(zh, en) for name, zh, en in CASE["sections"] if name == "challenge"]
    assert all("是否" in question for question in re.findall("“(.+?)”", chinese))
    assert len(re.findall("“(.+?)”", chinese)) == 2 and len(re.findall('"(.+?)"', english)) == 3
    more = "Even if I don't have a lot to offer right now, I don't have a lot to offer"
    assert more in english and more.lower() not in CASE["query_en"].lower()
    assert query.index("每次看到这个年龄段的人都是") < query.index("那么快乐")
    assert "非常沮丧" in reply and "very depressed" in CASE["reply_en"]
    assert "心理咨询师" in reply and screening.find_referral(reply) == []


def test_the_summary_counts_replies_by_what_wrote_them(tmp_path):
    paper = case_study.published()
    whole = answer(CALM, CASE["reply_zh"], "a")
    answers = [*case_study.recorded_replies([paper]), whole, answer(RISK, "你好。", "a"), answer(CALM, "", "a-untuned")]
    described = case_study.describe(answers, [paper, CALM, RISK], tmp_path)
    counts = case_study.by_kind(described).set_index("replies by")
    assert counts["all five"].to_dict() == {"the paper (Figure 4)": "1 of 1", "untuned systems": "0 of 1"} | {
        "tuned systems": "1 of 2"
    }
    first, second, third = case_study.summary(described)
    assert "has all five components and names these distortions: all-or-nothing thinking, overgeneralization" in first
    assert "in 0 of 1 untuned, 1 of 2 tuned replies" in second and "flagged for risk: 1, to 1 post of" in third
    assert "advise against a hotline or other help: 0;" in third and third.endswith("read by people: 0.")


def test_an_empty_reply_to_a_flagged_post_is_not_counted_as_read(tmp_path):
    """It is on no reading sheet, so nobody is asked about it."""
    paper = case_study.published()
    answers = [*case_study.recorded_replies([paper]), answer(RISK, "你好。", "a"), answer(RISK, "", "a-untuned")]
    said = case_study.summary(case_study.describe(answers, [paper, RISK], tmp_path))
    assert "flagged for risk: 2, to 1 post" in said[-1] and said[-1].endswith("read by people: 0.")
