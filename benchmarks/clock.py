"What the benchmarks share: turns, medians, a table, JSON."
import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path


def parser(doc, repeat=5):
    "The options every benchmark has"
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--repeat', type=int, default=repeat, help='turns; the median of them is shown')
    p.add_argument('--small', action='store_true', help='the smallest form, which shows that it runs and nothing else')
    p.add_argument('--gpu', action='store_true', help='on a GPU')
    p.add_argument('--json', type=Path, help='also write the figures here')
    return p


def gpu_or_leave(args):
    "End with one sentence where `--gpu` is asked for and there is no GPU"
    if not args.gpu: return
    import torch
    if not torch.cuda.is_available(): sys.exit(print('no GPU here, so nothing was measured; run this on a machine that has one'))


def clock(f):
    "Wall seconds of `f()`"
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def turns(ways, repeat):
    "Seconds of each way of the dict `ways`, taken in turns: name -> list of `repeat`"
    got = {k: [] for k in ways}
    for _ in range(repeat):
        for k, f in ways.items(): got[k].append(clock(f))
    return got


def process(*args):
    "A function that runs `python *args` from start to exit, and fails where it fails"
    return lambda: subprocess.run([sys.executable, *map(str, args)], check=True, capture_output=True)


def row(name, ours, theirs, aim):
    "A line of the table: medians of two lists of seconds, and how many times quicker ours is, turn by turn"
    ratio = statistics.median(b/a for a, b in zip(ours, theirs))
    return dict(name=name, ours=statistics.median(ours), theirs=statistics.median(theirs), ratio=ratio, aim=aim, n=len(ours))


def show(rows, args, **more):
    "Print `rows` as a table, and write them to `args.json`"
    print(f"{'':44} {'ours, s':>9} {'other, s':>9} {'ratio':>7} {'aim':>6}   medians of {rows[0]['n']} turns")
    for r in rows: print(f"{r['name']:44} {r['ours']:9.3f} {r['theirs']:9.3f} {r['ratio']:7.2f} {r['aim'] if r['aim'] else '':>6}")
    if rows[0]['n'] < 5: print(f"only {rows[0]['n']} turn(s), fewer than the five a figure should rest on")
    if args.json: args.json.write_text(json.dumps(dict(rows=rows, **more), indent=1), encoding='utf-8')
