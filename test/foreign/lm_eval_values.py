"""Runs a tiny multiple-choice task of lm-eval against a Nereid server and compares each log-likelihood with what Hugging Face gave.

Usage: lm_eval_values.py URL RECORDED_JSON
"""

import json
import sys
import tempfile
from pathlib import Path

import lm_eval

url, recorded_file = sys.argv[1:3]
recorded = json.loads(Path(recorded_file).read_text())
rows = recorded["rows"]
folder = Path(tempfile.mkdtemp())
(folder / "rows.jsonl").write_text("\n".join(json.dumps({"text": row["text"], "choices": row["choices"]}) for row in rows))
(folder / "tiny.yaml").write_text(
    f"""task: tiny
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/rows.jsonl}}, cache_dir: {folder}/cache}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{text}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: 0
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""
)
result = lm_eval.simple_evaluate(
    model="local-completions",
    model_args=f"model=default,base_url={url}/v1/completions,tokenizer_backend=remote,num_concurrent=4",
    tasks=["tiny"],
    task_manager=lm_eval.tasks.TaskManager(include_path=str(folder), include_defaults=False),
    log_samples=True,
    bootstrap_iters=0,
)
assert result["results"]["tiny"]["acc,none"] == recorded["accuracy"], result["results"]
largest = 0.0
for sample, row in zip(result["samples"]["tiny"], rows):
    for choice, expected, [(found, _)] in zip(row["choices"], row["logprobs"], sample["resps"]):
        largest = max(largest, abs(found - expected))
        assert abs(found - expected) < 1e-3, (row["text"], choice, found, expected)
print(f"ok, {sum(len(row['choices']) for row in rows)} log-likelihoods within {largest:.6f}")
