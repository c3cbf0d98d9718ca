"""Write backbones as other programs read them: python -m cbtllm_utils.workflow.stock --profile paper [qwen-7b …]"""

import argparse
import sys
from pathlib import Path

from cbtllm_utils import files
from cbtllm_utils.workflow import profiles

NOTEBOOK = "04_lora_training"  # whose settings are taken


def write(profile: str, backbone: str, run: str | Path | None = None) -> list[Path]:
    """Write a backbone's stock directory, and the training of notebook 04 for LLaMA-Factory; return what was written.

    These are below the run: `stock/<backbone>` with the deltas merged, `llama_factory/<backbone>/examples`, tokenized
    in the form of the profile, and the recipe `llama_factory/<backbone>/train.yaml`. The run is the profile's, where no
    other is named.
    """
    from cbtllm_utils.finetune import adapters, examples, llama_factory, stock  # they take seconds to import
    from cbtllm_utils.finetune.settings import TrainingSettings

    run = str(run or f"runs/{profile}")
    given = profiles.parameters(profiles.read(profile), run, NOTEBOOK, backbone)
    settings = TrainingSettings(**profiles.flat(given))
    source = settings.model, settings.deltas, run
    train, test = (files.read_jsonl(f"{run}/cbt_qa/{split}.jsonl") for split in ("train", "test"))
    form = adapters.tokenizer(*source), settings.template, settings.cutoff
    folder = files.path(run) / "llama_factory" / backbone
    recipe = llama_factory.config(settings, adapters.outline(*source))
    return [
        stock.write(*source, f"{run}/stock/{backbone}", llama_factory.precision(settings)),
        llama_factory.write_examples(*(examples.encode(rows, *form) for rows in (train, test)), folder / "examples"),
        files.write_text(folder / "train.yaml", recipe),
    ]


def main(argv: list[str] | None = None) -> int:
    """Write the named backbones or all of a profile; return 0, or 1 with one line that says what, where, what to do."""
    parser = argparse.ArgumentParser(
        prog="python -m cbtllm_utils.workflow.stock", description=__doc__.partition(":")[0]
    )
    parser.add_argument("backbones", nargs="*", metavar="backbone", help="of the profile, e.g. qwen-7b (all)")
    parser.add_argument("--profile", default="demo", help="a parameter file below params/ (demo)")
    given = parser.parse_args(argv)
    try:
        among = profiles.backbones(profiles.read(given.profile), NOTEBOOK)
        for backbone in given.backbones:
            profiles.known("backbone", backbone, among, f"params/{given.profile}.yaml")
        for backbone in given.backbones or among:
            for place in write(given.profile, backbone):
                print(files.shown(place))
    except (files.InputError, OSError) as error:
        print(f"error: {files.explain(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
