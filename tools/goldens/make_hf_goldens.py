"""Makes test/goldens/hf: tiny random checkpoints of each model family in Hugging Face layout, and transformers' float32 logits.

Run with PyTorch and transformers 5 (what the committed files were made with stands in each golden.json):

    python tools/goldens/make_hf_goldens.py test/goldens/hf

Tests read the result; they need no Python.
"""

import json
import pathlib
import sys

import numpy
import torch
import transformers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCABULARY = 256
# Logits of every position of these prompts are kept.
PROMPT_LENGTHS = [1, 7, 24]


def decoder(config_class, model_class, **changes):
    """Two layers of width 64, grouped heads unless changed, as float32."""
    settings = dict(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
    )
    settings.update(changes)
    return model_class, config_class(**settings)


def rope(kind, **values):
    return {"rope_type": kind, "rope_theta": 10000.0, **values}


# name -> (model class, config)
MODELS = {
    "llama2": decoder(LlamaConfig, LlamaForCausalLM, num_key_value_heads=4),
    "llama3": decoder(
        LlamaConfig,
        LlamaForCausalLM,
        rope_parameters={
            **rope("llama3"),
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    ),
    "llama-linear": decoder(LlamaConfig, LlamaForCausalLM, rope_parameters=rope("linear", factor=4.0)),
    "llama-yarn": decoder(
        LlamaConfig,
        LlamaForCausalLM,
        rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=32),
    ),
    "llama-bias": decoder(LlamaConfig, LlamaForCausalLM, attention_bias=True, mlp_bias=True),
    "mistral": decoder(MistralConfig, MistralForCausalLM, sliding_window=8, head_dim=32),
    "smollm": decoder(
        LlamaConfig, LlamaForCausalLM, tie_word_embeddings=True, num_attention_heads=2, num_key_value_heads=1
    ),
    "qwen2": decoder(Qwen2Config, Qwen2ForCausalLM, tie_word_embeddings=True),
    "qwen3": decoder(Qwen3Config, Qwen3ForCausalLM, head_dim=32),
    "gpt2": (
        GPT2LMHeadModel,
        GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=64,
            n_layer=2,
            n_head=4,
            n_positions=64,
            bos_token_id=1,
            eos_token_id=2,
        ),
    ),
}


def randomize(model, generator):
    """Weights large enough that every op matters: fresh models start with zero biases and unit norms."""
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name or ".ln_" in name:
                parameter.copy_(noise * 0.2 + (0.0 if name.endswith("bias") else 1.0))
            elif parameter.dim() == 1:
                parameter.copy_(noise * 0.2)
            else:
                parameter.copy_(noise * (1.0 if "embed" in name or ".wte" in name else 0.125))


def make(name, seed, root):
    model_class, config = MODELS[name]
    # Eager attention is the plain definition; the others may round differently.
    config._attn_implementation = "eager"
    model = model_class(config).to(torch.float32).eval()
    generator = torch.Generator().manual_seed(seed)
    randomize(model, generator)
    model.tie_weights()
    prompts, logits = [], []
    for length in PROMPT_LENGTHS:
        ids = torch.randint(3, VOCABULARY, (1, length), generator=generator)
        with torch.no_grad():
            result = model(input_ids=ids).logits[0]
        prompts.append(ids[0].tolist())
        logits.append(result.to(torch.float32).numpy())
    folder = root / name
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "generation_config.json").unlink(missing_ok=True)
    numpy.concatenate(logits).astype("<f4").tofile(folder / "logits.f32")
    golden = {
        "made_with": {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__},
        "seed": seed,
        "note": "logits.f32: little-endian float32 [sum of prompt lengths, vocabulary], prompt after prompt",
        "vocabulary": VOCABULARY,
        "prompts": prompts,
    }
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    print(name, f"|logits| {numpy.abs(logits[-1]).mean():.3f}")


def main():
    root = pathlib.Path(sys.argv[1])
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    for seed, name in enumerate(MODELS, start=1):
        make(name, seed, root)


if __name__ == "__main__":
    main()
