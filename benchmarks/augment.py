"""Which augmentation helps on photos from elsewhere? `python -m benchmarks.augment`. The course's learner is trained on embedded photos of two thirds of the backgrounds,
once with each augmentation and seed. It is judged at home, on cables it has not seen before backgrounds it has, and away, on all photos before backgrounds it has not seen.

No real photo is looked at. What is compared is how errors grow when the world changes; the validation photos are the embedded ones, the test photos stay apart.
"""
import json
import statistics
import tempfile
import time
from pathlib import Path

from fastai.vision.all import (CategoryBlock, DataBlock, F, Hue, IndexSplitter, IntToFloatTensor, Normalize, PadMode, RandomErasing, RandTransform, Resize, ResizeMethod, Saturation,
                               TensorImage, TransformBlock, aug_transforms, random, set_seed, torch)

from benchmarks.clock import parser
from cable_classifier.data import Photo, get_data, get_items, label_func, split_items
from cable_classifier.speed import Presize
from cable_classifier.starter import starter_stats
from cable_classifier.train import get_learner


class BlurNoise(RandTransform):
    "A Gaussian blur of up to 1.5 pixels and noise of up to 0.06, drawn anew for each batch"
    split_idx, order = 0, 95

    def __init__(self, p=.5): super().__init__(p=p)

    def before_call(self, b, split_idx):
        super().before_call(b, split_idx)
        self.width, self.noise = random.uniform(.3, 1.5), random.uniform(0, .06)

    def encodes(self, x: TensorImage):
        k = torch.exp(-(torch.arange(-3, 4, device=x.device)**2)/(2*self.width**2))
        k = (k/k.sum()).view(1, 1, 1, 7).repeat(3, 1, 1, 1).to(x.dtype)
        y = F.conv2d(F.pad(x, (3, 3, 3, 3), mode='reflect'), k, groups=3)
        y = F.conv2d(y, k.transpose(2, 3), groups=3)
        return (y + torch.randn_like(y)*self.noise).clamp(0, 1)


def ways():
    "Name -> arguments of `aug_transforms`, or None for no augmentation"
    turned = dict(flip_vert=True, max_rotate=180., max_zoom=1.3, min_zoom=.8, max_lighting=.3, max_warp=0., p_affine=.9)
    far = dict(min_zoom=.55, max_zoom=1.4, pad_mode=PadMode.Border)
    colour = [Saturation(.7, p=.75), Hue(.1, p=.75)]
    return {'none': None, "fastai's defaults": {}, 'any way round': turned, '+ near and far': turned | far, '+ colours': turned | dict(max_lighting=.5, xtra_tfms=colour),
            '+ blur, noise': turned | dict(xtra_tfms=[BlurNoise()]), '+ erasing': turned | dict(xtra_tfms=[RandomErasing(p=.5, sh=.2, max_count=3)]),
            '+ warp': turned | dict(max_warp=.3),
            'all of these': turned | far | dict(max_lighting=.5, max_warp=.2, xtra_tfms=[*colour, BlurNoise(), RandomErasing(p=.3, sh=.2, max_count=2)])}


def worlds(path):
    "The split table with `away`, whether a photo has a background that is not trained on"
    import pandas as pd
    items = split_items(get_items(path/'plugs', groups=path/'manifest.csv'), seed=42)
    seen = pd.read_csv(path/'manifest.csv').set_index('fname').background
    items['background'] = seen.loc['plugs/' + items.fname].to_numpy()
    items['away'] = items.background.isin(sorted(items.background.unique())[::3])
    return items[items.split != 'test'].reset_index(drop=True)


def train(path, items, kwargs, seed, size, epochs):
    "Mistakes at home and away, as lists of 0 and 1, and the seconds it took"
    valid = (items.split == 'valid') | items.away
    tfms = [*([] if kwargs is None else aug_transforms(**kwargs)), Normalize.from_stats(*starter_stats)]
    block = DataBlock(blocks=(TransformBlock(type_tfms=Presize(size, Photo), batch_tfms=IntToFloatTensor), CategoryBlock(vocab=sorted(items.label.unique()))), get_y=label_func,
                      splitter=IndexSplitter(items.index[valid].tolist()), item_tfms=Resize(size, ResizeMethod.Pad, PadMode.Border), batch_tfms=tfms)
    set_seed(seed, reproducible=True)
    with tempfile.TemporaryDirectory() as tmp:
        learn, start = get_learner(block.dataloaders([path/'plugs'/f for f in items.fname], bs=32, num_workers=0), path=tmp), time.perf_counter()
        with learn.no_bar(), learn.no_logging():
            learn.fit_one_cycle(epochs[0], 3e-3)
            learn.unfreeze()
            learn.fit_one_cycle(epochs[1], slice(1e-4, 2e-3))
            preds, targs = learn.get_preds()
    wrong, away = (preds.argmax(1) != targs).int(), torch.tensor(items.away[valid].to_numpy())
    return wrong[~away].tolist(), wrong[away].tolist(), time.perf_counter()-start


def main():
    p = parser(__doc__, repeat=3)
    p.add_argument('--size', type=int, default=128, help='side of the photos, pixels')
    p.add_argument('--only', nargs='+', help='names of some augmentations')
    args = p.parse_args()
    path = get_data()
    items, rows = worlds(path), []
    if args.small: items = items.groupby(['label', 'split', 'away'], group_keys=False).head(6).reset_index(drop=True)
    size, epochs, seeds = (32, (1, 1), 1) if args.small else (args.size, (2, 8), args.repeat)
    n_home, n_away = ((items.split == 'valid') & ~items.away).sum(), items.away.sum()
    print(f"{'error':20} {'at home':>8} {'away':>6} {'spread':>7}   {n_home} and {n_away} photos, means of {seeds} seed(s), seconds a training", flush=True)
    for name, kwargs in ways().items():
        if name not in (args.only or ways()): continue
        got = [train(path, items, kwargs, seed, size, epochs) for seed in range(42, 42+seeds)]
        at_home, away = ([statistics.mean(g[i]) for g in got] for i in (0, 1))
        rows.append(dict(name=name, at_home=at_home, away=away))
        spread = f'{statistics.stdev(away):.3f}' if seeds > 1 else ''
        print(f"{name:20} {statistics.mean(at_home):8.3f} {statistics.mean(away):6.3f} {spread:>7}   {statistics.median(g[2] for g in got):.0f} s", flush=True)
    if args.json: Path(args.json).write_text(json.dumps(dict(rows=rows), indent=1), encoding='utf-8')


if __name__ == '__main__': main()
