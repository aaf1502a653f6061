"""Trains the byte-level BPE of 4,096 tokens and writes the tokenizer files.

The pre-tokenizer is the one that llama.cpp calls "smollm": single digits, then GPT-2's regex.

usage: python train_tokenizer.py DATA_DIR BOOKS_JSONL_XZ OUT_DIR
"""
import json
import lzma
import pathlib
import random
import sys

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

import chats

SPECIALS = ['<|endoftext|>', '<|im_start|>', '<|im_end|>']
CHAT_TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
                 "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def texts(data_dir, books):
    data = chats.load(data_dir)
    maker = chats.Maker(data, 11)
    for _ in range(40000):
        yield from (m['role'] + '\n' + m['content'] for m in maker.chat())
    for entry in data['words']:  # every word in each of its spellings
        yield f"{entry['word']} ({entry['pos']}) {entry['word'].capitalize()} {entry['word'].upper()}"
    rng = random.Random(12)
    for line in lzma.open(books, 'rt'):
        lines = json.loads(line)['text'].split('\n')
        yield from rng.sample(lines, len(lines) // 4)


def main():
    data_dir, books, out = sys.argv[1:]
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=4096, special_tokens=SPECIALS, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator(texts(data_dir, books), trainer)
    assert tokenizer.get_vocab_size() == 4096
    write(tokenizer, pathlib.Path(out))
    for text in ('<|im_start|>assistant\nlighthouse (noun): a tower.<|im_end|>\n', 'What is 48 + 26?', 'LIGHTHOUSE 日本 é'):
        encoding = tokenizer.encode(text)
        print(encoding.tokens)
        assert tokenizer.decode(encoding.ids, skip_special_tokens=False) == text


def write(tokenizer, out):
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / 'tokenizer.json'))
    save(out / 'tokenizer_config.json', {
        'add_bos_token': False, 'add_eos_token': False, 'add_prefix_space': False,
        'added_tokens_decoder': {str(i): {'content': s, 'lstrip': False, 'normalized': False, 'rstrip': False, 'single_word': False, 'special': True} for i, s in enumerate(SPECIALS)},
        'bos_token': '<|endoftext|>', 'eos_token': '<|im_end|>', 'pad_token': '<|endoftext|>', 'unk_token': None,
        'chat_template': CHAT_TEMPLATE, 'clean_up_tokenization_spaces': False, 'model_max_length': 1024, 'tokenizer_class': 'PreTrainedTokenizerFast'})
    save(out / 'special_tokens_map.json', {'additional_special_tokens': ['<|im_start|>'], 'bos_token': '<|endoftext|>', 'eos_token': '<|im_end|>', 'pad_token': '<|endoftext|>'})


def save(path, value):
    path.write_text(json.dumps(value, indent=2) + '\n')


if __name__ == '__main__':
    main()
