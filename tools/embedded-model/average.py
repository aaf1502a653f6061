"""Writes the weighted mean of two sets of weights that share a history (the second went on from the first).

usage: python average.py FIRST_SAFETENSORS SECOND_SAFETENSORS SHARE_OF_SECOND OUT_SAFETENSORS
"""
import sys

from safetensors.torch import load_file, save_file


def main():
    first, second, share, out = sys.argv[1:]
    a, b, share = load_file(first), load_file(second), float(share)
    save_file({k: ((1 - share) * a[k].float() + share * b[k].float()).to(a[k].dtype) for k in a}, out, metadata={'format': 'pt'})


if __name__ == '__main__':
    main()
