"""What the kill test runs in a process of its own. Imported once, with all that is slow to begin; then forked often."""

from cbtllm_utils.cbt_qa import dataset
from cbtllm_utils.data import prompts
from cbtllm_utils.data.psyqa import Question
from cbtllm_utils.llm import client
from cbtllm_utils.text import reply_checks, sections

IN_FLIGHT = 8
sections.fitted()


def posts(number):
    return [Question(i, f"问{i}", "坏" if i % 10 == 9 else "好") for i in range(number)]


def generate(url, cache, number):
    def ask(requests):
        return client.complete(requests, endpoint=url, cache_path=cache, concurrency=IN_FLIGHT)

    prompt = prompts.read("params/prompts/cbt_prompt.zh.md")
    options = {"model": "m", "sampling": {}, "rules": reply_checks.Rules(), "max_attempts": 2}
    return dataset.generate(posts(number), prompt, ask, **options)
