"The site: what `nbdev_docs` needs, checked without Quarto; with Quarto on the PATH, the site itself, built and opened."
import ast
import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading

import pytest
import yaml

from conftest import root
from test_house import notebooks

pages = [*notebooks, *(root/f for f in ('README.md', 'CHANGELOG.md', 'CONTRIBUTING.md') if (root/f).exists())]
by_name = lambda p: p.relative_to(root).as_posix()
fence = re.compile(r'^```.*?^```', re.M|re.S)
alt_line = re.compile(r'^#\| fig-alt: "(.{20,})"$', re.M)


def cells(path): return json.loads(path.read_text(encoding='utf-8'))['cells']


def markdown(path):
    "Prose of a page, without its code"
    text = '\n\n'.join(''.join(c['source']) for c in cells(path) if c['cell_type'] == 'markdown') if path.suffix == '.ipynb' else path.read_text(encoding='utf-8')
    return re.sub(r'`[^`\n]*`', '', fence.sub('', text))


def anchors(path):
    "Identifiers Pandoc gives the headings of a page, and those written out"
    text = markdown(path)
    slug = lambda h: re.sub(r'\s+', '-', re.sub(r'[^\w\s.-]', '', h.strip().lower())).lstrip('0123456789-._')
    return {slug(h) for h in re.findall(r'^#+ +(.+?)(?: *\{.*\})?$', text, re.M)} | set(re.findall(r'\{#([\w-]+)', text)) | set(re.findall(r'\bid="([\w-]+)"', text))


def links(path):
    "(is a picture, its text, its target) for every link of a page"
    text = markdown(path)
    found = [(bool(m[1]), m[2], m[3]) for m in re.finditer(r'(!?)\[((?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\(([^)\s]+)[^)]*\)', text)]
    inner = [(True, m[1], m[2]) for _, t, _ in found for m in re.finditer(r'!\[([^\]]*)\]\(([^)\s]+)[^)]*\)', t)]
    html = [(True, (re.search(r'alt="([^"]*)"', m[0]) or ['', ''])[1], m[1]) for m in re.finditer(r'<img\b[^>]*?src="([^"]+)"[^>]*>', text)]
    return [*found, *inner, *html]


@pytest.mark.parametrize('path', pages, ids=by_name)
def test_links(path):
    "Every file that a page links to is there, and every anchor in it; a picture says in words what it shows"
    for picture, text, target in links(path):
        if picture: assert len(text) >= 10, f'{target}: no words for those who cannot see it'
        if re.match(r'(https?|mailto):', target): continue
        file, _, anchor = target.partition('#')
        there = (path.parent/file).resolve() if file else path
        assert there.exists(), f'{target} is not there'
        assert root in there.parents, f'{target} lies outside the project'
        if anchor: assert anchor in anchors(there), f'{target}: no such heading; there are {sorted(anchors(there))}'


def test_pictures_are_used():
    "No picture lies about unused"
    used = {(p.parent/t).resolve() for p in notebooks for pic, _, t in links(p) if pic}
    assert {p for p in (root/'nbs'/'images').iterdir()} <= used


@pytest.mark.parametrize('path', notebooks, ids=by_name)
def test_plots_have_words(path):
    "Every stored plot is described by `#| fig-alt:`, which becomes its `alt` on the site"
    for i, c in enumerate(cells(path)):
        if any(k.startswith('image/') for o in c.get('outputs', []) for k in o.get('data', {})):
            assert alt_line.search(''.join(c['source'])), f'cell {i} shows a picture: say what is on it in #| fig-alt: "..."'


def test_sidebar():
    "Course, then workshop, then answers, each in the order of its numbers, and no notebook left out"
    index, course, workshop, answers = yaml.safe_load((root/'nbs'/'sidebar.yml').read_text())['website']['sidebar']['contents']
    listed = [index, *course['contents'], *workshop['contents'], *answers['contents']]
    assert index == 'index.ipynb' and sorted(listed) == sorted(p.relative_to(root/'nbs').as_posix() for p in notebooks)
    for section, pattern in ((course, r'0\d_'), (workshop, r'1\d[a-z]?_'), (answers, r'solutions/0\d_')):
        assert section['contents'] == sorted(section['contents']) and all(re.match(pattern, p) for p in section['contents'])


def test_site_settings():
    "Light and dark, a search box, and nothing fetched from elsewhere: neither fonts nor a script for formulas"
    conf = yaml.safe_load((root/'nbs'/'_quarto.yml').read_text())
    html, theme = conf['format']['html'], conf['format']['html']['theme']
    assert set(theme) == {'light', 'dark'} and html['respect-user-color-scheme'] is True
    assert conf['website']['navbar']['search'] is True or conf['website']['search']
    assert html['html-math-method'] == 'mathml'
    for themes in theme.values(): assert '$web-font-path: false' in (root/'nbs'/themes[-1]).read_text()
    assert not re.search(r'https?://|//cdn', ''.join((root/'nbs'/f).read_text() for f in ('_quarto.yml', 'styles.css', 'fonts.scss')))


def symbols():
    "(module, name) of every public symbol, from the index nbdev writes"
    d = {}
    exec((root/'cable_classifier'/'_modidx.py').read_text(), d)
    for module, names in d['d']['syms'].items():
        for name in names:
            if not any(part.startswith('_') for part in name.split('.')[1:]): yield module.split('.')[1], name.removeprefix(module + '.')


def undocumented(file):
    "What the module `file` leaves unsaid: docstrings of public functions, classes and methods; docments of their parameters and returns"
    src = file.read_text(encoding='utf-8')
    lines, tree = src.splitlines(), ast.parse(src)
    public = lambda body, kinds: [n for n in body if isinstance(n, kinds) and not n.name.startswith('_')]
    classes = public(tree.body, ast.ClassDef)
    functions = [(n.name, n) for n in public(tree.body, ast.FunctionDef)]
    methods = [(f'{c.name}.{n.name}', n) for c in classes for n in public(c.body, ast.FunctionDef)]
    for c in classes:
        if not ast.get_docstring(c): yield f'{file.stem}.{c.name}: no docstring'
    for name, n in functions + methods:
        args = [*n.args.posonlyargs, *n.args.args, *filter(None, [n.args.vararg]), *n.args.kwonlyargs]
        args = [a for a in args if a.arg not in ('self', 'cls')]
        if (args or '.' not in name) and not ast.get_docstring(n): yield f'{file.stem}.{name}: no docstring'
        yield from (f'{file.stem}.{name}({a.arg}): no docment' for a in args if '#' not in lines[a.lineno-1])
        returns = n.returns or any(isinstance(o, ast.Return) and o.value for o in n.body)
        if returns and (args or '.' not in name) and not re.search(r'#\s*\S', lines[n.body[0].lineno-2]): yield f'{file.stem}.{name}: what comes back?'


@pytest.mark.parametrize('file', sorted((root/'cable_classifier').glob('[!_]*.py')), ids=lambda p: p.stem)
def test_docments(file):
    "Every exported symbol says what it is, and what goes in and comes out"
    assert not list(undocumented(file))


def test_docments_are_missed(tmp_path):
    "The check above sees what is missing"
    (tmp_path/'m.py').write_text('def f(a, # A number\n      b\n):\n    return a\nclass C:\n    "A class"\n    def g(self, x): "Nothing"\n')
    assert list(undocumented(tmp_path/'m.py')) == ['m.f: no docstring', 'm.f(b): no docment', 'm.f: what comes back?', 'm.C.g(x): no docment']


@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    "A copy of the project to build the site in, and the environment to build it with"
    out = tmp_path_factory.mktemp('site')/'copy'
    skip = shutil.ignore_patterns('.git', '_proc', '_docs', '__pycache__', '*.egg-info', '.ipynb_checkpoints', 'tests', 'benchmarks', '.venv*', 'build')
    shutil.copytree(root, out, ignore=skip)
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, (str(out), os.environ.get('PYTHONPATH')))), OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')
    if not shutil.which('quarto'): # nbdev would set out to install it, and the project with it
        (out.parent/'bin').mkdir()
        (out.parent/'bin'/'quarto').write_text('#!/bin/sh\nexit 1\n')
        (out.parent/'bin'/'quarto').chmod(0o755)
        env['PATH'] = f"{out.parent/'bin'}{os.pathsep}{env['PATH']}"
    return out, env


def test_proc_nbs(copy):
    "`nbdev_proc_nbs` goes through every notebook, and every exported symbol gets its entry"
    out, env = copy
    res = subprocess.run([sys.executable, '-c', 'from nbdev.quarto import nbdev_proc_nbs; nbdev_proc_nbs.__wrapped__(n_workers=0, force=True)'], cwd=out, env=env, capture_output=True, text=True, timeout=300)
    assert res.returncode == 0, res.stderr[-2000:]
    made = sorted(p.relative_to(out/'_proc').as_posix() for p in (out/'_proc').rglob('*.ipynb'))
    assert made == sorted(p.relative_to(root/'nbs').as_posix() for p in notebooks)
    text = '\n'.join((out/'_proc'/p).read_text(encoding='utf-8') for p in made)
    code = [''.join(c['source']) for p in made for c in cells(out/'_proc'/p) if c['cell_type'] == 'code']
    assert not any(re.search(r'^#\| *(export|hide)\b', s, re.M) for s in code)
    undocumented = [f'{m}.{n}' for m, n in symbols() if '.' not in n and not re.search(rf'show_doc\({re.escape(n)}\b', text)]
    assert not undocumented, undocumented
    assert (out/'_proc'/'fonts.scss').exists() and (out/'_proc'/'nbdev.yml').exists()


@pytest.fixture(scope='module')
def site(copy):
    "Folder of the site, built by `nbdev_docs`"
    if not shutil.which('quarto'): pytest.skip('no quarto on the PATH; get it from quarto.org to build the site')
    out, env = copy
    res = subprocess.run(['nbdev_docs'], cwd=out, env=env, capture_output=True, text=True, timeout=900)
    assert res.returncode == 0, (res.stdout + res.stderr)[-3000:]
    return out/'_docs'


def test_built_site(site, chromium, tmp_path):
    "The real site opens in a browser without a network: every page, dark mode, the search box; every picture loads and has words"
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home, outside = f'http://127.0.0.1:{server.server_port}/', []
    try:
        page = chromium.new_page()
        page.on('request', lambda r: None if r.url.startswith((home, 'data:', 'blob:')) else outside.append(r.url))
        for nb in notebooks:
            page.goto(home + nb.relative_to(root/'nbs').with_suffix('.html').as_posix())
            bad = page.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth || !i.alt).map(i => i.src.slice(0, 80))")
            assert not bad, (nb.name, bad)
        page.goto(home)
        assert page.locator('#quarto-search').count() and page.locator('.quarto-color-scheme-toggle').count()
        page.screenshot(path=tmp_path/'index.png')
        assert not outside, outside
    finally: server.shutdown()
