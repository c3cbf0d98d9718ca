"""PsyQA's questions, prompts as files, and the split into training and test set."""
