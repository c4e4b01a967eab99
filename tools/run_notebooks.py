#!/usr/bin/env python3
"""Run notebooks in a real kernel and store their outputs, tidied: `python tools/run_notebooks.py [NOTEBOOK ...]`, all of them by default.

Cell ids stay. Left out of what is stored: progress bars, warnings on stderr, widgets, execution metadata.
"""
import re, sys, time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbdev.clean import nbdev_clean

from cable_classifier.start import step_seconds

root = Path(__file__).resolve().parents[1]


def is_litter(out):
    "Progress-bar styles, emptied bars, warnings, and widgets, which are dead without a kernel: nothing a reader of the page wants"
    if out.output_type == 'stream': return out.name == 'stderr'
    if 'application/vnd.jupyter.widget-view+json' in out.get('data', {}): return True
    html = out.get('data', {}).get('text/html')
    if html is None: return False
    return '<style>' in html and 'progress' in html or '<progress' in html or not html.replace('<div>', '').replace('</div>', '').strip()


def tidy_table(out):
    "fastai's table of epochs as a plain table, in place of three copies of one with progress-bar classes"
    data = out.get('data', {})
    if 'class="fastprogress"' not in data.get('text/html', ''): return
    rows = [re.findall(r'<t[hd]>(.*?)</t[hd]>', row) for row in re.findall(r'<tr>(.*?)</tr>', data['text/html'], re.S)]
    data.pop('text/markdown', None)
    data['text/html'] = data['text/html'].replace(' class="fastprogress"', '')
    data['text/plain'] = '\n'.join('  '.join(f'{o:>10}' for o in row) for row in rows)


def run(path):
    nb, step, start = nbformat.read(path, as_version=4), step_seconds(), time.time()
    NotebookClient(nb, timeout=1800, kernel_name='python3', resources={'metadata': {'path': str(path.parent)}}).execute()
    took = time.time()-start
    for cell in nb.cells:
        if cell.cell_type == 'code': cell.outputs = [o for o in cell.outputs if not is_litter(o)]
        for out in cell.get('outputs', []): tidy_table(out)
    nbformat.write(nb, path)
    nbdev_clean(fname=str(path))
    print(f'{path.relative_to(root)}: {took:.0f} s, {took/step:.0f} training steps of `18b_start`, {path.stat().st_size/1000:.0f} kB', flush=True)


if __name__ == '__main__':
    for p in [Path(a).resolve() for a in sys.argv[1:]] or sorted((root/'nbs').rglob('*.ipynb')): run(p)
