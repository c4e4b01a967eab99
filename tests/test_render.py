"What may go wrong while plugs are drawn: each ends in one sentence and leaves nothing half-written behind."
import csv, os, subprocess, sys
import numpy as np, pytest
from pathlib import Path
from PIL import Image
from cable_classifier import render
from cable_classifier.render import CableError, draw_scene, make_zip, other_kinds, plan_set, render_photo, render_set, target_kinds

small = dict(size=48, spp=1, workers=1, progress=False)
def photos(folder): return sorted(p.name for p in Path(folder).rglob('*.jpg'))
def strays(folder): return [p.name for p in Path(folder).rglob('*') if p.name.startswith('.')]

@pytest.fixture
def drawn(monkeypatch):
    "Stands in for the renderer where only the files matter; counts the photos it was asked for"
    asked = []
    def fake(kind, seed, view=0, size=256, spp=12):
        asked.append((kind, seed, view)); return Image.new('RGB', render._pixels(draw_scene(kind, seed, view), size), (seed % 255, view, 7))
    monkeypatch.setattr(render, '_mitsuba', lambda: None); monkeypatch.setattr(render, 'render_photo', fake)
    return asked

def test_import_needs_no_renderer_and_no_torch():
    code = "import sys, cable_classifier.render as r; r.draw_scene('usb_c', 1); print([m for m in ('mitsuba', 'manifold3d', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'

@pytest.mark.parametrize('n', [0, -3])
def test_no_photos(n, tmp_path):
    with pytest.raises(CableError, match='ask for 1 or more'): render_set(tmp_path/'set', n=n)
    assert not (tmp_path/'set').exists()

def test_unknown_kind(tmp_path):
    with pytest.raises(CableError, match="unknown kind 'usb_d'"): render_set(tmp_path/'set', n=1, kinds=['usb_c', 'usb_d'])
    assert not (tmp_path/'set').exists()

def test_folder_that_takes_no_file(tmp_path, drawn):
    (tmp_path/'taken').write_text('a file, not a folder')
    with pytest.raises(CableError, match='cannot write') as e: render_set(tmp_path/'taken'/'set', n=1, **small)
    assert '\n' not in str(e.value) and drawn == []

@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() == 0, reason='root may write anywhere')
def test_read_only_folder(tmp_path, drawn):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(CableError, match='cannot write'): render_set(tmp_path/'set', n=1, **small)
    finally: tmp_path.chmod(0o700)

def test_disk_full_in_mid_run(tmp_path, drawn, monkeypatch):
    save, n = Image.Image.save, []
    def full(self, fp, *args, **kw):
        n.append(fp)
        if len(n) == 3: Path(fp).write_bytes(b'half a pho'); raise OSError(28, 'No space left on device')
        return save(self, fp, *args, **kw)
    monkeypatch.setattr(Image.Image, 'save', full)
    with pytest.raises(CableError, match='No space left on device'): render_set(tmp_path, n=4, **small)
    assert len(photos(tmp_path)) == 2 and strays(tmp_path) == []
    monkeypatch.setattr(Image.Image, 'save', save); drawn.clear()
    render_set(tmp_path, n=4, **small)                      # goes on where it stopped
    assert len(photos(tmp_path)) == 12 and len(drawn) == 10

def test_without_the_render_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'mitsuba', None); render._mitsuba.cache_clear()
    try:
        with pytest.raises(CableError, match=r"pip install 'cable_classifier\[render\]'"): render_set(tmp_path/'set', n=1, **small)
        with pytest.raises(CableError, match='render'): render_photo('usb_c', 1, size=32, spp=1)
    finally: render._mitsuba.cache_clear()
    assert not (tmp_path/'set').exists()

class Fatal:
    "Ends the process that unpickles it, as the system does when memory runs out"
    def __reduce__(self): return os._exit, (9,)

def test_killed_worker():
    with pytest.raises(CableError, match='ended from outside'): render._draw_all([([Fatal()], 8, 1, False)]*2, 2, False)

def test_truncated_photo_is_drawn_again(tmp_path, drawn):
    render_set(tmp_path, n=2, **small); good, bad = sorted(tmp_path.rglob('*.jpg'))[:2]
    size = Image.open(bad).size; bad.write_bytes(bad.read_bytes()[:200]); kept = good.stat().st_mtime_ns; drawn.clear()
    render_set(tmp_path, n=2, **small)
    assert len(drawn) == 1 and good.stat().st_mtime_ns == kept and Image.open(bad).size == size

def test_photo_of_another_shape_is_drawn_again(tmp_path, drawn):
    "A whole picture under the right name that is not the scene's width by height"
    render_set(tmp_path, n=2, **small); bad = sorted(tmp_path.rglob('*.jpg'))[0]
    w, h = Image.open(bad).size; Image.new('RGB', (48, 47 if h == 48 == w else 48)).save(bad); drawn.clear()
    render_set(tmp_path, n=2, **small)
    assert len(drawn) == 1 and Image.open(bad).size == (w, h)

def test_another_seed_does_not_mix(tmp_path, drawn):
    render_set(tmp_path, n=1, seed=1, **small)
    with pytest.raises(CableError, match='photos of another seed'): render_set(tmp_path, n=1, seed=2, **small)

@pytest.mark.parametrize('text', ['', 'fname,notes\n1.jpg,mine\n', ','.join(render.columns) + ',notes\n', 'years of work', '\0\xff'])
def test_a_manifest_of_others_stays(tmp_path, drawn, text):
    (tmp_path/'manifest.csv').write_bytes(text.encode('latin-1'))
    with pytest.raises(CableError, match="manifest.csv' was not written by cables render; move it away"): render_set(tmp_path, n=1, **small)
    assert (tmp_path/'manifest.csv').read_bytes() == text.encode('latin-1') and drawn == []

@pytest.mark.parametrize('n, views', [(300_001, 3), (100_001, 1)])
def test_a_set_does_not_run_into_that_of_the_next_seed(n, views, tmp_path, monkeypatch):
    monkeypatch.setattr(render, 'draw_scene', lambda kind, seed, view: 1/0)
    with pytest.raises(CableError, match=f'ask for {n-1} or fewer'): render_set(tmp_path/'set', n=n, views=views)
    assert not (tmp_path/'set').exists()

def test_manifest_names_every_photo(tmp_path, drawn):
    render_set(tmp_path, n=7, n_other=1, **small)
    rows = list(csv.DictReader((tmp_path/'manifest.csv').open(newline='')))
    assert sorted(r['fname'] for r in rows) == sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob('*.jpg'))
    assert len(rows) == 7*3+len(other_kinds) and {r['split'] for r in rows} == {'train', 'other'}

def test_a_smaller_plan_forgets_no_photo(tmp_path, drawn):
    "Whoever draws fewer kinds or photos into a folder keeps the rows of those that stay; rows of photos that are gone go too"
    def names(): return [r['fname'] for r in csv.DictReader((tmp_path/'manifest.csv').open(newline=''))]
    render_set(tmp_path, n=4, **small); whole = (tmp_path/'manifest.csv').read_bytes(); drawn.clear()
    render_set(tmp_path, n=1, kinds=['usb_c'], **small)
    assert (tmp_path/'manifest.csv').read_bytes() == whole and drawn == []
    render_set(tmp_path, n=1, kinds=['rca'], **small)
    assert sorted(names()) == sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob('*.jpg')) and len(names()) == 13
    gone = tmp_path/names()[-1]; gone.unlink()
    render_set(tmp_path, n=1, kinds=['rca'], **small)
    assert len(names()) == 12 and gone.relative_to(tmp_path).as_posix() not in names()
    render_set(tmp_path, n=5, **small)
    assert len(names()) == 16 and names()[:15] == [r['fname'] for r in plan_set(5)]

def test_no_cable_on_both_sides():
    rows = plan_set(60); side = {}
    for r in rows: side.setdefault(r['group'], set()).add(r['split'])
    assert all(len(s) == 1 for s in side.values())
    for k in target_kinds: assert sum(r['split'] == 'test' for r in rows if r['label'] == k) == 12

def test_every_kind_finds_a_pose():
    for kind in (*target_kinds, *other_kinds):
        for seed in range(40):
            s = draw_scene(kind, seed, seed % 3); assert s['share'] >= .2 and abs(s['direction'][1]) >= .13

def test_two_photos_of_three_are_longer_than_wide_or_wider_than_long():
    "And the longer side has the pixels asked for"
    scenes = [draw_scene(k, i) for k in target_kinds for i in range(100)]
    long = [max(s['aspect'], 1/s['aspect']) for s in scenes]
    assert .55 < np.mean([a > 1.1 for a in long]) < .75 and max(long) < 2.41
    for s in scenes:
        w, h = render._pixels(s, 256)
        assert max(w, h) == 256 and abs(w/h-s['aspect']) < .02

def test_zip_is_reproducible(tmp_path, drawn):
    render_set(tmp_path/'a', n=2, **small); digest = make_zip(tmp_path/'a', tmp_path/'a.zip')
    for p in (tmp_path/'a').rglob('*.jpg'): os.utime(p, (1, 1))
    assert make_zip(tmp_path/'a', tmp_path/'b.zip') == digest
    photo = next((tmp_path/'a').rglob('*.jpg')); photo.unlink(); (tmp_path/'b.zip').unlink()
    with pytest.raises(CableError, match='is missing'): make_zip(tmp_path/'a', tmp_path/'b.zip')
    assert not (tmp_path/'b.zip').exists()

def test_two_processes_draw_what_one_draws(tmp_path):
    for m in ('mitsuba', 'mitsuba_oidn', 'manifold3d'): pytest.importorskip(m)
    a = render_set(tmp_path/'a', n=1, kinds=['usb_c', 'rca'], size=48, spp=1, workers=1, progress=False)
    b = render_set(tmp_path/'b', n=1, kinds=['usb_c', 'rca'], size=48, spp=1, workers=2, progress=False)
    assert len(photos(a)) == 2
    for p in a.rglob('*.jpg'): assert p.read_bytes() == (b/p.relative_to(a)).read_bytes()

def test_mask_is_where_the_plug_is():
    for m in ('mitsuba', 'mitsuba_oidn', 'manifold3d'): pytest.importorskip(m)
    for seed in (1, 2):
        s = draw_scene('usb_c', seed); mask = render.render_mask(s, 48, 2)
        assert mask.shape == render._pixels(s, 48)[::-1] and .02 < mask.mean() < .8 and 0 <= mask.min() and mask.max() <= 1
