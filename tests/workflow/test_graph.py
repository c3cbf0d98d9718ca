import dataclasses

import pytest

from cbtllm_utils.workflow import fingerprint, graph, profiles


def named(profile):
    return {task.name: task for task in graph.tasks(profile)}


def test_the_demo_runs_each_backbone_by_itself():
    tasks = named("demo")
    assert len(tasks) == 9 + 2 * 4  # nine notebooks once, two for each of the four backbones
    assert {f"04_lora_training-{b}" for b in profiles.read("demo")["backbones"]} <= set(tasks)


@pytest.mark.parametrize(
    "task, needs",
    [
        ("01_prompt_design", set()),
        ("02_dataset_generation", {"01_prompt_design"}),
        ("03_distortion_analysis", {"02_dataset_generation"}),
        ("04_lora_training-qwen-7b", {"02_dataset_generation", "00_demo_backbones"}),
        (
            "05_answer_generation-qwen-7b",
            {"01_prompt_design", "02_dataset_generation", "04_lora_training-qwen-7b", "00_demo_backbones"},
        ),
    ],
)
def test_what_a_task_waits_for(task, needs):
    tasks = named("demo")
    assert set(graph.makers(tasks[task], list(tasks.values()))) == needs


def test_the_evaluation_waits_for_every_answer():
    tasks = named("demo")
    answers = {name for name in tasks if name.startswith("05")}
    assert answers <= set(graph.makers(tasks["06_automatic_evaluation"], list(tasks.values())))


def test_no_two_tasks_write_the_same():
    written = [name for task in graph.tasks("demo") for name in task.writes]
    assert len(written) == len(set(written))


def test_a_skipped_notebook_is_not_in_the_paper():
    assert "00_demo_backbones" not in named("paper")


def test_where_nothing_is_trained_answers_wait_for_no_adapter():
    """A profile whose tuned system is somebody else's model: an adapter that nobody makes is nobody's input."""
    tasks = named("released")
    assert not any(name.startswith("04") for name in tasks)
    for name in ("05_answer_generation-baichuan-7b", "08_case_study"):
        assert "adapters/baichuan-7b" in tasks[name].reads
        makers = graph.makers(tasks[name], list(tasks.values()))
        assert {"02_dataset_generation"} <= set(makers) <= tasks.keys()
        assert fingerprint.fingerprint(tasks[name], "runs/none")


def test_parameters_that_name_files_are_inputs():
    values = {
        "endpoint": "replay:data/sample/recorded_replies.jsonl",
        "deltas": ["backbones/x"],
        "model": "gpt-4o",
        "d": 3,
    }
    assert list(graph.named_inputs(values)) == ["data/sample/recorded_replies.jsonl", "backbones/x"]


def test_a_changed_rank_concerns_training_and_what_follows():
    tasks = list(named("demo").values())
    hit = {"04_lora_training-qwen-7b"}
    for task in tasks:
        hit |= {task.name} if hit & set(graph.makers(task, tasks)) else set()
    assert hit == {
        *("04_lora_training-qwen-7b", "05_answer_generation-qwen-7b", "06_automatic_evaluation"),
        *("07_human_evaluation", "08_case_study", "09_paper_audit"),
    }
    assert dataclasses.is_dataclass(tasks[0])


@pytest.mark.parametrize(
    "name, found",
    [
        ("data/psyqa/PsyQA_full.json", "data/psyqa/PsyQA_full.json"),
        ("./data/psyqa/x.json", "data/psyqa/x.json"),
        ("data/sample/../psyqa/x.json", "data/psyqa/x.json"),
        ("replay:data/sample/recorded_replies.jsonl", "data/sample/recorded_replies.jsonl"),
        ("backbones/qwen-7b", "backbones/qwen-7b"),
        ("Qwen/Qwen-7B", None),
        ("openai", None),
        ("https://example.org/v1", None),
    ],
)
def test_the_same_file_has_one_name_however_it_is_written(name, found):
    assert graph.source(name.removeprefix("replay:")) == found


def test_a_file_outside_the_repository_is_an_input(tmp_path):
    place = tmp_path / "psyqa.json"
    assert list(graph.named_inputs({"questions": str(place)})) == []
    place.write_text("[]")
    assert list(graph.named_inputs({"questions": str(place), "seed": 1})) == [str(place)]


def test_every_parameter_whose_value_is_a_file_counts_as_one():
    """Whatever names data/, params/ or a recording by itself is among the parameters that the graph looks at."""
    for notebook in profiles.names(profiles.NOTEBOOKS, ".ipynb"):
        for name, value in profiles.defaults(notebook).items():
            values = value if isinstance(value, list) else [value]
            if any(isinstance(v, str) and v.startswith(("data/", "params/", "replay:", "backbones/")) for v in values):
                assert name in graph.FILE_PARAMETERS, f"{notebook}: {name}"
