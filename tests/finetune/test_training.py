"""Instruction triads, LoRA training, adapters: by hand-counted examples and on a model of two small layers."""

import json
import math
import os
import re
import shutil
from dataclasses import asdict

import peft
import psutil
import pytest
import torch
import transformers
import yaml
from tiny import Bytes, llama

from cbtllm_utils import files, hashing, published
from cbtllm_utils.finetune import adapter_card, adapters, progress, trainer, training, training_log
from cbtllm_utils.finetune import settings as recipe
from cbtllm_utils.models import prompt_forms
from cbtllm_utils.models.devices import DTYPES
from cbtllm_utils.workflow import profiles

ROW = {"questionID": 1, "question": "怎么办", "description": "我睡不着", "reply": "你好。"}


def settings(**values):
    base = {"template": "triad", "rank": 4, "learning_rate": 1e-2, "batch": 2, "accumulation": 2, "cutoff": 400}
    base |= {"precision": "fp32", "gradient_checkpointing": False, "targets": "all-linear"}
    return recipe.Settings(**base | values)


def items(number=14):
    rows = [
        ROW | {"questionID": i, "description": "我" * (1 + i % 5), "reply": "你好。" * (1 + i % 3)}
        for i in range(number)
    ]
    return prompt_forms.encode(rows, Bytes(), "triad", 400)


def trained(folder, options=None, **values):
    wanted = settings(**values)
    model = adapters.fresh(llama(), wanted, "backbones/tiny")
    work = folder / "-".join(["work", *map(str, values.values())])
    return model, training.train(model, items(), items(4), wanted, work, logging_steps=1, **options or {})


def summary(log, **values):
    more = {"backbone": "qwen-7b", "model": "backbones/qwen-7b", "deltas": ["backbones/d"], "data": "abc"}
    more |= {"prompts": ["0123"], "models": ["recorded"]}
    return training_log.summary(log, items(), items(4), settings(**values), **more)["summary"]


def written(model, log, folder):
    return adapters.write(model, folder, summary(log), "made for a test")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    return *trained(folder), folder


@pytest.mark.parametrize(
    "template, text",
    [
        (
            "card",
            "你是一名经验丰富的心理咨询师,专长于认知行为疗法, 以心理咨询师的身份回答以下问题。\n"
            "Human: 怎么办?我睡不着\nAssistant: ",
        ),
        (
            "triad",
            "Human: 你是一名经验丰富的心理咨询师,专长于认知行为疗法, 以心理咨询师的身份回答以下问题。\n"
            "怎么办?我睡不着\nAssistant: ",
        ),
    ],
)
def test_both_prompt_forms(template, text):
    assert prompt_forms.prompt(ROW, template) == text


def test_a_post_cannot_break_the_template():
    row = ROW | {"question": "{instruction} {0}", "description": "{}"}
    assert "Human: {instruction} {0}?{}\n" in prompt_forms.prompt(row, "card")


def test_a_triad_has_the_papers_three_fields():
    assert prompt_forms.triad(ROW) == {
        "instruction": prompt_forms.INSTRUCTION,
        "input": "怎么办?我睡不着",
        "output": "你好。",
    }


def test_labels_cover_the_reply_and_its_end_alone():
    # bos + "ab" = 3 tokens of prompt; "c" + eos = 2 tokens of reply
    example = prompt_forms.encode_example(Bytes(), "ab", "c", 1024)
    assert example["input_ids"] == [2, 97 + 3, 98 + 3, 99 + 3, 1]
    assert example["labels"] == [-100, -100, -100, 99 + 3, 1]
    assert (example["prompt_tokens"], example["reply_tokens"]) == (3, 2)
    assert (example["prompt_cut"], example["reply_cut"]) == (0, 0)


@pytest.mark.parametrize(
    "prompt, reply, cutoff, kept",
    [
        (300, 700, 1024, (300, 700)),  # fits
        (512, 512, 1024, (512, 512)),  # just fits
        (600, 600, 1024, (512, 512)),  # 1024 · 600/1200 = 512
        (300, 900, 1024, (256, 768)),  # 1024 · 300/1200 = 256
        (500, 1000, 1024, (341, 682)),  # 1024/3 = 341.33, 1024 · 2/3 = 682.67: one token of the cutoff stays free
        (1500, 600, 1024, (731, 292)),  # 731.43 and 292.57
    ],
)
def test_cutting_as_llama_factory_did(prompt, reply, cutoff, kept):
    assert prompt_forms.cut(prompt, reply, cutoff) == kept


def test_a_cut_example_loses_the_ends_and_counts_them():
    # 1 + 29 tokens of prompt, 60 + 0 … of reply with its end: 30 + 60 = 90, cut to 45: 15 and 30
    example = prompt_forms.encode_example(Bytes(), "p" * 29, "r" * 59, 45)
    assert example["labels"] == [-100] * 15 + [ord("r") + 3] * 30  # no end of text is left to learn
    assert (example["prompt_cut"], example["reply_cut"]) == (15, 30)
    table = prompt_forms.lengths({"train": [example]}).set_index("part")
    assert table.loc["reply", ["items", "longest", "items cut", "share of tokens cut"]].tolist() == [1, 60, 1, 0.5]


def test_a_batch_is_padded_on_the_right_and_keeps_logits_from_where_a_reply_is_predicted():
    long, short = (
        {"input_ids": [5, 6, 7, 8, 9], "labels": [-100, -100, 7, 8, 9]},
        {"input_ids": [5, 6, 7], "labels": [-100, -100, 7]},
    )
    batch = trainer.collate([long, short])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [5, 6, 7, 0, 0]]
    assert batch["logits_to_keep"] == 4 and batch["labels"].tolist() == [[-100, 7, 8, 9], [-100, 7, -100, -100]]


def test_the_loss_is_equation_3_over_the_reply():
    model, examples = llama(), items(5)
    total, tokens = 0.0, 0
    for example in examples:  # one by one, by hand: -log P(x_t | x_1 … x_t-1) wherever a label stands
        logs = model(torch.tensor([example["input_ids"]])).logits[0].log_softmax(-1)
        for t, label in enumerate(example["labels"]):
            if label != -100:
                total -= logs[t - 1, label].item()
                tokens += 1
    assert trainer.heldout_loss(model, examples, 2) == pytest.approx(total / tokens, rel=1e-5)


def test_training_lowers_the_loss_and_logs_every_step(run):
    _, log, folder = run
    losses = losses_of(log)
    held = [row for row in log if "heldout_loss" in row]
    assert len(losses) == 12 == recipe.steps(14, settings())[1]  # 14 / (2 · 2) → 4 an epoch, 3 epochs
    assert losses[-1] < losses[0] and held[-1]["heldout_loss"] < held[0]["heldout_loss"]
    assert held[0]["heldout_loss"] == pytest.approx(math.log(259), abs=0.3)  # random weights know nothing
    assert [row["step"] for row in held] == [0, 4, 8, 12]
    assert all({"step", "epoch", "loss", "learning_rate"} == row.keys() for row in log if "loss" in row)
    assert [file.name for file in (folder / "work").iterdir()] == ["checkpoint-12"]


def test_the_same_seed_gives_the_same_adapter_bit_for_bit(run, tmp_path):
    first = written(run[0], run[1], run[2] / "first")
    assert hashing.sha256(first) == hashing.sha256(written(*trained(tmp_path), tmp_path / "second"))
    assert hashing.sha256(first) != hashing.sha256(written(trained(tmp_path, seed=7)[0], run[1], tmp_path / "other"))


def test_the_adapter_loads_with_plain_peft_and_merges(run, tmp_path):
    folder = written(run[0], run[1], tmp_path / "adapter")
    ids = torch.tensor([items(1)[0]["input_ids"]])
    run[0].eval()
    expected = run[0](ids).logits
    with adapters.quiet():
        plain = peft.PeftModel.from_pretrained(llama(), str(folder)).eval()
    assert torch.equal(plain(ids).logits, expected)
    torch.testing.assert_close(adapters.attach(llama(), folder)(ids).logits, expected, atol=1e-5, rtol=1e-5)
    config = files.read_json(folder / "adapter_config.json")
    assert config["base_model_name_or_path"] == "backbones/tiny"
    assert config["target_modules"] == sorted(config["target_modules"])


@pytest.mark.parametrize(
    "name, shown",
    [
        ("backbones/qwen-7b", "backbones/qwen-7b"),
        ("Qwen/Qwen-7B", "Qwen/Qwen-7B"),
        ("/home/someone/models/llama-7b", "llama-7b"),
        (str(files.ROOT / "data/weights/llama-7b"), "data/weights/llama-7b"),
        ("~/llama-7b", "llama-7b"),
    ],
)
def test_no_folder_of_a_user_gets_into_an_adapter(name, shown):
    assert files.public(name) == shown


def test_only_the_adapter_learns(run):
    weights = dict(llama().named_parameters())
    for name, value in run[0].named_parameters():
        if "lora_" not in name:
            assert torch.equal(value, weights[name.removeprefix("base_model.model.").replace("base_layer.", "")])


class Counted(list):
    """Examples that count how often they are read, and can be read only so often: a kill seen from inside."""

    def __init__(self, examples, limit=10**6):
        super().__init__(examples)
        self.reads, self.limit = 0, limit

    def __getitem__(self, place):
        self.reads += 1
        if self.reads > self.limit:
            raise KeyboardInterrupt
        return super().__getitem__(place)


def test_a_resumed_training_ends_where_a_whole_one_does(run, tmp_path):
    wanted, work = settings(), tmp_path / "work"
    options = {"logging_steps": 1, "checkpoint_steps": 3}
    with pytest.raises(KeyboardInterrupt):
        training.train(adapters.fresh(llama(), wanted, "x"), Counted(items(), 40), items(4), wanted, work, **options)
    assert sorted(file.name for file in work.iterdir()) == ["checkpoint-6", "checkpoint-9"]
    model, rest = adapters.fresh(llama(), wanted, "backbones/tiny"), Counted(items())
    log = training.train(model, rest, items(4), wanted, work, **options)
    assert rest.reads == 10  # step 9 ended the first 4 of the last epoch's 14 items
    assert [row.get("loss") for row in log] == [row.get("loss") for row in run[1]]
    whole, resumed = (written(m, run[1], tmp_path / name) for name, m in (("whole", run[0]), ("resumed", model)))
    assert hashing.sha256(whole) == hashing.sha256(resumed)


def test_a_finished_training_is_not_trained_again(run, tmp_path):
    shutil.copytree(run[2] / "work", tmp_path / "work")
    wanted, unread = settings(), Counted(items(), limit=0)
    model = adapters.fresh(llama(), wanted, "backbones/tiny")
    log = training.train(model, unread, items(4), wanted, tmp_path / "work", logging_steps=1)
    assert log == run[1] and unread.reads == 0
    first, again = (written(m, run[1], tmp_path / name) for name, m in (("first", run[0]), ("again", model)))
    assert hashing.sha256(first) == hashing.sha256(again)


def losses_of(log):
    return [row["loss"] for row in log if "loss" in row]


@pytest.mark.parametrize("values", [{"gradient_checkpointing": True}, {"accumulation": 1, "batch": 4}])
def test_ways_to_save_memory_change_a_training_by_rounding_alone(tmp_path, values):
    plain, saving = (losses_of(trained(tmp_path, dropout=0.0, **more)[1]) for more in ({}, values))
    assert saving == pytest.approx(plain, rel=1e-4)


def test_bf16_trains(tmp_path):
    losses = losses_of(trained(tmp_path, precision="bf16")[1])
    assert losses[-1] < losses[0]


def test_a_loss_that_is_no_number_stops_with_its_step(tmp_path):
    wanted = settings(learning_rate=1e30)
    model = adapters.fresh(llama(), wanted, "backbones/tiny")
    with pytest.raises(
        files.InputError,
        match=r"the (loss|gradient) is nan at step \d+, on the items \(questionID\) \d.* lower learning_rate",
    ):
        training.train(model, items(), [], wanted, tmp_path / "work")


def test_a_gradient_that_is_no_number_stops_with_the_items_of_its_step(tmp_path):
    wanted = settings()
    model, calls = adapters.fresh(llama(), wanted, "backbones/tiny"), []
    last = [weight for weight in model.parameters() if weight.requires_grad][-1]
    last.register_hook(lambda grad: grad * math.nan if calls.append(1) or len(calls) == 3 else None)
    rows = [row | {"questionID": 100 + place} for place, row in enumerate(items())]
    with pytest.raises(files.InputError, match=r"the gradient is nan at step 2, on the items \(questionID\) ") as said:
        training.train(model, rows, [], wanted, tmp_path / "work")
    order = list(trainer.Grouped(4, [len(row["input_ids"]) for row in rows], wanted.seed, lambda: 0))
    assert [int(number) for number in re.findall(r"\b1\d\d\b", str(said.value))] == [100 + n for n in order[4:8]]


def test_what_a_training_took_is_kept_apart_from_its_log(run):
    said = re.fullmatch(r"(\d+) s, ([\d,]+) tokens/s, ([\d.]+) GB of memory at most", training.took(run[2] / "work"))
    kept = [row for row in training.state(run[2] / "work")["log_history"] if "seconds" in row]
    tokens = 3 * sum(len(row["input_ids"]) for row in items())
    assert len(kept) == 1 and kept[0]["tokens_per_second"] * kept[0]["seconds"] == pytest.approx(tokens)
    assert 0.1 < float(said[3]) < psutil.virtual_memory().total / 1e9
    assert not any("seconds" in row for row in run[1])


@pytest.mark.parametrize("batch, share", [(5, 1 - 18 / 25), (1, 0)])
def test_padding_is_the_share_that_a_batch_wastes(batch, share):
    rows = [{"input_ids": [0] * length} for length in (5, 5, 3, 3, 2)]  # in one batch 5 rows of 5 tokens hold 18
    assert trainer.padding(rows, batch, batch, 0) == pytest.approx(share)


def test_the_state_of_another_training_is_not_taken(tmp_path):
    def place(number=2, held=2, identity="weights and code", **values):
        return training.work_folder(tmp_path, "qwen-7b", identity, items(number), items(held), settings(**values))

    first = place()
    assert first == place() and first.parent == tmp_path / "training"
    others = [place(3), place(held=3), place(identity="other weights"), place(rank=8), place(2, 0), place(0, 4)]
    assert len({first, *others}) == 7
    another = first.with_name(".baichuan-7b-0")
    for folder in (first, another, *others):
        folder.mkdir(parents=True)
    for age, folder in enumerate(others):
        os.utime(folder, (1000 - age, 1000 - age))
    training.forget_older(first)
    assert set((tmp_path / "training").iterdir()) == {first, another, *others[:2]}


def test_a_checkpoint_that_a_kill_cut_short_is_passed_over(run, tmp_path):
    for number in (3, 6, 9, 12):
        (tmp_path / f"checkpoint-{number}").mkdir()
    for number in (3, 6):
        (tmp_path / f"checkpoint-{number}" / "trainer_state.json").write_text("{}")
    (tmp_path / "checkpoint-12" / "trainer_state.json").write_text('{"global_step": 12, "log_hist')
    assert training.last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-6")
    training.forget_broken(tmp_path)
    assert sorted(place.name for place in tmp_path.iterdir()) == ["checkpoint-3", "checkpoint-6"]
    assert training.last_checkpoint(tmp_path / "nothing") is None
    saved = sorted((run[2] / "work" / "checkpoint-12").iterdir(), key=lambda file: file.stat().st_mtime_ns)
    assert saved[-1].name == "trainer_state.json", "it is the last that a checkpoint gets"


def test_the_recipe_for_llama_factory_says_the_same(run, tmp_path):
    folder = written(run[0], run[1], tmp_path / "adapter")
    text = (folder / "llama_factory.yaml").read_text(encoding="utf-8")
    recipe_, wanted = yaml.safe_load(text), settings()
    assert "# merge into the model first: backbones/d\n" in text
    assert recipe_["lora_target"] == ",".join(files.read_json(folder / "adapter_config.json")["target_modules"])
    assert (recipe_["lora_rank"], recipe_["learning_rate"], recipe_["cutoff_len"]) == (4, 1e-2, 400)
    assert (
        recipe_["dataset"] == f"cbt_qa_train_{wanted.template}" and recipe_["model_name_or_path"] == "backbones/qwen-7b"
    )
    assert "fp16" not in recipe_ and "bf16" not in recipe_ and "quantization_bit" not in recipe_
    saving = summary(run[1], quantization="nf4", packing=True)
    assert {"quantization_bit": 4, "neat_packing": True}.items() <= yaml.safe_load(
        recipe.llama_factory(saving, ["W_pack"])
    ).items()
    fp16 = summary(run[1]) | {"settings": summary(run[1])["settings"] | {"precision": "fp16"}}
    assert yaml.safe_load(recipe.llama_factory(fp16, ["W_pack"]))["fp16"] is True


@pytest.mark.parametrize(
    "values, message",
    [
        ({"precision": "int4"}, r"precision = 'int4': expected one of fp32, fp16, bf16"),
        ({"rank": 0}, r"rank, batch, .* above 0"),
    ],
)
def test_settings_that_cannot_be(values, message):
    with pytest.raises(files.InputError, match=message):
        settings(**values)


@pytest.mark.parametrize(("precision", "packing"), [("fp32", False), ("bf16", False), ("bf16", True)])
def test_a_layer_trained_whole_is_kept_with_the_adapter(tmp_path, precision, packing):
    """As Chinese-LLaMA's lm_head: trained in 32 bits, taken over when training ended, read again by plain peft."""
    base = llama().to(DTYPES[precision])
    before = base.lm_head.weight.clone()
    wanted = settings(modules_to_save=["lm_head"], precision=precision, packing=packing)
    model = adapters.fresh(base, wanted, "backbones/tiny")
    log = training.train(model, items(), items(4), wanted, tmp_path / "work")
    head = model.get_base_model().lm_head
    assert head.modules_to_save["default"].weight.dtype == torch.float32
    assert torch.equal(head.original_module.weight, before)
    moved = (head.modules_to_save["default"].weight - before).abs().max()
    assert moved > 1e-3
    again = adapters.fresh(llama().to(before.dtype), wanted, "backbones/tiny")
    training.take(again, tmp_path / "work")
    assert torch.equal(
        again.get_base_model().lm_head.modules_to_save["default"].weight, head.modules_to_save["default"].weight
    )
    folder = adapters.write(again, tmp_path / "adapter", summary(log, modules_to_save=["lm_head"]), "made for a test")
    merged = adapters.attach(llama().to(before.dtype), folder)
    ids = torch.arange(40)[None] + 5
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        found, expected = (one(ids).logits.float() for one in (merged, model.eval()))
        torch.testing.assert_close(found, expected, atol=5e-2, rtol=5e-2)
    assert yaml.safe_load((folder / "llama_factory.yaml").read_text())["additional_target"] == "lm_head"


def test_a_layer_to_train_whole_that_is_not_there():
    with pytest.raises(
        files.InputError, match=r"modules_to_save = .*lm_haed.*: expected some of lm_head, embed_tokens"
    ):
        settings(modules_to_save=["lm_head", "lm_haed"])
    other = transformers.GPTNeoXForCausalLM(
        transformers.GPTNeoXConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    )  # calls it embed_in
    with pytest.raises(files.InputError, match=r"modules_to_save: the model has no layer embed_tokens"):
        adapters.fresh(other, settings(modules_to_save=["embed_tokens"]), "x")
    with pytest.raises(files.InputError, match=r"sharded = true needs .* modules_to_save = \[\]"):
        settings(processes=2, sharded=True, modules_to_save=["lm_head"])


def test_targets_that_no_layer_bears():
    with pytest.raises(files.InputError, match=r"targets = .*c_attn"):
        adapters.fresh(llama(), settings(targets=["c_attn"]), "backbones/tiny")


def test_the_papers_steps():
    train = published.value("text", "items", "value") * published.value("text", "train share", "value") / 100
    assert recipe.steps(round(train), recipe.Settings()) == (1256, 3768)  # 22,327 · 0.9 = 20,094; / 16 = 1,255.9


def test_the_settings_stand_beside_the_papers():
    table = recipe.table(recipe.Settings()).set_index("setting")
    assert table.loc["learning_rate", "paper says"] == "5e-05" and table.loc["rank", "paper says"] == "–"
    assert not table["why"].str.startswith("set").any()  # the defaults deviate from neither
    assert table.loc["precision", "why"] == table.loc["processes", "why"] == "as the paper says"
    deviating = recipe.table(settings()).set_index("setting")["why"]
    assert deviating["rank"].startswith("set for this run")


def test_how_a_training_ended_is_said_with_its_last_logged_loss():
    log = [{"step": 0, "heldout_loss": 5.0}, {"step": 40, "loss": 4.0}, {"step": 80, "loss": 3.5}]
    assert training_log.ended([*log, {"step": 90, "heldout_loss": 3.6}], 40) == (
        "90 steps, over the last 40 logged 3.500 nats a token"
    )
    assert training_log.ended([{"step": 9, "heldout_loss": 3.6}], 40) == "9 steps"  # shorter than its logging


def test_the_summary_and_the_card_say_what_it_is(run, tmp_path):
    made = summary(run[1])
    assert (made["steps"], made["items"]) == (12, 14)
    assert made["perplexity_after"] == pytest.approx(math.exp(made["heldout_loss_after"]))
    folder = written(run[0], run[1], tmp_path / "adapter")
    assert files.read_json(folder / "training.json") == json.loads(json.dumps(made))
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for text in ("made for a test", "12356", "PsyQA", "backbones/qwen-7b", "Assistant: ", "| rank | 4 | 8 |", "`abc`"):
        assert text in readme
    differing = "template, rank, targets, learning_rate, batch, accumulation, cutoff, precision, gradient_checkpointing"
    assert f"prompt): 9 of 23 differ ({differing})." in readme and "# qwen-7b (tiny): " in readme
    assert "{" not in readme.replace("{input}", "")


def test_the_card_of_the_papers_recipe_on_its_own_backbone(run):
    chosen = profiles.parameters(profiles.read("paper"), "runs/paper", "04_lora_training", "qwen-7b")
    wanted = {name: chosen[name] for name in asdict(recipe.Settings()) if name in chosen}
    readme = adapter_card.text(summary(run[1]) | {"model": "Qwen/Qwen-7B", "settings": wanted}, "")
    assert "prompt): all the same." in readme and "tiny" not in readme and "whole" not in readme.split("## ")[0]


def test_the_card_names_layers_trained_whole(run):
    readme = adapter_card.text(summary(run[1], modules_to_save=["lm_head"]), "")
    assert "with lm_head trained whole beside it," in readme and "| modules_to_save | lm_head | none |" in readme


def test_an_adapter_is_asked_in_the_form_in_which_it_was_trained(run, tmp_path):
    folder = written(run[0], run[1], tmp_path / "adapter")
    adapters.check_template(folder, "triad")
    with pytest.raises(files.InputError, match=r"template = card, but adapter was trained with triad"):
        adapters.check_template(folder, "card")


def test_what_is_no_adapter_or_another_backbones(run, tmp_path):
    with pytest.raises(files.InputError, match="holds no adapter; run 04_lora_training"):
        adapters.attach(llama(), tmp_path)
    folder = written(run[0], run[1], tmp_path / "adapter")
    config = transformers.LlamaConfig(vocab_size=259, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    with pytest.raises(files.InputError, match="does not fit this backbone"):
        adapters.attach(transformers.LlamaForCausalLM(config), folder)


def test_losses_and_curves():
    log = [{"step": 0, "heldout_loss": 4.0}, {"step": 5, "epoch": 1.0, "loss": 3.0, "learning_rate": 0.1}]
    log += [{"step": 5, "heldout_loss": 2.0}]
    heldout = [{"reply_tokens": 10, "reply_cut": 5, "characters": 20}]  # 5 tokens are left, of 10 characters
    table = training_log.losses(log, heldout)
    assert table["loss a token"].tolist() == [4.0, 2.0] and table["loss a character"].tolist() == [2.0, 1.0]
    assert table["perplexity"][1] == pytest.approx(7.389, abs=1e-3)  # e²
    curves = training_log.curves(log)
    assert curves["training"].to_dict() == {5: 3.0} and curves["held out"].to_dict() == {0: 4.0, 5: 2.0}


def test_a_kill_between_the_last_step_and_its_held_out_loss_costs_no_number(tmp_path, monkeypatch):
    """With 7B's weights that loss takes minutes, in which a batch system's time may end."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        noted = progress.Watch.note

        def note(self, model, state):
            if state.global_step == state.max_steps:
                raise KeyboardInterrupt
            noted(self, model, state)

        patch.setattr(progress.Watch, "note", note)
        trained(tmp_path, {"checkpoint_steps": 2}, dropout=0.0)
    assert not training.ended(tmp_path / "work-0.0")
    _, log = trained(tmp_path, {"checkpoint_steps": 2}, dropout=0.0)
    assert [row["step"] for row in log if "heldout_loss" in row] == [0, 4, 8, 12]
    assert training.points(training.state(tmp_path / "work-0.0")["log_history"]) == log
    assert "tokens/s" in training.took(tmp_path / "work-0.0")
