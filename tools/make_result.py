#!/usr/bin/env python3
"""The picture at the head of the front page: `python tools/make_result.py RUN`, where RUN is the folder that `cables run` wrote, with the embedded photos and seed 42.

Four test photos of each class, evenly spaced in the list of test photos and not chosen by what comes of them, each under the answer of the model.
"""
import argparse
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

from cable_classifier.data import get_data, get_items, split_items
from cable_classifier.deploy import load_model, predict_photos


def sample(n=4):
    "Paths of `n` test photos of each class"
    path = get_data()
    items = split_items(get_items(path/'plugs', groups=path/'manifest.csv'), seed=42)
    test = items[items.split == 'test']
    return [path/'plugs'/f for _, rows in test.groupby('label') for f in rows.fname.iloc[::len(rows)//n][:n]]


def draw(rows):
    "Figure of the photos of `rows`, mistakes in another colour"
    fig, axs = plt.subplots(2, len(rows)//2, figsize=(9, 3.9), layout='constrained')
    for row, ax in zip(rows, axs.flat):
        truth = Path(row['path']).parent.name
        wrong = row['label'] != truth
        ax.imshow(Image.open(row['path']).convert('RGB'))
        ax.set_title(f"{row['label']} {max(row['probs'].values()):.2f}" + f'\nis {truth}'*wrong, fontsize=9, color='#b04000' if wrong else 'black')
        ax.axis('off')
    return fig


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('run', type=Path)
    fig = draw(list(predict_photos(load_model(parser.parse_args().run/'model'), sample())))
    fig.savefig(Path(__file__).resolve().parents[1]/'nbs'/'images'/'result.jpg', dpi=100, pil_kwargs=dict(quality=88))
