"""What it saves to keep memory: `python -m benchmarks.kept`. Training steps of all layers and of a frozen body on a processor, with `hold_memory` and without.

Each is timed in a process of its own, because memory that was kept once is not given back again.
"""
from benchmarks.clock import parser, row, show
from benchmarks.growth import seen

code = """
import sys
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
print(clock(steps(path/'plugs', items, size, bs, n, frozen=frozen)), peak_rss_mb())
"""


def main():
    p = parser(__doc__)
    p.add_argument('--size', type=int, default=224)
    args = p.parse_args()
    size, bs, n, repeat = (32, 8, 2, 1) if args.small else (args.size, 32, 4, args.repeat)
    rows, peaks = [], {}
    for name, frozen in (('training step', False), ('frozen step', True)):
        ours, theirs = zip(*[[seen(code, kept, frozen, size, bs, n) for kept in (True, False)] for _ in range(repeat)])
        rows.append(row(f'{name}, memory kept / given back', [s for s, _ in ours], [s for s, _ in theirs], None))
        peaks[name] = [max(mb for _, mb in way) for way in (ours, theirs)]
    show(rows, args, peak_mb=peaks)
    for name, (kept, back) in peaks.items(): print(f'{name}: {kept:.0f} MB at most where memory is kept, {back:.0f} MB where it is given back')


if __name__ == '__main__': main()
