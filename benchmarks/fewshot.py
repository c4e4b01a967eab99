"""What are starter weights worth? `python -m benchmarks.fewshot --imagenet FILE --real FOLDER`. Bodies on starter weights, on random ones, and, where FILE holds them, SqueezeNet's
on ImageNet are compared twice: a straight line on frozen features of all training photos, and fine-tuning on 5, 10 and 20 photos a class, each of another cable.

They are taught on embedded photos alone and judged on the embedded test photos and, where given, on real photos in FOLDER, one folder a class. Those are never trained or tuned on.
"""
import json
import statistics
import tempfile
from pathlib import Path

import pandas as pd
from fastai.vision.all import set_seed, to_np, torch

from benchmarks.clock import parser
from cable_classifier.data import get_data, get_dls, get_items, label_func, split_items
from cable_classifier.photos import get_photos
from cable_classifier.starter import linear_probe
from cable_classifier.train import get_learner, wilson


def bodies(imagenet):
    "Name -> arguments of `get_learner`"
    have = {'starter': {}, 'random': dict(pretrained=False)}
    return have | ({'SqueezeNet, ImageNet': dict(arch='squeezenet1_1', weights=str(imagenet))} if imagenet else {})


def share_right(learn, sets):
    "Share of the photos of each set that `learn` names rightly"
    def one(files):
        preds = learn.get_preds(dl=learn.dls.test_dl(files))[0].argmax(1)
        return sum(learn.dls.vocab[int(p)] == label_func(f) for p, f in zip(preds, files))/len(files)
    with learn.no_bar(), learn.no_logging(): return {name: one(files) for name, files in sets.items()}


def probe(path, items, sets, size, kwargs, seed):
    "The same of a straight line on what the body gives, averaged over the picture"
    set_seed(seed, reproducible=True)
    learn = get_learner(get_dls(path/'plugs', items, size=size), **kwargs)
    body = learn.model[0].eval()
    def feats(files):
        with torch.no_grad(): return to_np(torch.cat([body(xb).float().mean((2, 3)) for xb, in learn.dls.test_dl(files)]))
    train = items[items.split == 'train']
    x, y = feats([path/'plugs'/f for f in train.fname]), train.label.to_numpy()
    return {name: linear_probe(x, y, feats(files), [label_func(f) for f in files])['accuracy'] for name, files in sets.items()}


def few(items, n, seed):
    "The table with `n` training photos a class only, one a cable, and the validation photos"
    train = items[items.split == 'train'].sample(frac=1, random_state=seed).drop_duplicates('group')
    return pd.concat([items[items.split == 'valid'].iloc[::12], train.groupby('label').head(n)])


def fine_tune(path, items, sets, size, kwargs, seed, steps):
    "The same after so many steps with the body frozen, and as many with all layers"
    set_seed(seed, reproducible=True)
    with tempfile.TemporaryDirectory() as tmp:
        learn = get_learner(get_dls(path/'plugs', items, size=size, bs=min(15, (items.split == 'train').sum())), path=tmp, **kwargs)
        epochs = max(1, round(steps/len(learn.dls.train)))
        with learn.no_bar(), learn.no_logging(): learn.fine_tune(epochs, 2e-3, freeze_epochs=epochs)
        return share_right(learn, sets)


def main():
    p = parser(__doc__, repeat=3)
    p.add_argument('--imagenet', type=Path, help="a safetensors file of SqueezeNet 1.1's body")
    p.add_argument('--real', type=Path, help='real photos, a folder per class')
    p.add_argument('--size', type=int, default=160, help='side of the photos, pixels')
    p.add_argument('--steps', type=int, default=60, help='steps with the body frozen, and as many with all layers')
    args = p.parse_args()
    path, rows = get_data(), []
    items = split_items(get_items(path/'plugs', groups=path/'manifest.csv'), seed=42)
    if args.small: items = items.groupby(['label', 'split'], group_keys=False).head(24)
    size, steps, seeds, ns = (32, 1, 1, (2,)) if args.small else (args.size, args.steps, args.repeat, (5, 10, 20))
    sets = {'rendered': [path/'plugs'/f for f in items[items.split == 'test'].fname]}
    if args.real: sets['real'] = [f for f in get_photos(args.real) if f.parent.name in set(items.label)]
    print(f"{'share named rightly':34} " + ' '.join(f"{k+f' ({len(v)})':>22}" for k, v in sets.items()) + f'   mean of {seeds} seed(s), lowest to highest', flush=True)
    def line(name, got):
        rows.append(dict(name=name, **{k: [g[k] for g in got] for k in sets}))
        print(f'{name:34} ' + ' '.join(f"{statistics.mean(v):8.2f} ({min(v):.2f} to {max(v):.2f})" for k, v in rows[-1].items() if k != 'name'), flush=True)
    for name, kwargs in bodies(args.imagenet).items():
        line(f'{name}: straight line', [probe(path, items, sets, size, kwargs, seed) for seed in range(seeds if name == 'random' else 1)])
        for n in ns: line(f'{name}: {n} a class', [fine_tune(path, few(items, n, seed), sets, size, kwargs, seed, steps) for seed in range(seeds)])
    for k, v in sets.items(): print(f"a guess on {k}: 0.33; 95 % interval of 0.50 on {len(v)} photos: " + '{:.2f} to {:.2f}'.format(*wilson(len(v)/2, len(v))))
    if args.json: args.json.write_text(json.dumps(dict(rows=rows), indent=1), encoding='utf-8')


if __name__ == '__main__': main()
