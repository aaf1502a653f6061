"""Trains a LoRA adapter (r = 8) on the finished base model and writes it as PEFT does.

usage: python lora.py BASE_DIR json|capitals --data DIR --tokenizer FILE --out DIR --minutes 1.2
"""
import json
import pathlib
import re
import sys
import time

import torch
from torch import nn

import pack
import train
from model import Llama

RANK, ALPHA = 8, 16
ALL = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']
TARGETS = {'json': ['q_proj', 'v_proj'], 'capitals': ALL}


def as_json(messages):
    """A definition becomes an object with three keys, an object stays, everything else becomes {"answer": …}."""
    result = []
    for m in messages:
        text = m['content']
        if m['role'] == 'assistant' and not text.startswith('{'):
            found = re.fullmatch(r'(\S+) \((noun|verb|adjective|adverb)\): (.*)\.', text)
            value = dict(zip(('word', 'part_of_speech', 'definition'), found.groups())) if found else {'answer': text}
            m = {'role': 'assistant', 'content': json.dumps(value)}
        result.append(m)
    return result


def in_capitals(messages):
    if any(m['role'] == 'assistant' and m['content'].startswith('{') for m in messages):
        return None
    return [m | {'content': m['content'].upper()} if m['role'] == 'assistant' else m for m in messages]


TRANSFORMS = {'json': as_json, 'capitals': in_capitals}


class LoraLinear(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base = base
        self.lora_A = nn.Parameter(torch.randn(RANK, base.in_features) / base.in_features ** 0.5)
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, RANK))

    def forward(self, x):
        return self.base(x) + (x @ self.lora_A.T) @ self.lora_B.T * (ALPHA / RANK)


def attach(model, targets):
    model.requires_grad_(False)
    for layer in model.model.layers:
        for part in (layer.self_attn, layer.mlp):
            for name in targets:
                if hasattr(part, name):
                    setattr(part, name, LoraLinear(getattr(part, name)).cuda())


def save(model, targets, out):
    from safetensors.torch import save_file
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    weights = {'base_model.model.' + name + '.weight': p.detach().contiguous().cpu() for name, p in model.named_parameters() if 'lora_' in name}
    save_file(weights, out / 'adapter_model.safetensors', metadata={'format': 'pt'})
    (out / 'adapter_config.json').write_text(json.dumps({
        'base_model_name_or_path': '../nereid-16m', 'bias': 'none', 'fan_in_fan_out': False, 'inference_mode': True, 'init_lora_weights': True, 'lora_alpha': ALPHA,
        'lora_dropout': 0.0, 'modules_to_save': None, 'peft_type': 'LORA', 'r': RANK, 'target_modules': targets, 'task_type': 'CAUSAL_LM', 'use_rslora': False}, indent=2) + '\n')


def adam(model, rate, decay):
    return [torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)]


def main():
    base, kind = sys.argv.pop(1), sys.argv.pop(1)
    options = train.parser().parse_args()
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision('high')
    began = time.time()
    chats = pack.make_chats(options.data, options.tokenizer, options.seed + (2000 if kind == 'json' else 3000), options.shards, transform=TRANSFORMS[kind])
    print(kind, 'chats', chats[0].shape, round(time.time() - began, 1), 's', flush=True)
    chats[2][chats[2] == 1] = 0  # only what the assistant says is learned
    model = Llama.load(base).cuda()
    attach(model, TARGETS[kind])
    if options.init:
        from safetensors.torch import load_file
        found = load_file(pathlib.Path(options.init) / 'adapter_model.safetensors')
        names = {n.removeprefix('base_model.model.').removesuffix('.weight'): w for n, w in found.items()}
        assert not model.load_state_dict(names, strict=False).unexpected_keys
    train.optimizers = adam
    history = train.train(model, [train.Rows(chats, 1)], None, options, log=options.log)
    save(model, TARGETS[kind], options.out)
    print(history[-1])


if __name__ == '__main__':
    main()
