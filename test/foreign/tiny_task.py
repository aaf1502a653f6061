"""A multiple-choice task of lm-eval made of a few rows, run against a server's log-probabilities."""

import json
import tempfile
from pathlib import Path


def run_tiny_task(url, model, rows):
    """Evaluates rows of `text`, `choices` (the first is right) over /v1/completions. Returns lm-eval's result; the task is `tiny`."""
    import lm_eval

    folder = Path(tempfile.mkdtemp())
    (folder / "rows.jsonl").write_text("\n".join(json.dumps({key: row[key] for key in ("text", "choices")}) for row in rows))
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
    return lm_eval.simple_evaluate(
        model="local-completions",
        model_args=f"model={model},base_url={url}/v1/completions,tokenizer_backend=remote,num_concurrent=4",
        tasks=["tiny"],
        task_manager=lm_eval.tasks.TaskManager(include_path=str(folder), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )
