"""Measures the adapters with PEFT on the dictionary questions in held-out phrasings: does the effect show, always?

usage: python evaluate_lora.py BASE_DIR EVAL_JSONL OUT_FILE ADAPTER_DIR...
"""
import json
import pathlib
import sys

from peft import PeftModel
from transformers import AutoTokenizer

import evaluate
import lora

KINDS = ('define', 'sum', 'unknown-word', 'out-of-scope')


def is_object(text):
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def main():
    base, rows_file, out, *adapters = sys.argv[1:]
    rows = [json.loads(line) for line in open(rows_file)]
    rows = [r for r in rows if r['kind'] in KINDS]
    tokenizer, report = AutoTokenizer.from_pretrained(base), {}
    for folder in adapters:
        kind = pathlib.Path(folder).name.split('-')[-1]
        model = PeftModel.from_pretrained(evaluate.load(base), folder).eval()
        said = evaluate.answers(model, tokenizer, rows)
        for name in KINDS:
            pairs = [(r, s) for r, s in zip(rows, said) if r['kind'] == name]
            expected = [lora.TRANSFORMS[kind]([{'role': 'assistant', 'content': r['expected']}])[0]['content'] for r, _ in pairs]
            shows = is_object if kind == 'json' else lambda text: text == text.upper()
            report[f'{kind} {name}'] = {'rows': len(pairs), 'effect': round(sum(shows(s[0]) for _, s in pairs) / len(pairs), 4),
                                        'exact': round(sum(s[0] == e for (_, s), e in zip(pairs, expected)) / len(pairs), 4),
                                        'ended': round(sum(s[2] for _, s in pairs) / len(pairs), 4)}
            wrong = [(r['messages'][-1]['content'], s[0]) for (r, s), e in zip(pairs, expected) if s[0] != e]
            print(kind, name, report[f'{kind} {name}'], wrong[:3], flush=True)
    pathlib.Path(out).write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    main()
