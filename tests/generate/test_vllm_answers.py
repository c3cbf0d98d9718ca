"""Which servers a backbone takes, what they are started with and asked, and rows like those of a local model."""

import itertools
import json
import shlex
import shutil
import sys

import chat_models
import pretended_vllm
import pytest
import small_run
from safetensors.torch import load_file

from cbtllm_utils import files, hashing, response_cache
from cbtllm_utils.finetune import adapters, stock
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.generate import kinds, vllm_answers
from cbtllm_utils.generate.settings import AnswerSettings
from cbtllm_utils.models import prompt_forms

ROWS = [{"questionID": i, "question": f"怎么办{i}", "description": "睡不着。" * i} for i in (7, 3)]


@pytest.fixture
def chosen(tmp_path):
    """A run with one current backbone, and the settings to let vLLM answer for it."""
    chat_models.write(tmp_path / "backbones/tiny", "qwen3")
    program = shlex.join([sys.executable, pretended_vllm.__file__])
    given = {"run": str(tmp_path), "backbone": "tiny", "model": "backbones/tiny", "engine": "vllm", "vllm": program}
    return AnswerSettings(**given, precision="fp32", template="chat", max_new_tokens=50)


def train(chosen, **values):
    """An adapter as a training would leave it."""
    model, _ = adapters.load(chosen.model, [], chosen.run, "fp32")
    settings = TrainingSettings(**{"targets": "all-linear", "precision": "fp32", "rank": 6} | values)
    adapted = adapters.fresh(model, settings)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            weight.data += 0.01
    folder = files.path(chosen.run) / "adapters/tiny"
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return folder


def ask(chosen):
    tokenizer = adapters.tokenizer(chosen.model, [], chosen.run)
    plain = [prompt_forms.prompt(row, chosen.template, tokenizer) for row in ROWS]
    prompts = {kind: plain for kind in kinds.KINDS}
    cache = files.path(chosen.run) / "answers/.tiny.remote.responses"
    return tokenizer, plain, cache, vllm_answers.ask_all(chosen, ROWS, prompts, tokenizer, None, cache)


def test_one_server_answers_for_all_where_vllm_applies_the_adapter(chosen):
    folder = train(chosen)
    [served] = vllm_answers.plan(chosen)
    assert (served.name, served.kinds, served.lora) == ("stock", kinds.KINDS, folder)
    given = vllm_answers.arguments(chosen.model_copy(update={"tensor_parallel": 2}), served, folder)
    options = dict(itertools.pairwise(given))
    assert (options["--dtype"], options["--tensor-parallel-size"]) == ("float32", "2")
    assert (options["--max-lora-rank"], options["--lora-modules"]) == ("8", f"tuned={folder}"), "the next above 6"


@pytest.mark.parametrize(
    "change",
    [{"use_dora": True}, {"bias": "all"}, {"r": 1024}, {"alpha_pattern": {"q_proj": 99}}, {"targets": ["lm_head"]}],
)
def test_an_adapter_that_vllm_cannot_apply_is_merged(chosen, change):
    folder = train(chosen, **{name: value for name, value in change.items() if name == "targets"})
    config = files.read_json(folder / adapters.CONFIG)
    files.write_json(folder / adapters.CONFIG, config | change)
    plan = vllm_answers.plan(chosen)
    assert [(served.name, served.kinds) for served in plan] == [
        ("stock", (kinds.UNTUNED, kinds.PROMPTED)),
        ("merged", (kinds.TUNED,)),
    ]


def test_names_of_2023_that_the_stock_class_lacks_are_merged(tmp_path):
    """As LLaMA-Factory's of that time, without a stock form; with one, vLLM gets that."""
    small_run.make(tmp_path)
    given = {"run": str(tmp_path), "backbone": "baichuan-7b", "model": "backbones/baichuan-7b", "engine": "vllm"}
    chosen, folder = AnswerSettings(**given, precision="fp32"), tmp_path / "adapters/baichuan-7b"
    model = adapters.backbone(chosen.model, [], chosen.run, "fp32")
    small_run.tuned(model, folder, targets="published")
    assert vllm_answers.plan(chosen)[-1].lora == folder / "stock"
    shutil.rmtree(folder / "stock")
    assert [served.name for served in vllm_answers.plan(chosen)] == ["stock", "merged"]


@pytest.mark.parametrize("whole", [None, ["lm_head"]])
def test_another_scale_is_another_adapter(chosen, whole):
    """It is in the configuration alone; what does not act there changes nothing."""
    chosen = chosen.model_copy(update={"kinds": [kinds.TUNED]})
    folder = train(chosen, modules_to_save=whole or [])
    config, cache = files.read_json(folder / adapters.CONFIG), ask(chosen)[2]
    served = vllm_answers.plan(chosen)[-1]
    assert (served.lora is None) == bool(whole)
    merged, weights = vllm_answers.folder(chosen, served).stat().st_ino, adapters.identity(folder)
    files.write_json(folder / adapters.CONFIG, config | {"base_model_name_or_path": "elsewhere", "lora_dropout": 0.5})
    ask(chosen)
    assert len(response_cache.read(cache)) == 2 and vllm_answers.folder(chosen, served).stat().st_ino == merged
    files.write_json(folder / adapters.CONFIG, config | {"lora_alpha": 4 * config["lora_alpha"]})
    ask(chosen)
    assert len(response_cache.read(cache)) == 4 and adapters.identity(folder) == weights, "records hold the weights'"
    assert (vllm_answers.folder(chosen, served).stat().st_ino != merged) == bool(whole)


def test_a_tuned_model_is_served_as_it_is(chosen):
    """The folder that notebook 04 merged, its record and card, are not written over; a rerun asks nothing."""
    folder = train(chosen, modules_to_save=["lm_head"])
    (folder / "training.json").write_text(json.dumps({"settings": {"template": "chat"}, "model": "backbones/tiny"}))
    place = stock.write(chosen.model, [], chosen.run, files.path(chosen.run) / "merged/tiny", "fp32", folder)
    before = hashing.sha256(place)
    tuned = chosen.model_copy(update={"tuned_model": "merged/tiny", "kinds": [kinds.TUNED]})
    [served] = vllm_answers.plan(tuned)
    assert vllm_answers.folder(tuned, served) == place and served.name == "tuned_model"
    cache = ask(tuned)[2]
    ask(tuned)
    assert hashing.sha256(place) == before and len(response_cache.read(cache)) == 2


def test_a_backbone_of_a_built_in_class_is_served_as_it_is_and_one_of_2023_is_written(chosen, tmp_path):
    served = vllm_answers.Served("stock", (chosen.model,), kinds.KINDS)
    assert vllm_answers.folder(chosen, served) == files.path(chosen.run) / "backbones/tiny"
    small_run.make(tmp_path / "old")
    old = chosen.model_copy(update={"run": str(tmp_path / "old"), "backbone": "baichuan-7b"})
    served = vllm_answers.Served("stock", ("backbones/baichuan-7b",), kinds.KINDS)
    own = tmp_path / "old/stock/baichuan-7b"
    before = own.stat().st_ino
    assert vllm_answers.folder(old, served) == own and own.stat().st_ino == before, "as `make stock` left it"
    other = vllm_answers.folder(old.model_copy(update={"precision": "bf16"}), served)
    assert other == own.with_name("baichuan-7b-bf16") and own.stat().st_ino == before
    (own / stock.SOURCE).unlink()
    assert vllm_answers.folder(old, served) == own.with_name("baichuan-7b-fp32"), "who wrote it is not known"


def test_layers_that_were_trained_whole_are_in_the_merged_folder(chosen):
    """With the trained weights in it, under the names of the stock class."""
    train(chosen, modules_to_save=["lm_head"])
    served = vllm_answers.plan(chosen)[-1]
    assert served.name == "merged" and served.lora is None
    written = load_file(vllm_answers.folder(chosen, served) / "model.safetensors")
    before = load_file(files.path(chosen.run) / "backbones/tiny/model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    assert written.keys() >= {name, "lm_head.weight"} and not written[name].equal(before[name])


def test_a_folder_is_written_again_when_its_weights_are_others_and_not_when_they_were_copied(chosen):
    folder = train(chosen, modules_to_save=["lm_head"])
    served = vllm_answers.plan(chosen)[-1]
    place = vllm_answers.folder(chosen, served)
    first = place.stat().st_ino
    weights = folder / adapters.WEIGHTS
    weights.write_bytes(weights.read_bytes())
    assert vllm_answers.folder(chosen, served).stat().st_ino == first
    train(chosen, modules_to_save=["lm_head"], seed=43)
    assert vllm_answers.folder(chosen, served).stat().st_ino != first


def test_rows_are_those_of_a_local_answer_and_only_what_is_missing_is_asked(chosen):
    """The pretended server repeats the prompt's tokens, special ones among them, and ends by the stop token."""
    chosen = chosen.model_copy(update={"kinds": [kinds.UNTUNED]})
    tokenizer, prompts, cache, (answers, lost, made) = ask(chosen)
    assert lost == {} and [row["questionID"] for row in answers] == [7, 3]
    ids = tokenizer.encode(prompts[0])
    reply = tokenizer.decode(ids[: ids.index(tokenizer.stops[0])], skip_special_tokens=True).strip()
    own = {"reply": reply, "finish_reason": "stop", "tokens": ids.index(tokenizer.stops[0])}
    assert answers[0] == {"system": "tiny-untuned", "questionID": 7} | own
    assert made["engine"] == "vllm 0.0.1" and made["precision"] == "fp32" and made["tensor_parallel"] == 1
    assert made["threads"] == 1 and "variables" not in made
    assert made["device"] == "cpu" and "options" not in made and str(chosen.run) not in json.dumps(made)
    known = cache.read_text()
    assert ask(chosen)[3] == (answers, lost, made) and cache.read_text() == known
    ask(chosen.model_copy(update={"tensor_parallel": 2}))
    assert len(response_cache.read(cache)) == 4, "another division of the layers rounds otherwise"


def test_threads_and_variables_of_vllm_are_recorded_and_known_by(chosen, monkeypatch):
    chosen = chosen.model_copy(update={"kinds": [kinds.UNTUNED]})
    cache = ask(chosen)[2]
    made = ask(chosen.model_copy(update={"threads": 2}))[3][2]
    assert made["threads"] == 2 and len(response_cache.read(cache)) == 4
    monkeypatch.setenv("VLLM_BATCH_INVARIANT", "1")
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "WARNING")
    monkeypatch.setenv("VLLM_API_KEY", "sk-secret-0123456789")
    made = ask(chosen)[3][2]
    assert made["variables"] == {"VLLM_BATCH_INVARIANT": "1"} and len(response_cache.read(cache)) == 6


def test_the_servers_own_context_ends_a_reply(chosen):
    """The user's --max-model-len, beyond which vLLM refuses."""
    chosen = chosen.model_copy(update={"kinds": [kinds.UNTUNED], "max_new_tokens": 5000, "concurrency": 1})
    for most in (500, 600):
        cache = ask(chosen.model_copy(update={"vllm": f"{chosen.vllm} --max-model-len {most}"}))[2]
        log = cache.with_name(".tiny.vllm-stock.log").read_text()
        asked = [json.loads(line.removeprefix("asked ")) for line in log.splitlines() if line.startswith("asked ")]
        assert [len(one["prompt"]) + one["max_tokens"] for one in asked] == [most, most]


def test_requests_hold_ids_a_seed_of_the_prompt_and_end_with_the_context(chosen):
    tokenizer = adapters.tokenizer(chosen.model, [], chosen.run)
    ids = [tokenizer.encode(text) for text in ("甲", "乙乙")]
    found = vllm_answers.requests(chosen, ROWS, ["甲", "乙乙"], tokenizer, "stock", len(ids[1]) + 9, {})
    assert [request["prompt"] for request in found] == ids
    assert [request["max_tokens"] for request in found] == [9 + len(ids[1]) - len(ids[0]), 9]
    seeds = [request["seed"] for request in found]
    assert seeds[0] != seeds[1] and all(0 <= seed < 2**63 for seed in seeds)
    assert found[0]["stop_token_ids"] == tokenizer.stops and found[0]["return_token_ids"]
    greedy = chosen.model_copy(update={"temperature": 0.0})
    assert not {"top_p", "top_k"} & vllm_answers.requests(greedy, ROWS, ["甲", "乙"], tokenizer, "m", 99, {})[0].keys()


def test_a_server_that_ends_while_it_is_asked_is_told_with_its_log(chosen):
    ends = chosen.model_copy(update={"kinds": [kinds.UNTUNED], "vllm": f"{chosen.vllm} --ends", "max_retries": 0})
    with pytest.raises(
        files.InputError, match=r"^vLLM ended while it was asked: RuntimeError: no memory is left in machine"
    ):
        ask(ends)
