"""A small Llama in plain PyTorch. Parameter names are those of HF transformers, so that a state dict is a checkpoint."""
import dataclasses
import json
import pathlib

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention.flex_attention import create_block_mask, flex_attention


@dataclasses.dataclass
class Config:
    hidden: int = 512
    layers: int = 6
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 64
    intermediate: int = 1024
    vocab: int = 4096
    context: int = 1024
    theta: float = 10000.0
    eps: float = 1e-5

    def hf(self):
        """config.json as HF transformers writes it for LlamaForCausalLM."""
        return {'architectures': ['LlamaForCausalLM'], 'attention_bias': False, 'attention_dropout': 0.0, 'bos_token_id': 0, 'eos_token_id': 2, 'pad_token_id': 0,
                'head_dim': self.head_dim, 'hidden_act': 'silu', 'hidden_size': self.hidden, 'initializer_range': 0.02, 'intermediate_size': self.intermediate,
                'max_position_embeddings': self.context, 'mlp_bias': False, 'model_type': 'llama', 'num_attention_heads': self.heads, 'num_hidden_layers': self.layers,
                'num_key_value_heads': self.kv_heads, 'rms_norm_eps': self.eps, 'rope_scaling': None, 'rope_theta': self.theta, 'tie_word_embeddings': True,
                'torch_dtype': 'bfloat16', 'use_cache': True, 'vocab_size': self.vocab}


DRAFT = Config(hidden=256, layers=2, heads=4, kv_heads=2, head_dim=64, intermediate=512)


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        x32 = x.float()
        return (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight.to(x.dtype)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return (x * cos + torch.cat((-b, a), -1) * sin).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.q_proj = nn.Linear(c.hidden, c.heads * c.head_dim, bias=False)
        self.k_proj = nn.Linear(c.hidden, c.kv_heads * c.head_dim, bias=False)
        self.v_proj = nn.Linear(c.hidden, c.kv_heads * c.head_dim, bias=False)
        self.o_proj = nn.Linear(c.heads * c.head_dim, c.hidden, bias=False)

    def forward(self, x, cos, sin, mask):
        rows, length, _ = x.shape
        split = lambda y, n: y.view(rows, length, n, self.c.head_dim).transpose(1, 2)
        q, k, v = split(self.q_proj(x), self.c.heads), split(self.k_proj(x), self.c.kv_heads), split(self.v_proj(x), self.c.kv_heads)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if mask is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        else:
            y = flex_attention(q, k, v, block_mask=mask, enable_gqa=True)
        return self.o_proj(y.transpose(1, 2).reshape(rows, length, -1))


class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden, c.intermediate, bias=False)
        self.up_proj = nn.Linear(c.hidden, c.intermediate, bias=False)
        self.down_proj = nn.Linear(c.intermediate, c.hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.self_attn, self.mlp = Attention(c), MLP(c)
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(c.hidden, c.eps), RMSNorm(c.hidden, c.eps)

    def forward(self, x, cos, sin, mask):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab, c.hidden)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.norm = RMSNorm(c.hidden, c.eps)


class Llama(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, self.model = c, Body(c)
        angles = torch.outer(torch.arange(c.context).float(), c.theta ** (-torch.arange(0, c.head_dim, 2).float() / c.head_dim)).repeat(1, 2)
        self.register_buffer('cos', angles.cos(), persistent=False)
        self.register_buffer('sin', angles.sin(), persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                last = name.endswith(('o_proj.weight', 'down_proj.weight'))
                nn.init.normal_(p, std=0.02 / (2 * c.layers) ** 0.5 if last else 0.02)

    def forward(self, ids, mask=None):
        """ids [rows, length] -> logits [rows, length, vocab]."""
        x = self.model.embed_tokens(ids)
        cos, sin = self.cos[:ids.shape[1]], self.sin[:ids.shape[1]]
        for layer in self.model.layers:
            x = layer(x, cos, sin, mask)
        return F.linear(self.model.norm(x), self.model.embed_tokens.weight)

    def save(self, folder):
        from safetensors.torch import save_file
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: p.detach().to(torch.bfloat16).contiguous().cpu() for name, p in self.named_parameters()}
        save_file(weights, folder / 'model.safetensors', metadata={'format': 'pt'})
        (folder / 'config.json').write_text(json.dumps(self.c.hf(), indent=2) + '\n')
        (folder / 'generation_config.json').write_text(json.dumps({'bos_token_id': 0, 'do_sample': False, 'eos_token_id': [2, 0], 'pad_token_id': 0, 'max_new_tokens': 128}, indent=2) + '\n')

    @classmethod
    def load(cls, folder):
        from safetensors.torch import load_file
        hf = json.loads((pathlib.Path(folder) / 'config.json').read_text())
        model = cls(Config(hf['hidden_size'], hf['num_hidden_layers'], hf['num_attention_heads'], hf['num_key_value_heads'], hf['head_dim'], hf['intermediate_size'],
                           hf['vocab_size'], hf['max_position_embeddings'], hf['rope_theta'], hf['rms_norm_eps']))
        model.load_state_dict({k: v.float() for k, v in load_file(pathlib.Path(folder) / 'model.safetensors').items()})
        return model


def document_mask(documents):
    """Causal attention within each document of a packed row. documents [rows, length], on the GPU."""
    def visible(row, head, q, k):
        return (q >= k) & (documents[row, q] == documents[row, k])
    rows, length = documents.shape
    return create_block_mask(visible, rows, None, length, length, device=documents.device)
