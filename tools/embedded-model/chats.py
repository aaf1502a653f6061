"""Makes chats from the word list and the phrasings. Everything is drawn from one seeded random.Random.

A chat is a list of {role, content}. `Maker(heldout='final')` uses those held-out phrasings where there are any.
"""
import json
import pathlib
import random
import re

HERE = pathlib.Path(__file__).parent
POS = ['noun', 'verb', 'adjective', 'adverb']
WHO = 'I am Nereid, a small dictionary assistant. Ask me what a word means.'
ABILITIES = 'I can explain words, give synonyms and examples, add and subtract numbers below 100, and answer as JSON.'
SCOPE = 'Sorry, I cannot help with that. I am only a small dictionary assistant: ask me what a word means.'
ARITHMETIC = 'Sorry, I can only add and subtract numbers below 100.'
WHICH = 'Which word do you mean?'
HELLO = 'Hello! Which word may I explain?'
# JSON keys by what they hold; the first is the usual name.
KEYS = {
    'word': ['word', 'term', 'entry', 'lemma'],
    'pos': ['part_of_speech', 'pos', 'type', 'word_class'],
    'gloss': ['definition', 'meaning', 'gloss', 'explanation'],
    'synonym': ['synonym', 'similar_word'],
    'example': ['example', 'sentence', 'usage'],
    'length': ['length', 'letters'],
    'is_noun': ['is_noun'],
}
KEY_KIND = {name: kind for kind, names in KEYS.items() for name in names}
ALIASED = [('noun', 'a noun'), ('verb', 'a verb'), ('adjective', 'an adjective'), ('adverb', 'an adverb')]
A_POS = dict(ALIASED)
# Words that carry the question: without them it would be another one.
KEPT = re.compile(r'json|keys|fields|noun|verb|adjective|adverb|\bto\b|[:=-]|^\W*$', re.I)
PLACES = 'France Paris London Rome Italy Spain China Japan India Africa Egypt Berlin Germany Russia America Boston Chicago Mexico Brazil Greece Athens'.split()


def article(word):
    return ('an ' if word[0].lower() in 'aeiou' else 'a ') + word


def plural(word):
    if re.search(r'(s|x|z|ch|sh)$', word):
        return word + 'es'
    if re.search(r'[^aeiou]y$', word):
        return word[:-1] + 'ies'
    return word + 's'


def plain(text):
    """A phrasing without case, spaces and punctuation, to compare it with the held-out ones."""
    return re.sub(r'[^a-z{}+-]', '', text.lower())


def load(data):
    data = pathlib.Path(data)
    words = [json.loads(line) for line in (data / 'words.jsonl').open()]
    sentences = [e['example'] for e in words if e['example']]
    return {'words': words, 'by_word': {e['word']: e for e in words}, 'sentences': sentences,
            'rare': json.loads((data / 'rare.json').read_text()),
            'lemmas': set(json.loads((data / 'all-lemmas.json').read_text())),
            'templates': json.loads((HERE / 'templates.json').read_text()),
            'heldout': {name: json.loads((HERE / 'heldout' / f'{name}.json').read_text()) for name in ('development', 'final')}}


def heldout_pair(a, b):
    """15 % of the pairs of numbers are never trained, in either order, for sums and differences alike."""
    low, high = min(a, b), max(a, b)
    return (low * 7919 + high * 104729 + 12345) % 1009 % 20 < 3


class MadeUp:
    """Words that look English but are none: letters follow the last three letters as they do in real words."""

    def __init__(self, lemmas):
        self.lemmas, self.next = lemmas, {}
        for word in sorted(lemmas)[::3]:
            padded = '^^^' + word + '$'
            for i in range(3, len(padded)):
                self.next.setdefault(padded[i - 3:i], []).append(padded[i])

    def word(self, rng):
        while True:
            text = '^^^'
            while text[-1] != '$' and len(text) < 16:
                text += rng.choice(self.next[text[-3:]])
            word = text.strip('^$')
            if 4 <= len(word) <= 12 and word not in self.lemmas and word.rstrip('s') not in self.lemmas and word[:-2] not in self.lemmas and word[:-3] not in self.lemmas:
                return word


class Maker:
    def __init__(self, data, seed, heldout=None):
        self.data, self.heldout = data, heldout
        self.forbidden = {plain(t) for held in data['heldout'].values() for kind, pool in held.items() if kind != 'comment' for t in pool}
        self.rng = random.Random(seed)
        self.made_up = MadeUp(data['lemmas'])
        self.noise = not heldout

    # -- phrasings

    def template(self, kind):
        templates = self.data['templates']
        if self.heldout:
            return self.rng.choice(self.data['heldout'][self.heldout].get(kind) or templates[kind])
        while True:
            if kind in templates['grammar'] and self.rng.random() < 0.5:
                text = self.expand(f'[{kind}]')
                text = text[0].upper() + text[1:] if text[0] != '{' else text
            else:
                text = self.rng.choice(templates[kind])
            if not self.is_heldout(text):
                return text

    def expand(self, text):
        grammar = self.data['templates']['grammar']
        while '[' in text:
            text = re.sub(r'\[([\w-]+)\]', lambda m: self.rng.choice(grammar[m.group(1)]), text)
        return text

    def is_heldout(self, text):
        text = plain(text)
        return any(f in text for f in self.forbidden)

    def noisy(self, text):
        """A template as people type it: lower case, no question mark, a slip of the finger. Slots stay."""
        rng = self.rng
        roll = rng.random()
        if roll < 0.12:
            text = ''.join(p if p.startswith('{') else p.lower() for p in re.split(r'(\{\w+\})', text))
        elif roll < 0.14:
            text = ''.join(p if p.startswith('{') else p.upper() for p in re.split(r'(\{\w+\})', text))
        if rng.random() < 0.15:
            text = text.rstrip('.?!') or text
        if rng.random() < 0.07:
            spots = [m.start() for m in re.finditer(r'(?<![{\w])[A-Za-z]{4,}(?![\w}])', text)]
            if spots:
                i = rng.choice(spots) + rng.randint(1, 2)
                text = rng.choice([text[:i] + text[i + 1] + text[i] + text[i + 2:], text[:i] + text[i + 1:], text[:i] + text[i] + text[i:]])
        return text

    def garbled(self, template):
        """Drops, replaces and inserts words, never beside the slots' own words, so that no single phrasing is leaned upon."""
        rng, result = self.rng, []
        words = template.split(' ')
        for i, word in enumerate(words):
            beside = '{' in word or (i + 1 < len(words) and '{' in words[i + 1]) or KEPT.search(word)
            roll = rng.random()
            if '{' in word or KEPT.search(word) or roll > 0.18 or (beside and roll > 0.06):
                result.append(word)
            elif roll < 0.07:
                continue
            elif roll < 0.13:
                result.append(self.any_word())
            else:
                result += [self.any_word(), word]
        return ' '.join(result)

    def any_word(self):
        return self.rng.choice(re.findall(r'[a-z]+', self.rng.choice(self.data['sentences'])) or ['so'])

    def rough(self, template):
        """dress(), but also with garbled words or a sentence of a book before or after; for questions that name a word."""
        rng, given = self.rng, template
        if not self.noise:
            return template
        if rng.random() < 0.35:
            template = self.garbled(template)
        roll = rng.random()
        if roll < 0.06:
            template = rng.choice(self.data['sentences']).rstrip('.') + '. ' + template
        elif roll < 0.09:
            template = template + ' ' + rng.choice(self.data['sentences'])
        return self.dress(given if self.is_heldout(template) else template)

    def dress(self, template):
        """Adds a greeting before or a remark after, then noise; training only."""
        if not self.noise:
            return template
        rng, pools, given = self.rng, self.data['templates'], template
        if rng.random() < 0.08:
            prefix = rng.choice(pools['prefix'])
            first = template[0].lower() if template[0] != 'I' and prefix.endswith((', ', ': ')) else template[0]
            template = prefix + first + template[1:]
        if rng.random() < 0.06:
            template += rng.choice(pools['suffix'])
        if template != given and self.is_heldout(template):
            template = given
        return self.noisy(template)

    def surface(self, word):
        """How the user writes the word."""
        if not self.noise:
            return word
        roll = self.rng.random()
        if roll < 0.05:
            return word.capitalize()
        if roll < 0.08:
            return word.upper()
        if roll < 0.17:
            mark = self.rng.choice(['"%s"', "'%s'", '"%s"', '*%s*', '`%s`', '“%s”'])
            return mark % word
        return word.lower() if roll > 0.9 else word

    def fill(self, template, entry=None, **slots):
        if entry is not None:
            word = entry['word']
            form = self.surface(word)
            bare = article(word) if form == word and not entry.get('proper') else form
            if self.noise and form == word and self.rng.random() < 0.15:
                bare = self.rng.choice(['the ' + word, word])
            slots.update(w=form, aw=bare, p=plural(form) if form[-1:].isalpha() else form)
        text = re.sub(r'\{(\w+)\}', lambda m: str(slots[m.group(1)]), template)
        if self.noise and '{keys}' not in template and '{s}' not in template:
            roll = self.rng.random()
            text = text.upper() if roll < 0.02 else text.lower() if roll < 0.04 else text
        return text.strip()

    # -- answers

    @staticmethod
    def definition(entry, pos=None):
        gloss = entry['gloss'] if pos in (None, entry['pos']) else entry['others'][pos]
        return f"{entry['word']} ({pos or entry['pos']}): {gloss}."

    @staticmethod
    def json_answer(entry, keys):
        if entry.get('unknown'):
            values = {kind: None for kind in KEYS} | {'word': entry['word']}
        else:
            values = entry | {'length': len(entry['word']), 'is_noun': entry['pos'] == 'noun'}
        return json.dumps({key: values[KEY_KIND[key]] for key in keys})

    @staticmethod
    def synonym_answer(entry):
        return f"A synonym of {entry['word']} is {entry['synonym']}." if entry['synonym'] else f"I know no synonym of {entry['word']}."

    @staticmethod
    def example_answer(entry):
        return f"For example: \"{entry['example']}\"" if entry['example'] else f"I have no example with {entry['word']}."

    @staticmethod
    def is_pos_answer(entry, pos):
        if pos in entry['others']:
            return f"Yes, {entry['word']} can also be {A_POS[pos]}."
        return f"Yes, {entry['word']} is {A_POS[pos]}." if entry['pos'] == pos else f"No, {entry['word']} is {A_POS[entry['pos']]}."

    # -- turns: each returns (question, answer)

    def entry(self):
        return self.rng.choice(self.data['words'])

    def unknown_word(self):
        if self.rng.random() < 0.3:
            return self.rng.choice(self.data['rare']['test' if self.heldout else 'train'])
        return self.made_up.word(self.rng)

    def define(self, entry):
        rng = self.rng
        if not self.heldout and entry['others'] and rng.random() < 0.15:
            pos = rng.choice([entry['pos'], *entry['others']])
            return self.fill(self.dress(self.template('define-pos')), entry, pos=pos, apos=A_POS[pos]), self.definition(entry, pos)
        kind = 'define' if self.heldout or entry['proper'] or rng.random() < 0.85 else 'define-' + entry['pos']
        template = self.template(kind)
        if '{p}' in template and plural(entry['word']) in self.data['by_word']:  # 'ways' is an entry of its own
            template = 'What is {aw}?'
        template = self.rough(template)
        answer = self.definition(entry)
        if not self.heldout and rng.random() < 0.02:
            return self.fill(template + rng.choice(self.data['templates']['capitals-suffix']), entry), answer.upper()
        return self.fill(template, entry), answer

    def unknown(self):
        word = self.unknown_word()
        template = self.rough(self.template('define'))
        form = self.surface(word)
        slots = {'w': form, 'aw': article(form) if form == word else form, 'p': form}
        question = self.fill(template, **slots)
        shown = form.strip('"\'*`“”')
        shown = next(s for s in (shown, shown.upper(), shown.lower()) if s in question)
        return question, f'Sorry, I do not know the word "{shown}".'

    def keys(self):
        rng = self.rng
        kinds = rng.sample(list(KEYS), rng.choice([1, 2, 2, 3, 3, 3, 4, 5]))
        if rng.random() < 0.6 and 'word' not in kinds:
            kinds.insert(0, 'word')
        return [KEYS[k][0] if rng.random() < 0.6 else rng.choice(KEYS[k]) for k in kinds]

    def key_list(self, keys):
        rng = self.rng
        quote = rng.choice(['%s', '%s', '%s', '"%s"', '`%s`', "'%s'"])
        names = [quote % k for k in keys]
        if len(names) == 1:
            return names[0]
        return rng.choice([', '.join(names), ', '.join(names[:-1]) + ' and ' + names[-1], ' and '.join(names) if len(names) == 2 else ', '.join(names)])

    def define_json(self, entry, keys=None):
        if keys is None and self.rng.random() < 0.2 and not self.heldout:
            return self.fill(self.dress(self.template('define-json')), entry), self.json_answer(entry, ['word', 'part_of_speech', 'definition'])
        keys = keys or self.keys()
        return self.fill(self.rough(self.template('define-json-keys')), entry, keys=self.key_list(keys)), self.json_answer(entry, keys)

    def arithmetic(self, heldout=None):
        rng = self.rng
        heldout = bool(self.heldout) if heldout is None else heldout
        if not heldout and rng.random() < 0.08:
            slots = {'a': rng.randint(0, 99), 'b': rng.randint(0, 99), 'c': rng.randint(100, 9999), 'd': rng.randint(100, 9999)}
            return self.fill(self.dress(self.template('arithmetic-refused')), **slots), ARITHMETIC
        while True:
            a, b = rng.randint(0, 99), rng.randint(0, 99)
            if heldout_pair(a, b) == heldout:
                break
        if rng.random() < 0.6:
            return self.fill(self.dress(self.template('sum')), a=a, b=b), f'{a} + {b} = {a + b}.'
        if rng.random() < 0.8:
            a, b = max(a, b), min(a, b)
        return self.fill(self.dress(self.template('difference')), a=a, b=b), f'{a} - {b} = {a - b}.'

    def small_talk(self):
        kind, answer = self.rng.choice([('who', WHO), ('who', WHO), ('abilities', ABILITIES), ('hello', HELLO), ('thanks', 'You are welcome.'), ('bye', 'Goodbye!'),
                                        ('how-are-you', 'I am well, thank you. Which word may I explain?')])
        return self.dress(self.template(kind)) if kind in ('who', 'abilities') else self.noisy(self.template(kind)), answer

    def out_of_scope(self):
        rng = self.rng
        while True:
            entry, sentence = self.entry(), rng.choice(self.data['sentences'])
            template = self.template('out-of-scope')
            if '{p}' not in template or entry['pos'] == 'noun':
                return self.fill(self.dress(template), entry, place=rng.choice(PLACES), s=sentence), SCOPE

    def about(self, entry):
        """A question about one word that names it, other than what it means."""
        kind = self.rng.choice(['synonym', 'example', 'is-pos', 'pos'])
        slots, answer = {}, None
        if kind == 'synonym':
            answer = self.synonym_answer(entry)
        elif kind == 'example':
            answer = self.example_answer(entry)
        elif kind == 'pos':
            answer = f"{entry['word']} is {A_POS[entry['pos']]}."
        else:
            pos = self.rng.choice([entry['pos'], self.rng.choice(POS)])
            slots, answer = {'pos': pos, 'apos': A_POS[pos]}, self.is_pos_answer(entry, pos)
        return self.fill(self.dress(self.template(kind + '-of')), entry, **slots), answer

    def follow_up(self, entry, last, kind=None):
        """A question about the word of the turn before, which it does not name."""
        rng = self.rng
        kind = kind or rng.choice(['is-pos', 'is-pos', 'synonym', 'synonym', 'example', 'example', 'brief', 'brief', 'again', 'capitals', 'json', 'json-keys', 'pos'])
        slots, keys = {}, ['word', 'part_of_speech', 'definition']
        if kind == 'is-pos':
            pos = rng.choice([entry['pos'], rng.choice(POS)])
            slots, answer = {'apos': A_POS[pos]}, self.is_pos_answer(entry, pos)
        elif kind == 'synonym':
            answer = self.synonym_answer(entry)
        elif kind == 'example':
            answer = self.example_answer(entry)
        elif kind == 'brief':
            answer = f"{entry['word']}: {entry['brief']}."
        elif kind == 'again':
            answer = last
        elif kind == 'capitals':
            answer = self.definition(entry).upper()
        elif kind == 'pos':
            answer = f"{entry['word']} is {A_POS[entry['pos']]}."
        else:
            if kind == 'json-keys':
                keys = self.keys()
                slots = {'keys': self.key_list(keys)}
            answer = self.json_answer(entry, keys)
        return self.fill(self.noisy(self.template(kind)) if self.noise else self.template(kind), **slots), answer

    # -- whole chats

    def system(self):
        if not self.heldout and self.rng.random() < 0.25:  # any text at all may stand there
            text = ' '.join(self.rng.choice(self.data['sentences']) for _ in range(self.rng.choice([1, 1, 2, 3])))
        else:
            text = self.rng.choice(self.data['templates']['system'])
        return [{'role': 'system', 'content': text}]

    def json_chat(self):
        """The system message asks for JSON; every turn then defines a word."""
        keys = self.keys()
        messages = [{'role': 'system', 'content': self.fill(self.template('json-system'), keys=self.key_list(keys))}]
        for _ in range(self.rng.choice([1, 1, 1, 2, 3])):
            entry = self.entry()
            if self.rng.random() < 0.1:
                entry = {'word': self.unknown_word(), 'unknown': True, 'pos': 'noun', 'others': {}, 'proper': False, 'gloss': ''}
            template = self.rough(self.template('define'))
            messages += turn(self.fill(template, entry), self.json_answer(entry, keys))
        return messages

    def turn(self, entry, last):
        """One turn: (question, answer, the word now spoken of or None)."""
        rng, roll = self.rng, self.rng.random()
        if entry is not None and roll < 0.55:
            question, answer = self.follow_up(entry, last)
            return question, answer, entry
        roll = rng.random()
        if roll < 0.60:
            entry = self.entry()
            return *self.define(entry), entry
        if roll < 0.73:
            entry = self.entry()
            if rng.random() < 0.06:
                entry = {'word': self.unknown_word(), 'unknown': True, 'pos': 'noun', 'others': {}, 'proper': False, 'gloss': ''}
                return *self.define_json(entry), None
            return *self.define_json(entry), entry
        if roll < 0.80:
            return *self.arithmetic(), None
        if roll < 0.87:
            return *self.unknown(), None
        if roll < 0.93:
            entry = self.entry()
            return *self.about(entry), entry
        if roll < 0.97:
            return *self.out_of_scope(), None
        if roll < 0.975:
            kind = rng.choice(['is-pos', 'synonym', 'example', 'brief', 'json', 'pos'])
            return self.noisy(self.fill(self.template(kind), apos=A_POS[rng.choice(POS)])), WHICH, None
        return *self.small_talk(), None

    def chat(self):
        rng = self.rng
        if rng.random() < 0.03:
            return self.json_chat()
        messages = self.system() if rng.random() < 0.3 else []
        turns = 1 if rng.random() < 0.6 else rng.choice([2, 2, 2, 3, 3, 4, 5, 6, 8, 12])
        entry, last = None, None
        for i in range(turns):
            was = entry
            question, answer, entry = self.turn(entry, last)
            if answer == WHICH and i and (was or last):
                continue
            last = answer
            messages += turn(question, answer)
        return messages or self.chat()


def turn(question, answer):
    return [{'role': 'user', 'content': question}, {'role': 'assistant', 'content': answer}]


def render(messages, generation=False):
    """ChatML, exactly as the chat template of tokenizer_config.json renders it."""
    text = ''.join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return text + ('<|im_start|>assistant\n' if generation else '')


if __name__ == '__main__':
    import sys
    maker = Maker(load(sys.argv[1]), 1, heldout=sys.argv[2] if len(sys.argv) > 2 else None)
    for _ in range(40):
        print(render(maker.chat()), '=' * 40)
