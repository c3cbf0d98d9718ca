"""One client for chat completions: live, through the Batch API, or from a recording."""
