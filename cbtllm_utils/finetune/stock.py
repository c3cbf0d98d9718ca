"""A backbone as a stock directory, an adapter merged in or not, which every program reads that knows transformers."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from cbtllm_utils import files, hashing, hub, models
from cbtllm_utils.finetune import adapters
from cbtllm_utils.finetune import card as adapter_cards
from cbtllm_utils.models import backbones, chat_templates, prompt_forms, tokenizer_json, tokenizers
from cbtllm_utils.models.devices import DTYPES

SOURCE = "source.json"  # in a folder that `write` made: of what
CARD = """# A backbone tuned on CBT QA
The weights of `{model}`{deltas} with an adapter merged into them. The card below describes the adapter. The weights have
the names of a class built into transformers: `AutoModelForCausalLM.from_pretrained(folder)` reads them, without peft or
remote code.
{tokenizer}

**License.** That of the backbone ({license}) and, for what was learned, that of the posts and replies: PsyQA's agreement
where they are PsyQA's. Whoever passes this on answers for both. The posts of the bundled sample are invented, and free
with their replies.

# The card of the adapter
{card}"""
BACKBONE = """# A backbone under the names of a built-in class
The weights of `{model}`{deltas}: `AutoModelForCausalLM.from_pretrained(folder)` reads them, without remote code.
{tokenizer}

**License.** That of the backbone: {license}.
"""
SENTENCEPIECE = "The tokenizer is sentencepiece's `tokenizer.model`, by which the model was trained."
MADE = """`tokenizer.json` was made of it for other programs: transformers' own reading splits Chinese otherwise. Of its
{pieces} pieces of several characters, {equal_pieces} have the same tokens in both."""
ALIKE = "Of the {texts} posts and replies of the run, {equal_texts} have the same tokens in both."
CONTROL = """Control tokens that a text spells, such as `</s>`, stay text; programs that do not heed `split_special_tokens`
in `tokenizer_config.json` read them as such."""
CONTROL_IN_CHAT = """Control tokens that a text spells, such as `</s>`, are read as such, except in the messages of a chat,
where the template puts a space into them: escape them."""
NOT_MADE = "No `tokenizer.json` splits texts as it does ({reason}): give other programs token ids."


def write(
    model: str,
    deltas: list[str],
    run: str | Path,
    folder: str | Path,
    precision: str,
    adapter: str | Path | None = None,
) -> Path:
    """Write the backbone, deltas and adapter merged into it.

    The folder holds weights under the names of a built-in class, tokenizer, generation_config.json with every token
    that ends a reply, license files, card and source.json (`source`). It is made in main memory, once the size of the
    weights, from the original files, and so in 16 or 32 bits even where training held them in 4. For an adapter that is
    already there:
    `stock.write("Qwen/Qwen-7B", [], "runs/paper", "runs/merged/qwen-7b", "fp16", "runs/paper/adapters/qwen-7b")`.

    Raises:
        InputError: Where the folder is, or lies in, one that it would be made of.
    """
    places = [files.local_or_hub(name, run) for name in (model, *deltas)]
    check_place(files.path(folder), [*places, *([adapter] if adapter else [])])
    origin = source(model, deltas, run, precision, adapter)
    tokenizer = adapters.tokenizer(model, deltas, run)
    merged = backbones.load_model(places[0], places[1:], dtype=DTYPES[precision])
    if adapter:
        merged = adapters.attach(merged, adapter)
    merged.generation_config.eos_token_id = chat_templates.stops(tokenizer)
    merged.generation_config.pad_token_id = tokenizer.pad_token_id
    try:
        merged.generation_config.validate(strict=True)
    except ValueError:  # LLaMA-2's file names a temperature without sampling, which can be read but not written.
        merged.generation_config.do_sample = True
    with files.atomic(folder) as temporary:
        merged.save_pretrained(temporary)
        said = write_tokenizer(tokenizer, Path(places[-1]), temporary, form(adapter), texts(run))
        licenses = [file for place in places for file in sorted(Path(place).iterdir()) if is_license(file)]
        for file in licenses:
            shutil.copyfile(file, temporary / file.name)
        text = (CARD if adapter else BACKBONE).format(
            model=files.public(model),
            deltas="".join(f", `{files.public(delta)}`" for delta in deltas),
            tokenizer=said,
            license=", ".join(f"`{file.name}`" for file in licenses) or "its weights came without such a file",
            card=adapter_card(files.path(adapter) / "README.md") if adapter else "",
        )
        files.write_text(temporary / "README.md", metadata([model, *deltas], adapter is not None) + text)
        own = temporary / hub.LICENSE
        theirs = own.read_bytes() + b"\n" if own.exists() else b""  # a backbone may bring one of this name
        if adapter or not theirs:
            own.write_bytes(theirs + f"# License\n{license_section(text)}".encode())
        if adapter and (record := files.path(adapter) / "training.json").exists():  # the form that it is asked in
            shutil.copy(record, temporary / record.name)
        files.write_json(temporary / SOURCE, origin)
    return files.path(folder)


def check_place(folder: Path, places: Sequence[str | Path]) -> None:
    """Raise InputError where writing a folder would replace what it is made of."""
    for place in places:
        if files.path(place).resolve().is_relative_to(folder.resolve()):
            raise files.InputError(f"{files.shown(folder)}: would be written over what it is made of; name another")


def source(
    model: str, deltas: list[str], run: str | Path, precision: str, adapter: str | Path | None = None
) -> dict[str, object]:
    """Return what `write` makes a folder of: the content of weights and adapter, and the precision."""
    return {
        "weights": [hashing.content(Path(files.local_or_hub(name, run))) for name in (model, *deltas)],
        "adapter": adapters.acting(adapter) if adapter else None,
        "precision": precision,
        "version": models.VERSION,
    }


def made_of(folder: str | Path) -> dict[str, object]:
    """Return what a folder was made of by `write`; {} for any other folder, and where there is none."""
    place = files.path(folder) / SOURCE
    return files.read_json(place) if place.is_file() else {}


def is_stock(model: str, deltas: list[str], run: str | Path) -> bool:
    """Return whether other programs read a model as it is: of a built-in class for text already, without deltas."""
    if deltas:
        return False
    outlined = backbones.outline(files.local_or_hub(model, run))
    return type(outlined).__name__ in (outlined.config.architectures or ())


def metadata(bases: list[str], tuned: bool) -> str:
    """Return the hub's metadata of a backbone; merging deltas into a model is the hub's "merge", tuning is not."""
    if tuned:
        return hub.model_header("transformers", bases, "finetune", adapter_cards.LICENSE_NAME)
    return hub.model_header("transformers", bases, "merge" if len(bases) > 1 else None, "backbone", tags=())


def license_section(text: str) -> str:
    """Return what a card says of the license, without its first words."""
    return text.split("**License.** ", 1)[1].split("\n\n", 1)[0].rstrip() + "\n"


def adapter_card(file: Path) -> str:
    """Return an adapter's card without its metadata; an adapter from elsewhere may have none."""
    text = file.read_text(encoding="utf-8") if file.exists() else "It came without a card.\n"
    return text.split("---\n", 2)[2] if text.startswith("---\n") and text.count("---\n") > 1 else text


def is_license(file: Path) -> bool:
    """Return whether a file beside a model's weights says what may be done with them."""
    return any(word in file.name.lower() for word in ("licen", "notice", "use_policy", "许可"))


def write_tokenizer(tokenizer: object, place: Path, folder: Path, form: str | None, texts: list[str]) -> str:
    """Write a tokenizer without its remote code; return what the card says of it, with a count over these texts."""
    chat = prompt_forms.chat_settings(form, tokenizer) if form else {}
    try:
        tokenizers.save(tokenizer, place, folder, chat)
    except tokenizer_json.NotExpressibleError as error:
        return f"{SENTENCEPIECE} {NOT_MADE.format(reason=error)}"
    if not isinstance(tokenizer, tokenizers.SentencePieceTokenizer):
        return "The tokenizer is `AutoTokenizer.from_pretrained(folder)`'s."
    counts = tokenizer_json.agreement(folder, texts)
    said = [SENTENCEPIECE, MADE, ALIKE if texts else "", CONTROL_IN_CHAT if chat else CONTROL]
    return "\n".join(sentence.format(**counts) for sentence in said if sentence)


def texts(run: str | Path) -> list[str]:
    """Return the posts and replies of a run, as far as there are any."""
    found = [files.path(run) / "cbt_qa" / f"{split}.jsonl" for split in ("train", "test")]
    rows = [row for file in found if file.exists() for row in files.read_jsonl(file)]
    return [text for row in rows for text in (prompt_forms.passage(row), row["reply"])]


def form(adapter: str | Path | None) -> str | None:
    """Return the form of prompt that an adapter was trained in; None without an adapter or its record."""
    return adapters.trained_form(str(adapter)) if adapter else None
