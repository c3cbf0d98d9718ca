"""Load data sets as their cards say, as a user of `datasets` does: FOLDER CACHE [CONFIGURATION]."""

import json
import sys

import datasets

folder, cache, *configuration = sys.argv[1:]
loaded = datasets.load_dataset(folder, *configuration, cache_dir=cache)
types = {split: {name: str(feature.dtype) for name, feature in rows.features.items()} for split, rows in loaded.items()}
print(json.dumps({"types": types, "rows": {split: list(rows) for split, rows in loaded.items()}}))
