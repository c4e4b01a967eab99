"Labels set right by hand: no act is lost, none goes wrong halfway, and all of it can be undone; the grid in JupyterLab."
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cable_classifier.check import _write_journal, check_folder, fix_folder, read_journal, undo_fix
from cable_classifier.label import Labels, LabelGrid, max_sent, plot_labels, shown
from cable_classifier.workspace import CableError
from conftest import root
from test_jupyterlab import lab, open_and_run, page  # noqa: F401 (fixtures)

nasty = '<img src=x onerror="window.hacked=1">'


def as_bytes(seed=0, size=(90, 70), fmt='JPEG'):
    buf = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(buf, fmt)
    return buf.getvalue()


def make(folder, classes=('a', 'b', 'c'), n=4):
    "Photos of the same names in each class, no two alike"
    for k, c in enumerate(classes):
        (folder/c).mkdir(parents=True)
        for i in range(n): (folder/c/f'{i}.jpg').write_bytes(as_bytes(100*k+i))
    return folder


def snapshot(folder): return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob('*') if f.is_file() and f.relative_to(folder).parts[0] != 'quarantine'}
def everything(folder): return sorted(f.read_bytes() for f in folder.rglob('*.jpg'))


@pytest.fixture
def drawer(tmp_path): return make(tmp_path/'drawer')


def table(*rows): return pd.DataFrame(rows, columns=['fname', 'actual', 'predicted', 'p_actual', 'loss'])


# ---- acts

def test_same_names_in_every_class(drawer):
    "Nothing is overwritten, and undo gives each its name back"
    before, l = snapshot(drawer), Labels(drawer)
    assert l.relabel('a/0.jpg', 'b') == 'b/0 (1).jpg'
    assert l.relabel('c/0.jpg', 'b') == 'b/0 (2).jpg'
    assert l.quarantine('b/0.jpg') == 'quarantine/b/0.jpg'
    assert l.relabel('b/1.jpg', 'a') == 'a/1 (1).jpg'
    assert everything(drawer) == sorted(before.values())
    assert [l.undo()[1] for _ in range(4)] == ['b/1.jpg', 'b/0.jpg', 'c/0.jpg', 'a/0.jpg'] and snapshot(drawer) == before
    with pytest.raises(CableError, match='nothing to undo'): l.undo()


def test_a_name_that_was_left_stays_reserved(drawer):
    "A photo that moved away can always come back: nobody else gets its name"
    before, l = snapshot(drawer), Labels(drawer)
    l.relabel('a/0.jpg', 'b')
    assert l.relabel('b/0.jpg', 'a') == 'a/0 (1).jpg'
    assert l.relabel('b/0 (1).jpg', 'a') == 'a/0.jpg'
    assert l.relabel('a/0 (1).jpg', 'b') == 'b/0.jpg' and snapshot(drawer) == before
    assert undo_fix(drawer)[1] == {} and snapshot(drawer) == before and not (drawer/'quarantine').exists()


def test_relabel_twice(drawer):
    "By the new name it goes on; by the old one we are told the new; to where it is, we are told so"
    before, l = snapshot(drawer), Labels(drawer)
    new = l.relabel('a/0.jpg', 'b')
    with pytest.raises(CableError, match=re.escape(f"is '{new}' now")): l.relabel('a/0.jpg', 'c')
    with pytest.raises(CableError, match='already; keep it'): l.relabel(new, 'b')
    newer = l.relabel(new, 'c')
    assert l.photos().query('state == "relabelled"')[['fname', 'was']].values.tolist() == [[newer, 'a/0.jpg']]
    with pytest.raises(CableError, match=re.escape(f"is '{newer}' now")): l.quarantine('a/0.jpg')
    with pytest.raises(CableError, match='no photo'): l.keep('a/99.jpg')
    assert l.undo() == (newer, new) and l.undo() == (new, 'a/0.jpg') and snapshot(drawer) == before


def test_out_of_quarantine(drawer):
    "What was put aside, here or by `cables check --fix`, can be looked at, relabelled and taken back"
    (drawer/'a'/'empty.jpg').write_bytes(b'')
    before, l = snapshot(drawer), Labels(drawer)
    assert fix_folder(check_folder(drawer, workers=1)) == ['a/empty.jpg']
    at = l.quarantine('a/1.jpg')
    assert list(l.photos('quarantine').fname) == [at, 'quarantine/a/empty.jpg'] and set(l.photos('quarantine').state) == {'quarantined'}
    for act in (l.keep, l.quarantine):
        with pytest.raises(CableError, match='in quarantine'): act(at)
    assert l.relabel(at, 'c') == 'c/1 (1).jpg' and l.relabel('quarantine/a/empty.jpg', 'a') == 'a/empty.jpg'
    assert undo_fix(drawer)[1] == {} and snapshot(drawer) == before


def test_keep(drawer):
    "Remembered, not twice; `cables check --undo` passes over it; a photo that goes back is looked at"
    before, l = snapshot(drawer), Labels(drawer)
    assert l.keep('a/0.jpg') == l.keep(drawer/'a'/'0.jpg') == 'a/0.jpg' and len(l.journal) == 1
    l.relabel(l.relabel('b/0.jpg', 'a'), 'b')
    assert list(Labels(drawer).photos().query('state == "kept"').fname) == ['a/0.jpg', 'b/0.jpg']
    l.relabel('a/0.jpg', 'b')
    assert undo_fix(drawer)[1] == {} and snapshot(drawer) == before and not (drawer/'quarantine').exists()
    l.keep('a/0.jpg')
    assert l.undo() == ('a/0.jpg', 'a/0.jpg') and set(l.photos().state) == {''}


def test_undo_overwrites_nothing(drawer):
    "A name taken meanwhile: a sentence, the act stays; a photo removed meanwhile: a sentence, and on to the act before"
    l = Labels(drawer)
    l.relabel('a/0.jpg', 'b'); new = l.relabel('a/1.jpg', 'b')
    (drawer/'a'/'1.jpg').write_bytes(b'mine')
    for _ in range(2):
        with pytest.raises(CableError, match='name of another file'): l.undo()
    (drawer/'a'/'1.jpg').unlink(); (drawer/new).unlink()
    with pytest.raises(CableError, match='is gone'): l.undo()
    assert l.undo() == ('b/0 (1).jpg', 'a/0.jpg')


def test_split_folders(tmp_path):
    "train/, val/, test/: a photo stays in its split, and comes back to it from quarantine"
    for s, c in (('train', 'abc'), ('val', 'ab'), ('test', 'abc')): make(tmp_path/'d'/s, c, 2)
    before, l = snapshot(tmp_path/'d'), Labels(tmp_path/'d')
    assert l.classes == ['a', 'b', 'c'] and len(l.photos(split='valid')) == 4 and len(l.photos('a', 'test')) == 2
    assert l.relabel('val/a/0.jpg', 'c') == 'val/c/0.jpg'
    assert l.relabel(l.quarantine('test/b/1.jpg'), 'a') == 'test/a/1 (1).jpg'
    assert l.add('x', as_bytes(77), 'b')[0] == 'train/b/x.jpg' and l.add('x', as_bytes(78), 'c', 'valid')[0] == 'val/c/x.jpg'
    with pytest.raises(CableError, match="no split 'tset'"): l.add('y', as_bytes(79), 'c', 'tset')
    assert len(l.photos(split='valid')) == 5
    undo_fix(tmp_path/'d')
    assert snapshot(tmp_path/'d') == before


def test_split_by_csv(drawer, tmp_path):
    "The split follows a photo by its first name"
    pd.DataFrame(dict(fname=['a/0.jpg', 'b/0.jpg'], split=['test', 'train'])).to_csv(tmp_path/'s.csv', index=False)
    l = Labels(drawer, splits=tmp_path/'s.csv')
    new = l.relabel('a/0.jpg', 'c')
    assert list(l.photos(split='test').fname) == [new] and list(l.photos(split='train').fname) == ['b/0.jpg']
    (tmp_path/'t.csv').write_text('a\n1\n')
    with pytest.raises(CableError, match="column 'split'"): Labels(drawer, splits=tmp_path/'t.csv')


def test_order(drawer, monkeypatch):
    "Highest loss first, then those without, by name; absolute names and names from where the shell is; a loss goes with its photo"
    l = Labels(drawer, table((drawer/'c'/'3.jpg', 'c', 'a', .1, 2.), ('b/2.jpg', 'b', 'b', .9, 5.)))
    assert list(l.photos().fname[:3]) == ['b/2.jpg', 'c/3.jpg', 'a/0.jpg']
    new = l.relabel('b/2.jpg', 'a')
    assert list(l.photos('a').fname[:2]) == [new, 'a/0.jpg'] and l.photos('a').loss[0] == 5
    monkeypatch.chdir(drawer.parent)
    l = Labels('drawer', table((f'drawer/{new}', 'a', 'b', .1, 1.), ('drawer/b/2.jpg', 'b', 'b', .9, 5.)))
    assert list(l.photos().fname[:1]) == [new] and l.photos().loss[0] == 5 # by its first name, which the table of an old model has
    assert l.relabel('drawer/c/0.jpg', 'a') == 'a/0 (1).jpg'


# ---- bad input

def test_bad_folders(drawer, tmp_path):
    "No folder, a file, no class folder, a table of something else, a table of other photos: one sentence each"
    for path, what in ((tmp_path/'no', 'no folder'), (drawer/'a'/'0.jpg', 'is a file'), (drawer/'a', 'no class folder')):
        with pytest.raises(CableError, match=what): Labels(path)
    with pytest.raises(CableError, match="no column 'fname'"): Labels(drawer, pd.DataFrame(dict(x=[1])))
    with pytest.raises(CableError, match='is not in the folder'): Labels(drawer, table(('/etc/passwd', 'a', 'b', .1, 2.)))


def test_no_path_leaves_the_folder(drawer, tmp_path):
    "Not by .., not by an absolute name, not by a link, not by a class called ..; nor are the journal and other files moved"
    outside = make(tmp_path/'outside')
    (drawer/'linked').symlink_to(outside/'a'); (drawer/'a'/'link.jpg').symlink_to(outside/'a'/'0.jpg')
    (drawer/'a'/'notes.txt').write_text('x'); (drawer/'a'/'.hidden.jpg').write_bytes(as_bytes(5)); (drawer/'loose.jpg').write_bytes(as_bytes(6))
    l = Labels(drawer)
    l.keep('a/0.jpg')
    before, far = snapshot(drawer), snapshot(outside)
    assert l.classes == ['a', 'b', 'c'] and not [f for f in l.photos().fname if 'link' in f]
    bad = ('../outside/a/0.jpg', outside/'a'/'0.jpg', 'a/../../outside/a/0.jpg', 'linked/0.jpg', 'a/link.jpg', 'quarantine/journal.csv', 'quarantine/.lock',
           'a/notes.txt', 'a/.hidden.jpg', 'loose.jpg', 'a', '', '.', '..', 'a\0b', None, 7)
    for f in bad:
        for act in (l.keep, l.quarantine, lambda f: l.relabel(f, 'b')):
            with pytest.raises(CableError): act(f)
    for to in ('..', '../outside/a', '', 'linked', 'quarantine', 'd', '/', None, nasty):
        with pytest.raises(CableError, match='no class'): l.relabel('a/0.jpg', to)
        with pytest.raises(CableError, match='no class'): l.add('x.jpg', as_bytes(999), to)
    assert snapshot(drawer) == before and snapshot(outside) == far and len(l.journal) == 1


def test_a_journal_that_was_tampered_with(drawer, tmp_path):
    "A line that points out of the folder is not followed"
    outside = make(tmp_path/'outside')
    l = Labels(drawer)
    l.keep('a/0.jpg')
    _write_journal(drawer/'quarantine'/'journal.csv', [dict(time='', path='a/new.jpg', moved_to='../outside/a/0.jpg', kind='x', why='', digest='', end='.')])
    with pytest.raises(CableError, match='is not in the folder'): l.undo()
    assert (outside/'a'/'0.jpg').exists() and not (drawer/'a'/'new.jpg').exists()


def test_quarantine_that_cannot_be_written(drawer):
    "A file of that name: every act is refused, nothing moved"
    (drawer/'quarantine').write_text('in the way')
    before, l = snapshot(drawer), Labels(drawer)
    for act in (lambda: l.keep('a/0.jpg'), lambda: l.quarantine('a/0.jpg'), lambda: l.relabel('a/0.jpg', 'b'), lambda: l.add('x', as_bytes(9), 'a')):
        with pytest.raises(CableError, match='cannot write the quarantine'): act()
    assert snapshot(drawer) == before and (drawer/'quarantine').read_text() == 'in the way'


@pytest.mark.parametrize('where', ['fsync', 'rename', 'mkdir'])
def test_a_disk_that_refuses(drawer, monkeypatch, where):
    "Full or read-only at any step: a sentence, nothing moved, no line left behind"
    l = Labels(drawer)
    l.keep('a/1.jpg')
    before, lines = snapshot(drawer), l.journal
    def no(*a, **k): raise OSError(28, 'No space left on device')
    with monkeypatch.context() as m:
        if where == 'mkdir': m.setattr('pathlib.Path.mkdir', no)
        elif where == 'fsync':
            calls, real = [], os.fsync
            m.setattr(os, 'fsync', lambda f: calls.append(f) or (no() if len(calls) == 2 else real(f))) # the first is for the journal that is there
        else: m.setattr(os, 'rename', no)
        with pytest.raises(CableError, match='nothing was moved|free some space'): l.relabel('a/0.jpg', 'b')
    assert snapshot(drawer) == before and l.journal == lines
    assert l.relabel('a/0.jpg', 'b') == ('b/0 (1).jpg')


def test_two_at_once(drawer):
    "While another program holds the quarantine, an act is refused, not mixed in"
    from filelock import FileLock
    l = Labels(drawer)
    l.keep('a/0.jpg')
    with FileLock(drawer/'quarantine'/'.lock'):
        with pytest.raises(CableError, match='another program'): l.quarantine('a/1.jpg')
        with pytest.raises(CableError, match='another program'): l.undo()
    other = Labels(drawer)
    l.quarantine('a/1.jpg')
    assert other.undo() == ('quarantine/a/1.jpg', 'a/1.jpg')


# ---- unreadable, odd names

def test_unreadable_photos(drawer):
    "A broken photo is listed, shown as a sentence, and moved as any other"
    (drawer/'a'/'cut.jpg').write_bytes(as_bytes(1, (400, 400))[:5000]); (drawer/'a'/'text.png').write_text('<script>'); (drawer/'a'/'none.webp').write_bytes(b'')
    (drawer/'a'/'shut.jpg').write_bytes(as_bytes(2)); (drawer/'a'/'shut.jpg').chmod(0)
    before = {k for k in map(str, drawer.rglob('*'))}
    g = LabelGrid(Labels(drawer), per_page=50)
    said = {c.now: c.widget.children[0].value for c in g.cards}
    assert all('<img' not in said[f'a/{f}'] and 'cables-nothumb' in said[f'a/{f}'] for f in ('cut.jpg', 'text.png', 'none.webp')) and '<img' in said['a/0.jpg']
    for c in g.cards[:8]: c.choice.value = 'quarantine'
    assert len(g.labels.photos('quarantine')) == 8 and 'a/' not in ''.join(g.labels.photos().fname)
    undo_fix(drawer)
    assert {k for k in map(str, drawer.rglob('*'))} == before
    assert plot_labels(g.labels.photos('a'), drawer)


def test_names_of_any_bytes(drawer):
    "HTML, newlines, quotes, emoji, bytes that are no text: moved, journalled, escaped, undone"
    names = [nasty.replace('/', '_') + '.jpg', 'a\nb,"c".jpg', '\u202egpj.exe.jpg', '\U0001f50c.jpg', os.fsdecode(b'\xff\xfe.jpg'), ' .jpg', '-rf.jpg', 'x'*240 + '.jpg']
    for i, n in enumerate(names): (drawer/'a'/n).write_bytes(as_bytes(500+i))
    (drawer/nasty).mkdir()
    before, l = snapshot(drawer), Labels(drawer)
    g = LabelGrid(l, per_page=50)
    for c in g.cards[:]:
        c.choice.value = 'b'
        json.dumps([w.get_state() for w in (c.text, c.choice, g.said)], default=str).encode() # what goes to the browser is text
    page = ''.join(c.text.value + c.widget.children[0].value for c in g.cards) + g.said.value
    assert '<img src=x' not in page and '\u202e' not in page and '&lt;img src=x' in page
    assert len(l.photos('b')) == len(before) and everything(drawer) == sorted(before.values())
    l.relabel('b/-rf.jpg', nasty)
    assert undo_fix(drawer)[1] == {} and snapshot(drawer) == before


def test_shown(): assert shown('a\nb\x1b[2J\ud800é') == 'a\\nb\\x1b[2J\\ud800é'


# ---- cut off

@pytest.mark.parametrize('after', [False, True], ids=['before the rename', 'after it'])
@pytest.mark.parametrize('act', ['relabel', 'quarantine', 'add', 'undo'])
def test_cut_off(drawer, monkeypatch, act, after):
    "Wherever a power cut falls, the next session sees what is, and undo brings everything back"
    l = Labels(drawer)
    before, whole = snapshot(drawer), everything(drawer)
    l.relabel('a/1.jpg', 'b')
    real = os.rename
    def cut(a, b):
        if after: real(a, b)
        raise KeyboardInterrupt
    monkeypatch.setattr(os, 'rename', cut)
    with pytest.raises(KeyboardInterrupt):
        dict(relabel=lambda: l.relabel('a/0.jpg', 'c'), quarantine=lambda: l.quarantine('a/0.jpg'), add=lambda: l.add('n', as_bytes(900), 'a'), undo=l.undo)[act]()
    monkeypatch.undo()
    if act != 'undo':
        with open(drawer/'quarantine'/'journal.csv', 'a') as f: f.write('2026-01-01T00:00:00,"a/2') # a line half written
    again = Labels(drawer)
    states = again.photos().query('state != ""')
    assert len(states) == {('relabel', True): 2, ('add', True): 2, ('undo', True): 0}.get((act, after), 1)
    while True:
        try: again.undo()
        except CableError as e: assert 'nothing to undo' in str(e); break
    assert snapshot(drawer) == before and [b for b in everything(drawer) if b != as_bytes(900)] == whole


def test_a_line_whose_undo_was_cut_off(drawer, monkeypatch):
    "Its photo went back, the line stayed, and later the photo came to the name in that line after all: its history is still right"
    before, l = snapshot(drawer), Labels(drawer)
    l.relabel('a/0.jpg', 'b')
    l.relabel('b/0 (1).jpg', 'a')
    with monkeypatch.context() as m:
        real = os.rename
        def cut(a, b): real(a, b); raise KeyboardInterrupt
        m.setattr(os, 'rename', cut)
        with pytest.raises(KeyboardInterrupt): l.undo()
    assert l.relabel(l.relabel('b/0 (1).jpg', 'c'), 'a') == 'a/0.jpg'
    assert list(l.photos('a').was) == [f'a/{i}.jpg' for i in range(4)]
    while l.journal: l.undo()
    assert snapshot(drawer) == before


worker = """
import random, sys
from cable_classifier.label import Labels
from cable_classifier.workspace import CableError
l, rng = Labels(sys.argv[1]), random.Random(int(sys.argv[2]))
print('go', flush=True)
while True:
    fs = list(l.photos().fname) + list(l.photos('quarantine').fname)
    try: [lambda: l.relabel(rng.choice(fs), rng.choice(l.classes)), lambda: l.quarantine(rng.choice(fs)), lambda: l.keep(rng.choice(fs)), l.undo][rng.choice([0, 0, 0, 1, 2, 3])]()
    except CableError: pass
"""


def test_kill_9(drawer):
    "Killed at random, ten times over: no photo is lost or doubled, every photo that is not at its place is in the journal, and undo puts all back"
    before, whole = snapshot(drawer), everything(drawer)
    for seed in range(10):
        p = subprocess.Popen([sys.executable, '-c', worker, str(drawer), str(seed)], stdout=subprocess.PIPE, env=dict(os.environ, PYTHONPATH=str(root)))
        assert p.stdout.readline() == b'go\n'
        try: p.wait(0.05 + random.Random(seed).random()/3)
        except subprocess.TimeoutExpired: pass
        assert p.poll() is None, 'the worker went on until it was killed'
        p.send_signal(signal.SIGKILL); p.wait()
        assert everything(drawer) == whole
        l = Labels(drawer)
        now = {**{f: (drawer/f).read_bytes() for f in [*l.photos().fname, *l.photos('quarantine').fname]}}
        was = dict(zip([*l.photos().fname, *l.photos('quarantine').fname], [*l.photos().was, *l.photos('quarantine').was]))
        assert {was[f]: b for f, b in now.items()} == before
    assert len(l.journal) > 10
    assert undo_fix(drawer)[1] == {} and snapshot(drawer) == before


# ---- adding

def test_add(drawer):
    "Byte for byte, under a fresh plain name with the ending of its content; a doubt is told, a bad photo refused, a copy too"
    before, l, png = snapshot(drawer), Labels(drawer), as_bytes(50, fmt='PNG')
    assert l.add('../../evil/0.jpg', png, 'a') == ('a/0.png', []) and (drawer/'a'/'0.png').read_bytes() == png
    assert [l.add(n, as_bytes(60+i), 'a')[0] for i, n in enumerate(('0.jpg', nasty, '\0', 'é\nè.exe', 'x'*300, '..', None))] == \
        ['a/0 (1).jpg', 'a/img_src_x_onerror__window.jpg', 'a/the_photo.jpg', 'a/photo.jpg', f"a/{'x'*40}.jpg", 'a/photo (1).jpg', 'a/None.jpg']
    with pytest.raises(CableError, match="already, as 'a/0.png'"): l.add('other.png', png, 'b')
    buf = io.BytesIO(); Image.fromarray(np.random.default_rng(3).integers(0, 50, (90, 90, 3), dtype=np.uint8)).save(buf, 'PNG')
    assert 'darker' in l.add('dark', buf.getvalue(), 'b')[1][0]
    grey = io.BytesIO(); Image.new('RGB', (99, 99)).save(grey, 'PNG')
    held = snapshot(drawer)
    for data, what in ((b'', 'is empty'), (b'<script>', 'not a picture'), (as_bytes(1, (300, 300))[:3000], 'cannot be decoded'), (bytes(20_000_001), 'MB, more than'), (as_bytes(2, (20, 20)), 'no use'), (grey.getvalue(), 'one colour')):
        with pytest.raises(CableError, match=what): l.add('x.jpg', data, 'a')
    assert snapshot(drawer) == held and not [f for f in (drawer/'quarantine').rglob('*') if f.suffix in ('.jpg', '.png')]
    assert set(l.photos('a').query('fname == "a/0.png"').state) == {'added'}
    n = len(l.journal)
    undo_fix(drawer)
    assert snapshot(drawer) == before and len([f for f in (drawer/'quarantine'/'added').iterdir()]) == n == 9 # kept, not deleted


def test_an_empty_class_can_be_filled(tmp_path):
    (tmp_path/'d'/'new').mkdir(parents=True)
    l = Labels(tmp_path/'d')
    g = LabelGrid(l)
    assert len(l.photos()) == 0 and not g.cards
    g.got('x.png', as_bytes(1, fmt='PNG'))
    assert list(l.photos().fname) == ['new/x.png'] and 'added as new/x.png' in g.said.value


# ---- the grid, without a browser

def test_grid_pages_stand_still(drawer):
    "Photos that leave the class do not pull others to a page that was turned already; each card stays with its photo"
    g = LabelGrid(Labels(drawer), per_page=2)
    g.label.value = 'a'
    seen = [c.now for c in g.cards]
    for c in g.cards: c.choice.value = 'b'
    assert [c.now for c in g.cards] == ['b/0 (1).jpg', 'b/1 (1).jpg'] and [c.choice.value for c in g.cards] == ['b', 'b']
    g.on.click()
    seen += [c.now for c in g.cards]
    assert seen == [f'a/{i}.jpg' for i in range(4)] and g.on.disabled and not g.back.disabled
    g.back.click()
    assert [c.now for c in g.cards] == ['b/0 (1).jpg', 'b/1 (1).jpg']
    g.cards[0].choice.value = 'a' # a slip, mended on the spot
    assert g.cards[0].now == 'a/0.jpg'
    g.label.value = 'b'
    assert [r.fname for r in g.rows] == ['b/0.jpg', 'b/1 (1).jpg', *(f'b/{i}.jpg' for i in (1, 2, 3))]


def test_grid_says_what_goes_wrong(drawer):
    "A photo moved or removed by somebody else, a quarantine in use, a choice taken back: a sentence, and the card shows what is"
    g = LabelGrid(Labels(drawer), per_page=20)
    a, b = g.cards[:2]
    Labels(drawer).relabel(a.now, 'c')
    a.choice.value = 'b'
    assert 'role="alert"' in g.said.value and 'is &#x27;c/0 (1).jpg&#x27; now' in g.said.value and a.choice.value == '' and 'somebody else' in a.text.value
    b.choice.value = 'a'
    assert b.choice.value == 'a' and 'kept' in g.said.value and g.labels.journal[-1]['kind'] == 'kept'
    b.choice.value = ''
    assert b.choice.value == 'a' and 'Undo' in g.said.value and len(g.labels.journal) == 2
    g.undo.click()
    assert b.choice.value == '' and 'to be decided again' in g.said.value
    (drawer/b.now).unlink()
    b.choice.value = 'c'
    assert 'no photo' in g.said.value
    shutil.rmtree(drawer/'quarantine'); (drawer/'quarantine').write_text('')
    g.cards[2].choice.value = 'quarantine'
    assert 'cannot write the quarantine' in g.said.value and g.cards[2].choice.value == '' and (drawer/'a'/'2.jpg').exists()


def test_grid_takes_up_where_it_was(drawer):
    "A second grid, on another day, shows what the first one did; undo on it goes on"
    t = table(('a/1.jpg', 'a', 'b', .1, 3.), ('b/1.jpg', 'b', 'c', .2, 2.))
    g = LabelGrid(Labels(drawer, t), per_page=20)
    g.cards[0].choice.value, g.cards[1].choice.value, g.cards[2].choice.value = 'b', 'quarantine', 'a'
    h = LabelGrid(Labels(drawer, t), per_page=20)
    assert [(c.now, c.choice.value) for c in h.cards[:2]] == [('b/1 (1).jpg', 'b'), ('a/0.jpg', 'a')] and '3 of 12' in h.count.value
    h.label.value = 'quarantine'
    assert [(c.now, c.choice.value) for c in h.cards] == [('quarantine/b/1.jpg', 'quarantine')]
    h.cards[0].choice.value = 'b'
    assert h.cards[0].now == 'b/1.jpg'
    for _ in range(4): h.undo.click()
    assert set(h.labels.photos().state) == {''} and not len(h.labels.photos('quarantine'))
    h.undo.click()
    assert 'nothing to undo' in h.said.value


def test_what_the_browser_sends_is_not_trusted(drawer):
    "Any name, any bytes: added or refused in a sentence"
    g = LabelGrid(Labels(drawer))
    for name in (None, 7, ['a'], '', '\0', '\ud800', '../../x', nasty):
        g.box._arrived(g.box, dict(name=name), [b'nothing'])
        assert 'role="alert"' in g.said.value and '<img' not in g.said.value
    g.box._arrived(g.box, dict(name=nasty), [as_bytes(70)])
    assert 'role="status"' in g.said.value and '<img' not in g.said.value and len(g.labels.photos('a')) == 5


def test_a_large_folder(tmp_path):
    "An act in a folder of 5,000 files with 2,000 lines in the journal stays under a second"
    import time
    data = as_bytes(0, (60, 60))
    for c in 'ab':
        (tmp_path/'d'/c).mkdir(parents=True)
        for i in range(2500): (tmp_path/'d'/c/f'{i}.jpg').write_bytes(data)
    (tmp_path/'d'/'quarantine').mkdir()
    _write_journal(tmp_path/'d'/'quarantine'/'journal.csv', [dict(time='', path=f'a/{i}.jpg', moved_to=f'a/{i}.jpg/kept', kind='kept', why='', digest='', end='.') for i in range(2000)])
    g = LabelGrid(Labels(tmp_path/'d'))
    start = time.perf_counter()
    for c in g.cards[:5]: c.choice.value = 'b'
    assert (time.perf_counter()-start)/5 < 1 and len(read_journal(tmp_path/'d'/'quarantine'/'journal.csv')) == 2005


def test_no_torch():
    code = "import sys, cable_classifier.label; print([m for m in ('torch', 'fastai', 'onnx') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=root).stdout.strip() == '[]'


# ---- JupyterLab, a browser

def settle(page): page.wait_for_timeout(700)
def card(page, i): return page.locator('.cables-card').nth(i)
def said(page): return page.locator('.cables-labels [role=status], .cables-labels [role=alert]').first.inner_text()
def choose(page, i, label): card(page, i).locator('select').select_option(label=label); settle(page)
def chosen(page, i): return card(page, i).locator('select').evaluate('s => s.selectedOptions[0].textContent').replace('\xa0', ' ')


@pytest.mark.slow
def test_in_jupyterlab(lab, page, tmp_path):  # noqa: F811
    "Choices are on the disk at once; classes and pages are changed, the tab is closed, the kernel killed: the grid comes up as it was left"
    url, folder = lab
    drawer = make(tmp_path/'drawer')
    (drawer/'a'/'0.jpg').rename(drawer/'a'/f'0{nasty}.jpg')
    before = snapshot(drawer)
    code = lambda i, s: dict(cell_type='code', id=f'c{i}', metadata={}, source=s, outputs=[], execution_count=None)
    source = f"from cable_classifier.label import Labels, LabelGrid\nimport pandas as pd\nt = pd.DataFrame([('c/3.jpg', 'c', 'a', .01, 4.5)], columns=['fname','actual','predicted','p_actual','loss'])\nLabelGrid(Labels({str(drawer)!r}, t), per_page=4).widget"
    meta = dict(kernelspec=dict(name='python3', display_name='Python 3', language='python'))
    (folder/'label.ipynb').write_text(json.dumps(dict(cells=[code(0, source)], metadata=meta, nbformat=4, nbformat_minor=5)))

    open_and_run(page, url, 'label.ipynb', minutes=2)
    page.locator('.cables-card').nth(3).wait_for(timeout=60_000)
    assert 'taken for a, loss 4.50' in card(page, 0).inner_text() and nasty in card(page, 1).inner_text() and page.evaluate('window.hacked') is None
    assert page.evaluate("[...document.querySelectorAll('.cables-card img')].every(i => i.naturalWidth && i.alt)")
    choose(page, 0, 'relabel to a')
    assert (drawer/'a'/'3 (1).jpg').read_bytes() == before['c/3.jpg'] and 'c/3.jpg is a/3 (1).jpg now' in said(page)
    choose(page, 2, 'quarantine')
    assert (drawer/'quarantine'/'a'/'1.jpg').exists()
    choose(page, 3, 'keep as a')
    page.screenshot(path=tmp_path/'1-chosen.png', full_page=True)
    page.get_by_role('button', name='Next page').click(); settle(page)
    choose(page, 0, 'relabel to c')
    page.get_by_role('button', name='Previous page').click(); settle(page)
    assert [chosen(page, i) for i in range(4)] == ['relabel to a', 'to be decided', 'quarantine', 'keep as a']
    page.locator('.cables-labels select').first.select_option(label='put aside'); settle(page)
    assert page.locator('.cables-card').count() == 1 and 'quarantine/a/1.jpg' in card(page, 0).inner_text()
    kept = snapshot(drawer)

    page.locator('.cables-file').set_input_files(dict(name='new photo.jpg', mimeType='image/jpeg', buffer=as_bytes(800))); settle(page)
    assert (drawer/'a'/'new_photo.jpg').read_bytes() == as_bytes(800) and 'added as a/new_photo.jpg' in said(page)
    page.locator('.cables-file').set_input_files(dict(name='page.html', mimeType='image/jpeg', buffer=b'<script>window.hacked=1</script>')); settle(page)
    assert 'is not a picture' in said(page)
    large = as_bytes(801) + bytes(max_sent-len(as_bytes(801)))
    page.locator('.cables-file').set_input_files(dict(name='large.jpg', mimeType='image/jpeg', buffer=large))
    page.wait_for_timeout(3000)
    assert (drawer/'a'/'large.jpg').read_bytes() == large, 'a file of just the limit comes through'
    page.locator('.cables-file').set_input_files(dict(name='huge.jpg', mimeType='image/jpeg', buffer=large + b'0')); settle(page)
    assert 'huge.jpg has 9.0 MB, more than 9' in page.locator('.cables-box [role=status]').inner_text()
    page.get_by_role('button', name='Take a photo').click()
    page.wait_for_function("() => document.querySelector('.cables-box [role=status]').textContent.includes('No camera here')", timeout=10_000)
    page.screenshot(path=tmp_path/'2-added.png', full_page=True)

    context = page.context
    kernels = page.evaluate("fetch(new URL('/api/kernels?token=of-this-test', location)).then(r => r.json())")
    for k in kernels: page.evaluate("k => fetch(new URL(`/api/kernels/${k}?token=of-this-test`, location), {method: 'DELETE', headers: {'X-XSRFToken': document.cookie.match(/_xsrf=([^;]*)/)?.[1] ?? ''}}).then(r => r.status)", k['id'])
    page.close()
    page = context.new_page()
    open_and_run(page, url, 'label.ipynb', minutes=2)
    page.locator('.cables-card').nth(3).wait_for(timeout=60_000)
    assert 'a/3 (1).jpg' in card(page, 0).inner_text() and chosen(page, 0) == 'keep as a' and 'was c/3.jpg' in card(page, 0).inner_text()
    assert {k: v for k, v in snapshot(drawer).items() if k in kept} == kept
    for _ in range(6): page.get_by_role('button', name='Undo').click(); settle(page)
    assert snapshot(drawer) == before and page.evaluate('window.hacked') is None
    page.get_by_role('button', name='Undo').click(); settle(page)
    assert 'nothing to undo' in said(page)
    page.screenshot(path=tmp_path/'3-undone.png', full_page=True)
