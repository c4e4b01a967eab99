"""Two programs on one processor: `python -m benchmarks.beside`. Training steps alone, and beside a second process that trains too, with threads that sleep
while they wait for each other (`OMP_WAIT_POLICY=PASSIVE`, which `import cable_classifier` sets) and with threads that spin, as torch has them by itself.

Who imports torch first and this package afterwards has the second way, and so have the processes here that stand for it.
"""
import os
import statistics
import subprocess
import sys

from benchmarks.clock import parser, row, show

code = """
import sys
if sys.argv[1] == 'spin': import torch # reads its settings now
import cable_classifier
from fastai.vision.all import defaults, set_seed
from benchmarks.clock import clock
from benchmarks.train import steps
from cable_classifier.data import get_data, get_items, split_items
size, bs, n = map(int, sys.argv[2:])
defaults.use_cuda = False
set_seed(42, reproducible=True)
path = get_data()
items = split_items(get_items(path/'plugs', groups=path/'manifest.csv')).groupby(['label', 'split']).head(n*bs//3+bs)
run = steps(path/'plugs', items, size, bs, n)
print('ready', flush=True)
sys.stdin.readline()
print(clock(run)/n)
"""


def together(many, *words):
    "Mean seconds of a step in `many` processes that train at the same time"
    env = {k: v for k, v in os.environ.items() if k != 'OMP_WAIT_POLICY'}
    ps = [subprocess.Popen([sys.executable, '-c', code, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env) for _ in range(many)]
    for p in ps:
        if p.stdout.readline() != 'ready\n': sys.exit('a process ended before it trained')
    for p in ps:
        p.stdin.write('go\n')
        p.stdin.flush()
    return statistics.mean(float(p.communicate()[0]) for p in ps)


def main():
    p = parser(__doc__)
    p.add_argument('--size', type=int, default=64)
    args = p.parse_args()
    size, bs, n, repeat = (32, 8, 2, 1) if args.small else (args.size, 8, 4, args.repeat)
    rows = []
    for name, many in (('a step, alone', 1), ('a step, beside another program', 2)):
        ours, theirs = zip(*[[together(many, how, size, bs, n) for how in ('sleep', 'spin')] for _ in range(repeat)])
        rows.append(row(f'{name}, sleeping / spinning', ours, theirs, None))
    show(rows, args)


if __name__ == '__main__': main()
