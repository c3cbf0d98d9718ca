"""Read cards by huggingface_hub's own classes and print their metadata: model or dataset, then files."""

import inspect
import json
import sys

from huggingface_hub import DatasetCard, DatasetCardData, ModelCard, ModelCardData, metadata_load

kind, *places = sys.argv[1:]
reader, fields = {"model": (ModelCard, ModelCardData), "dataset": (DatasetCard, DatasetCardData)}[kind]
known = set(inspect.signature(fields.__init__).parameters)
found = {}
for place in places:
    card = reader.load(place)
    again = reader(str(card)).data.to_dict()
    read = metadata_load(place)
    found[place] = {
        "metadata": read,
        "other": sorted(set(read) - known),
        "same": again == card.data.to_dict() == fields(**read).to_dict(),
    }
print(json.dumps(found))
