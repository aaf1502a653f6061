"""What HF transformers makes of the texts that bench/cuda-quality.ts scores: its perplexity in float32, the likeliest token at every position, and
greedy answers. transformers_choices.py MODEL-FOLDER TEXTS.json OUT.json [cpu]"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM

folder, source, target, *rest = sys.argv[1:]
device = rest[0] if rest else "cuda"
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
with open(source) as file:
    texts = json.load(file)
loss = 0.0
scored = 0
choices = []
greedy = []
with torch.inference_mode():
    for index, (head, answer) in enumerate(texts):
        ids = torch.tensor([head + answer], device=device)
        logits = model(ids).logits[0, len(head) - 1 : -1].float()
        loss -= torch.log_softmax(logits, -1).gather(1, ids[0, len(head) :, None]).sum().item()
        scored += len(answer)
        choices += logits.argmax(-1).tolist()
        if index < 64:
            head_ids = ids[:, : len(head)]
            out = model.generate(head_ids, attention_mask=torch.ones_like(head_ids), do_sample=False, max_new_tokens=49)
            greedy.append(out[0, len(head) :].tolist())
print(f"transformers, float32: {scored} tokens, perplexity {torch.tensor(loss / scored).exp().item():.4f}")
with open(target, "w") as file:
    json.dump({"choices": choices, "greedy": greedy}, file)
