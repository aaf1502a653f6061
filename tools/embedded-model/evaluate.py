"""Measures a model folder with HF transformers in float32, and writes what it measured as JSON.

usage: python evaluate.py MODEL_DIR --eval EVAL_JSONL --out FILE [--draft DIR] [--data DIR --books FILE] [--adapter DIR]
"""
import argparse
import collections
import json
import math
import pathlib

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import chats

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(DEVICE).eval()


@torch.no_grad()
def answers(model, tokenizer, rows, new_tokens=128, batch=256):
    """Greedy answers. Returns (text, token ids with the end token, ended) for each row."""
    tokenizer.padding_side = 'left'
    order, result = sorted(range(len(rows)), key=lambda i: -len(str(rows[i]['messages']))), {}
    for at in range(0, len(order), batch):
        picks = order[at:at + batch]
        prompts = [chats.render(rows[i]['messages'], generation=True) for i in picks]
        inputs = tokenizer(prompts, return_tensors='pt', padding=True, add_special_tokens=False).to(DEVICE)
        inputs.pop('token_type_ids', None)
        out = model.generate(**inputs, max_new_tokens=new_tokens, do_sample=False, eos_token_id=[2, 0], pad_token_id=0)
        for i, ids in zip(picks, out[:, inputs['input_ids'].shape[1]:].tolist()):
            stop = next((k for k, t in enumerate(ids) if t in (0, 2)), None)
            said = ids if stop is None else ids[:stop + 1]
            result[i] = (tokenizer.decode(said if stop is None else said[:-1]), said, stop is not None and ids[stop] == 2)
    return [result[i] for i in range(len(rows))]


def keys_right(text, keys):
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, dict) and list(value) == keys


def score(rows, said):
    table = collections.defaultdict(lambda: collections.Counter())
    for row, (text, _, ended) in zip(rows, said):
        counts = table[row['kind']]
        counts['rows'] += 1
        counts['exact'] += text == row['expected'] and ended
        counts['ended'] += ended
        if 'keys' in row:
            counts['json_rows'] += 1
            counts['json_valid_with_keys'] += keys_right(text, row['keys'])
    return {kind: {'rows': c['rows'], 'exact': round(c['exact'] / c['rows'], 4), 'ended': round(c['ended'] / c['rows'], 4)}
            | ({'json_valid_with_keys': round(c['json_valid_with_keys'] / c['json_rows'], 4), 'json_rows': c['json_rows']} if c['json_rows'] else {}) for kind, c in table.items()}


@torch.no_grad()
def acceptance(draft, tokenizer, rows, said):
    """The share of the main model's greedy tokens that the draft, given the same prefix, would have chosen too."""
    right = total = 0
    for row, (_, ids, _) in zip(rows, said):
        prompt = tokenizer(chats.render(row['messages'], generation=True), add_special_tokens=False)['input_ids']
        logits = draft(torch.tensor([prompt + ids[:-1]], device=DEVICE)).logits[0, len(prompt) - 1:]
        right += sum(a == b for a, b in zip(logits.argmax(-1).tolist(), ids))
        total += len(ids)
    return round(right / total, 4)


@torch.no_grad()
def perplexity_of_chats(model, tokenizer, rows):
    """Perplexity of the expected answers (with <|im_end|>), per token."""
    loss = count = 0
    for row in rows:
        prompt = tokenizer(chats.render(row['messages'], generation=True), add_special_tokens=False)['input_ids']
        ids = tokenizer(row['expected'] + '<|im_end|>', add_special_tokens=False)['input_ids']
        logits = model(torch.tensor([prompt + ids], device=DEVICE)).logits[0, len(prompt) - 1:-1]
        loss += torch.nn.functional.cross_entropy(logits, torch.tensor(ids, device=DEVICE), reduction='sum').item()
        count += len(ids)
    return round(math.exp(loss / count), 4)


@torch.no_grad()
def perplexity_of_books(model, folder, data, books):
    import pack
    tokens = torch.from_numpy(pack.make_books(data, str(folder / 'tokenizer.json'), books, heldout=True)[0].astype('int64'))
    loss = sum(torch.nn.functional.cross_entropy(model(part[:, :-1].to(DEVICE)).logits.flatten(0, 1), part[:, 1:].flatten().to(DEVICE), reduction='sum').item() for part in tokens.split(16))
    return {'tokens': tokens[:, 1:].numel(), 'perplexity': round(math.exp(loss / tokens[:, 1:].numel()), 3)}


def main():
    p = argparse.ArgumentParser()
    p.add_argument('model'), p.add_argument('--eval', required=True), p.add_argument('--out', required=True)
    p.add_argument('--draft'), p.add_argument('--data'), p.add_argument('--books'), p.add_argument('--show', type=int, default=12)
    options = p.parse_args()
    rows = [json.loads(line) for line in open(options.eval)]
    model, tokenizer = load(options.model), AutoTokenizer.from_pretrained(options.model)
    said = answers(model, tokenizer, rows)
    report = {'kinds': score(rows, said)}
    define = [i for i, r in enumerate(rows) if r['kind'] == 'define']
    report['chat_perplexity'] = perplexity_of_chats(model, tokenizer, [rows[i] for i in define])
    if options.draft:
        draft = load(options.draft)
        report['draft_acceptance'] = acceptance(draft, tokenizer, [rows[i] for i in define], [said[i] for i in define])
        every = [i for i, r in enumerate(rows) if r['word']]
        report['draft_acceptance_all_word_questions'] = acceptance(draft, tokenizer, [rows[i] for i in every], [said[i] for i in every])
    if options.books:
        report['books'] = perplexity_of_books(model, pathlib.Path(options.model), options.data, options.books)
    pathlib.Path(options.out).write_text(json.dumps(report, indent=2) + '\n')
    wrong = [(r, s) for r, s in zip(rows, said) if s[0] != r['expected']]
    for row, (text, _, _) in wrong[::max(1, len(wrong) // max(1, options.show))]:
        print(row['kind'], '|', row['messages'][-1]['content'], '|', row['expected'], '|', text)
    print(json.dumps(report, indent=1))


if __name__ == '__main__':
    main()
