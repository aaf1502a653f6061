"""Writes test/goldens/beams/golden.json: texts and scores of HF transformers' beam search on two of the golden models.

python tools/goldens/make_beam_goldens.py    (needs torch and transformers; made with transformers 5.23.0 and torch 2.15.0 on a CPU)
"""

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

goldens = Path(__file__).parents[2] / "test" / "goldens"
new_tokens = 10
searches = [
    dict(num_beams=2, length_penalty=1.0, early_stopping=True),
    dict(num_beams=4, length_penalty=1.0, early_stopping=False),
    dict(num_beams=4, length_penalty=0.0, early_stopping=True),
    dict(num_beams=3, length_penalty=2.0, early_stopping=False),
    dict(num_beams=4, length_penalty=-0.5, early_stopping="never"),
    dict(num_beams=4, length_penalty=1.5, early_stopping="never"),
]
found = []
for name in ["smollm", "qwen3"]:
    folder = goldens / "hf" / name
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompts = json.loads((folder / "golden.json").read_text())["prompts"]
    for prompt in prompts[1:]:
        ids = torch.tensor([prompt])
        common = dict(max_new_tokens=new_tokens, do_sample=False, pad_token_id=0)
        probe = model.generate(ids, num_beams=4, num_return_sequences=4, eos_token_id=None, **common)
        # End ids that do come up: tokens of what the search says without any.
        ends = [None, int(probe[1][len(prompt) + 3]), int(probe[2][len(prompt) + 6])]
        for eos in ends:
            for search in searches:
                result = model.generate(
                    ids,
                    num_return_sequences=search["num_beams"],
                    eos_token_id=eos,
                    return_dict_in_generate=True,
                    output_scores=True,
                    **common,
                    **search,
                )
                texts = []
                for row in result.sequences.tolist():
                    text = row[len(prompt) :]
                    texts.append(text[: text.index(eos) + 1] if eos is not None and eos in text else text)
                scores = [round(score, 5) for score in result.sequences_scores.tolist()]
                found.append(dict(model=name, prompt=prompt, eos=eos, **search, tokens=texts, scores=scores))
(goldens / "beams").mkdir(exist_ok=True)
(goldens / "beams" / "golden.json").write_text(json.dumps(found, separators=(",", ":")))
