"""What the kill test runs in a process of its own. Imported once, with all that is slow to begin; then forked often."""

from cbtllm_utils import cbt_qa, conformity, endpoint, prompts, sections
from cbtllm_utils.questions import Question

IN_FLIGHT = 8
sections.fitted()


def posts(number):
    return [Question(i, f"问{i}", "坏" if i % 10 == 9 else "好") for i in range(number)]


def generate(url, journal, number):
    def ask(requests):
        return endpoint.complete(requests, endpoint=url, journal_path=journal, concurrency=IN_FLIGHT)

    prompt = prompts.read("params/prompts/cbt_prompt.zh.md")
    options = {"model": "m", "sampling": {}, "rules": conformity.Rules(), "max_attempts": 2}
    return cbt_qa.generate(posts(number), prompt, ask, **options)
