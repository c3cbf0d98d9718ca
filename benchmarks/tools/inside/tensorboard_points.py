"""Print what TensorBoard's own reader finds in a folder of event files: JSON {name: [[step, value], …]}."""

import json
import sys

from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

found = EventAccumulator(sys.argv[1], size_guidance={SCALARS: 0})  # 0: every point
found.Reload()
print(json.dumps({tag: [[one.step, one.value] for one in found.Scalars(tag)] for tag in found.Tags()[SCALARS]}))
