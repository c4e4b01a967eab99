"Cutting to the plug: boxes that stay inside, folders that are whole or not there, CSV files that make no sense."
import csv
import os

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings, strategies as st
from PIL import Image

from cable_classifier import cli
from cable_classifier.crop import centre_box, crop_folder, get_locator, heat_box, locator_file, read_boxes, salient_box, square_box
from cable_classifier.photos import get_photos, open_photo
from cable_classifier.workspace import CableError

side = st.integers(1, 5000)


def inside(box, size): return 0 <= box[0] < box[2] <= size[0] and 0 <= box[1] < box[3] <= size[1]


@given(st.tuples(side, side), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.floats(0, 1e4))
def test_square_stays_inside(size, x, y, s):
    box = square_box((x, y), s, size)
    assert inside(box, size) and box[2]-box[0] == box[3]-box[1]


@given(st.tuples(side, side), st.floats(.01, 1))
def test_centre_is_central(size, share):
    box = centre_box(size, share)
    assert inside(box, size) and all(abs(a+b-s) <= 1 for a, b, s in zip(box[:2], box[2:], size))


@settings(deadline=None)
@given(st.tuples(st.integers(1, 30), st.integers(1, 30)), st.tuples(side, side), st.integers(0, 2**32-1))
def test_heat_box_stays_inside(shape, size, seed):
    assert inside(heat_box(np.random.default_rng(seed).random(shape), size, .9), size)


def test_heat_box_takes_the_patch_that_holds_most():
    heat = np.zeros((10, 20))
    heat[0, 0], heat[4:8, 12:16] = 1, .8
    assert heat_box(heat, (200, 100), margin=0) == (120, 40, 160, 80)


@pytest.fixture
def drawer(tmp_path):
    "Photos of many shapes and kinds, one of them turned by a note, one broken"
    r, root = np.random.default_rng(0), tmp_path/'drawer'
    (root/'a').mkdir(parents=True)
    (root/'b'/'deep').mkdir(parents=True)
    def photo(w, h): return Image.fromarray(r.integers(0, 255, (h, w, 3), dtype=np.uint8))
    photo(60, 40).save(root/'a'/'wide.jpg')
    photo(40, 400).save(root/'a'/'strip.png')
    note = Image.Exif()
    note[0x0112] = 6
    photo(60, 40).save(root/'b'/'turned.jpg', exif=note)
    photo(32, 32).convert('P').save(root/'b'/'deep'/'palette.gif')
    (root/'b'/'broken.jpg').write_bytes(b'no photo')
    return root


@pytest.mark.parametrize('by', ['plug', 'saliency', 'centre'])
def test_folder(drawer, tmp_path, by):
    before = {p: p.read_bytes() for p in drawer.rglob('*') if p.is_file()}
    res = crop_folder(drawer, tmp_path/'out', by)
    assert res['n'] == 4 and list(res['failed']) == ['b/broken.jpg'] and not res['whole']
    assert sorted(p.relative_to(tmp_path/'out').as_posix() for p in get_photos(tmp_path/'out')) == ['a/strip.png.jpg', 'a/wide.jpg', 'b/deep/palette.gif.jpg', 'b/turned.jpg']
    assert {p: p.read_bytes() for p in drawer.rglob('*') if p.is_file()} == before
    boxes = read_boxes(tmp_path/'out'/'boxes.csv')
    assert inside(boxes['b/turned.jpg'], (40, 60)), 'boxes are in pixels of the upright photo'
    for name, box in boxes.items():
        made = tmp_path/'out'/(name if name.endswith('.jpg') else name + '.jpg')
        assert open_photo(made).size == (box[2]-box[0], box[3]-box[1]) and not Image.open(made).getexif()


def test_boxes_again_give_the_same_photos(drawer, tmp_path):
    crop_folder(drawer, tmp_path/'one', 'centre')
    crop_folder(drawer, tmp_path/'two', tmp_path/'one'/'boxes.csv')
    for p in get_photos(tmp_path/'one'): assert p.read_bytes() == (tmp_path/'two'/p.relative_to(tmp_path/'one')).read_bytes()


def test_names_of_any_bytes(tmp_path):
    names = ['a\nb.jpg', '"c,d".jpg', '\u202egpj.jpg', os.fsdecode(b'\xff.jpg')]
    (tmp_path/'in').mkdir()
    for n in names: Image.new('RGB', (40, 40), 'red').save(tmp_path/'in'/n, 'JPEG')
    crop_folder(tmp_path/'in', tmp_path/'out', 'centre')
    assert set(read_boxes(tmp_path/'out'/'boxes.csv')) == set(names) == {p.name for p in get_photos(tmp_path/'out')}
    again = CliRunner().invoke(cli.main, ['crop', str(tmp_path/'in'), str(tmp_path/'again'), '--by', str(tmp_path/'out'/'boxes.csv')])
    assert again.exit_code == 0 and '4 photo(s)' in again.output


@pytest.mark.parametrize('text,word', [('', 'no box'), ('fname,left\na.jpg,1\n', 'line 2'), ('fname,left,top,right,bottom\na.jpg,1,1,x,9\n', 'line 2'), ('fname,left,top,right,bottom\na.jpg,9,1,1,9\n', 'exchange'),
                                       ('fname,left,top,right,bottom\na.jpg,inf,1,1,9\n', 'line 2'), ('fname,left,top,right,bottom\na.jpg,nan,1,1,9\n', 'line 2'), ('fname,left,top,right,bottom\na/wide.jpg,900,1,999,9\n', 'outside')])
def test_bad_boxes(drawer, tmp_path, text, word):
    (tmp_path/'b.csv').write_text(text)
    with pytest.raises(CableError, match=word): crop_folder(drawer, tmp_path/'out', tmp_path/'b.csv')
    assert not (tmp_path/'out').exists() and sorted(os.listdir(tmp_path)) == ['b.csv', 'drawer']


def test_a_box_names_no_file_to_open(drawer, tmp_path):
    "Lines about photos that are not in the folder are counted, and of no other consequence, wherever they point; where no line is about any, nothing is written"
    (tmp_path/'b.csv').write_text('fname,left,top,right,bottom\n../../etc/passwd,0,0,9,9\na/wide.jpg,-5,-5,900,900\n')
    res = crop_folder(drawer, tmp_path/'out', tmp_path/'b.csv')
    assert res['n'] == 4 and 'a/wide.jpg' not in res['whole'] and read_boxes(tmp_path/'out'/'boxes.csv')['a/wide.jpg'] == (0, 0, 60, 40)
    assert res['failed'].pop(str(tmp_path/'b.csv')).startswith('1 of 2 boxes in ') and list(res['failed']) == ['b/broken.jpg']
    with pytest.raises(CableError, match="no box in .*b.csv' names a photo in .*such as a/strip.png"): crop_folder(drawer, tmp_path/'none', rewrite(tmp_path/'b.csv', 'wide.jpg,0,0,9,9'))
    assert not (tmp_path/'none').exists()


def rewrite(file, line): file.write_text(f'fname,left,top,right,bottom\n{line}\n'); return file


def test_every_photo_has_its_own_file(tmp_path):
    "One that ends otherwise steps aside for those that have its new name already: a photo, a number, a folder"
    files = ['a/p.png', 'a/p.png.jpg', 'a/p.png (1).jpg', 'a/p.gif', 'a/p.gif.jpg/x.jpg']
    for i, n in enumerate(files):
        (tmp_path/'in'/n).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (40, 40+i), 'red').save(tmp_path/'in'/n)
    assert crop_folder(tmp_path/'in', tmp_path/'out', 'centre', share=1)['n'] == 5
    assert sorted(p.relative_to(tmp_path/'out').as_posix() for p in get_photos(tmp_path/'out')) == ['a/p.gif (1).jpg', 'a/p.gif.jpg/x.jpg', 'a/p.png (1).jpg', 'a/p.png (2).jpg', 'a/p.png.jpg']
    whole = crop_folder(tmp_path/'in', tmp_path/'again', rewrite(tmp_path/'b.csv', 'a/p.png,0,0,9,8'))
    assert open_photo(tmp_path/'again'/'a'/'p.png (2).jpg').size == (9, 8) and open_photo(tmp_path/'again'/'a'/'p.png.jpg').size == (40, 41) and len(whole['whole']) == 4


def test_names_that_will_not_do(drawer, tmp_path):
    "One too long with .jpg behind it is left out and told; a folder called as the list is refused"
    Image.new('RGB', (40, 40)).save(drawer/'a'/('x'*250 + '.png'))
    res = crop_folder(drawer, tmp_path/'out', 'centre')
    assert res['n'] == 4 and 'too long a name' in res['failed']['a/' + 'x'*250 + '.png']
    (drawer/'a').rename(drawer/'boxes.csv')
    with pytest.raises(CableError, match="boxes.csv' has the name of the list that is written; rename it"): crop_folder(drawer, tmp_path/'new', 'centre')
    assert not (tmp_path/'new').exists()


@pytest.mark.parametrize('by, word', [('Plug', "no such way 'Plug': plug, saliency, centre, or a CSV file"), ('none.csv', "none.csv' (No such file or directory)"), ('/dev/zero', 'plain file')])
def test_no_such_way(drawer, tmp_path, by, word):
    with pytest.raises(CableError) as e: crop_folder(drawer, tmp_path/'out', by)
    assert word in str(e.value) and not (tmp_path/'out').exists()


@pytest.mark.parametrize('spoil,word', [(lambda d: ('nowhere', 'out'), 'no folder'), (lambda d: (d/'a'/'wide.jpg', 'out'), 'is a file'), (lambda d: (d, d/'a'/'new'), 'lies inside'), (lambda d: (d, d), 'lies inside'), (lambda d: (d/'a', d/'b'), 'there already')])
def test_bad_places(drawer, tmp_path, monkeypatch, spoil, word):
    monkeypatch.chdir(tmp_path)
    r = CliRunner().invoke(cli.main, ['crop', *map(str, spoil(drawer)), '--by', 'centre'])
    assert r.exit_code == 2 and word in r.output and r.output.count('\n') == 1 and not (tmp_path/'out').exists()


def test_none_opens(tmp_path):
    (tmp_path/'in').mkdir()
    (tmp_path/'in'/'a.jpg').write_bytes(b'no')
    with pytest.raises(CableError, match='can be cut: .* is not a picture'): crop_folder(tmp_path/'in', tmp_path/'out', 'centre')
    assert os.listdir(tmp_path) == ['in']


def test_locator_refuses(tmp_path):
    "Other shapes, other weights, no safetensors"
    from safetensors.numpy import load_file, save_file
    state = load_file(locator_file())
    for name, make in dict(short=lambda f: save_file(dict(state, weight=state['weight'][:9]), f), foreign=lambda f: save_file(state, f, metadata=dict(body='0'*64)), text=lambda f: f.write_text('no')).items():
        make(tmp_path/name)
        with pytest.raises(CableError, match='locator'): get_locator(tmp_path/name)


def test_what_stands_out():
    "A bright spot on paper"
    a = np.random.default_rng(0).normal(90, 12, (120, 160, 3)).clip(0, 255).astype(np.uint8)
    a[30:45, 100:120] = 240
    l, t, r, b = salient_box(Image.fromarray(a))
    assert l <= 105 and t <= 33 and r >= 115 and b >= 42


def test_locator_on_embedded(embedded):
    "On photos of the embedded set the box leaves much out, and no two photos have quite the same"
    locator = get_locator()
    boxes = [heat_box(locator.heat(im), im.size) for im in map(open_photo, get_photos(embedded/'plugs'/'usb_c')[:24])]
    assert np.mean([(b[2]-b[0])**2 for b in boxes]) < .75*256**2 and len(set(boxes)) > 12


def test_not_over_the_folder_one_stands_in(embedded, tmp_path, monkeypatch):
    from cable_classifier.crop import crop_folder
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CableError, match='you stand in'): crop_folder(embedded/'other', '.', 'centre')
