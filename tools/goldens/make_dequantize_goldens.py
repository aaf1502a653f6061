"""Makes test/goldens/dequantize.json: random blocks of each storage type and the float32 values that the `gguf` package reads from them.

    pip install gguf numpy && python tools/goldens/make_dequantize_goldens.py test/goldens/dequantize.json
"""

import base64
import importlib.metadata
import json
import sys

import gguf
import numpy

BLOCKS = 2
# Byte offsets of the f16 scales within a block: random bits there could be infinite.
SCALES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def main():
    random = numpy.random.default_rng(1)
    types = {}
    for name, offsets in SCALES.items():
        kind = gguf.GGMLQuantizationType[name]
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = random.integers(0, 256, (BLOCKS, size), dtype=numpy.uint8)
        for offset in offsets:
            scales = random.normal(0, 0.1, BLOCKS).astype("<f2")
            blocks[:, offset : offset + 2] = scales.view(numpy.uint8).reshape(BLOCKS, 2)
        values = gguf.quants.dequantize(blocks, kind).astype("<f4").reshape(-1)
        assert values.size == BLOCKS * elements
        types[name.lower()] = {
            "bytes": base64.b64encode(blocks.tobytes()).decode(),
            "values": base64.b64encode(values.tobytes()).decode(),
        }
    golden = {"made_with": {"gguf": importlib.metadata.version("gguf")}, "note": "base64; values are little-endian float32", "types": types}
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(golden, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
