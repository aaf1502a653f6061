"""Packs chats and books into rows of 1,025 tokens, in all cores. Rows: tokens, document numbers, loss weights.

The loss weight of what the assistant says is 10, of everything else in a chat 1, of books 10, of padding 0 (tenths).
"""
import json
import lzma
import multiprocessing
import os

import numpy as np
import tokenizers

import chats

LENGTH = 1025
END_OF_TEXT, START, END = 0, 1, 2
_state = {}


def start(data_dir, tokenizer_file):
    os.environ['RAYON_NUM_THREADS'] = '1'
    _state['data'] = chats.load(data_dir)
    _state['tokenizer'] = tokenizers.Tokenizer.from_file(tokenizer_file)
    _state['assistant'] = _state['tokenizer'].token_to_id('assistant')


def loss_weights(ids):
    """Token i is weighted as a target: 10 inside the assistant's turns, <|im_end|> included."""
    weights, said, i = [], False, 0
    while i < len(ids):
        if ids[i] == START:
            said = i + 1 < len(ids) and ids[i + 1] == _state['assistant']
            head = ids[i:i + 3]
            weights += [1] * len(head)
            i += 3
        else:
            weights.append(10 if said else 1)
            said = said and ids[i] != END
            i += 1
    return weights


def pack(documents):
    """First-fit over a few open rows; documents are (ids, weights)."""
    done, rows = [], []
    for ids, weights in documents:
        if len(ids) > LENGTH:
            continue
        row = next((r for r in rows if len(r[0]) + len(ids) <= LENGTH), None)
        if row is None:
            row = ([], [], [])
            rows.append(row)
        row[1].extend([row[1][-1] + 1 if row[1] else 0] * len(ids))
        row[0].extend(ids), row[2].extend(weights)
        if len(row[0]) > LENGTH - 24:
            rows.remove(row), done.append(row)
        elif len(rows) > 24:
            done.append(rows.pop(0))
    done += rows
    tokens = np.zeros((len(done), LENGTH), np.uint16)
    numbers = np.full((len(done), LENGTH), 255, np.uint8)
    weights = np.zeros((len(done), LENGTH), np.uint8)
    for i, row in enumerate(done):
        n = len(row[0])
        tokens[i, :n], numbers[i, :n], weights[i, :n] = row[0], np.minimum(row[1], 254), row[2]
        weights[i, 1:n][np.diff(numbers[i, :n].astype(int)) != 0] = 0  # the first token of a document follows from nothing
    return tokens, numbers, weights


def chat_shard(job):
    """job: (seed, number of chats, transform or None). A transform maps a chat to another (see lora.py)."""
    seed, count, transform = job
    maker = chats.Maker(_state['data'], seed)
    made = []
    while len(made) < count:
        messages = maker.chat()
        if transform:
            messages = transform(messages)
        if messages:
            made.append(chats.render(messages))
    encoded = [e.ids for e in _state['tokenizer'].encode_batch(made)]
    return pack((ids, loss_weights(ids)) for ids in encoded)


def book_rows(job):
    """Consecutive pieces of one book; each row is one document."""
    (text,) = job
    ids = [END_OF_TEXT] + [i for e in _state['tokenizer'].encode_batch(text.split('\n')) for i in (*e.ids, _state['newline'])] + [END_OF_TEXT]
    count = max(1, (len(ids) - 1) // (LENGTH - 1))
    tokens = np.zeros((count, LENGTH), np.uint16)
    weights = np.zeros((count, LENGTH), np.uint8)
    for i in range(count):
        piece = ids[i * (LENGTH - 1):i * (LENGTH - 1) + LENGTH]
        tokens[i, :len(piece)], weights[i, :len(piece)] = piece, 10
    return tokens, np.zeros((count, LENGTH), np.uint8), weights


def start_books(data_dir, tokenizer_file):
    start(data_dir, tokenizer_file)
    _state['newline'] = _state['tokenizer'].encode('\n').ids[0]


def join(parts):
    return tuple(np.concatenate(columns) for columns in zip(*parts))


def make_chats(data_dir, tokenizer_file, seed, shards, per_shard=20000, transform=None, processes=None):
    jobs = [(seed * 100003 + i, per_shard, transform) for i in range(shards)]
    with multiprocessing.get_context('fork').Pool(processes or os.cpu_count(), start, (data_dir, tokenizer_file)) as pool:
        return join(pool.map(chat_shard, jobs, chunksize=1))


def make_books(data_dir, tokenizer_file, books, heldout=False):
    """Every 40th book is held out."""
    texts = [json.loads(line)['text'].replace('\r', '').strip() for line in lzma.open(books, 'rt')]
    chosen = [(t,) for i, t in enumerate(texts) if (i % 40 == 7) == heldout]
    with multiprocessing.get_context('fork').Pool(os.cpu_count(), start_books, (data_dir, tokenizer_file)) as pool:
        return join(pool.map(book_rows, chosen, chunksize=1))
