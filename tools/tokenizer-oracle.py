"""The native half of tokenizer-oracle.ts: encodes its cases with the `tokenizers` package and prints what differs."""

import glob
import json
import os
import sys

from tokenizers import Tokenizer

failures = 0
for path in sorted(glob.glob(os.path.join(sys.argv[1], "*.tokenizer.json"))):
    stem = path.removesuffix(".tokenizer.json")
    native = Tokenizer.from_file(path)
    with open(f"{stem}.cases.json", encoding="utf-8") as file:
        cases = json.load(file)
    different = [case for case in cases if native.encode(case["text"]).ids != case["ids"]]
    print(f"{os.path.basename(stem)}: {len(cases) - len(different)} of {len(cases)} texts equal")
    for case in sorted(different, key=lambda case: len(case["text"]))[:3]:
        print(f"  {case['text']!r}: ours {case['ids']}, native {native.encode(case['text']).ids}")
    failures += len(different)
sys.exit(1 if failures else 0)
