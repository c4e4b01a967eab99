"""Train on the embedded photos alone, then read real ones: `python -m benchmarks.real_photos FOLDER`.

FOLDER has one folder of photos per class, and `other` for plugs of no class. It is never trained on, tuned on, or used for a threshold.
"""
import argparse
import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from cable_classifier.deploy import load_model, predict_photos
from cable_classifier.photos import get_photos
from cable_classifier.run import run_course
from cable_classifier.train import wilson
from cable_classifier.workspace import CableError


def read(model, folder):
    "Rows of `predict_photos` for every photo under `folder`, with the folder's name as `target`; unreadable photos are counted as wrong"
    paths = get_photos(folder)
    return [dict(row, target=Path(row['path']).parent.name) for row in predict_photos(model, paths)]


def score(rows, vocab):
    "Accuracy with Wilson's interval, balanced accuracy and recall of each class, and how often a photo of no class was refused"
    known, other = ([r for r in rows if (r['target'] in vocab) is known] for known in (True, False))
    right = {c: [r['label'] == c for r in known if r['target'] == c] for c in vocab}
    recall = {c: float(np.mean(v)) for c, v in right.items() if v}
    n, k = len(known), sum(map(sum, right.values()))
    refused = [r['none_of_these'] is True for r in other]
    low, high = wilson(k, n)
    return dict(n=n, accuracy=k/n, ci95=[low, high], balanced_accuracy=float(np.mean(list(recall.values()))), recall=recall,
                known_refused=float(np.mean([r['none_of_these'] is True for r in known])), n_other=len(other), other_refused=float(np.mean(refused)) if refused else None)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('folder', type=Path, help='real photos, a folder per class')
    p.add_argument('--seeds', type=int, nargs='+', default=[42, 43, 44], help='one training each')
    p.add_argument('--epochs', type=int, default=4, help='epochs of stage-1')
    p.add_argument('--finetune-epochs', type=int, default=16, help='epochs of stage-2')
    p.add_argument('--no-more', dest='more', action='store_false', help='without the photos of more cables than the chapters have')
    p.add_argument('--arch', default='resnet18')
    p.add_argument('--weights', default='starter', help="'starter', 'imagenet' or a safetensors file")
    p.add_argument('--keep', type=Path, help='folder for the runs, one by seed; an interrupted one goes on from there. By default they are thrown away')
    p.add_argument('--json', type=Path, help='also write the figures here')
    args = p.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as tmp:
        for seed in args.seeds:
            out = (args.keep or Path(tmp))/str(seed)
            with contextlib.redirect_stdout(io.StringIO()): # its progress bars
                metrics = run_course(None, out, args.arch, args.weights, args.epochs, args.finetune_epochs, seed, more=args.more)
            model = load_model(out/'model')
            result = dict(seed=seed, rendered_test_error=metrics['test']['error_rate'], **score(read(model, args.folder), metrics['vocab']))
            results.append(result)
            low, high = result['ci95']
            print(f"seed {seed}: {result['accuracy']:.2f} right of {result['n']} ({low:.2f}-{high:.2f}), balanced {result['balanced_accuracy']:.2f}, "
                  + ', '.join(f'{c} {r:.2f}' for c, r in result['recall'].items())
                  + f"; none of these: {result['other_refused']:.2f} of {result['n_other']} others, {result['known_refused']:.2f} of the classes;"
                  f" error on rendered test photos {result['rendered_test_error']:.3f}", flush=True)
    mean = {k: float(np.mean([r[k] for r in results])) for k in ('accuracy', 'balanced_accuracy', 'other_refused', 'known_refused', 'rendered_test_error')}
    spread = float(np.std([r['accuracy'] for r in results], ddof=1)) if len(results) > 1 else None
    low, high = wilson(round(mean['accuracy']*results[0]['n']), results[0]['n'])
    print(f"mean of {len(results)} seeds: {mean['accuracy']:.2f} right (95 % interval of one run {low:.2f}-{high:.2f}, spread of seeds {'unknown' if spread is None else round(spread, 3)}), "
          f"balanced {mean['balanced_accuracy']:.2f}, others refused {mean['other_refused']:.2f}")
    if args.json: args.json.write_text(json.dumps(dict(results=results, mean=mean, accuracy_spread=spread, ci95=[low, high]), indent=1))


if __name__ == '__main__':
    try: main()
    except CableError as e: sys.exit(f'error: {e}')
