"""Trains an EAGLE-style draft head for the main model: one decoder layer over (embedding of a token, the main model's last hidden state before it),
which predicts the next hidden state; the main model's own output matrix makes tokens of it.

Row q of the head takes the hidden state of position q and token q + 1, and predicts token q + 2. It is trained as it runs: in step 0 every row has the
main model's hidden state, in step s the one that the head itself made s steps of drafting after a true one; and it sees an answer only, never the prompt
before it, since that is all that a server has hidden states of.

usage: python eagle.py MAIN_DIR --data DIR --tokenizer FILE --out DIR --minutes 2
"""
import json
import pathlib
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

import pack
import train
from model import MLP, Config, Llama, RMSNorm, rotate

STEPS = 4
STEP_WEIGHTS = [1.0, 0.9, 0.8, 0.7]
HEAD = Config(layers=1, heads=8, kv_heads=2, head_dim=64, intermediate=640)


class HeadLayer(nn.Module):
    """A Llama layer whose attention looks at the keys of all drafting steps so far."""

    def __init__(self, c):
        super().__init__()
        self.self_attn, self.mlp = nn.Module(), MLP(c)
        self.c = c
        a = self.self_attn
        a.q_proj = nn.Linear(c.hidden, c.heads * c.head_dim, bias=False)
        a.k_proj = nn.Linear(c.hidden, c.kv_heads * c.head_dim, bias=False)
        a.v_proj = nn.Linear(c.hidden, c.kv_heads * c.head_dim, bias=False)
        a.o_proj = nn.Linear(c.heads * c.head_dim, c.hidden, bias=False)
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(c.hidden, c.eps), RMSNorm(c.hidden, c.eps)

    def forward(self, x, cos, sin, keys, values, mask):
        rows, length, _ = x.shape
        c, a = self.c, self.self_attn
        split = lambda y, n: y.view(rows, length, n, c.head_dim).transpose(1, 2)
        h = self.input_layernorm(x)
        q, k, v = split(a.q_proj(h), c.heads), split(a.k_proj(h), c.kv_heads), split(a.v_proj(h), c.kv_heads)
        keys, values = keys + [rotate(k, cos, sin)], values + [v]
        y = flex_attention(rotate(q, cos, sin), torch.cat(keys, 2), torch.cat(values, 2), block_mask=mask, enable_gqa=True)
        x = x + a.o_proj(y.transpose(1, 2).reshape(rows, length, -1))
        return x + self.mlp(self.post_attention_layernorm(x)), keys, values


class Head(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.fc = nn.Linear(2 * c.hidden, c.hidden, bias=False)
        self.layers = nn.ModuleList([HeadLayer(c)])
        self.norm = RMSNorm(c.hidden, c.eps)
        angles = torch.outer(torch.arange(c.context).float(), c.theta ** (-torch.arange(0, c.head_dim, 2).float() / c.head_dim)).repeat(1, 2)
        self.register_buffer('cos', angles.cos(), persistent=False)
        self.register_buffer('sin', angles.sin(), persistent=False)
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, embedded, hidden, masks):
        """embedded [rows, length, width] of the next token, hidden [rows, length, width] -> the hidden states of every step."""
        cos, sin = self.cos[:hidden.shape[1]], self.sin[:hidden.shape[1]]
        keys, values, made = [], [], []
        for step in range(STEPS):
            x = self.fc(torch.cat((embedded, hidden), -1))
            x, keys, values = self.layers[0](x, cos, sin, keys, values, masks[step])
            made.append(self.norm(x))
            # What row q made is what row q + 1 starts from one step later.
            hidden = F.pad(made[-1][:, :-1], (0, 0, 1, 0))
        return made

    def save(self, folder):
        from safetensors.torch import save_file
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {n: p.detach().to(torch.float16 if p.dim() == 2 else torch.float32).contiguous().cpu() for n, p in self.named_parameters()}
        save_file(weights, folder / 'model.safetensors', metadata={'format': 'pt'})
        hf = self.c.hf() | {'architectures': ['EagleLlamaForCausalLM'], 'model_type': 'eagle', 'torch_dtype': 'float16'}
        (folder / 'config.json').write_text(json.dumps(hf, indent=2) + '\n')


def step_mask(documents, answers, step):
    """Row q of a step sees true rows up to q - step of its answer, and of each drafting step between them its own chain's row."""
    rows, length = documents.shape

    def visible(row, head, q, k):
        before, at = k // length, k % length
        own = torch.where(before == 0, at <= q - step, at == q - (step - before))
        # The row itself always counts: one without any would be NaN.
        return (own & (answers[row, q] == answers[row, at]) & (documents[row, q] == documents[row, at])) | (k == step * length + q)
    return create_block_mask(visible, rows, None, length, (step + 1) * length, device=documents.device)


compiled_step_mask = torch.compile(step_mask, dynamic=False)


def answers_of(tokens, weights):
    """Numbers of answers: rows whose next token the assistant says count, each answer by itself; others see only themselves."""
    said = weights[:, 1:] > 0.5
    turns = (tokens == pack.START).cumsum(1)[:, :-1]
    alone = torch.arange(said.shape[1], device=tokens.device) + 100_000
    return torch.where(said, turns, alone).int()


def soft_loss(logits, teacher, weights):
    losses = -(F.softmax(teacher.float(), -1) * F.log_softmax(logits.float(), -1)).sum(-1)
    return (losses * weights).sum() / weights.sum().clamp(min=1)


def held(logits, teacher, weights):
    """The share of greedy drafts that are what the main model says."""
    same = (logits.argmax(-1) == teacher.argmax(-1)).float()
    return (same * weights).sum() / weights.sum().clamp(min=1)


class Trainer:
    def __init__(self, main):
        self.main, self.embedding, self.rates = main, main.model.embed_tokens.weight, None
        self.hidden = torch.compile(self.hidden_of)

    def hidden_of(self, ids, mask):
        body = self.main.model
        x, cos, sin = body.embed_tokens(ids), self.main.cos[:ids.shape[1]], self.main.sin[:ids.shape[1]]
        for layer in body.layers:
            x = layer(x, cos, sin, mask)
        return body.norm(x)

    def __call__(self, head, tokens, documents, weights):
        # 1,024 rows: positions 0 … 1022 pair with the next token; the last one is padding.
        ids = tokens[:, :-1].contiguous()
        own = documents[:, :-1].contiguous()
        answers = answers_of(tokens, weights)
        with torch.autocast('cuda', torch.bfloat16):
            with torch.no_grad():
                hidden = self.hidden(ids, train.compiled_mask(own))
                teacher = F.linear(hidden, self.embedding)
                embedded = F.embedding(tokens[:, 1:], self.embedding)
            masks = [compiled_step_mask(own, answers, step) for step in range(STEPS)]
            made = head(embedded, hidden, masks)
            total, rates = 0, []
            # Row q predicts token q + 2, which the main model predicts in row q + 1.
            for step, state in enumerate(made):
                logits = F.linear(state[:, :-1], self.embedding)
                valid = (weights[:, 1:-1] > 0.5) & (weights[:, 2:] > 0.5)
                if step:
                    # Its chain's true row must be of the same answer.
                    valid = valid & (answers[:, :-1] == F.pad(answers[:, :-1], (step, 0), value=-1)[:, :-step])
                valid = valid.float()
                total = total + STEP_WEIGHTS[step] * soft_compiled(logits, teacher[:, 1:], valid)
                rates.append(held(logits.detach(), teacher[:, 1:], valid))
        self.rates = torch.stack(rates).detach()
        return total


soft_compiled = torch.compile(soft_loss)


def evaluate(trainer, head, rows, count=8):
    compiled = torch.compile(head)
    with torch.no_grad():
        rates = []
        for _ in range(count):
            trainer(compiled, *train.batch([rows], [64]))
            rates.append(trainer.rates)
    return [round(r, 4) for r in torch.stack(rates).mean(0).tolist()]


def main():
    main_dir = sys.argv.pop(1)
    options = train.parser().parse_args()
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision('high')
    began = time.time()
    chats = pack.make_chats(options.data, options.tokenizer, options.seed + 5000, options.shards)
    kept = len(chats[0]) - 1024
    print('chats', chats[0].shape, round(time.time() - began, 1), 's', flush=True)
    teacher = Llama.load(main_dir).cuda().requires_grad_(False)
    head = Head(HEAD).cuda()
    print(sum(p.numel() for p in head.parameters()), 'parameters', flush=True)
    trainer = Trainer(teacher)
    history = train.train(head, [train.Rows([a[:kept] for a in chats], 1)], None, options, trainer, log=options.log)
    head.save(options.out)
    rates = evaluate(trainer, head, train.Rows([a[kept:] for a in chats], 2))
    print(history[-1], 'greedy drafts held, by step:', rates, flush=True)
    (pathlib.Path(options.out) / 'training.json').write_text(json.dumps({'loss': history[-1]['loss'], 'steps': history[-1]['step'], 'held': rates}) + '\n')


if __name__ == '__main__':
    main()
