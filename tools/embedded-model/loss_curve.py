"""Draws the loss curves of the logs that train.py writes.

usage: python loss_curve.py OUT_PNG TITLE LOG_JSON...    (logs that went on from one another, in order)
"""
import json
import sys

import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt


def main():
    out, title, *logs = sys.argv[1:]
    figure, axes = plt.subplots(figsize=(6.4, 3.6), dpi=100)
    done = 0
    for name in logs:
        rows = json.load(open(name))
        axes.plot([(done + r['tokens']) / 1e6 for r in rows], [r['loss'] for r in rows], lw=1.4)
        done += rows[-1]['tokens']
        if name != logs[-1]:
            axes.axvline(done / 1e6, color='0.6', lw=0.8, ls='--')
    axes.set(xlabel='tokens (millions)', ylabel='training loss (running mean, nats a token)', title=title, yscale='log')
    axes.yaxis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
    axes.yaxis.set_minor_formatter(matplotlib.ticker.ScalarFormatter())
    axes.grid(alpha=0.3, which='both')
    figure.tight_layout()
    figure.savefig(out)


if __name__ == '__main__':
    main()
