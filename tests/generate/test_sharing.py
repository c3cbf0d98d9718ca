"""Two processes leave the replies that one would have made, and take up what a broken run left behind."""

from tiny import Bytes, llama

from cbtllm_utils import response_cache
from cbtllm_utils.generate import answering, sharing

PROMPTS = ["你好", "我睡不着，怎么办？", "a", "Human: 怎么办\nAssistant: ", "考试没过"]
ROWS = [{"questionID": i} for i in range(5)]
OPTIONS = {"key": "k", "batch_size": 2, "max_new_tokens": 8, "seed": 1, "top_p": 0.7, "top_k": 50}


def load():
    """What each process loads."""
    return llama(initializer_range=0.4), Bytes()


def test_two_processes_answer_as_one(tmp_path):
    options = OPTIONS | {"temperature": 0.95}
    one = answering.answer(*load(), ROWS, PROMPTS, "tiny", tmp_path / "one", **options)
    sharing.fill(load, None, ROWS, PROMPTS, "tiny", tmp_path / "two", processes=2, **options)
    found = answering.answer(
        None, None, ROWS, PROMPTS, "tiny", tmp_path / "two", **options
    )  # no model: nothing is made
    assert found == one and not list(tmp_path.glob("*.part*"))


def test_parts_of_a_broken_run_are_taken_up(tmp_path):
    options, path = OPTIONS | {"temperature": 0}, tmp_path / "journal"
    for number, own in enumerate(([0, 2], [1, 3, 4])):
        some = [ROWS[i] for i in own], [PROMPTS[i] for i in own]
        answering.answer(*load(), *some, "tiny", sharing.part(path, number), **options)
    sharing.part(path, 1).write_text(sharing.part(path, 1).read_text(encoding="utf-8")[:-9], encoding="utf-8")
    sharing.gather(path)
    assert len(response_cache.read(path)) == 4, "the line that a kill cut off is asked again"
    sharing.fill(load, None, ROWS, PROMPTS, "tiny", path, processes=2, **options)
    assert len(response_cache.read(path)) == 5
