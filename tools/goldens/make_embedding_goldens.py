"""Makes test/goldens/embeddings.json: transformers' embeddings (last token and mean, normalized) of some texts by a model in this repository.

    python tools/goldens/make_embedding_goldens.py models/nereid-16m test/goldens/embeddings.json

Tests read the result; they need no Python.
"""

import json
import pathlib
import sys

import torch
import transformers
from transformers import AutoModel, AutoTokenizer

TEXTS = [
    "What is the capital of France?",
    "The capital of France is Paris.",
    "A river is a stream of water that flows to the sea.",
    "12 + 30 = 42",
    "Write a poem about the sea, and about the ships that sail on it when the wind is strong and the night is dark.",
    "a",
]


def rounded(vector):
    unit = vector / vector.norm()
    return [float(f"{value:.7g}") for value in unit.tolist()]


def main():
    folder, target = sys.argv[1:]
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    rows = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        with torch.no_grad():
            # AutoModel ends behind the final norm.
            states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        rows.append({"text": text, "ids": ids, "last": rounded(states[-1]), "mean": rounded(states.mean(dim=0))})
    golden = {
        "made_with": {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__},
        "model": folder,
        "texts": rows,
    }
    pathlib.Path(target).write_text(json.dumps(golden) + "\n")
    print(len(rows[0]["last"]), "dimensions")


main()
