"""Writes eval.jsonl: questions in held-out phrasings with the exact answer expected.

usage: python make_eval.py DATA_DIR OUT_FILE final|development
Rows: word, kind, messages, expected, and keys for JSON questions.
"""
import json
import pathlib
import random
import sys

import chats

FOLLOW_UPS = ['is-pos', 'synonym', 'example', 'brief', 'json']


def rows(data, held):
    words = (chats.HERE / 'heldout' / 'words.txt').read_text().split()
    maker = chats.Maker(data, 77, heldout=held)
    templates = data['heldout'][held]['define']
    for i, word in enumerate(random.Random(78).sample(words, len(words))):  # every phrasing 50 times
        entry = data['by_word'][word]
        yield word, 'define', chats.turn(maker.fill(templates[i % len(templates)], entry), maker.definition(entry))
    noisy = chats.Maker(data, 79, heldout=held)
    noisy.noise = True
    for word in words[::5]:
        entry = data['by_word'][word]
        yield word, 'define-noisy', chats.turn(noisy.fill(noisy.noisy(noisy.template('define')), entry), noisy.definition(entry))
    for word in words[1::5]:
        keys = maker.keys()
        question, answer = maker.define_json(data['by_word'][word], keys)
        yield word, 'json', chats.turn(question, answer), keys
    for word in words[2::5]:
        entry = data['by_word'][word]
        first = chats.turn(*maker.define(entry))
        kind = maker.rng.choice(FOLLOW_UPS)
        question, answer = maker.follow_up(entry, first[1]['content'], kind)
        messages = (maker.system() if maker.rng.random() < 0.3 else []) + first + chats.turn(question, answer)
        yield (word, 'follow-up', messages, ['word', 'part_of_speech', 'definition']) if kind == 'json' else (word, 'follow-up', messages)
    seen = set()
    while len(seen) < 300:
        question, answer = maker.arithmetic()
        if answer not in seen:
            seen.add(answer)
            yield None, 'sum' if ' + ' in answer else 'difference', chats.turn(question, answer)
    for _ in range(200):
        yield None, 'unknown-word', chats.turn(*maker.unknown())
    for _ in range(60):
        template = maker.template('out-of-scope')
        entry = next(e for e in iter(maker.entry, None) if e['pos'] == 'noun')
        yield None, 'out-of-scope', chats.turn(maker.fill(template, entry, place=maker.rng.choice(chats.PLACES), s=''), chats.SCOPE)
    for question in data['heldout'][held]['who']:
        yield None, 'identity', chats.turn(question, chats.WHO)


def main():
    data_dir, out, held = sys.argv[1:]
    with pathlib.Path(out).open('w') as file:
        for word, kind, messages, *keys in rows(chats.load(data_dir), held):
            row = {'word': word, 'kind': kind, 'messages': messages[:-1], 'expected': messages[-1]['content']}
            file.write(json.dumps(row | ({'keys': keys[0]} if keys else {}), ensure_ascii=False) + '\n')


if __name__ == '__main__':
    main()
