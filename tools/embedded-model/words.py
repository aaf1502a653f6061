"""Chooses the words and writes words.jsonl: one dictionary entry a line.

Reads the WordNet 3.0 database files (Debian package wordnet-base) and the public-domain books.
An entry: word, pos, gloss, brief, synonym, example, others (glosses of its other parts of speech), proper, count.

usage: python words.py WORDNET_DIR BOOKS_JSONL_XZ OUT_DIR [--limit 20000]
"""
import argparse
import collections
import json
import lzma
import pathlib
import random
import re

PARTS = {'n': 'noun', 'v': 'verb', 'a': 'adjective', 's': 'adjective', 'r': 'adverb'}
FILES = {'n': 'noun', 'v': 'verb', 'a': 'adj', 'r': 'adv'}
SENSE_TYPE = {'1': 'n', '2': 'v', '3': 'a', '4': 'r', '5': 'a'}
LOCATION_FILE = '15'  # WordNet's lexicographer file noun.location
# Words younger than the books; most readers will try one of these first.
MODERN = '''computer internet television software hardware robot laser radar satellite astronaut spacecraft helicopter airport
airplane pilot microwave refrigerator transistor microchip keyboard modem database algorithm website email pizza sandwich
hamburger supermarket plastic nylon penicillin antibiotic vaccine virus gene chromosome molecule neutron proton electron
photosynthesis ecosystem ecology pollution recycling dinosaur galaxy telescope microscope calculator camera video movie film
cinema radio telephone bicycle motorcycle truck bus taxi subway skyscraper escalator elevator freeway passport visa tourist
basketball baseball volleyball badminton marathon saxophone jazz guitar piano violin kangaroo koala panda penguin dolphin
gorilla chimpanzee giraffe hippopotamus crocodile jellyfish cactus broccoli spaghetti yogurt avocado tsunami tornado avalanche
democracy inflation genetics psychology linguistics semantics syntax grammar dictionary thesaurus encyclopedia lighthouse nereid'''.split()
# Definitions and sentences with these stems are left out.
UNFIT = re.compile(r'slur|offensive|disparag|vulgar|obscen|sexual|genital|penis|vagina|copulat|prostitut|whore|excrement|faec|fece|'
                   r'urinat|masturbat|rape\b|raped|n[i]gg|negro|\bjew|darkey|half-breed|squaw|lynch|breast|nipple|buttock|brothel|'
                   r'harlot|slut|incest|ethnic|\bslave|suicid|\brac(e|ial)\b|naked|nude|intercourse|anus|rectum|scrotum|testic|erotic', re.I)


def read_synset(line):
    fields, _, gloss = line.partition(' | ')
    parts = fields.split()
    words = [parts[4 + 2 * i] for i in range(int(parts[3], 16))]
    return {'file': parts[1], 'words': [re.sub(r'\((a|p|ip)\)$', '', w).replace('_', ' ') for w in words], 'gloss': gloss.strip()}


def cut_at_semicolon(text, limit):
    """Drops clauses from the end, at semicolons outside brackets, until the text is short enough."""
    depth, cuts = 0, []
    for i, c in enumerate(text):
        depth += (c == '(') - (c == ')')
        if c == ';' and depth == 0:
            cuts.append(i)
    while len(text) > limit and cuts:
        text = text[:cuts.pop()]
    return text.strip()


def clean_gloss(raw):
    """The definition without its examples, or None where it is no good as a short answer."""
    text = raw.split('"')[0].strip().rstrip(';:,. ').replace('`', "'")
    text = re.sub(r'\s+', ' ', text)
    text = cut_at_semicolon(text, 80)
    if not 6 <= len(text) <= 120 or '\\' in text or text.count('(') != text.count(')') or UNFIT.search(text):
        return None
    return text


def brief(gloss):
    """The shortest sensible beginning of a definition."""
    text = gloss.split(';')[0]
    for mark in (' that ', ' which ', ' who ', ' where ', ' when ', ' (', ', ', ' used ', ' having ', ' especially '):
        head = text.split(mark)[0]
        if len(head.split()) >= 3 and head.count('(') == head.count(')'):
            text = head
    return text.strip()


def usable(sentence, word):
    return (20 <= len(sentence) <= 90 and re.search(r'\b' + re.escape(word) + r'\b', sentence) and not UNFIT.search(sentence)
            and not re.search(r'["\\_*#\[\]()]', sentence) and sentence.isascii())


class WordNet:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.synsets, self.index, self.counts = {}, {}, collections.Counter()
        for pos, name in FILES.items():
            for line in (self.folder / f'data.{name}').open():
                if not line.startswith(' '):
                    self.synsets[pos, line[:8]] = read_synset(line)
            for line in (self.folder / f'index.{name}').open():
                if not line.startswith(' '):
                    parts = line.split()
                    self.index.setdefault(parts[0].replace('_', ' '), {})[pos] = parts[-int(parts[2]):]
        for line in (self.folder / 'cntlist.rev').open():
            key, sense, count = line.split()
            if sense == '1':
                lemma, rest = key.split('%')
                self.counts[lemma, SENSE_TYPE[rest[0]]] += int(count)

    def senses(self, lemma):
        """First sense of each part of speech, the most used first."""
        order = sorted(self.index[lemma], key=lambda p: (-self.counts[lemma, p], 'nvar'.index(p)))
        return [(p, self.synsets[p, self.index[lemma][p][0]]) for p in order]


def make_entry(wordnet, lemma, count):
    first_pos, first = wordnet.senses(lemma)[0]
    spelled = next((w for w in first['words'] if w.lower() == lemma), lemma)
    proper = spelled != lemma
    if proper and (first['file'] != LOCATION_FILE or spelled != lemma.capitalize() or count < 40):
        return None
    gloss = clean_gloss(first['gloss'])
    if gloss is None:
        return None
    others = {}
    for pos, synset in wordnet.senses(lemma)[1:3]:
        if lemma in synset['words'] and (text := clean_gloss(synset['gloss'])):
            others[PARTS[pos]] = text
    synonyms = [w for w in first['words'] if w.lower() != lemma and not UNFIT.search(w)]
    examples = [e for e in re.findall(r'"([^"]*)"', first['gloss']) if usable(e, spelled)]
    return {'word': spelled, 'pos': PARTS[first_pos], 'gloss': gloss, 'brief': brief(gloss), 'synonym': synonyms[0] if synonyms else None,
            'example': examples[0] if examples else None, 'others': others, 'proper': proper, 'count': count}


def add_book_sentences(entries, texts):
    """For words without a WordNet example: the book sentence nearest to 50 characters."""
    missing = {e['word']: e for e in entries if e['example'] is None}
    best = {}
    for text in texts:
        for sentence in re.split(r'(?<=[.!?])\s+', text):
            if not (25 <= len(sentence) <= 90 and sentence[0].isupper() and sentence[-1] == '.') or ' ' not in sentence:
                continue
            for word in set(re.findall(r"[A-Za-z]+", sentence)):
                distance = abs(len(sentence) - 50)
                if word in missing and distance < best.get(word, (99,))[0] and usable(sentence, word):
                    best[word] = (distance, sentence)
    for word, (_, sentence) in best.items():
        missing[word]['example'] = sentence


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('wordnet'), parser.add_argument('books'), parser.add_argument('out')
    parser.add_argument('--limit', type=int, default=20000)
    parser.add_argument('--heldout', default=str(pathlib.Path(__file__).parent / 'heldout'))
    options = parser.parse_args()
    wordnet = WordNet(options.wordnet)
    texts = [json.loads(line)['text'] for line in lzma.open(options.books, 'rt')]
    counts = collections.Counter()
    for text in texts:
        counts.update(w.lower() for w in re.findall(r"[A-Za-z]+", text))
    for lemma in wordnet.index:  # words met in WordNet's tagged texts count too, lightly
        counts[lemma] += sum(wordnet.counts[lemma, p] for p in 'nvar')
    for word in MODERN:
        counts[word] += 1000
    lemmas = [w for w in wordnet.index if re.fullmatch(r'[a-z]{3,16}', w)]
    lemmas.sort(key=lambda w: (-counts[w], w))
    entries, rare = [], []
    for lemma in lemmas:
        if len(entries) < options.limit and counts[lemma] >= 3:
            entry = make_entry(wordnet, lemma, counts[lemma])
            if entry:
                entries.append(entry)
        elif len(lemma) >= 5:
            rare.append(lemma)
    add_book_sentences(entries, texts)
    out = pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    with (out / 'words.jsonl').open('w') as file:
        for entry in entries:
            file.write(json.dumps(entry) + '\n')
    rng = random.Random(3)
    rng.shuffle(rare)  # real words that the model does not know: it must say so
    known = {e['word'] for e in entries}
    (out / 'rare.json').write_text(json.dumps({'train': sorted(rare[:12000]), 'test': sorted(rare[12000:12500])}))
    (out / 'all-lemmas.json').write_text(json.dumps(sorted(w for w in wordnet.index if re.fullmatch(r'[a-z]+', w))))
    # The test words, fixed before any training: common enough to matter, spread over all parts of speech.
    tests = rng.sample([e['word'] for e in entries[:10000] if not e['proper']], 1000)
    assert set(tests) <= known
    heldout = pathlib.Path(options.heldout)
    heldout.mkdir(exist_ok=True)
    (heldout / 'words.txt').write_text('\n'.join(sorted(tests)) + '\n')
    print(len(entries), 'words;', sum(e['example'] is not None for e in entries), 'with an example;',
          sum(e['synonym'] is not None for e in entries), 'with a synonym; least count', entries[-1]['count'])


if __name__ == '__main__':
    main()
