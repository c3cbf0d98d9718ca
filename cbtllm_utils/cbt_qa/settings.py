"""Settings of notebooks 01 and 02."""

from typing import Any

from cbtllm_utils.llm.settings import THINKING_OFF, Price, ProviderSettings
from cbtllm_utils.settings import Number, ours, stated
from cbtllm_utils.text.settings import ReaderSettings

SAMPLE = "data/sample/psyqa_sample.json"
RECORDING = "replay:data/sample/recorded_replies.jsonl"
READINGS = "replay:data/sample/recorded_readings.jsonl"
PROMPT = "params/prompts/cbt_prompt.zh.md"
TRANSLATION = "params/prompts/cbt_prompt.en.md"
PAPERS_PRICE = {"gpt-3.5-turbo-16k": {"input": 3.0, "output": 4.0, "date": "2023-06-13"}}


class AskingSettings(ProviderSettings):
    """What both notebooks take to ask for replies."""

    questions: str = ours(SAMPLE, "file of the posts, in any format of PsyQA", min_length=1)
    endpoint: str = ours(RECORDING, "openai, a base URL, or replay: and a recording", min_length=1)
    model: str = ours(
        "recorded", "the model that is asked; the paper's gpt-3.5-turbo-16k was retired in 2024", min_length=1
    )
    sampling: dict[str, Any] = ours(
        {"temperature": 1.0},
        f"further fields of a request. 1 is the API's default, the paper names none; {THINKING_OFF}",
    )


class PromptSettings(AskingSettings):
    """What notebook 01 takes."""

    prompt: str = ours(PROMPT, "the prompt's file; params/prompts/README.md says how to write another", min_length=1)
    translation: str = ours(TRANSLATION, "the prompt in another language, for readers; it is not used", min_length=1)
    prototype_model: str = ours(
        "recorded", "the stronger model that writes the prototype; the paper's was GPT-4", min_length=1
    )
    example: bool = ours(
        False, "whether the prototype enters the prompt of notebook 02, as in §3.2; the recording was made without"
    )
    compare: list[str] = ours([], "files of other prompts, measured beside the first")
    measured: int = ours(
        60, "posts that are asked to measure compliance; with 60, an interval around one half is 0.25 wide", ge=1
    )
    shortest: int = ours(400, "fewest Chinese characters that the prompt's rules ask for", ge=0)
    longest: int = ours(650, "most Chinese characters that they ask for; the paper's replies have 522.8", ge=1)
    seed: int = ours(42, "seed of the draw of posts; the paper's is not published", ge=0)


class DatasetSettings(AskingSettings, ReaderSettings):
    """What notebook 02 takes. Prices are USD per million tokens."""

    prices: dict[str, Price] = ours(
        PAPERS_PRICE, "price per million tokens of each model; '<model>, batch' for batches"
    )
    reader_endpoint: str | None = ours(
        READINGS,
        "where a second reader is asked: openai, a base URL, or replay: and a recording; null = the screen alone",
    )
    topics: str | None = ours("data/sample/topics.csv", "a CSV of questionID, topic; null = rows without a topic")
    limit: int | None = ours(None, "use only this many posts, from the first on; null = all", ge=1)
    max_attempts: int = ours(3, "requests per post while its reply fails a check; then the post is dropped", ge=1)
    min_characters: int = ours(200, "a shorter reply fails; this is half of the fewest that the prompt asks for", ge=0)
    max_characters: int = ours(
        1500, "a longer reply fails; this is more than twice the most that the prompt asks for", ge=1
    )
    min_components: int = ours(
        3, "components of five that must be recognized; fewer than five, since the classifier may miss some", ge=0, le=5
    )
    batch: bool = ours(False, "use the Batch API: cheaper, answers within a day; not for recordings")
    batch_requests: int = ours(
        50_000, "most requests in one batch: what your account may have pending; one batch is pending at a time", ge=1
    )
    poll_seconds: Number = ours(60.0, "seconds between two checks of a batch", gt=0)
    test_share: Number = stated(
        0.1, "share of the test set; §4.1: of 22,327 examples 2,233 for test, 20,094 for training", ge=0, le=1
    )
    near: Number = ours(
        0.8,
        "cosine of character 2- and 3-grams from which two posts are near duplicates, which stay on one side of the split",
        ge=0,
        le=1,
    )
    filled_readings: str = ours(
        "data/readings", "folder of reading sheets that people filled (notebook 07); it may be absent"
    )
    figure1_item: int | str | None = ours(None, "questionID of Figure 1; null = by the rule stated there")
    seed: int = ours(42, "seed of the split; the paper's is not published", ge=0)
