"""What 8 bits cost and bring: `python -m benchmarks.int8 [FOLDER]`. One model, trained on the embedded photos alone, and the same after `cables shrink`, read the same photos.

FOLDER has one folder of photos per class; by default the embedded test photos are read. It is never trained on, tuned on, or used for a range or a threshold.
"""
import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.clock import process, turns
from cable_classifier.data import get_data, get_items, split_items
from cable_classifier.deploy import load_model, preprocess
from cable_classifier.interpret import mcnemar
from cable_classifier.photos import get_photos, open_photo
from cable_classifier.train import wilson


def test_photos():
    "Paths of the embedded photos that no training sees"
    path = get_data()
    items = split_items(get_items(path/'plugs', groups=path/'manifest.csv'))
    return [path/'plugs'/f for f in items[items.split == 'test'].fname]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('folder', type=Path, nargs='?', help='photos, a folder per class; the embedded test photos by default')
    p.add_argument('--model', type=Path, help='a model folder of `cables run` on the embedded photos; trained here by default')
    p.add_argument('--repeat', type=int, default=15, help='turns; the median of them is shown')
    p.add_argument('--json', type=Path, help='also write the figures here')
    args = p.parse_args()
    rows, right = [], {}
    with tempfile.TemporaryDirectory() as tmp:
        if not args.model:
            from cable_classifier.run import run_course
            with contextlib.redirect_stdout(io.StringIO()): run_course(None, Path(tmp)/'run') # its progress bars
        folder, small = args.model or Path(tmp)/'run'/'model', Path(tmp)/'small'
        models = {'float32': load_model(folder)}
        paths = [f for f in (get_photos(args.folder) if args.folder else test_photos()) if f.parent.name in models['float32'].vocab]
        if not paths: sys.exit(f"error: no photos of {', '.join(models['float32'].vocab)} in '{args.folder}'; it needs a folder of each")
        process('-c', 'from cable_classifier.cli import main; main()', 'shrink', folder, small, '--most', 1)()
        models['8 bits'] = load_model(small)
        size = {k: (m.folder/'model.onnx').stat().st_size/1e6 for k, m in models.items()}
    m = models['float32']
    xs = np.stack([preprocess(open_photo(f), m.size, m.mean, m.std, m.fit) for f in paths])
    one, many = (turns({k: lambda m=m: m.logits(x) for k, m in models.items()}, n) for x, n in ((xs[:1], args.repeat), (xs[:32], max(3, args.repeat//3))))
    print(f"{'':8} {'right':>6}   95 % interval  {'graph, MB':>10} {'one photo, ms':>14} {'photos/s':>9}   {len(paths)} photos")
    for name, m in models.items():
        right[name] = [m.vocab[i] == f.parent.name for i, f in zip(m.probs(xs).argmax(1), paths)]
        low, high = wilson(sum(right[name]), len(paths))
        rows.append(dict(name=name, right=sum(right[name])/len(paths), ci95=[low, high], mb=size[name], ms=1000*statistics.median(one[name]),
                         photos_per_second=len(xs[:32])/statistics.median(many[name])))
        r = rows[-1]
        print(f"{name:8} {r['right']:6.3f}   {low:.3f} to {high:.3f} {r['mb']:10.1f} {r['ms']:14.1f} {r['photos_per_second']:9.0f}", flush=True)
    gained, lost, differ = mcnemar(right['float32'], right['8 bits'])
    print(f"in turns, medians: one photo {statistics.median(a/b for a, b in zip(one['float32'], one['8 bits'])):.2f} times as quick, "
          f"32 at once {statistics.median(a/b for a, b in zip(many['float32'], many['8 bits'])):.2f}; {gained} gained, {lost} lost (McNemar p {differ:.2f})")
    if args.json: args.json.write_text(json.dumps(dict(n=len(paths), rows=rows, gained=gained, lost=lost, p=differ), indent=1), encoding='utf-8')


if __name__ == '__main__': main()
