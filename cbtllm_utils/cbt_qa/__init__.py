"""The CBT QA data set: ask, check, ask again, drop with a reason; exports and card."""
