"""Settings of notebooks 03 and 10, and of the second reader in notebooks 02 and 05."""

from typing import Any

from cbtllm_utils.llm.settings import THINKING_OFF, Amount, ProviderSettings
from cbtllm_utils.settings import Settings, ours, stated


class DistortionSettings(ProviderSettings):
    """What notebook 03 takes. `endpoint`: where a model annotates; null = the first annotator takes its place."""

    annotations: str | None = ours(
        "data/sample/distortion_annotations.csv",
        "a CSV of questionID, annotator, labels joined by |; null = no annotators, no Table 3",
    )
    filled: str = ours("data/annotations", "a folder of filled forms; where it holds any, they are the annotations")
    subset: int = stated(500, "posts drawn for Table 3 (§3.3.3); the sample holds 360, so all of them count", ge=1)
    model: str = ours("gpt-4o-mini", "which model annotates, where there is an endpoint", min_length=1)
    sampling: dict[str, Any] = ours(
        {"temperature": 0}, f"sampling of that model; 0 gives the most likely labels; {THINKING_OFF}"
    )
    to_annotate: int = ours(100, "posts in the annotation form", ge=1)
    resamples: int = ours(2000, "resamples of each bootstrap interval; its ends vary by about 1 % of its width", ge=2)
    seed: int = ours(42, "seed of the draws and of the intervals", ge=0)


class ReaderSettings(ProviderSettings):
    """What a notebook takes that asks a second reader; limits, prices and `allowed_missing` are the same for both."""

    reader_endpoint: str | None = ours(
        None, "where a second reader is asked: openai, a base URL, or replay: and a recording; null = the screen alone"
    )
    reader_model: str = ours("recorded", "which model reads beside the screen", min_length=1)
    reader_sampling: dict[str, Any] = ours(
        {"temperature": 0}, f"sampling of that model; 0 gives the most likely reading; {THINKING_OFF}"
    )
    reader_budget: Amount | None = ours(None, "budget of the second reader alone; null = no budget")

    def reading(self) -> dict:
        """Return the keyword arguments of `client.complete` for the second reader, but for its cache."""
        price, budget = self.price(self.reader_model), self.reader_budget
        own = {"endpoint": self.reader_endpoint, "price": price, "budget": budget}
        return ProviderSettings.limits(self) | own


class ScreeningSettings(Settings):
    """What notebook 10 takes."""

    voices: int | None = ours(
        None, "voices that are left out one after the other, the first so many of each screen; null = all", ge=1
    )
    shown: int = ours(3, "missed posts of each kind that are printed", ge=1)
    seed: int = ours(42, "seed of the draw of missed posts", ge=0)
