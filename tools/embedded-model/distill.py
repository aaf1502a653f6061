"""Trains the draft model to say what the main model would say: cross-entropy with the main model's probabilities.

usage: python distill.py MAIN_DIR --data DIR --tokenizer FILE --out DIR --minutes 4
"""
import sys
import time

import torch
import torch.nn.functional as F

import pack
import train
from model import DRAFT, Llama


def mostly_dictionary(messages):
    """Keeps every chat about words, and one in four of the others."""
    first = messages[-1]['content']
    return messages if ' (' in first or first.startswith('{') or len(first) % 4 == 0 else None


def soft_cross_entropy(logits, teacher, weights):
    losses = -(F.softmax(teacher.float(), -1) * F.log_softmax(logits.float(), -1)).sum(-1)
    return (losses * weights).sum() / weights.sum().clamp(min=1)


def distillation_loss(main):
    compiled, soft = torch.compile(main), torch.compile(soft_cross_entropy)

    def loss(draft, tokens, documents, weights):
        mask = train.compiled_mask(documents[:, :-1].contiguous())
        with torch.autocast('cuda', torch.bfloat16):
            with torch.no_grad():
                teacher = compiled(tokens[:, :-1], mask)
            logits = draft(tokens[:, :-1], mask)
        return soft(logits, teacher, weights[:, 1:])
    return loss


def main():
    main_dir = sys.argv.pop(1)
    options = train.parser().parse_args()
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision('high')
    began = time.time()
    chats = pack.make_chats(options.data, options.tokenizer, options.seed + 1000, options.shards, transform=mostly_dictionary)
    print('chats', chats[0].shape, round(time.time() - began, 1), 's', flush=True)
    teacher = Llama.load(main_dir).cuda().requires_grad_(False)
    draft = (Llama.load(options.init) if options.init else Llama(DRAFT)).cuda()
    print(sum(p.numel() for p in draft.parameters()), 'parameters', flush=True)
    history = train.train(draft, [train.Rows(chats, 1)], None, options, distillation_loss(teacher), log=options.log)
    draft.save(options.out)
    print(history[-1])


if __name__ == '__main__':
    main()
