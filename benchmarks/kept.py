"""What it saves to keep memory: `python -m benchmarks.kept`. Training steps of all layers and of a frozen body on a processor, with `hold_memory` and without.

Each is timed in a process of its own, so that none begins with what another has left. Told beside it: the most memory of each, and what it holds when the fit is
over and `GiveBack` has returned the rest (on Linux; nan elsewhere).
"""
from benchmarks.clock import parser, row, show
from benchmarks.growth import seen

code = """
import re, sys
import cable_classifier.train
from fastai.vision.all import defaults, set_seed
from benchmarks.clock import clock
from benchmarks.train import steps
from cable_classifier.data import get_data, get_items, split_items
from cable_classifier.finetune import peak_rss_mb
kept, frozen, (size, bs, n) = sys.argv[1] == 'True', sys.argv[2] == 'True', map(int, sys.argv[3:])
defaults.use_cuda = False
if not kept: cable_classifier.train.hold_memory = lambda: False
set_seed(42, reproducible=True)
path = get_data()
items = split_items(get_items(path/'plugs', groups=path/'manifest.csv')).groupby(['label', 'split']).head(n*bs//3+bs)
seconds = clock(steps(path/'plugs', items, size, bs, n, frozen=frozen))
held = int(re.search(r'VmRSS:\\s*(\\d+) kB', open('/proc/self/status').read())[1])/2**10 if sys.platform == 'linux' else float('nan')
print(seconds, peak_rss_mb(), held)
"""


def main():
    p = parser(__doc__)
    p.add_argument('--size', type=int, default=224)
    args = p.parse_args()
    size, bs, n, repeat = (32, 8, 2, 1) if args.small else (args.size, 32, 4, args.repeat)
    rows, peaks, held = [], {}, {}
    for name, frozen in (('training step', False), ('frozen step', True)):
        ours, theirs = zip(*[[seen(code, kept, frozen, size, bs, n, n=3) for kept in (True, False)] for _ in range(repeat)])
        rows.append(row(f'{name}, memory kept / given back', [s for s, *_ in ours], [s for s, *_ in theirs], None))
        peaks[name], held[name] = ([max(r[i] for r in way) for way in (ours, theirs)] for i in (1, 2))
    show(rows, args, peak_mb=peaks, held_mb=held)
    for name, (kept, back) in peaks.items():
        print(f'{name}: {kept:.0f} MB at most where memory is kept, {back:.0f} MB where it is given back; {held[name][0]:.0f} and {held[name][1]:.0f} MB when the fit is over')


if __name__ == '__main__': main()
