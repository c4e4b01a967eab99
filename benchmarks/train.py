"""How long the course's recipe takes: `python -m benchmarks.train`. Ours against plain fastai: same network, photos, epochs and seeds.

The recipe is stage-1 frozen, a search for a learning rate, stage-2 of all layers. Plain fastai opens every photo in every epoch, computes in float32, and
searches for 100 batches from 1e-7 on. Ours is what `cables run` does: search for 40 batches from 1e-4 on, begin both stages on smaller photos, let the first layers
rest at full size in stage-2, and validate in the last epoch of a cycle only, as many epochs in all. The limit is a bare torch loop of the same network and precision on random tensors, all layers trained. On a GPU plain fastai gets the number of workers that
serves it best, and one unfrozen epoch of each is timed as well. `--compile` times a step of ours with `torch.compile` too,
`--small-maps` one without `SmallMaps`. All of them run in one process, which keeps its memory from the first of our learners on (`hold_memory`), so plain fastai has the use of that too.
"""
import itertools
import os
import statistics
import tempfile

from benchmarks.clock import clock, gpu_or_leave, parser, row, show


def loaders(path, items, size, bs, plain, workers=0):
    "DataLoaders of ours, or fastai's own with the same transforms and `workers` processes"
    from fastai.vision.all import CategoryBlock, DataBlock, ImageBlock, IndexSplitter, PadMode, Resize, ResizeMethod
    from cable_classifier.data import get_dls, label_func, make_batch_tfms
    if not plain: return get_dls(path, items, size=size, bs=bs)
    df = items[items.split != 'test'].reset_index(drop=True)
    block = DataBlock(blocks=(ImageBlock, CategoryBlock), get_y=label_func, splitter=IndexSplitter(df.index[df.split == 'valid'].tolist()),
                      item_tfms=Resize(size, ResizeMethod.Pad, PadMode.Border), batch_tfms=make_batch_tfms())
    return block.dataloaders([path/f for f in df.fname], bs=bs, num_workers=workers)


def learner(dls, plain):
    "A learner of ours, or fastai's own on the same weights"
    from fastai.vision.all import error_rate, vision_learner
    from cable_classifier.starter import starter_resnet18
    from cable_classifier.train import get_learner
    return vision_learner(dls, starter_resnet18, metrics=error_rate, path=tempfile.mkdtemp()) if plain else get_learner(dls)


def recipe(path, items, size, bs, seed, epochs, steps, plain, workers=0):
    "Seconds of stage-1, search and stage-2, and the error at the end"
    from fastai.vision.all import set_seed
    from cable_classifier.lr_find import course_lr, find_lr
    from cable_classifier.run import ValidateLast, small_size, stage2_cycles
    set_seed(seed, reproducible=True)
    dls = loaders(path, items, size, bs, plain, workers)
    learn = learner(dls, plain)
    def plainly():
        learn.fit_one_cycle(epochs[0], 3e-3)
        learn.unfreeze()
        learn.lr_find(num_it=steps, show_plot=False)
        learn.fit_one_cycle(epochs[1], course_lr)
    def ours():
        small = loaders(path, items, small_size(size), bs, plain)
        def stage(*cycles):
            for n, learn.dls, group, lr in cycles:
                learn.freeze_to(group)
                if n: learn.fit_one_cycle(n, lr, cbs=ValidateLast())
        stage((epochs[0]-1, small, -1, 3e-3), (1, dls, -1, 3e-3))
        learn.dls = small
        learn.unfreeze()
        find_lr(learn, num_it=min(40, steps), start_lr=1e-4)
        stage(*[(n, dls if s == size else small, group, slice(course_lr.start*part, course_lr.stop*part)) for n, part, s, group in stage2_cycles(epochs[1], size)])
    with learn.no_bar(), learn.no_logging():
        took = clock(plainly if plain else ours)
        learn.dls = dls
        return took, float(learn.validate()[1])


def epoch(path, items, size, bs, plain, workers=0):
    "A function that trains all layers for one epoch, warmed up by two, and does not validate"
    from fastai.vision.all import Callback, CancelValidException
    class NoValid(Callback):
        def before_validate(self): raise CancelValidException()
    learn = learner(loaders(path, items, size, bs, plain, workers), plain)
    learn.unfreeze()
    def fit(n=1):
        with learn.no_bar(), learn.no_logging(): learn.fit(n, 1e-5, cbs=NoValid())
    fit(2)
    return fit


def best_workers(path, items, size, bs, many):
    "The number among `many` of processes that brings plain fastai through an epoch soonest"
    if len(many) == 1: return many[0]
    secs = {n: clock(epoch(path, items, size, bs, True, n)) for n in many}
    print('plain fastai, an epoch of all layers:', ', '.join(f'{n} workers {s:.1f} s' for n, s in secs.items()), flush=True)
    return min(secs, key=secs.get)


def steps(path, items, size, bs, n, small_maps=True, frozen=False, **kwargs):
    "A function that trains `n` batches with our learner, of all layers or with a frozen body, warmed up; other keyword arguments go to `torch.compile`"
    from fastai.vision.all import Callback, CancelFitException, CancelValidException
    from cable_classifier.speed import Compiled
    class Stop(Callback):
        def after_batch(self):
            if self.train_iter >= n: raise CancelFitException()
        def before_validate(self): raise CancelValidException()
    learn = learner(loaders(path, items, size, bs, False), False)
    if not frozen: learn.unfreeze()
    if not small_maps: learn.remove_cb(learn.small_maps)
    if kwargs: learn.add_cb(Compiled(**kwargs))
    def ours():
        with learn.no_bar(), learn.no_logging(): learn.fit(n//len(learn.dls.train)+1, 1e-5, cbs=Stop())
    for _ in range(2): ours()
    return ours


def bare_steps(path, items, size, bs, n):
    "A function that trains `n` batches of random numbers in a loop of torch alone, warmed up"
    import torch
    from cable_classifier.starter import bf16_pays
    learn = learner(loaders(path, items, size, bs, False), False)
    dev = learn.dls.device
    model = learn.model.to(dev, memory_format=torch.channels_last).train()
    for p in model.parameters(): p.requires_grad_(True)
    opt = torch.optim.Adam(model.parameters(), lr=1e-5)
    x = torch.randn(bs, 3, size, size, device=dev).contiguous(memory_format=torch.channels_last)
    y = torch.randint(3, (bs,), device=dev)
    def bare():
        for _ in range(n):
            with torch.autocast(dev.type, torch.bfloat16, enabled=bf16_pays(dev)): out = model(x)
            torch.nn.functional.cross_entropy(out.float(), y).backward()
            opt.step(); opt.zero_grad()
        if dev.type == 'cuda': torch.cuda.synchronize()
    bare()
    return bare


def main():
    p = parser(__doc__, repeat=1)
    p.add_argument('--seeds', type=int, nargs='+', default=[42, 43, 44], help='each is one turn of both')
    p.add_argument('--size', type=int, default=224)
    p.add_argument('--workers', type=int, nargs='+', help='of which plain fastai gets the best; 0 on a CPU, 0, 2, 4, 8 and as many as there are cores on a GPU by default')
    p.add_argument('--compile', action='store_true', help='also time a step with torch.compile')
    p.add_argument('--small-maps', action='store_true', help='also time a step without SmallMaps')
    p.add_argument('--share', type=int, default=3, help='train on one cable in so many')
    args = p.parse_args()
    gpu_or_leave(args)
    from fastai.vision.all import defaults
    from cable_classifier.data import get_data, get_items, split_items
    defaults.use_cuda = None if args.gpu else False
    path = get_data()
    items = split_items(get_items(path/'plugs', groups=path/'manifest.csv'))
    size, bs, epochs, tries, seeds, n = (32, 8, (1, 1), 40, args.seeds[:1], 2) if args.small else (args.size, 32, (4, 2), 100, args.seeds, 100 if args.gpu else 8)
    if args.small: items = items.groupby(['label', 'split']).head(16)
    else: items = items[(items.split != 'train') | items.group.map({g: i%args.share == 0 for i, g in enumerate(sorted(items.group.unique()))})]
    print(f"{(items.split == 'train').sum()} photos to train on, {(items.split == 'valid').sum()} to validate, at {size} pixels, {bs} a batch")
    data, turns = (path/'plugs', items, size, bs), 1 if args.small else max(5, args.repeat)
    workers = best_workers(*data, args.workers or (sorted({0, 2, 4, 8, os.cpu_count() or 1}) if args.gpu else [0]))
    got = {w: [] for w in ('ours', 'plain')}
    for seed, way in itertools.product(seeds, got):
        got[way].append(recipe(*data, seed, epochs, tries, way == 'plain', workers if way == 'plain' else 0))
        print(f'{way}, seed {seed}: {got[way][-1][0]:.0f} s, validation error {got[way][-1][1]:.3f}', flush=True)
    secs = {w: [t for t, _ in v] for w, v in got.items()}
    error = {w: [e for _, e in v] for w, v in got.items()}
    rows = [row(f'recipe at {size} px / plain fastai', secs['ours'], secs['plain'], 5)]
    show(rows, args)
    for w, e in error.items(): print(f"validation error, {w}: {statistics.mean(e):.3f} (seeds: {', '.join(f'{o:.3f}' for o in e)})")
    def against(name, ours, theirs, aim): return row(name, *map(list, zip(*[(clock(ours), clock(theirs)) for _ in range(turns)])), aim)
    ours = steps(*data, n)
    more = [against('training step / bare loop', ours, bare_steps(*data, n), .85 if not args.gpu else .9)]
    if args.gpu or args.workers: more.append(against(f'epoch of all layers / plain, {workers} workers', epoch(*data, False), epoch(*data, True, workers), 3))
    if args.compile: more.append(against('training step, compiled / not', steps(*data, n, dynamic=False), ours, None))
    if args.small_maps: more.append(against('training step / without SmallMaps', ours, steps(*data, n, small_maps=False), None))
    show(more, args, recipe=rows, seconds=secs, errors=error)


if __name__ == '__main__': main()
