import re

import pytest

from cbtllm_utils import files
from cbtllm_utils.generate import kinds
from cbtllm_utils.workflow import graph, preflight, profiles

PROFILES = profiles.names(profiles.PARAMS, ".yaml")


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A function that makes a profile of some text and reads it."""
    monkeypatch.setattr(profiles, "PARAMS", tmp_path)

    def read(text: str) -> dict:
        (tmp_path / "mine.yaml").write_text(text)
        return profiles.read("mine")

    return read


def test_the_profiles_of_the_design_are_there():
    assert {"ci", "demo", "small", "released", "paper", "modern"} <= set(PROFILES)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_can_be_read(profile):
    assert isinstance(profiles.read(profile), dict)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "04_lora_training: {rnak: 8}",
            r"params/mine.yaml, 04_lora_training: unknown parameter 'rnak'; did you mean rank\?",
        ),
        ("09_paper_audit: {pairs: six}", r"09_paper_audit: pairs = \"six\": should be a valid integer"),
        ("09_paper_audit: {pairs: true}", r"pairs = true: should be a valid integer"),
        ("09_paper_audit: {pairs: 0}", r"pairs = 0: should be greater than or equal to 2"),
        ("09_paper_audit: {pairs: .nan}", r"pairs = NaN: should be a valid integer"),
        ("04_lora_trianing: {rank: 8}", r"unknown section '04_lora_trianing'; did you mean 04_lora_training\?"),
        ("common: [1, 2]", r"section common must be keys: values"),
        ("skip: [00_demo]", r"skip: unknown notebook '00_demo'"),
        ("common: {seed: 1", r"params/mine.yaml: not YAML"),
        ("- 1", r"holds a list where sections are expected"),
        ("backbones: {mine: {modle: x}}", r"backbone mine: unknown parameter 'modle'"),
        ("backbones: {mine: null}", r"backbone mine: needs `model`"),
        ("backbones: {mine: {deltas: []}}", r"backbone mine: needs `model`"),
        ("requires: {gpu: 1}", r"requires: unknown parameter 'gpu'"),
        ("common: !!python/object/apply:os.getcwd []", r"not YAML"),
    ],
)
def test_what_cannot_be_used_is_named_with_file_and_key(given, text, message):
    with pytest.raises(files.InputError, match=message) as error:
        given(text)
    assert "\n" not in str(error.value)


def test_an_unknown_profile_names_those_that_exist():
    with pytest.raises(files.InputError, match="unknown profile 'demmo'; did you mean demo"):
        profiles.read("demmo")


def test_the_later_word_counts():
    content = {
        "common": {"seed": 1},
        "backbones": {"mine": {"model": "m", "deltas": []}},
        "04_lora_training": {"rank": 4, "seed": 2},
    }
    found = profiles.flat(profiles.parameters(content, "runs/x", "04_lora_training", "mine", rank=6))
    assert found["rank"] == 6 and found["seed"] == 2 and found["run"] == "runs/x"
    assert found["backbone"] == "mine" and found["model"] == "m"


def test_an_unknown_backbone_is_named():
    with pytest.raises(files.InputError, match="unknown backbone 'qwen'; did you mean qwen-7b"):
        profiles.parameters(profiles.read("demo"), "runs/demo", "04_lora_training", "qwen")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-3", 0.005),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e5", 100000.0),
        ("042", "042"),
        ("42", 42),
        ("-3", -3),
        ("0", 0),
        ("12:30", "12:30"),
        ("2024-07-18", "2024-07-18"),
        ("true", True),
        ("null", None),
        ("[1, a]", [1, "a"]),
        (".inf", float("inf")),
    ],
)
def test_values_are_those_of_yaml_1_2(text, value):
    found = profiles.load(text)
    assert found == value and type(found) is type(value)


def test_a_date_is_text(given):
    content = given("02_dataset_generation: {prices: {m: {input: 1.0, output: 2.0, date: 2024-07-18}}}")
    assert content["02_dataset_generation"]["prices"]["m"]["date"] == "2024-07-18"


SEEDS = """
more_seeds: [43, 44]
backbones:
  small: {model: nobody/small, deltas: [], template: chat}
  other: {model: nobody/other}
"""


def test_without_a_gpu_each_backbone_has_one_seed(given, monkeypatch):
    monkeypatch.setattr(profiles, "gpu", lambda: False)
    assert list(given(SEEDS)["backbones"]) == ["small", "other"]


def test_a_run_with_more_seeds_keeps_them_where_no_gpu_is(given, monkeypatch, tmp_path):
    monkeypatch.setattr(profiles, "gpu", lambda: False)
    monkeypatch.setattr(files, "ROOT", tmp_path)
    content = {"backbones": {"a": {"model": "x"}}, "more_seeds": [43]}
    assert not profiles.replicated("p", content)
    (tmp_path / "runs/p/adapters/a-seed43").mkdir(parents=True)
    assert profiles.replicated("p", content) and not profiles.replicated("q", content)


def test_with_a_gpu_each_backbone_has_all_seeds(given, monkeypatch):
    """Training and answers take the seed; raters and the case study see the first seed alone."""
    monkeypatch.setattr(profiles, "gpu", lambda: True)
    content = given(SEEDS)
    every = ["small", "small-seed43", "small-seed44", "other", "other-seed43", "other-seed44"]
    assert list(content["backbones"]) == every
    for notebook in ("04_lora_training", "05_answer_generation"):
        assert profiles.backbones(content, notebook) == every
        values = profiles.flat(profiles.parameters(content, "runs/mine", notebook, "small-seed44"))
        assert (values["backbone"], values["model"], values["seed"]) == ("small-seed44", "nobody/small", 44)
        assert profiles.flat(profiles.parameters(content, "runs/mine", notebook, "small"))["seed"] == 42
    taken = {
        name: profiles.flat(profiles.parameters(content, "runs/mine", name))["backbones"]
        for name in ("06_automatic_evaluation", "07_human_evaluation", "08_case_study")
    }
    assert taken == {
        "06_automatic_evaluation": every,
        "07_human_evaluation": ["small", "other"],
        "08_case_study": ["small", "other"],
    }


def test_a_launcher_counts_as_a_gpu(monkeypatch):
    """The graph is made where no GPU may be, each notebook runs where LAUNCH takes it: both read the same profile."""
    monkeypatch.setenv("LAUNCH", "srun --gres=gpu:1")
    assert profiles.gpu()


@pytest.mark.parametrize("seeds", ["[43, x]", "[-1]", "[true]", "43"])
def test_seeds_are_whole_numbers(given, seeds):
    with pytest.raises(files.InputError, match="more_seeds"):
        given(f"more_seeds: {seeds}")


def tasks_parameters(profile):
    return [profiles.flat(task.parameters) for task in graph.tasks(profile)]


def test_small_names_what_it_downloads_at_full_commits_and_asks_nobody(monkeypatch):
    """One command, one download: each model of the hub is in `downloads`, so that nothing is missing but a disk."""
    monkeypatch.setattr(profiles, "gpu", lambda: False)
    needs = profiles.requirements(profiles.read("small"))
    given = tasks_parameters("small")
    models = {values["model"] for values in given if "deltas" in values}
    models |= {values[name] for values in given for name in ("bertscore_model", "bleurt_model") if values.get(name)}
    assert models == set(needs.downloads)
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", name) for name in models)
    asked = [values.get(name) for values in given for name in ("endpoint", "reader_endpoint")]
    assert all(name is None or name.startswith("replay:data/sample/") for name in asked)
    assert list(preflight.models(given, needs)) == list(preflight.keys(given)) == list(preflight.inputs(given)) == []
    assert needs.takes and needs.memory_gb


def test_smalls_three_systems_are_rated_by_people_alone(monkeypatch):
    monkeypatch.setattr(profiles, "gpu", lambda: True)  # the seeds beside the first are compared, and not rated
    content = profiles.read("small")
    (first,) = {kinds.replicate_of(name) for name in content["backbones"]}
    assert list(content["backbones"]) == [first, f"{first}-seed43", f"{first}-seed44"]
    values = profiles.flat(profiles.parameters(content, "runs/small", "07_human_evaluation"))
    assert values["systems"] == [kinds.system(first, kind) for kind in kinds.KINDS]
    assert values["backbones"] == [first] and values["ratings"] is None and values["endpoint"] is None
    posts = len(files.read_json("data/sample/psyqa_sample.json"))
    assert values["flagged_posts"] >= posts, "every reply to a flagged post is read"
    answers = profiles.flat(profiles.parameters(content, "runs/small", "05_answer_generation", f"{first}-seed43"))
    assert (answers["seed"], answers["template"]) == (43, "chat")


@pytest.mark.parametrize("profile", ["paper", "modern"])
def test_whoever_is_asked_has_a_price_with_its_date(profile):
    for values in tasks_parameters(profile):
        asked = [(values.get("endpoint"), values.get("model")), (values.get("endpoint"), values.get("prototype_model"))]
        asked += [(values.get("reader_endpoint"), values.get("reader_model"))]
        for endpoint, model in asked:
            if endpoint == "openai" and model:
                assert re.fullmatch(r"\d{4}-\d\d-\d\d", values["prices"][model]["date"]), model


def test_released_trains_nothing_and_asks_the_authors_weights_in_their_cards_form():
    """The card's example generates 256 tokens; both models are on the hub under their authors' names."""
    tasks = {task.step.notebook: profiles.flat(task.parameters) for task in graph.tasks("released")}
    assert not tasks.keys() & {"00_demo_backbones", "04_lora_training"}
    answers = tasks["05_answer_generation"]
    assert (answers["model"], answers["tuned_model"]) == ("baichuan-inc/Baichuan-7B", "Hongbin37/CBT-LLM")
    assert (answers["template"], answers["max_new_tokens"], answers["endpoint"]) == ("card", 256, None)
    fetched = [name for line in preflight.models([answers], profiles.Requirements()) for name in line.split("`")[1::2]]
    assert fetched == ["hf download baichuan-inc/Baichuan-7B", "hf download Hongbin37/CBT-LLM"]
    rated = tasks["07_human_evaluation"]["systems"]
    assert rated == [kinds.system("baichuan-7b", kind) for kind in kinds.KINDS]
