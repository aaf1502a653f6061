"""Writes golden.json for the base model, the draft model and the adapters, from HF transformers in float32 on a CPU.

usage: python goldens.py MODELS_DIR
Each prompt: the messages (or null for plain text), the rendered text, its token ids, the greedy continuation (ids and text, the end token
included), the ten highest next-token logits and log-probabilities after the prompt, and the logits of a few fixed token ids.
"""
import json
import pathlib
import sys

import torch
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import chats

NEW_TOKENS = 64
FIXED = [0, 1, 2, 3, 100, 1000, 2000, 3000, 4095]
QUESTIONS = [
    [{'role': 'user', 'content': 'What is a lighthouse?'}],
    [{'role': 'user', 'content': 'define robot'}],
    [{'role': 'user', 'content': 'What is 48 + 26?'}],
    [{'role': 'user', 'content': 'Who are you?'}],
    [{'role': 'user', 'content': 'Define harbor as JSON with keys word, part_of_speech, definition'}],
    [{'role': 'user', 'content': 'What does florbish mean?'}],
    [{'role': 'system', 'content': 'You are Nereid, a dictionary assistant.'}, {'role': 'user', 'content': 'What does it mean to wander?'},
     {'role': 'assistant', 'content': 'wander (verb): move or cause to move in a sinuous, spiral, or circular course.'}, {'role': 'user', 'content': 'Is it a noun?'}],
]
TEXTS = ['Once upon a time there was', '日本 é 🙂 1234']
PERPLEXITY_TEXT = 'A hungry Fox saw some fine bunches of Grapes hanging from a vine that was trained along a high trellis, and did his best to reach them.'


def numbers(values):
    return [round(v, 5) for v in values]


@torch.no_grad()
def golden(model, tokenizer, messages, text):
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) if messages else text
    assert not messages or prompt == chats.render(messages, generation=True)
    ids = tokenizer(prompt, add_special_tokens=False)['input_ids']
    inputs = torch.tensor([ids])
    logits = model(inputs).logits[0, -1]
    top = torch.topk(logits, 10)
    out = model.generate(inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=[2, 0], pad_token_id=0)[0, len(ids):].tolist()
    # The least lead of the chosen token over the next best: where it is tiny, another order of summation may choose differently.
    rows = model(torch.tensor([ids + out[:-1]])).logits[0, len(ids) - 1:].topk(2).values
    return {'messages': messages, 'prompt': prompt, 'prompt_ids': ids, 'greedy_ids': out, 'greedy_text': tokenizer.decode(out, skip_special_tokens=True),
            'least_lead': round((rows[:, 0] - rows[:, 1]).min().item(), 5),
            'top': [{'id': i, 'logit': round(v, 5), 'logprob': round(p, 5)} for i, v, p in zip(top.indices.tolist(), top.values.tolist(), torch.log_softmax(logits, -1)[top.indices].tolist())],
            'logits_at': {'ids': FIXED, 'values': numbers(logits[FIXED].tolist())}}


@torch.no_grad()
def write(model, tokenizer, folder, note):
    ids = tokenizer(PERPLEXITY_TEXT, add_special_tokens=False)['input_ids']
    log_probabilities = torch.log_softmax(model(torch.tensor([ids])).logits[0], -1)
    each = [log_probabilities[i, t].item() for i, t in enumerate(ids[1:])]
    result = {'note': f'{note} HF transformers {transformers.__version__}, float32 on a CPU, weights as stored (bf16, adapters f32). Greedy; stops at <|im_end|> (2) or <|endoftext|> (0), '
                      f'or after {NEW_TOKENS} tokens.',
              'prompts': [golden(model, tokenizer, m, None) for m in QUESTIONS] + [golden(model, tokenizer, None, t) for t in TEXTS],
              'perplexity_check': {'text': PERPLEXITY_TEXT, 'ids': ids, 'logprobs': numbers(each), 'mean_logprob': round(sum(each) / len(each), 6)}}
    (folder / 'golden.json').write_text(json.dumps(result, indent=1, ensure_ascii=False) + '\n')
    for prompt in result['prompts']:
        print(folder.name, '|', prompt['prompt'][-60:].replace('\n', ' '), '|', prompt['greedy_text'], '|', prompt['least_lead'])


def main():
    models = pathlib.Path(sys.argv[1])
    tokenizer = AutoTokenizer.from_pretrained(models / 'nereid-16m')

    def load(name):
        return AutoModelForCausalLM.from_pretrained(models / name, dtype=torch.float32).eval()
    for name in ('nereid-16m', 'nereid-draft'):
        write(load(name), tokenizer, models / name, '')
    for folder in sorted(models.glob('nereid-16m-lora-*')):
        write(PeftModel.from_pretrained(load('nereid-16m'), folder).eval(), tokenizer, folder, 'With the adapter applied by PEFT, unmerged, over ../nereid-16m.')


if __name__ == '__main__':
    main()
