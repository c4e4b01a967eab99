"""Does cutting photos to the plug help on real ones? `python -m benchmarks.crop FOLDER`. One model, trained on the embedded photos alone, reads each photo whole, cut
in the middle, cut to what stands out, and cut to what the locator of `cables crop` takes for the plug.

FOLDER has one folder of photos per class. It is never trained on, tuned on, or used for a threshold.
"""
import argparse
import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from cable_classifier.crop import centre_box, get_locator, heat_box, salient_box
from cable_classifier.deploy import load_model, preprocess
from cable_classifier.interpret import mcnemar
from cable_classifier.photos import get_photos, open_photo
from cable_classifier.train import wilson
from cable_classifier.workspace import CableError


def ways():
    "Name -> box of a picture"
    locator = get_locator()
    return {'whole': lambda im: (0, 0, *im.size), 'middle, 0.8': lambda im: centre_box(im.size, .8), 'middle, 0.6': lambda im: centre_box(im.size, .6),
            'what stands out': salient_box, 'the locator': lambda im: heat_box(locator.heat(im), im.size)}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('folder', type=Path, help='real photos, a folder per class')
    p.add_argument('--model', type=Path, help='a model folder of `cables run`; trained here by default')
    p.add_argument('--seed', type=int, default=42)
    p.add_argument('--epochs', type=int, default=4, help='epochs of stage-1')
    p.add_argument('--finetune-epochs', type=int, default=16, help='epochs of stage-2')
    p.add_argument('--json', type=Path, help='also write the figures here')
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        if not args.model:
            from cable_classifier.run import run_course
            with contextlib.redirect_stdout(io.StringIO()): run_course(None, tmp, epochs=args.epochs, finetune_epochs=args.finetune_epochs, seed=args.seed) # its progress bars
        model = load_model(args.model or Path(tmp)/'model')
    paths = [f for f in get_photos(args.folder) if f.parent.name in model.vocab]
    if not paths: sys.exit(f"error: no photos of {', '.join(model.vocab)} in '{args.folder}'; it needs a folder of each")
    photos, right, rows = [open_photo(f) for f in paths], {}, []
    print(f"{'':16} {'right':>6}   95 % interval   of the picture left   p against whole (McNemar)   {len(paths)} photos")
    for name, box in ways().items():
        boxes = [box(im) for im in photos]
        probs = model.probs(np.stack([preprocess(im.crop(b), model.size, model.mean, model.std, model.fit) for im, b in zip(photos, boxes)]))
        right[name] = [model.vocab[i] == f.parent.name for i, f in zip(probs.argmax(1), paths)]
        left = sum((r-l)*(b-t)/(im.width*im.height) for im, (l, t, r, b) in zip(photos, boxes))/len(photos)
        low, high = wilson(sum(right[name]), len(paths))
        differ = mcnemar(right[name], right['whole'])[2] if name != 'whole' else None
        rows.append(dict(name=name, right=sum(right[name])/len(paths), ci95=[low, high], left=left, p=differ))
        print(f"{name:16} {rows[-1]['right']:6.2f}   {low:.2f} to {high:.2f} {left:16.2f} {'' if differ is None else round(differ, 3):>20}", flush=True)
    if args.json: args.json.write_text(json.dumps(dict(n=len(paths), rows=rows), indent=1), encoding='utf-8')


if __name__ == '__main__':
    try: main()
    except CableError as e: sys.exit(f'error: {e}')
