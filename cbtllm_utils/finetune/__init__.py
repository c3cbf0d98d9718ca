"""LoRA fine-tuning: settings, examples, Trainer, adapters, merged models."""
