"""Trains the base model. Matrices with Muon, embeddings and norms with AdamW; warm-up, then a linear fall to zero.

usage: python train.py --data DIR --books FILE --tokenizer FILE --out DIR --minutes 10
The number of steps follows from --steps, or from --minutes after the speed has been measured.
"""
import argparse
import json
import math
import pathlib
import time

import torch
import torch.nn.functional as F

import pack
from model import Config, Llama, document_mask

compiled_mask = torch.compile(document_mask, dynamic=False)


class Rows:
    """Packed rows on the GPU, drawn without repetition until all have been seen."""

    def __init__(self, arrays, seed):
        self.tokens, self.documents, self.weights = (torch.from_numpy(a.view('int16') if a.dtype == 'uint16' else a).cuda() for a in arrays)
        self.generator = torch.Generator('cuda').manual_seed(seed)
        self.order, self.at, self.passes = None, 0, 0

    def draw(self, count):
        if count == 0:
            return torch.empty(0, dtype=torch.long, device='cuda')
        if self.order is None or self.at + count > len(self.order):
            self.order, self.at, self.passes = torch.randperm(len(self.tokens), generator=self.generator, device='cuda'), 0, self.passes + 1
        self.at += count
        return self.order[self.at - count:self.at]


def batch(sources, counts):
    picks = [s.draw(n) for s, n in zip(sources, counts)]
    joined = [torch.cat([getattr(s, name)[p] for s, p in zip(sources, picks)]) for name in ('tokens', 'documents', 'weights')]
    return joined[0].long(), joined[1].int(), joined[2].float() / 10


def loss_of(model, tokens, documents, weights):
    mask = compiled_mask(documents[:, :-1].contiguous())
    with torch.autocast('cuda', torch.bfloat16):
        logits = model(tokens[:, :-1], mask)
    losses = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction='none')
    weights = weights[:, 1:].flatten()
    return (losses * weights).sum() / weights.sum().clamp(min=1)


def optimizers(model, rate, decay):
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and 'embed' not in n]
    others = [p for n, p in model.named_parameters() if p.dim() != 2 or 'embed' in n]
    return [torch.optim.Muon(matrices, lr=rate, weight_decay=decay, momentum=0.95, adjust_lr_fn='match_rms_adamw'),
            torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)]


class Clock:
    """How far training is, in [0, 1): by steps where given, else by the time left."""

    def __init__(self, steps, minutes):
        self.steps, self.seconds, self.start = steps, minutes * 60, None

    def progress(self, step):
        if self.steps:
            return step / self.steps
        if step == 20:  # compilation is behind us
            torch.cuda.synchronize()
            self.start = time.time()
        return 0.0 if self.start is None else (time.time() - self.start) / self.seconds


def schedule(progress, peak):
    return peak * max(0.0, min(1.0, (progress + 0.0005) / 0.01, (1 - progress) / 0.6))


def train(model, sources, mix, options, loss_function=loss_of, log=None):
    """mix(progress) -> the share of the last source (books) in a batch."""
    compiled = torch.compile(model)
    opts = optimizers(model, options.rate, options.decay)
    clock, step, history, running, began = Clock(options.steps, options.minutes), 0, [], None, time.time()
    while (progress := clock.progress(step)) < 1:
        for opt in opts:
            for group in opt.param_groups:
                group['lr'] = schedule(progress, options.rate)
        books = round(options.rows * mix(progress)) if len(sources) > 1 else 0
        counts = [options.rows - books, books] if len(sources) > 1 else [options.rows]
        loss = loss_function(compiled, *batch(sources, counts))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        running = loss.detach() if running is None else running * 0.98 + loss.detach() * 0.02
        step += 1
        if step % 100 == 0:
            history.append({'step': step, 'tokens': step * options.rows * 1024, 'loss': round(running.item(), 4), 'progress': round(progress, 4), 'seconds': round(time.time() - began, 1)})
            if step % 500 == 0 or step == 100:
                print(history[-1], 'passes', [s.passes for s in sources], flush=True)
            if not math.isfinite(history[-1]['loss']):
                raise SystemExit('the loss is not finite')
            if log:
                pathlib.Path(log).write_text(json.dumps(history))
        elif step == 1:
            print('first loss', loss.item(), 'after', round(time.time() - began, 1), 's', flush=True)
    return history


def parser():
    p = argparse.ArgumentParser()
    p.add_argument('--data', required=True), p.add_argument('--books'), p.add_argument('--tokenizer', required=True), p.add_argument('--out', required=True)
    p.add_argument('--log'), p.add_argument('--init')
    p.add_argument('--minutes', type=float, default=10), p.add_argument('--steps', type=int, default=0)
    p.add_argument('--rows', type=int, default=64), p.add_argument('--rate', type=float, default=3e-3), p.add_argument('--decay', type=float, default=0.02)
    p.add_argument('--shards', type=int, default=96), p.add_argument('--seed', type=int, default=1)
    return p


def main():
    options = parser().parse_args()
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision('high')
    began = time.time()
    chats = pack.make_chats(options.data, options.tokenizer, options.seed, options.shards)
    print('chats', chats[0].shape, 'filled', (chats[1] != 255).mean(), round(time.time() - began, 1), 's', flush=True)
    books = pack.make_books(options.data, options.tokenizer, options.books)
    print('books', books[0].shape, round(time.time() - began, 1), 's', flush=True)
    model = (Llama.load(options.init) if options.init else Llama(Config())).cuda()
    print(sum(p.numel() for p in model.parameters()), 'parameters', flush=True)
    history = train(model, [Rows(chats, 1), Rows(books, 2)], lambda progress: 0.08 if options.init else max(0.12, 0.5 - 1.2 * progress), options, log=options.log)
    model.save(options.out)
    print(history[-1])


if __name__ == '__main__':
    main()
