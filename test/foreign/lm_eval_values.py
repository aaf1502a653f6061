"""Runs a tiny multiple-choice task of lm-eval against a Nereid server and compares each log-likelihood with what Hugging Face gave.

Usage: lm_eval_values.py URL RECORDED_JSON
"""

import json
import sys
from pathlib import Path

from tiny_task import run_tiny_task

url, recorded_file = sys.argv[1:3]
recorded = json.loads(Path(recorded_file).read_text())
rows = recorded["rows"]
result = run_tiny_task(url, "default", rows)
assert result["results"]["tiny"]["acc,none"] == recorded["accuracy"], result["results"]
largest = 0.0
for sample, row in zip(result["samples"]["tiny"], rows):
    for choice, expected, [(found, _)] in zip(row["choices"], row["logprobs"], sample["resps"]):
        largest = max(largest, abs(found - expected))
        assert abs(found - expected) < 1e-3, (row["text"], choice, found, expected)
print(f"ok, {sum(len(row['choices']) for row in rows)} log-likelihoods within {largest:.6f}")
