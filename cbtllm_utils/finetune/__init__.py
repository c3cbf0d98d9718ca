"""LoRA fine-tuning: settings, tokenized examples, Trainer, adapters, merged models."""

VERSION = 1  # Raise it when the same weights, examples and settings give another adapter or other losses.
