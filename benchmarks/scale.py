"""Does more than one process pay here? `python -m benchmarks.scale`. Training by one process with all cores and by two that share them; prediction of a folder by
`predict_photos` and by workers of Ray, which is started anew for each folder, as `cables predict --engine ray` does.

Photos of 64 pixels keep the network small and the folders large: what is measured is how work is shared out.
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.clock import parser

train = """
import json, os, sys, time, torch
from cable_classifier.scale import Team
team = Team(on_cpu=True)
from fastai.vision.all import set_seed
from cable_classifier.data import get_data, get_items, split_items, get_dls
from cable_classifier.train import get_learner, error_ci
path = get_data()
items = split_items(get_items(path/'plugs', groups=path/'manifest.csv'), seed=42)
groups = sorted(items.group[items.split == 'train'].unique())[::{share}]
items = items[(items.split == 'valid') | items.group.isin(groups)]
torch.set_num_threads({threads})
set_seed({seed}, reproducible=True)
learn = get_learner(get_dls(path/'plugs', items, size={size}, bs=32//team.size), path='{out}')
learn.unfreeze()
with team.shared(learn), learn.no_bar(), learn.no_logging():
    learn.fit_one_cycle(1, 1e-4)
    begin = time.perf_counter()
    learn.fit_one_cycle({epochs}, 1e-3)
    took = time.perf_counter()-begin
if team.first: print('RESULT', json.dumps(dict(rate={epochs}*len(learn.dls.train_ds)/took, error=error_ci(learn)['error_rate'])))
"""


def train_with(processes, seed, args):
    "Photos a second and error of a training by so many processes, which together use all cores"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    with tempfile.TemporaryDirectory() as tmp:
        file = Path(tmp)/'train.py'
        file.write_text(train.format(threads=max(1, cores//processes), seed=seed, size=64 if args.small else 160, share=12 if args.small else 3, epochs=1 if args.small else 3, out=tmp))
        launch = ['-m', 'accelerate.commands.launch', '--cpu', '--num_processes', str(processes), '--num_machines', '1', '--mixed_precision', 'no', '--dynamo_backend', 'no', '--main_process_port', '0']
        r = subprocess.run([sys.executable, *(launch if processes > 1 else []), str(file)], capture_output=True, text=True, env=dict(os.environ, PYTHONPATH=os.getcwd()))
    if r.returncode: sys.exit(r.stderr[-2000:])
    return json.loads(next(l for l in r.stdout.splitlines() if l.startswith('RESULT'))[7:])


class Memory(threading.Thread):
    "The most memory this process and all it started held at once, MB, each page counted once (proportional set size)"
    def __init__(self):
        super().__init__(daemon=True)
        self.most, self.stop = 0, threading.Event()

    def run(self):
        import psutil
        while not self.stop.wait(.5):
            total = 0
            for p in [psutil.Process(), *psutil.Process().children(recursive=True)]:
                try: total += p.memory_full_info().pss
                except (psutil.Error, AttributeError): pass
            self.most = max(self.most, total/1e6)

    def __enter__(self): self.start(); return self
    def __exit__(self, *_): self.stop.set(); self.join()


def predict_with(model, folder, n, ray):
    "Photos a second, and the most memory"
    from cable_classifier.batch import predict_many
    from cable_classifier.deploy import load_model, predict_photos
    from cable_classifier.photos import get_photos
    with Memory() as memory, tempfile.TemporaryDirectory() as tmp:
        begin = time.perf_counter()
        if ray: predict_many(model, [folder], Path(tmp)/'out')
        else:
            for _ in predict_photos(load_model(model), get_photos(folder)): pass
        took = time.perf_counter()-begin
    return n/took, memory.most


def main():
    p = parser(__doc__, repeat=3)
    p.add_argument('--sizes', default='1000,10000,50000', help='photos in the folders that are predicted')
    args = p.parse_args()
    rows = []
    print(f"{'training, 160 px, all layers':30} {'photos/s':>9} {'error':>7}   medians of {args.repeat} seeds")
    runs = {n: [] for n in (1, 2)}
    for seed in range(args.repeat):
        for n in runs: runs[n].append(train_with(n, seed, args))
    for n, got in runs.items():
        rate, errors = statistics.median(g['rate'] for g in got), [g['error'] for g in got]
        rows.append(dict(what='train', processes=n, rate=rate, errors=errors))
        print(f'{n} process{"es" if n > 1 else "":27} {rate:9.1f} {statistics.median(errors):7.3f} ({min(errors):.3f} to {max(errors):.3f})')
    print(f"two processes give {rows[1]['rate']/rows[0]['rate']:.2f} of the photos a second of one")
    rows += predict_rows([200] if args.small else [int(s) for s in args.sizes.split(',')])
    if args.json: args.json.write_text(json.dumps(dict(rows=rows), indent=1), encoding='utf-8')


def predict_rows(sizes):
    "Folders of small photos, predicted in both ways"
    from cable_classifier.data import get_data
    from cable_classifier.run import run_course
    from cable_classifier.photos import open_photo
    rows, path = [], get_data()/'plugs'
    print(f"\n{'prediction, 64 px':20} {'one process':>12} {'Ray':>8} {'ratio':>6} {'one, MB':>9} {'Ray, MB':>8}   photos/s, once each, start included")
    with tempfile.TemporaryDirectory() as tmp:
        tmp, pictures = Path(tmp), []
        small = tmp/'small'
        for d in sorted(path.iterdir()):
            (small/d.name).mkdir(parents=True)
            for f in sorted(d.iterdir())[:40]:
                im = open_photo(f)
                im.thumbnail((72, 72))
                im.save(small/d.name/f.name)
                pictures.append(small/d.name/f.name)
        run_course(small, tmp/'run', epochs=1, finetune_epochs=0, size=64, turns=1, groups=r'^(.+)_\d+\.jpg$', say=lambda s: None)
        for n in sizes:
            folder = tmp/str(n)
            for i in range(n):
                if not i % 1000: (folder/f'{i//1000:03}').mkdir(parents=True)
                shutil.copyfile(pictures[i % len(pictures)], folder/f'{i//1000:03}'/f'{i:06}.jpg')
            (one, mb), (many, ray_mb) = (predict_with(tmp/'run'/'model', folder, n, ray) for ray in (False, True))
            rows.append(dict(what='predict', photos=n, one=one, ray=many, ratio=many/one, one_mb=mb, ray_mb=ray_mb))
            print(f'{n:<20,} {one:12.0f} {many:8.0f} {many/one:6.2f} {mb:9.0f} {ray_mb:8.0f}', flush=True)
            shutil.rmtree(folder)
    return rows


if __name__ == '__main__': main()
