"""Tiny checkpoints of current families as the hub holds them: stock classes, byte-level BPE, a chat template."""

import json

import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers.convert_slow_tokenizer import bytes_to_unicode

# The shapes of the published templates in words of our own. Qwen3's opens and closes an empty thought where thinking is
# switched off; Llama 3's puts the text's first token itself, trims what is said, and knows the date.
QWEN3 = """{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}
{%- if m.role == 'assistant' %}{{- '<think>\\n\\n</think>\\n\\n' }}{% endif %}{{- m.content + '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"""
LLAMA3 = """{{- bos_token }}{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}
{%- for m in messages %}{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' }}
{%- if m.role == 'system' %}{{- 'Today Date: ' + date_string + '\\n\\n' }}{%- endif %}{{- m.content | trim + '<|eot_id|>' }}
{%- endfor %}{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"""
GEMMA = """{{- bos_token }}{%- if messages[0].role == 'system' %}{{- raise_exception('System role not supported') }}{%- endif %}
{%- for m in messages %}{{- '<start_of_turn>' + m.role + '\\n' + m.content | trim + '<end_of_turn>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}"""
FAMILIES = {  # template, special tokens in the order of their ids, eos of the tokenizer, eos in generation_config.json
    "qwen3": (QWEN3, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "<|im_end|>", [258, 256]),
    "llama3": (
        LLAMA3,
        [
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
            "<|eom_id|>",
        ],
        "<|eot_id|>",
        [257, 261, 260],
    ),
    "gemma": (GEMMA, ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"], "<eos>", [257, 259]),
}
BOS = {"llama3": "<|begin_of_text|>", "gemma": "<bos>"}


def tokenizer(family, template=True):
    """Return a tokenizer with a token per byte, then special tokens, of which it lists only bos and eos itself."""
    form, special, eos, _ = FAMILIES[family]
    letters = bytes_to_unicode()
    backend = Tokenizer(models.BPE({letters[byte]: byte for byte in range(256)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    if family in BOS:  # as Llama 3's tokenizer.json does: bos before whatever is encoded
        first = (BOS[family], backend.token_to_id(BOS[family]))
        backend.post_processor = processors.TemplateProcessing(single=f"{first[0]} $A", special_tokens=[first])
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=eos, bos_token=BOS.get(family), clean_up_tokenization_spaces=False
    )
    if template:
        made.chat_template = form
    return made


def write_qwen35(folder, vocabulary=248320):
    """Write a checkpoint as Qwen3.5's lie on the hub, with the tower for images beside the language model.

    Three layers of linear attention and one of full attention, as in each four of the published ones.
    """
    text = {"vocab_size": vocabulary, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "initializer_range": 0.3}
    text |= {f"linear_{of}_head_dim": 8 for of in ("key", "value")}
    text |= {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "tie_word_embeddings": True}
    images = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
    transformers.set_seed(0)
    config = transformers.Qwen3_5Config(text_config=text, vision_config=images, tie_word_embeddings=True)
    transformers.Qwen3_5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer("qwen3").save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": FAMILIES["qwen3"][3]}))
    return folder


def write(folder, family, template=True, **values):
    """Write a checkpoint of the family, weights, tokenizer, template and stops, and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 264,
    }
    sizes |= {"num_key_value_heads": 1, "head_dim": 16, "bos_token_id": None, "pad_token_id": None}
    sizes |= {"initializer_range": 0.3} | values
    transformers.set_seed(0)
    config = (transformers.Qwen3Config if family == "qwen3" else transformers.LlamaConfig)(**sizes)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer(family, template).save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": FAMILIES[family][3]}))
    return folder
