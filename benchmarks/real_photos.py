"""Train on the embedded photos alone, then read real ones: `python -m benchmarks.real_photos FOLDER`.

FOLDER has one folder of photos per class, and `other` for plugs of no class. It is never trained on, tuned on, or used for a threshold.
Each model looks at every photo four ways up, as `cables predict` does, and then once, as `cables predict --turns 1` does; temperature and
threshold are those of four ways up.
Beside the real photos stand the rendered test photos, and how well other rendered plugs are told from them.
"""
import argparse
import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from fastcore.basics import chunked

from cable_classifier.data import get_data
from cable_classifier.deploy import load_model, predict_photos, preprocess
from cable_classifier.interpret import none_auroc
from cable_classifier.outliers import get_unmet
from cable_classifier.photos import get_photos, open_photo
from cable_classifier.run import get_run_items, run_course
from cable_classifier.train import wilson
from cable_classifier.workspace import CableError


def rendered(seed):
    "Paths of the embedded test photos"
    path = get_data()
    items = get_run_items(path/'plugs', path/'manifest.csv', seed)
    return [path/'plugs'/f for f in items[items.split == 'test'].fname]


def read(model, paths, turns):
    "Rows of `predict_photos` with the name of each photo's folder as `target`; unreadable photos are counted as wrong"
    return [dict(row, target=Path(row['path']).parent.name) for row in predict_photos(model, paths, turns=turns)]


def answers(model, paths, turns):
    "What `model` names each photo (photos), and how familiar it is (photos), in the mean of so many ways up"
    xs = (preprocess(open_photo(p), model.size, model.mean, model.std, model.fit) for p in paths)
    probs, scores = map(np.concatenate, zip(*(model.answers(np.stack(some), turns) for some in chunked(xs, 32))))
    return np.array(model.vocab)[probs.argmax(1)], scores


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


sure = .9 # a name given with as much probability is a confident answer


def parted(model, rows, turns):
    "How well real plugs of other kinds are told from ours: AUROC by familiarity and by plain confidence, and the share of them that is named with confidence, as `predict` answers and by plain softmax, which refuses nothing"
    rows = [r for r in rows if r['error'] is None]
    _, scores = answers(model, [r['path'] for r in rows], turns)
    confidence, refused = (np.array([r[k] for r in rows]) for k in ('confidence', 'none_of_these'))
    other = np.array([r['target'] not in model.vocab for r in rows])
    named = other & (confidence >= sure)
    return dict(other_auroc=none_auroc(scores[~other], scores[other]), other_auroc_confidence=none_auroc(confidence[~other], confidence[other]),
                other_confident=float(sum(named & ~refused)/sum(other)), other_confident_plain=float(sum(named)/sum(other)))


looks = {4: 'four ways up', 1: 'as they are'} # by ways up


parted_figures = 'other_auroc', 'other_auroc_confidence', 'other_confident', 'other_confident_plain'


def parted_words(r):
    "The figures on real photos of other plugs, ours beside plain softmax"
    return (f"AUROC {r['other_auroc']:.2f} (by confidence {r['other_auroc_confidence']:.2f}), "
            f"named with {sure} or more {r['other_confident']:.2f} (by plain softmax {r['other_confident_plain']:.2f})")


def rendered_words(r):
    "The figures on rendered photos"
    return f"error on rendered test photos {r['rendered_test_error']:.3f}, AUROC of other rendered plugs {r['rendered_auroc']:.3f}, of kinds never met {r['rendered_auroc_unmet']:.3f}"


def sentence(r):
    "The figures of one seed"
    low, high = r['ci95']
    return (f"{r['accuracy']:.2f} right of {r['n']} ({low:.2f}-{high:.2f}), balanced {r['balanced_accuracy']:.2f}, " + ', '.join(f'{c} {v:.2f}' for c, v in r['recall'].items())
            + f"; none of these: {r['other_refused']:.2f} of {r['n_other']} others, {r['known_refused']:.2f} of the classes, {parted_words(r)};"
            f" {rendered_words(r)}")


def summed(rows):
    "Means over the seeds, Wilson's interval of one run at the mean, and the standard deviation of the accuracy over seeds"
    mean = {k: float(np.mean([r[k] for r in rows])) for k in ('accuracy', 'balanced_accuracy', 'other_refused', 'known_refused', *parted_figures, 'rendered_test_error', 'rendered_auroc', 'rendered_auroc_unmet')}
    return mean | dict(ci95=list(wilson(round(mean['accuracy']*rows[0]['n']), rows[0]['n'])), spread=round(float(np.std([r['accuracy'] for r in rows], ddof=1)), 3) if len(rows) > 1 else None)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('folder', type=Path, help='real photos, a folder per class')
    p.add_argument('--seeds', type=int, nargs='+', default=[42, 43, 44], help='one training each')
    p.add_argument('--epochs', type=int, default=4, help='epochs of stage-1')
    p.add_argument('--finetune-epochs', type=int, default=16, help='epochs of stage-2')
    p.add_argument('--no-more', dest='more', action='store_false', help='without the photos of more cables than the chapters have')
    p.add_argument('--no-expose', dest='expose', action='store_const', const=False, help='show no other plugs to the network in stage-2')
    p.add_argument('--arch', default='resnet18')
    p.add_argument('--weights', default='starter', help="'starter', 'imagenet' or a safetensors file")
    p.add_argument('--keep', type=Path, help='folder for the runs, one by seed; an interrupted one goes on from there. By default they are thrown away')
    p.add_argument('--json', type=Path, help='also write the figures here')
    args = p.parse_args()
    folders = {f.parent.name for f in get_photos(args.folder)}
    classes = {f.parent.name for f in get_photos(get_data()/'plugs')}
    if not folders & classes or not folders - classes:
        raise CableError(f"'{args.folder}' needs photos in folders named after the classes ({', '.join(sorted(classes))}) and others in a folder `other`; put some there")
    results = {turns: [] for turns in looks}
    with tempfile.TemporaryDirectory() as tmp:
        for seed in args.seeds:
            out = (args.keep or Path(tmp))/str(seed)
            with contextlib.redirect_stdout(io.StringIO()): # its progress bars
                metrics = run_course(None, out, args.arch, args.weights, args.epochs, args.finetune_epochs, seed, expose=args.expose, more=args.more)
            model, test = load_model(out/'model'), rendered(seed)
            for turns, rows in results.items():
                (named, own), (_, other), (_, unmet) = (answers(model, paths, turns) for paths in (test, get_photos(get_data()/'other'), get_unmet()))
                real = read(model, get_photos(args.folder), turns)
                rows.append(dict(seed=seed, rendered_test_error=float(np.mean(named != [p.parent.name for p in test])), rendered_auroc=none_auroc(own, other),
                                 rendered_auroc_unmet=none_auroc(own, unmet), **score(real, metrics['vocab']), **parted(model, real, turns)))
                print(f'seed {seed}, {looks[turns]}: {sentence(rows[-1])}', flush=True)
    means = {turns: summed(rows) for turns, rows in results.items()}
    for turns, m in means.items(): print(f"mean of {len(args.seeds)} seeds, {looks[turns]}: {m['accuracy']:.2f} right (95 % interval of one run {m['ci95'][0]:.2f}-{m['ci95'][1]:.2f}, "
                                         f"spread of seeds {m['spread']}), balanced {m['balanced_accuracy']:.2f}, others refused {m['other_refused']:.2f}, of the classes {m['known_refused']:.2f}, {parted_words(m)}, "
                                         f"{rendered_words(m)}")
    if args.json: args.json.write_text(json.dumps(dict(results=results[4], mean=means[4], once=dict(results=results[1], mean=means[1])), indent=1))


if __name__ == '__main__':
    try: main()
    except CableError as e: sys.exit(f'error: {e}')
