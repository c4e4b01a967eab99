"""How long an answer takes: `python -m benchmarks.predict`. Our model folder against fastai's `load_learner` of the same network.

Ours is asked as exported, and in 8 bits as `cables shrink` writes it; both once more with the graph run by OpenVINO, where that is installed (`--backend openvino`). The network is untrained: its answers are not looked at, its time is that of a
trained one. A turn of one warm photo is twenty of it. Photos of a phone's size are embedded ones, enlarged to 4000 by 3000 pixels with a little noise: what counts of them is what it takes to open them.
"""
import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.clock import clock, gpu_or_leave, parser, process, row, show, turns


def make(folder, size):
    "The same network as a model folder, in 8 bits, and as fastai exports it, and the photos"
    from cable_classifier.data import get_data, get_dls, get_items, split_items
    from cable_classifier.deploy import export_model
    from cable_classifier.photos import get_photos
    from cable_classifier.shrink import shrink_model
    from cable_classifier.train import get_learner
    path = get_data()
    items = split_items(get_items(path/'plugs', groups=path/'manifest.csv'))
    learn = get_learner(get_dls(path/'plugs', items, size=size), path=folder)
    fnames = get_photos(path/'plugs')
    export_model(learn, folder/'model', check=fnames[:4])
    shrink_model(folder/'model', folder/'small', fnames[::len(fnames)//96], most=1.)
    try: learn.export('learner.pkl')
    except TypeError as e: sys.exit(print(f"this fastai cannot export a learner ({e}), so there is nothing to compare with; install fastai 2.8.12 or newer"))
    return fnames


def enlarge(fnames, folder, size=(4000, 3000)):
    "Paths of the photos `fnames`, enlarged, in `folder`"
    folder.mkdir()
    grain = np.random.default_rng(0).normal(0, 3, (size[1], size[0], 1))
    for i, f in enumerate(fnames):
        x = np.asarray(Image.open(f).convert('RGB').resize(size, Image.Resampling.BICUBIC)) + grain
        Image.fromarray(x.clip(0, 255).astype(np.uint8)).save(folder/f'{i}.jpg', quality=90)
    return sorted(folder.iterdir())


def main():
    args = parser(__doc__).parse_args()
    gpu_or_leave(args)
    n, often, many, size = (1, 1, 8, 64) if args.small else (args.repeat, 20, 500, 224)
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        fnames = (make(tmp, size)*2)[:many]
        one, large = fnames[0], enlarge(fnames[:1 if args.small else 12], tmp/'large')
        fast = "from fastai.vision.all import load_learner, Path; import sys; print(load_learner(sys.argv[1], cpu=True).predict(Path(sys.argv[2])))"
        cold = turns({'ours': process('-c', 'from cable_classifier.cli import main; main()', 'predict', tmp/'model', one),
                      'theirs': process('-W', 'ignore', '-c', fast, tmp/'learner.pkl', one)}, n)
        from fastai.vision.all import load_learner
        from cable_classifier.deploy import load_model
        from cable_classifier.speed import Presize, Shelf
        models, learn = {'ours': load_model(tmp/'model'), 'small': load_model(tmp/'small')}, load_learner(tmp/'learner.pkl', cpu=not args.gpu)
        if importlib.util.find_spec('openvino'):
            from cable_classifier.backend import with_openvino
            models |= {f'{k}, openvino': with_openvino(m) for k, m in models.items()}
        def forget(): Presize.shelf = Shelf() # each way opens each photo itself, in every turn
        def ask():
            forget()
            with learn.no_bar(), learn.no_logging(): learn.predict(one)
        def ask_all(fnames):
            forget()
            with learn.no_bar(), learn.no_logging(): learn.get_preds(dl=learn.dls.test_dl(fnames))
        for f in (*(lambda m=m: m.predict([one]) for m in models.values()), ask): clock(f)
        def again(f): return lambda: [f() for _ in range(often)]
        warm = turns({k: again(lambda m=m: m.predict([one])) for k, m in models.items()} | {'theirs': again(ask)}, n)
        warm = {k: [t/often for t in v] for k, v in warm.items()}
        folder, phone = (turns({k: lambda m=m: m.predict(fs) for k, m in models.items()} | {'theirs': lambda: ask_all(fs)}, n) for fs in (fnames, large))
        said = {'ours': '', 'small': ', 8 bits'} | {k: ', OpenVINO' + ', 8 bits'*k.startswith('small') + f" ({m.session.precision})"*k.startswith('ours') for k, m in models.items() if 'openvino' in k}
    show([row('one photo, process start to exit', cold['ours'], cold['theirs'], 8),
          *(row(f'one photo, warm{how}', warm[k], warm['theirs'], 10) for k, how in said.items()),
          *(row(f'{many} photos{how}', folder[k], folder['theirs'], 3) for k, how in said.items()),
          row(f'{len(large)} photos of 12 million pixels', phone['ours'], phone['theirs'], None)],
         args, seconds=dict(cold=cold, warm=warm, folder=folder, phone=phone))


if __name__ == '__main__': main()
