"""Compute logits and greedy replies by plain transformers and peft, as a user of both does: PLAN, a JSON file.

The plan has `models` (name -> {"base", "adapter" or null, "ids", "prompts"}), `last` (positions whose logits are
wanted), `new_tokens`, and `logits`, the folder for one array per name.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

plan = json.loads(Path(sys.argv[1]).read_text())
found = {}
for name, wanted in plan["models"].items():
    model = AutoModelForCausalLM.from_pretrained(wanted["base"], dtype=torch.float32)
    if wanted["adapter"]:
        model = PeftModel.from_pretrained(model, wanted["adapter"])
    model.eval()
    with torch.no_grad():
        logits = [model(torch.tensor([ids])).logits[0, -plan["last"] :].numpy() for ids in wanted["ids"]]
        replies = [
            model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=plan["new_tokens"])[0, len(ids) :]
            for ids in wanted["prompts"]
        ]
    np.save(Path(plan["logits"]) / f"{name}.npy", np.stack(logits))
    stops = model.generation_config.eos_token_id
    found[name] = {"replies": [reply.tolist() for reply in replies], "stops": stops, "class": type(model).__name__}
print(json.dumps(found))
