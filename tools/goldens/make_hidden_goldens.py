"""Adds hidden.f32 to each folder of test/goldens/hf: transformers' float32 hidden states behind the last norm, of the prompts in golden.json.

    python tools/goldens/make_hidden_goldens.py test/goldens/hf

Tests read the result; they need no Python.
"""

import json
import pathlib
import sys

import numpy
import torch
from transformers import AutoModelForCausalLM


def make(folder):
    golden = json.loads((folder / "golden.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    logits = numpy.fromfile(folder / "logits.f32", dtype="<f4").reshape(-1, golden["vocabulary"])
    states, start = [], 0
    for prompt in golden["prompts"]:
        with torch.no_grad():
            result = model(input_ids=torch.tensor([prompt]), output_hidden_states=True)
        # The last of hidden_states is behind the final norm: what the output matrix multiplies.
        states.append(result.hidden_states[-1][0].numpy())
        expected = logits[start : start + len(prompt)]
        start += len(prompt)
        assert numpy.allclose(result.logits[0].numpy(), expected, atol=1e-3), folder
    numpy.concatenate(states).astype("<f4").tofile(folder / "hidden.f32")
    print(folder.name, f"|hidden| {numpy.abs(states[-1]).mean():.3f}")


def main():
    torch.set_num_threads(1)
    for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
        if (folder / "golden.json").exists():
            make(folder)


main()
