"What must stay true of the project as a whole."
import ast
import importlib.util
import json
import os
import re
import subprocess
import sys

import pytest

from conftest import root

notebooks = sorted(p for p in (root/'nbs').rglob('*.ipynb') if not any(q.startswith(('.', '_')) for q in p.relative_to(root).parts))


def test_readme_is_the_index():
    "The front page exists once: `python tools/make_readme.py` writes the README"
    spec = importlib.util.spec_from_file_location('make_readme', root/'tools'/'make_readme.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (root/'README.md').read_text(encoding='utf-8')
    assert text == module.readme()
    for chapter in module.pictures: # the cells that the pictures of the map come from are still there, and so are the pictures
        assert module.picture(chapter).startswith(b'\xff\xd8') and f'](nbs/images/{chapter}.jpg)' in text and (root/'nbs'/'images'/f'{chapter}.jpg').stat().st_size < 40_000


def test_readme_has_two_commands():
    "Two lines to copy: one ends in `cables run`, one in `nbdev_test` and `pytest`"
    lines = [l for l in (root/'README.md').read_text(encoding='utf-8').splitlines() if '-m venv' in l]
    assert len(lines) == 2
    assert lines[0].endswith('cables run') and lines[1].endswith('pytest') and 'nbdev_test &&' in lines[1]


@pytest.mark.parametrize('path', notebooks, ids=lambda p: str(p.relative_to(root/'nbs')))
def test_notebook(path):
    "Small, titled, without stored errors, machine paths or progress-bar litter"
    assert path.stat().st_size < 500_000
    text = path.read_text(encoding='utf-8')
    cells = json.loads(text)['cells']
    titles = [''.join(c['source']) for c in cells if c['cell_type'] == 'markdown']
    assert titles[0].startswith('# ') and '\n> ' in titles[0]
    outputs = [o for c in cells for o in c.get('outputs', [])]
    assert not any(o['output_type'] == 'error' for o in outputs)
    assert '<progress' not in json.dumps(outputs) and '/root/' not in text and '/home/' not in text
    assert len({c['id'] for c in cells}) == len(cells)


def test_import_is_light():
    "The package itself imports nothing heavy"
    code = "import sys, cable_classifier; print([m for m in ('torch', 'fastai', 'numpy', 'matplotlib') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=root).stdout.strip() == '[]'


def test_threads_sleep_while_they_wait():
    "Said before torch is loaded, and left alone where somebody has said otherwise"
    code = "import cable_classifier, os; print(os.environ['OMP_WAIT_POLICY'])"
    for said, want in (({}, 'PASSIVE'), ({'OMP_WAIT_POLICY': 'ACTIVE'}, 'ACTIVE')):
        env = {k: v for k, v in os.environ.items() if k != 'OMP_WAIT_POLICY'} | said
        assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=root, env=env).stdout.strip() == want


@pytest.mark.parametrize('path', notebooks, ids=lambda p: str(p.relative_to(root/'nbs')))
def test_notebooks_import_us_before_torch(path):
    "What the package says to torch's threads is read when torch is loaded"
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    first = [m[1] for c in cells if c['cell_type'] == 'code' for m in re.finditer(r'^(?:from|import) (cable_classifier|torch|torchvision|fastai|accelerate|captum)\b', ''.join(c['source']), re.M)]
    assert not first or first[0] == 'cable_classifier'


def imports_of(file):
    "Modules of this package that `file` imports, at the top or inside a function"
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('cable_classifier.'): found.add(node.module.split('.')[1])
    return found


def test_no_circles():
    "A chapter imports only chapters before it and the workshop; the workshop imports no chapter, but for the command line and its job"
    chapters = ['data', 'train', 'lr_find', 'finetune', 'interpret']
    graph = {f.stem: imports_of(f) for f in (root/'cable_classifier').glob('*.py') if not f.stem.startswith('_')}
    for i, c in enumerate(chapters): assert not graph[c] & set(chapters[i:]), c
    for m in set(graph) - set(chapters) - {'run', 'cli'}: assert not graph[m] & (set(chapters) | {'run', 'cli'}), m
    while graph:
        free = [m for m, needs in graph.items() if not needs & set(graph)]
        assert free, f'a circle among {sorted(graph)}'
        for m in free: del graph[m]
