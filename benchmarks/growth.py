"""What more photos cost: `python -m benchmarks.growth`. One, four and sixteen times as many, each in a process of its own.

Training is one epoch of all layers on opened photos (an epoch before it opens them); prediction is the model folder on files, the same ones again where there are
not enough. Time per photo should stay what it is at the smallest number, and memory within bounds: opened photos are kept up to a gigabyte.
"""
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.clock import gpu_or_leave, parser

train_code = """
import sys, time
from fastai.vision.all import defaults, set_seed
from cable_classifier.data import get_data, get_dls, get_items, split_items
from cable_classifier.finetune import peak_rss_mb
from cable_classifier.train import get_learner
n, size, gpu = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == 'gpu'
defaults.use_cuda = None if gpu else False
set_seed(42, reproducible=True)
path = get_data()
items = split_items(get_items(path/'plugs', groups=path/'manifest.csv'))
train = items[items.split == 'train'].sample(n, random_state=42)
items = items[items.index.isin(train.index) | items.index.isin(items[items.split == 'valid'].index[:32])]
learn = get_learner(get_dls(path/'plugs', items, size=size, bs=16))
learn.unfreeze()
with learn.no_bar(), learn.no_logging():
    learn.fit(1, 1e-4)
    start = time.perf_counter()
    learn.fit(1, 1e-4)
print(time.perf_counter()-start, peak_rss_mb())
"""

predict_code = """
import re, resource, sys, time
from pathlib import Path
from cable_classifier.data import get_data
from cable_classifier.deploy import load_model
from cable_classifier.photos import get_photos
folder, n = sys.argv[1], int(sys.argv[2])
fnames = get_photos(get_data()/'plugs')
fnames = (fnames*(n//len(fnames)+1))[:n]
model = load_model(folder)
model.predict(fnames[:1])
start = time.perf_counter()
model.predict(fnames)
took, status = time.perf_counter()-start, Path('/proc/self/status') # as in `peak_rss_mb`, which would load torch
kb = re.search(r'VmHWM:\\s*(\\d+)', status.read_text())[1] if status.exists() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(took, int(kb)/1024)
"""


def seen(code, *args, n=2):
    "The `n` numbers that `code` prints last, such as seconds and peak memory in MB"
    r = subprocess.run([sys.executable, '-W', 'ignore', '-c', code, *map(str, args)], check=True, capture_output=True, text=True)
    return [float(x) for x in r.stdout.split()[-n:]]


def main():
    args = parser(__doc__, repeat=5).parse_args()
    gpu_or_leave(args)
    from cable_classifier.data import get_data, get_dls, get_items, split_items
    from cable_classifier.deploy import export_model
    from cable_classifier.photos import get_photos
    from cable_classifier.train import get_learner
    first, size, repeat = (32, 64, 1) if args.small else (64, 160, args.repeat)
    sizes = [first, first*2] if args.small else [first, first*4, first*16]
    path = get_data()
    with tempfile.TemporaryDirectory() as tmp:
        items = split_items(get_items(path/'plugs', groups=path/'manifest.csv'))
        export_model(get_learner(get_dls(path/'plugs', items, size=size if args.small else 224), path=tmp), Path(tmp)/'model', check=get_photos(path/'plugs')[:4])
        ways = {f'one epoch at {size} px': lambda n: seen(train_code, n, size, 'gpu' if args.gpu else 'cpu'),
                'prediction': lambda n: seen(predict_code, Path(tmp)/'model', n)}
        got = {(w, n): [] for w in ways for n in sizes}
        for _ in range(repeat):
            for w, n in got: got[w, n].append(ways[w](n))
    rows = []
    print(f"{'':26} {'photos':>7} {'seconds':>9} {'ms a photo':>11} {'against the first':>18} {'peak, MB':>9}   medians of {repeat} turns")
    for (w, n), v in got.items():
        secs, mb = (statistics.median(x) for x in zip(*v))
        times = statistics.median(a[0]/n/(b[0]/first) for a, b in zip(v, got[w, first]))
        rows.append(dict(name=w, photos=n, seconds=secs, against_first=times, peak_mb=mb, n=repeat))
        print(f'{w:26} {n:7} {secs:9.2f} {1000*secs/n:11.1f} {times:18.2f} {mb:9.0f}')
    if args.json: args.json.write_text(json.dumps(dict(rows=rows), indent=1), encoding='utf-8')


if __name__ == '__main__': main()
