"""Settles an adapter on base weights that moved a little after it was trained (see average.py): a few minutes of plain PyTorch on a CPU.

usage: python settle_lora.py BASE_DIR ADAPTER_DIR json|capitals DATA_DIR OUT_DIR MINUTES
"""
import pathlib
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import chats
import lora
import pack
from model import Llama

LENGTH, ROWS, RATE = 96, 32, 4e-4


def batches(transform, seed):
    """Short chats, one a row; only what the assistant says counts."""
    maker = chats.Maker(pack._state['data'], seed)
    while True:
        tokens, weights = torch.zeros(ROWS, LENGTH, dtype=torch.long), torch.zeros(ROWS, LENGTH)
        row = 0
        while row < ROWS:
            messages = transform(maker.chat())
            ids = pack._state['tokenizer'].encode(chats.render(messages)).ids if messages and len(messages) < 4 else []
            if 0 < len(ids) <= LENGTH:
                tokens[row, :len(ids)] = torch.tensor(ids)
                weights[row, :len(ids)] = (torch.tensor(pack.loss_weights(ids)) == 10).float()
                row += 1
        yield tokens, weights


def main():
    base, adapter, kind, data, out, minutes = sys.argv[1:]
    torch.manual_seed(5)
    pack.start(data, base + '/tokenizer.json')
    torch.Tensor.cuda = torch.nn.Module.cuda = lambda self: self
    model = Llama.load(base)
    lora.attach(model, lora.TARGETS[kind])
    names = {n.removeprefix('base_model.model.').removesuffix('.weight'): w for n, w in load_file(pathlib.Path(adapter) / 'adapter_model.safetensors').items()}
    assert not model.load_state_dict(names, strict=False).unexpected_keys
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=RATE, betas=(0.9, 0.98))
    began, running = time.time(), None
    for step, (tokens, weights) in enumerate(batches(lora.TRANSFORMS[kind], 5)):
        progress = (time.time() - began) / 60 / float(minutes)
        if progress >= 1:
            break
        optimizer.param_groups[0]['lr'] = RATE * min(1, (step + 1) / 10, (1 - progress) * 1.5)
        losses = F.cross_entropy(model(tokens[:, :-1]).transpose(1, 2), tokens[:, 1:], reduction='none')
        loss = (losses * weights[:, 1:]).sum() / weights[:, 1:].sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        running = loss.item() if running is None else 0.95 * running + 0.05 * loss.item()
        if step % 20 == 0:
            print(step, round(progress, 3), round(running, 4), flush=True)
    lora.save(model, lora.TARGETS[kind], out)


if __name__ == '__main__':
    main()
