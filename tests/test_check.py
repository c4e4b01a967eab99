"Hostile drawers: every file gets its verdict, none stops the run, and what is moved comes back byte for byte."
import io
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from cable_classifier import check as module
from cable_classifier.check import Look, Report, check_folder, fix_folder, join_near, look_at, move_aside, near_groups, near_pairs, plot_report, read_journal, read_splits, undo_fix
from cable_classifier import photos
from cable_classifier.photos import PhotoError, check_photos, get_photos, open_csv, open_photo, photo_errors, refuse_size
from cable_classifier.workspace import CableError


def picture(seed, size=(160, 120), mode='RGB'):
    "A sharp picture of its own: random blocks"
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize(size, Image.Resampling.NEAREST).convert(mode)


def encoded(im, format, **kwargs):
    buf = io.BytesIO()
    im.save(buf, format, **kwargs)
    return buf.getvalue()


@pytest.fixture
def drawer(tmp_path):
    "Two classes of 25 good photos each"
    for c in range(2):
        (tmp_path/'drawer'/f'class_{c}').mkdir(parents=True)
        for i in range(25): picture(100*c + i).save(tmp_path/'drawer'/f'class_{c}'/f'{i:02}.jpg', quality=90)
    return tmp_path/'drawer'


def snapshot(root):
    "Path -> what is there, to the byte, and when it was written"
    def content(p):
        if p.is_symlink(): return os.readlink(p)
        return (p.read_bytes(), p.stat().st_mtime_ns, p.stat().st_mode) if p.is_file() else None
    return {str(p.relative_to(root)): content(p) for p in root.rglob('*')}


def png_claiming(w, h):
    "A PNG of a few bytes whose header claims `w` by `h` pixels"
    def chunk(name, data): return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, 8, 2, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(b'\0'*1000)) + chunk(b'IEND', b'')


def bad_files():
    "Name -> (bytes, kinds the check must find)"
    whole = {k: encoded(picture(1000 + i), f) for i, (k, f) in enumerate(dict(jpg='JPEG', png='PNG', webp='WEBP').items())}
    bad = {f'cut_{k}_{i}.{k}': (data[:len(data)*i//8], {'cut_short', 'not_a_picture'}) for k, data in whole.items() for i in range(1, 8)}
    heif = pytest.importorskip('pillow_heif').from_pillow(picture(1010))
    buf = io.BytesIO()
    heif.save(buf)
    bad['cut.heic'] = buf.getvalue()[:len(buf.getvalue())//2], {'cut_short', 'not_a_picture'}
    bad['cut.avif'] = encoded(picture(1011), 'AVIF')[:400], {'cut_short', 'not_a_picture'}
    bad['cut.tif'] = encoded(picture(1012), 'TIFF')[:5000], {'cut_short', 'not_a_picture'}
    bad['cut.bmp'] = encoded(picture(1013), 'BMP')[:5000], {'cut_short', 'not_a_picture'}
    bad['bomb.png'] = encoded(Image.new('1', (9000, 9000)), 'PNG'), {'too_large'}
    bad['claims.png'] = png_claiming(60000, 60000), {'too_large'}
    bad['empty.jpg'] = b'', {'empty'}
    bad['text.jpg'] = b'dear diary', {'not_a_picture'}
    bad['page.jpg'] = b'<!doctype html><html><body>403</body></html>', {'not_a_picture'}
    bad['eps.jpg'] = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', {'not_a_picture'}
    bad['pdf.jpg'] = b'%PDF-1.7\n', {'not_a_picture'}
    bad['zip.png'] = b'PK\x03\x04' + b'\0'*99, {'not_a_picture'}
    bad['svg.png'] = b'<svg xmlns="http://www.w3.org/2000/svg"/>', {'not_a_picture'}
    bad['noise.jpg'] = random.Random(0).randbytes(4000), {'not_a_picture'}
    bad['head_only.jpg'] = whole['jpg'][:20] + random.Random(1).randbytes(3000), {'cut_short', 'not_a_picture'}
    bad['strip.png'] = encoded(picture(1020, (20000, 64)), 'PNG'), {'odd_shape'}
    bad['thin.png'] = encoded(picture(1021, (20000, 4)), 'PNG'), {'too_small'}
    bad['dot.png'] = encoded(Image.new('RGB', (1, 1)), 'PNG'), {'too_small'}
    bad['grey.png'] = encoded(Image.new('RGB', (200, 200), (120, 120, 120)), 'PNG'), {'blank'}
    bad['night.png'] = encoded(picture(1022).point(lambda v: v//8), 'PNG'), {'dark'}
    bad['soft.png'] = encoded(picture(1023, (6, 6)).resize((256, 256), Image.Resampling.BICUBIC), 'PNG'), {'blurred'}
    bad['really_png.jpg'] = encoded(picture(1024), 'PNG'), {'wrong_extension'}
    bad['really_heic.jpg'] = heif_bytes(picture(1025)), {'wrong_extension'}
    bad['moves.gif'] = encoded(picture(1026), 'GIF', save_all=True, append_images=[picture(1027)]), {'moving'}
    bad['line\nbreak.jpg'] = b'', {'empty'}
    bad['\U0001f50c emoji.jpg'] = b'', {'empty'}
    bad['quote",comma.jpg'] = b'', {'empty'}
    bad['clip.mp4'] = b'\0\0\0\x18ftypmp42', {'foreign'}
    bad['nosuffix'] = whole['jpg'], {'foreign'}
    return bad


def heif_bytes(im, **kwargs):
    buf = io.BytesIO()
    pytest.importorskip('pillow_heif').from_pillow(im).save(buf, **kwargs)
    return buf.getvalue()


def good_files():
    "Name -> bytes of unusual photos that are all right"
    exif = Image.Exif()
    exif[0x0112] = 6
    jpg = encoded(picture(2000), 'JPEG', exif=exif)
    grey16 = Image.fromarray((np.asarray(picture(2001, mode='L')).astype(np.uint16)*257))
    good = {'turned.jpg': jpg, 'broken_exif.jpg': jpg.replace(b'Exif\0\0MM', b'Exif\0\0XX').replace(b'Exif\0\0II', b'Exif\0\0XX'),
            'cmyk.jpg': encoded(picture(2002, mode='CMYK'), 'JPEG'), 'palette.png': encoded(picture(2003, mode='P'), 'PNG'),
            'alpha.png': encoded(picture(2004, mode='RGBA'), 'PNG'), 'grey16.png': encoded(grey16, 'PNG'), 'grey.jpg': encoded(picture(2005, mode='L'), 'JPEG'),
            'float.tif': encoded(Image.fromarray(np.asarray(picture(2006, mode='L'), dtype=np.float32)/255), 'TIFF'),
            'progressive.jpg': encoded(picture(2007), 'JPEG', progressive=True), 'cmyk.tif': encoded(picture(2008, mode='CMYK'), 'TIFF'),
            'still.gif': encoded(picture(2009), 'GIF'), 'plain.bmp': encoded(picture(2010), 'BMP'), 'phone.heic': heif_bytes(picture(2011)),
            'phone.avif': encoded(picture(2012), 'AVIF'), 'lossless.webp': encoded(picture(2013), 'WEBP', lossless=True), 'UPPER.JPG': encoded(picture(2014), 'JPEG'),
            'grey alpha.png': encoded(picture(2015, mode='LA'), 'PNG'), 'two colours.png': encoded(picture(2016, mode='1'), 'PNG'),
            'twelve megapixels.jpg': encoded(picture(2017, (4000, 3000)), 'JPEG')}
    return good


def test_hostile_folder(drawer, tmp_path):
    "At least 40 hostile files among good ones: each its verdict, the good ones none"
    bad, good, home = bad_files(), good_files(), drawer/'class_0'
    assert len(bad) >= 40
    for name, data in [*((n, d) for n, (d, _) in bad.items()), *good.items()]: (home/name).write_bytes(data)
    (home/'deep'/'er').mkdir(parents=True)
    for i, p in enumerate(('deep/a.jpg', 'deep/er/b.jpg', '../lost.jpg')): (home/p).write_bytes(encoded(picture(4000 + i), 'JPEG'))
    (tmp_path/'secret.jpg').write_bytes(encoded(picture(3000), 'JPEG'))
    want = {f'class_0/{n}': k for n, (_, k) in bad.items()} | {'class_0/deep/a.jpg': {'stray'}, 'class_0/deep/er/b.jpg': {'stray'}, 'lost.jpg': {'stray'}}
    if hasattr(os, 'symlink'):
        os.symlink(tmp_path/'secret.jpg', home/'out.jpg')
        os.symlink(home/'nothing', home/'dead.jpg')
        os.symlink(drawer, home/'loop')
        os.symlink(home/'self.jpg', home/'self.jpg')
        want |= {'class_0/out.jpg': {'link'}, 'class_0/dead.jpg': {'missing'}, 'class_0/loop': {'link'}, 'class_0/self.jpg': {'missing', 'cut_short'}}
    if hasattr(os, 'mkfifo'):
        os.mkfifo(home/'pipe.jpg')
        want['class_0/pipe.jpg'] = {'special'}
    before = snapshot(drawer)
    report = check_folder(drawer)
    found = report.findings[~report.findings.kind.isin(['few', 'lopsided'])]
    got = found.groupby('path').kind.agg(set).to_dict()
    assert set(got) == set(want), (set(got) - set(want), set(want) - set(got))
    for p, kinds in got.items(): assert kinds <= want[p] and len(kinds) == 1, (p, kinds, want[p])
    assert snapshot(drawer) == before # looking changes nothing
    assert json.loads(report.to_json())['summary'] == report.summary
    moved = fix_folder(report, yes=True)
    assert set(moved) == set(found.path[found.moves])
    left = check_folder(drawer)
    assert not (left.findings.weight == 'error').any()
    assert not [p for p in get_photos(drawer) if 'quarantine' in p.parts]
    back, kept = undo_fix(drawer)
    assert sorted(back) == sorted(moved) and not kept
    assert snapshot(drawer) == before


@pytest.mark.skipif(getattr(os, 'geteuid', lambda: 0)() == 0, reason='root may read everything')
def test_unreadable(drawer):
    (drawer/'class_0'/'00.jpg').chmod(0)
    (drawer/'class_1'/'locked').mkdir(mode=0)
    f = check_folder(drawer).findings
    assert set(f.path) == {'class_0/00.jpg', 'class_1/locked'} and set(f.kind) == {'unreadable'}


def test_good_pixels():
    "Unusual modes come out in the right colours"
    cmyk = Image.new('CMYK', (64, 64), (0, 255, 255, 0))
    for f in ('JPEG', 'TIFF'):
        r, g, b = to_rgb_of(encoded(cmyk, f)).getpixel((32, 32))
        assert r > 230 and g < 30 and b < 30
    red = Image.new('RGBA', (64, 64), (255, 0, 0, 128))
    assert to_rgb_of(encoded(red, 'PNG')).getpixel((5, 5)) == (255, 127, 127)
    p = Image.new('P', (64, 64), 3)
    p.putpalette([0]*9 + [10, 200, 30])
    assert to_rgb_of(encoded(p, 'PNG')).getpixel((5, 5)) == (10, 200, 30)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert to_rgb_of(encoded(picture(0, (64, 32)), 'WEBP', exif=exif)).size == (32, 64)
    assert to_rgb_of(heif_bytes(picture(0, (128, 64)), exif=exif.tobytes())).size in [(64, 128), (128, 64)]


def to_rgb_of(data):
    from cable_classifier.photos import open_image, to_rgb
    with open_image(io.BytesIO(data)) as im: return to_rgb(im)


def test_formats_are_known_from_the_first_photo_on(tmp_path):
    "Reading the EXIF of a JPEG brings in one more of Pillow's formats; the rest must come all the same. In a process that has read nothing yet."
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(1).save(tmp_path/'1.jpg', exif=exif)
    for f in ('2.webp', '3.avif', '4.tif'): picture(2).save(tmp_path/f)
    code = "import sys; from PIL import Image; Image.open(sys.argv[1]).getexif().get(274); from cable_classifier.photos import open_photo; print([open_photo(f).size for f in sys.argv[1:]])"
    said = subprocess.run([sys.executable, '-c', code, *map(str, sorted(tmp_path.iterdir()))], capture_output=True, text=True)
    assert said.stdout.strip() == str([(120, 160)] + 3*[(160, 120)]), said.stderr


def test_photo_errors_are_sentences(tmp_path):
    "`photo_errors` turns whatever a decoder raises into a `PhotoError` with a kind; `refuse_size` is one of its users"
    for e in (struct.error('x'), KeyError('x'), RecursionError(), MemoryError(), zlib.error('x'), OverflowError()):
        with pytest.raises(PhotoError) as r, photo_errors('a.jpg'): raise e
        assert r.value.kind == 'cut_short' and str(r.value).startswith("'a.jpg' ")
    with pytest.raises(CableError, match='million pixels'), photo_errors('a.jpg') as no: refuse_size(no, Image.new('1', (8000, 8000)))
    with pytest.raises(CableError, match='^.x+.jpg. (cannot be decoded .File name too long.; copy|is not a file)') as r: open_photo('x'*300+'.jpg')
    assert str(r.value).count('x'*300) == 1
    (tmp_path/'e.jpg').write_bytes(b'')
    assert list(check_photos([tmp_path/'e.jpg'])) == [tmp_path/'e.jpg']


def test_a_decoder_that_dies(drawer, monkeypatch):
    "A file that ends the process that opens it is named; the others are looked at"
    if os.name == 'nt': pytest.skip('needs fork')
    for i in range(60): picture(500 + i, (64, 64)).save(drawer/'class_1'/f'more{i}.png')
    real, parent = module.look_at, os.getpid()
    def killer(path, *args):
        if path.endswith(('07.jpg', 'more3.png')) and os.getpid() != parent: os._exit(11)
        return real(path, *args)
    monkeypatch.setattr(module, 'look_at', killer)
    report = check_folder(drawer, workers=2)
    f = report.findings
    assert set(f.path[f.kind == 'cut_short']) == {'class_0/07.jpg', 'class_1/07.jpg', 'class_1/more3.png'}
    assert len(report.files) == 110 and (report.files.digest != '').sum() == 107


def test_copies_across_classes_and_splits(tmp_path):
    "The same photo under two labels, in two splits, twice; and again nearly so"
    for n, (s, c) in enumerate((s, c) for s in ('train', 'val', 'test') for c in 'ab'):
        (tmp_path/s/c).mkdir(parents=True)
        for i in range(21): picture(5000 + 100*n + i).save(tmp_path/s/c/f'{i}.png')
    shutil.copy(tmp_path/'test/a/0.png', tmp_path/'train/a/leak.png')
    shutil.copy(tmp_path/'train/a/1.png', tmp_path/'train/b/conflict.png')
    shutil.copy(tmp_path/'train/a/2.png', tmp_path/'train/a/twice.png')
    open_photo(tmp_path/'val/b/3.png').save(tmp_path/'train/b/near_leak.jpg', quality=60)
    open_photo(tmp_path/'test/a/4.png').resize((100, 75)).save(tmp_path/'test/b/near_conflict.png')
    f = check_folder(tmp_path).findings
    got = {(k, p) for k, p in zip(f.kind, f.path)}
    assert got == {('leak', 'train/a/leak.png'), ('conflict', 'train/a/1.png'), ('conflict', 'train/b/conflict.png'), ('duplicate', 'train/a/twice.png'),
                   ('near_leak', 'train/b/near_leak.jpg'), ('near_conflict', 'test/a/4.png'), ('near_conflict', 'test/b/near_conflict.png')}
    assert fix_folder(Report(tmp_path, check_folder(tmp_path).files, f, 0.)) and (tmp_path/'test/a/0.png').exists()


@pytest.mark.parametrize('links', [{'!.jpg': '00.jpg'}, {'!a.jpg': '!b.jpg', '!b.jpg': '00.jpg'}, {'zz.jpg': '00.jpg'}, {'!a.jpg': '!b.jpg', '!b.jpg': 'old/1.jpg'}],
                         ids=['first by name', 'by two links', 'last by name', 'to a photo of no class'])
def test_a_link_goes_and_what_it_leads_to_stays(drawer, links):
    "Whatever their names, so that no link is left that leads to nothing"
    (drawer/'class_0/old').mkdir()
    picture(7000).save(drawer/'class_0/old/1.jpg')
    for name, to in links.items(): (drawer/'class_0'/name).symlink_to(to)
    before = snapshot(drawer)
    moved = fix_folder(check_folder(drawer))
    assert moved and set(moved) <= {f'class_0/{n}' for n in links}
    assert set(check_folder(drawer).findings.kind) == {'stray'} # old/1.jpg, as before
    assert undo_fix(drawer) == (moved, {}) and snapshot(drawer) == before


def split_drawer(folder, seed=6000):
    "Train and test of one class, 20 photos each, and one more in train, z.png"
    for s in ('train', 'test'):
        (folder/s/'a').mkdir(parents=True)
        for i in range(20): picture(seed + 100*(s == 'test') + i).save(folder/s/'a'/f'{i:02}.png')
    picture(seed + 50).save(folder/'train/a/z.png')
    return folder


def test_a_link_in_test_goes_and_its_photo_stays_in_train(tmp_path):
    d = split_drawer(tmp_path/'d')
    (d/'test/a/!.png').symlink_to('../../train/a/z.png')
    f = check_folder(d).findings
    assert list(zip(f.kind, f.path, f.other)) == [('leak', 'test/a/!.png', 'train/a/z.png')]
    assert fix_folder(check_folder(d)) == ['test/a/!.png'] and check_folder(d).findings.empty


def test_near_copies_are_compared_with_the_copy_that_stays(tmp_path):
    "One photo in train and test, and nearly so in train again: both go from train at once, not one at each call"
    d = split_drawer(tmp_path/'d')
    shutil.copy(d/'train/a/z.png', d/'test/a/z.png')
    open_photo(d/'train/a/z.png').save(d/'train/a/z.jpg', quality=60)
    f = check_folder(d).findings
    assert list(zip(f.kind, f.path, f.other)) == [('leak', 'train/a/z.png', 'test/a/z.png'), ('near_leak', 'train/a/z.jpg', 'test/a/z.png')]
    assert sorted(fix_folder(check_folder(d))) == ['train/a/z.jpg', 'train/a/z.png'] and check_folder(d).findings.empty


def test_a_drawn_photo_of_too_many_pixels_is_drawn_again(tmp_path):
    "A file that only claims them, under a photo's name: no photo of ours, and no traceback"
    from cable_classifier.render import _good
    for n in (20_000, 40_000):
        (tmp_path/'1.jpg').write_bytes(png_claiming(n, n))
        assert not _good(tmp_path/'1.jpg', 'usb_c', 4_200_000, 1, 64)


def test_splits_from_a_file(drawer, tmp_path):
    shutil.copy(drawer/'class_0'/'00.jpg', drawer/'class_0'/'again.jpg')
    csv = tmp_path/'split.csv'
    csv.write_text('fname,label,group,split\nclass_0/00.jpg,class_0,a,test\nclass_0/again.jpg,class_0,b,train\n')
    assert read_splits(csv) == {'class_0/00.jpg': 'test', 'class_0/again.jpg': 'train'}
    f = check_folder(drawer, csv).findings
    assert list(zip(f.kind, f.path)) == [('leak', 'class_0/again.jpg'), ('unsplit', str(csv))] and f.why.iloc[1] == '49 photos not in it'
    csv.write_text('name\nx\n')
    with pytest.raises(CableError, match="column 'fname'"): check_folder(drawer, csv)


def test_a_split_of_other_photos(drawer, tmp_path):
    "None fits: a sentence. Some do not: a note that counts them. A split of another name: its line. The course's names in other words are known."
    csv, names = tmp_path/'split.csv', [p.relative_to(drawer).as_posix() for p in get_photos(drawer)]
    def splits(rows): csv.write_text('fname,split\n' + ''.join(f'{n},{s}\n' for n, s in rows)); return check_folder(drawer, csv).findings
    with pytest.raises(CableError, match='names none of the photos'): splits([('other/1.jpg', 'train')])
    with pytest.raises(CableError, match="line 3 .*no split 'tset'"): splits([(names[0], 'train'), (names[1], 'tset')])
    assert splits([(n, 'training') for n in names]).empty and set(read_splits(csv).values()) == {'train'}
    f = splits([(n, 'val') for n in names[1:]] + [('gone.jpg', 'test')])
    assert list(f.kind) == ['unsplit'] and list(f.weight) == ['note'] and f.why[0] == '1 photo not in it; 1 of its 50 names without a photo here'


@pytest.mark.parametrize('read', [read_splits, lambda f: open_csv(f, 'the list', 'name another').__enter__()])
def test_only_plain_files_are_lists(tmp_path, monkeypatch, read):
    "A pipe, a device, a folder, a file too large: refused at once, the path told once"
    if hasattr(os, 'mkfifo'): os.mkfifo(tmp_path/'pipe')
    for f in (tmp_path/'pipe', '/dev/zero', tmp_path):
        with pytest.raises(CableError, match='plain file|No such file'): read(f)
    monkeypatch.setattr(photos, 'max_csv', 9)
    (tmp_path/'large.csv').write_text('fname,split\n')
    with pytest.raises(CableError, match='MB, more than'): read(tmp_path/'large.csv')
    with pytest.raises(CableError, match='No such file') as e: read(tmp_path/'none.csv')
    assert str(e.value).count('none.csv') == 1


def test_a_folder_that_may_not_be_read_is_no_folder_without_photos(drawer, monkeypatch):
    real = os.scandir
    def scandir(p):
        if str(p).endswith('class_1'): raise PermissionError(13, 'Permission denied', str(p))
        return real(p)
    monkeypatch.setattr(os, 'scandir', scandir)
    with pytest.raises(CableError, match="class_1' may not be read .Permission denied.; change its permissions, or move it away"): get_photos(drawer)
    (drawer/'quarantine').mkdir()
    (drawer/'class_1').rename(drawer/'quarantine'/'class_1') # where nobody looks
    assert len(get_photos(drawer)) == 25


def test_folders_in_folders_in_folders(tmp_path, monkeypatch):
    "Deeper than Python may recurse"
    if sys.platform != 'linux': pytest.skip('no path is that long here')
    monkeypatch.chdir(tmp_path)
    for _ in range(1100): os.mkdir('d'); os.chdir('d')
    picture(1).save('x.jpg')
    os.chdir(tmp_path)
    assert len(get_photos('.')) == 1
    for _ in range(1100): os.chdir('d')
    os.unlink('x.jpg')
    for _ in range(1100): os.chdir('..'); os.rmdir('d') # neither pytest nor shutil gets that deep


def test_few_and_lopsided(drawer):
    for f in sorted((drawer/'class_1').iterdir())[4:]: f.unlink()
    assert set(check_folder(drawer).findings.kind) == {'few', 'lopsided'}
    for f in sorted((drawer/'class_1').iterdir())[1:]: f.unlink()
    assert [w.split('hoto')[1][0] for w in check_folder(drawer).findings.why] == [';', ',']


def test_a_link_that_goes_round_stops_nobody(drawer):
    (drawer/'round').symlink_to(drawer/'round')
    f = check_folder(drawer).findings
    assert list(zip(f.kind, f.path)) == [('missing', 'round')] and len(f) == 1


def test_an_empty_class_is_told(drawer):
    "With its name and 0 photos, in one split or in all; quarantine, hidden folders and links are no classes"
    for d in ('class_2', '.hidden', 'quarantine'): (drawer/d).mkdir()
    (drawer/'class_3').symlink_to(drawer/'class_0')
    f = check_folder(drawer).findings.query('kind != "link"')
    assert list(zip(f.kind, f.path)) == [('few', 'class_2')] and f.why.iloc[0].startswith('0 photos')
    for d in ('train', 'test'): (drawer/d).mkdir()
    (drawer/'class_3').unlink()
    for c in range(3): (drawer/f'class_{c}').rename(drawer/'train'/f'class_{c}')
    (drawer/'test'/'class_1').mkdir()
    f = check_folder(drawer).findings
    assert list(zip(f.kind, f.path)) == [('few', 'class_2')]


def test_near_pairs_is_exact_and_bounded():
    "Against comparing all; and a crowd of one hash does not take the square of its number"
    rng = np.random.default_rng(1)
    h = rng.integers(0, 256, (1500, 40), dtype=np.uint8)
    h[:, 8:] = 0
    h[1000:, :8] = h[:500, :8]
    for row in h[1000:]:
        for bit in rng.choice(64, rng.integers(0, 12), replace=False): row[bit//8] ^= 1 << bit % 8
    d = np.unpackbits(h[:, None, :8] ^ h[None, :, :8], axis=2).sum(2)
    want = {tuple(p) for p in np.argwhere(np.triu(d <= 8, 1)).tolist()}
    assert {tuple(p) for p in near_pairs(h, np.zeros((1500, 192))).tolist()} == want and len(want) > 300
    crowd = np.zeros((50_000, 40), np.uint8)
    assert len(near_pairs(crowd, np.zeros((50_000, 192), np.uint8))) == 49_999


def spoil(drawer, n=6):
    for i in range(n): (drawer/'class_0'/f'{i:02}.jpg').write_bytes(b'bad %d' % i)


def test_more_than_a_fifth_asks(drawer):
    spoil(drawer, 11)
    before = snapshot(drawer)
    with pytest.raises(CableError, match='more than a fifth'): fix_folder(check_folder(drawer))
    assert snapshot(drawer) == before
    assert len(fix_folder(check_folder(drawer), yes=True)) == 11
    undo_fix(drawer)
    assert snapshot(drawer) == before


@pytest.mark.parametrize('k', range(6))
@pytest.mark.parametrize('after', [False, True], ids=['before the rename', 'after it'])
def test_interrupted_in_the_middle(drawer, monkeypatch, k, after):
    "Wherever a power cut falls, undo brings everything back"
    spoil(drawer)
    before, report, real, n = snapshot(drawer), check_folder(drawer), os.rename, [0]
    def cut_off(a, b):
        n[0] += 1
        if n[0] != k + 1 or after: real(a, b)
        if n[0] == k + 1: raise KeyboardInterrupt
    monkeypatch.setattr(os, 'rename', cut_off)
    with pytest.raises(KeyboardInterrupt): fix_folder(report)
    with open(drawer/'quarantine'/'journal.csv', 'a') as f: f.write('2026-01-01T00:00:00,"class_0/1') # a line half written
    n[0] = 0
    if k + after > 2: # the undo is cut off too
        monkeypatch.setattr(os, 'rename', lambda a, b: cut_off(a, b) if n[0] < 2 else 1/0)
        with pytest.raises((KeyboardInterrupt, ZeroDivisionError)): undo_fix(drawer)
    monkeypatch.undo()
    undo_fix(drawer)
    assert snapshot(drawer) == before


def test_fix_goes_on_after_an_interruption(drawer, monkeypatch):
    spoil(drawer)
    before, report = snapshot(drawer), check_folder(drawer)
    real = os.rename
    def rename(a, b):
        if str(a).endswith('03.jpg'): raise OSError(5, 'disk went away')
        real(a, b)
    monkeypatch.setattr(os, 'rename', rename)
    with pytest.raises(CableError, match="cannot move 'class_0/03.jpg' aside .disk went away.; 3 moved before it"): fix_folder(report)
    monkeypatch.undo()
    assert len(fix_folder(report)) == 3 # those that are still there
    assert len(read_journal(drawer/'quarantine'/'journal.csv')) == 7
    assert len(undo_fix(drawer)[0]) == 6 and snapshot(drawer) == before


def test_undo_overwrites_nothing(drawer):
    spoil(drawer, 2)
    fix_folder(check_folder(drawer))
    (drawer/'class_0'/'00.jpg').write_bytes(b'new')
    back, left = undo_fix(drawer)
    assert back == ['class_0/01.jpg'] and list(left) == ['class_0/00.jpg']
    assert (drawer/'class_0'/'00.jpg').read_bytes() == b'new' and (drawer/'quarantine'/'class_0'/'00.jpg').read_bytes() == b'bad 0'
    (drawer/'class_0'/'00.jpg').unlink()
    assert undo_fix(drawer) == (['class_0/00.jpg'], {}) and not (drawer/'quarantine').exists()


@pytest.mark.parametrize('path, moved_to', [('class_0/00.jpg', 'secret.txt'), ('../x', 'quarantine/class_0/00.jpg'), ('away/x.jpg', 'quarantine/class_0/00.jpg'),
                                            ('class_0/00.jpg', 'away/secret.txt'), ('class_0/../../x', 'quarantine/class_0/00.jpg'), ('', 'quarantine/class_0/00.jpg'),
                                            ('class_0/00.jpg', '..'), ('a\0b/x', 'quarantine/class_0/00.jpg')])
def test_undo_does_not_leave_the_folder(drawer, path, moved_to):
    "A journal may come from anywhere: what it names outside the folder, by .. or an absolute path or through a link, stays where it is"
    from cable_classifier.check import _write_journal
    outside = drawer.parent/'outside'
    outside.mkdir()
    (outside/'secret.txt').write_text('mine')
    (drawer/'away').symlink_to(outside)
    move_aside(drawer, [('class_0/00.jpg', 'empty', '')])
    row, = read_journal(drawer/'quarantine'/'journal.csv')
    _write_journal(drawer/'quarantine'/'journal.csv', [dict(row, path=path, moved_to=str(outside/moved_to) if moved_to == 'secret.txt' else moved_to)])
    before = {k: v for k, v in snapshot(drawer.parent).items() if not k.endswith('journal.csv')}
    if '\0' in path and not read_journal(drawer/'quarantine'/'journal.csv'): pytest.skip('this csv reader takes no NUL')
    assert undo_fix(drawer) == ([], {path: 'leads out of the folder'})
    assert {k: v for k, v in snapshot(drawer.parent).items() if not k.endswith('journal.csv')} == before
    assert len(read_journal(drawer/'quarantine'/'journal.csv')) == 1


def test_nothing_leaves_through_a_link_in_the_quarantine(drawer):
    "The quarantine a link, or a folder in it: refused before a line is written, nothing moved"
    outside = drawer.parent/'outside'
    outside.mkdir()
    spoil(drawer, 2)
    (drawer/'lost.jpg').symlink_to('nothing')
    before, report = snapshot(drawer), check_folder(drawer)
    (drawer/'quarantine').symlink_to(outside)
    with pytest.raises(CableError, match="quarantine' is a link"): fix_folder(report)
    (drawer/'quarantine').unlink()
    for to in (outside, drawer/'class_0', drawer.parent/'nowhere'):
        (drawer/'quarantine').mkdir()
        (drawer/'quarantine'/'class_0').symlink_to(to)
        with pytest.raises(CableError, match="'class_0/00.jpg' would leave .* through a link"): fix_folder(report)
        assert not read_journal(drawer/'quarantine'/'journal.csv')
        shutil.rmtree(drawer/'quarantine')
        assert snapshot(drawer) == before and not list(outside.iterdir())
    assert len(fix_folder(report)) == 3 and len(undo_fix(drawer)[0]) == 3 and snapshot(drawer) == before


@pytest.mark.parametrize('path, moved_to, kind', [
    ('.git/hooks/x', 'quarantine/payload', 'empty'), ('class_0/.x', 'quarantine/payload', 'empty'), ('class_0/swapped.jpg', 'class_1/00.jpg', 'empty'), ('class_0/swapped.jpg', 'class_1/00.jpg', 'kept'),
    ('class_0/swapped.jpg', 'class_1/00.jpg', 'relabelled'), ('quarantine/x/y.jpg', 'class_1/00.jpg', 'added'), ('class_0/x.py', 'class_1/00.jpg', 'relabelled'), ('x.jpg', 'class_1/00.jpg', 'relabelled'),
    ('quarantine/x', 'quarantine/payload', 'empty'), ('class_0/x', 'quarantine/journal.csv', 'empty'), ('class_0/x', 'quarantine/.lock', 'empty'), ('class_0/x.jpg', 'quarantine/a/p.jpg', 'relabelled'),
    ('quarantine/journal.csv', 'class_1/00.jpg', 'relabelled'), ('payload', 'quarantine', 'empty')])
@pytest.mark.parametrize('digest', ['', 'f'*64])
def test_a_journal_of_a_stranger_moves_nothing(drawer, path, moved_to, kind, digest):
    from cable_classifier.check import _write_journal
    (drawer/'quarantine'/'a').mkdir(parents=True)
    (drawer/'quarantine'/'payload').write_text('#!/bin/sh')
    (drawer/'quarantine'/'a'/'p.jpg').write_text('p')
    (drawer/'quarantine'/'.lock').touch()
    _write_journal(drawer/'quarantine'/'journal.csv', [dict(time='2026-01-01T00:00:00', path=path, moved_to=moved_to, kind=kind, why='', digest=digest, end='.')])
    def without_journal(): return {k: v for k, v in snapshot(drawer).items() if not k.endswith(('journal.csv', '.lock'))}
    before = without_journal()
    back, left = undo_fix(drawer)
    assert not back and list(left) == [path]*(kind != 'kept') and without_journal() == before


def test_undo_wants_the_file_that_was_moved(drawer):
    "One that was changed in quarantine stays there; a link to a photo, which has no bytes of its own, comes back"
    spoil(drawer, 2)
    (drawer/'class_1'/'link.jpg').symlink_to('00.jpg')
    (drawer/'class_1'/'large.jpg').write_bytes(b'x'*(photos.max_bytes+1))
    before = snapshot(drawer)
    assert len(move_aside(drawer, [(f, 'empty', '') for f in ('class_0/00.jpg', 'class_0/01.jpg', 'class_1/link.jpg', 'class_1/large.jpg')])) == 4
    (drawer/'quarantine'/'class_0'/'01.jpg').write_bytes(b'mended')
    back, left = undo_fix(drawer)
    assert len(back) == 3 and left == {'class_0/01.jpg': 'has been changed since; put it back by hand'}
    (drawer/'quarantine'/'class_0'/'01.jpg').write_bytes(b'bad 1')
    assert undo_fix(drawer) == (['class_0/01.jpg'], {})
    assert {k: v and v[0] for k, v in snapshot(drawer).items()} == {k: v and v[0] for k, v in before.items()}


def test_undo_tells_what_is_gone(cables, drawer):
    spoil(drawer, 2)
    fix_folder(check_folder(drawer))
    (drawer/'quarantine'/'class_0'/'00.jpg').unlink()
    for back in (['class_0/01.jpg'], []):
        assert undo_fix(drawer) == (back, {'class_0/00.jpg': 'is no longer in the quarantine'})
    r = cables('check', drawer, '--undo')
    assert r.returncode == 1 and 'no longer in the quarantine' in r.stderr
    (drawer/'class_0'/'00.jpg').write_bytes(b'bad 0') # put back by hand
    assert undo_fix(drawer) == ([], {}) and not (drawer/'quarantine').exists()


@pytest.mark.parametrize('text', ['day,what\n1,moved\n', 'garbage', '\0\xff\n', 'time,path,moved_to,kind,why,digest,end\nmy,notes\n', 'time,path,moved_to,kind,why,digest,end\n2026,my,notes\n2026-01-01T00:00:00,a,b,c,d,,.\n',
                                  'time,path,moved_to,kind,why,digest,end\n2026-01-01T00:00:00,a,b,c,d,,.,more\n2026', '"'+'x'*200_000])
def test_a_journal_that_is_not_ours_is_kept(drawer, text):
    spoil(drawer, 2)
    (drawer/'quarantine').mkdir()
    (drawer/'quarantine'/'journal.csv').write_text(text)
    for act in (lambda: fix_folder(check_folder(drawer)), lambda: undo_fix(drawer)):
        with pytest.raises(CableError, match="journal.csv' was not written by cables check; move it away"): act()
    assert (drawer/'quarantine'/'journal.csv').read_text() == text and (drawer/'class_0'/'00.jpg').exists()


def test_any_cut_of_our_own_journal_is_ours(drawer):
    "Wherever the last line ends, the lines before it are read"
    (drawer/'class_0'/'a\nb,"c".jpg').write_bytes(b'')
    move_aside(drawer, [('class_0/00.jpg', 'empty', 'is "empty", says\nthe check'), ('class_0/a\nb,"c".jpg', 'empty', 'is "empty",\r\nsays')])
    journal = drawer/'quarantine'/'journal.csv'
    data, rows = journal.read_bytes(), read_journal(journal)
    first = data.rindex(rows[1]['time'].encode())
    for n in range(first, len(data)):
        journal.write_bytes(data[:n])
        assert read_journal(journal) in (rows[:1], rows), data[:n]
    journal.write_bytes(data[:first] + b'\0'*50)
    if sys.version_info >= (3, 11): assert read_journal(journal) == rows[:1]
    journal.write_bytes(data)
    assert len(undo_fix(drawer)[0]) == 2


def test_undo_says_what_cannot_be_moved(drawer, monkeypatch):
    spoil(drawer, 2)
    before = snapshot(drawer)
    fix_folder(check_folder(drawer))
    real = os.rename
    def rename(a, b):
        if str(a).endswith('00.jpg'): raise OSError(5, 'disk went away')
        real(a, b)
    monkeypatch.setattr(os, 'rename', rename)
    assert undo_fix(drawer) == (['class_0/01.jpg'], {'class_0/00.jpg': 'cannot be moved (disk went away)'})
    monkeypatch.undo()
    assert undo_fix(drawer) == (['class_0/00.jpg'], {}) and snapshot(drawer) == before


def test_a_journal_that_cannot_be_read_locks_nobody_out(drawer, monkeypatch):
    "The lock goes back whatever goes wrong before the work begins"
    (drawer/'quarantine').mkdir()
    (drawer/'quarantine'/'journal.csv').mkdir()
    for _ in range(2):
        with pytest.raises(CableError, match='cannot read the journal'): move_aside(drawer, [('class_0/00.jpg', 'empty', '')])
    (drawer/'quarantine'/'journal.csv').rmdir()
    def stop(*a): raise KeyboardInterrupt
    kept = [] # a traceback that is kept would hold the lock's object, and with it the lock
    monkeypatch.setattr(module, '_write_journal', stop)
    try: move_aside(drawer, [('class_0/00.jpg', 'empty', '')])
    except KeyboardInterrupt as e: kept.append(e)
    monkeypatch.undo()
    assert move_aside(drawer, [('class_0/00.jpg', 'empty', '')]) == ['class_0/00.jpg'] and kept


def test_twice_the_same_name(drawer):
    "A second file of a name that is in quarantine already gets a number, and both come back"
    assert move_aside(drawer, [('class_0/00.jpg', 'empty', '')]) == ['class_0/00.jpg']
    (drawer/'class_0'/'00.jpg').write_bytes(b'second')
    move_aside(drawer, [('class_0/00.jpg', 'empty', '')])
    assert (drawer/'quarantine'/'class_0'/'00 (1).jpg').read_bytes() == b'second'
    assert undo_fix(drawer)[0] == ['class_0/00.jpg']


def test_names_that_are_not_text(drawer):
    "A name of bytes that are no UTF-8"
    name = os.fsdecode(b'class_0/\xff\xfe.jpg')
    try: (drawer/name).write_bytes(b'')
    except OSError: pytest.skip('this file system takes text only')
    report = check_folder(drawer)
    assert list(report.findings.path) == [name] and json.loads(report.to_json())
    assert fix_folder(report) == [name] and undo_fix(drawer)[0] == [name]
    (drawer/'class_0').rename(drawer/os.fsdecode(b'class_\xff'))
    assert list(check_folder(drawer).findings.path) == [os.fsdecode(b'class_\xff/\xff\xfe.jpg')]


def test_look_and_picture(drawer):
    "A `Look` holds no pixels; a report is shown as a figure"
    look = look_at('class_0/00.jpg', drawer)
    assert isinstance(look, Look) and len(look.phash) == 40 and len(look.thumb) == 192 and look.width == 160
    assert plot_report(check_folder(drawer)) is None
    (drawer/'class_0'/'x.jpg').write_bytes((drawer/'class_1'/'00.jpg').read_bytes())
    import matplotlib
    matplotlib.use('Agg')
    titles = [ax.get_title() for ax in plot_report(check_folder(drawer)).axes if ax.get_title()]
    assert titles == ['conflict\nclass_0/x.jpg', 'conflict\nclass_1/00.jpg'] or titles == ['conflict\nclass_1/00.jpg', 'conflict\nclass_0/x.jpg'] # not once more the other way round
    (drawer/'class_0'/'x.jpg').rename(drawer/'class_0'/'a_name_longer_than_24_letters.jpg')
    assert any(ax.get_title() == 'conflict\n…nger_than_24_letters.jpg' for ax in plot_report(check_folder(drawer)).axes)


def test_near_groups_join_what_is_tied(drawer):
    "Groups tied by a copy, or by their own name, become one; the rest stays as it is"
    import pandas as pd
    open_photo(drawer/'class_0'/'00.jpg').save(drawer/'class_0'/'small.jpg', quality=50)
    shutil.copy(drawer/'class_0'/'01.jpg', drawer/'class_0'/'same.jpg')
    fnames = sorted(p.relative_to(drawer).as_posix() for p in drawer.glob('class_0/*.jpg'))
    assert near_groups(drawer, fnames) == [['class_0/00.jpg', 'class_0/small.jpg'], ['class_0/01.jpg', 'class_0/same.jpg']]
    items = pd.DataFrame(dict(fname=fnames, label='class_0', group=fnames, split=''))
    items.loc[items.fname.isin(['class_0/small.jpg', 'class_0/02.jpg']), 'group'] = 'mine'
    joined = join_near(drawer, items).set_index('fname').group
    assert joined['class_0/00.jpg'] == joined['class_0/small.jpg'] == joined['class_0/02.jpg'] != joined['class_0/01.jpg'] == joined['class_0/same.jpg']
    assert joined.nunique() == len(fnames) - 3


def test_hash_is_imagehash(drawer):
    "The hash kept is imagehash's own phash"
    import imagehash
    im = open_photo(drawer/'class_0'/'00.jpg')
    bits = imagehash.phash(im.convert('L'), 16).hash
    assert look_at('class_0/00.jpg', drawer).phash[8:] == np.packbits(bits).tobytes()


def refused(r, *words):
    assert r.returncode == 2 and 'Traceback' not in r.stderr and r.stderr.startswith('cables: ') and r.stderr.count('\n') == 1, r.stderr
    for w in words: assert str(w) in r.stderr


def test_command_line(cables, drawer, tmp_path):
    "Exit codes, JSON, --fix, --undo and the bad inputs of a user"
    assert cables('check', drawer).returncode == 0
    spoil(drawer, 3)
    before = snapshot(drawer)
    r = cables('check', drawer, '--json')
    assert r.returncode == 1 and json.loads(r.stdout)['summary']['kinds'] == {'not_a_picture': 3} and snapshot(drawer) == before
    r = cables('check', drawer, '--fix', '--json')
    assert r.returncode == 0 and len(json.loads(r.stdout)['moved']) == 3
    r = cables('check', drawer, '--undo')
    assert r.returncode == 0 and 'put back 3' in r.stdout and snapshot(drawer) == before
    refused(cables('check', drawer, '--undo'), 'nothing to undo')
    refused(cables('check', drawer, '--undo', '--fix'), 'choose one')
    refused(cables('check', drawer.parent/'nothere', '--undo'), "no folder '", "nothere'")


def test_bad_input(cables, drawer, tmp_path):
    "No class folder, a file for a folder, a split without columns, a quarantine that cannot be written, too much to move: one sentence, nothing moved"
    (tmp_path/'none').mkdir()
    refused(cables('check', tmp_path/'none'), 'one folder per class')
    refused(cables('check', drawer/'class_0'/'00.jpg'), 'is a file')
    (tmp_path/'s.csv').write_text('a,b\n1,2\n')
    refused(cables('check', drawer, '--split', tmp_path/'s.csv', '--fix'), "'fname'")
    spoil(drawer, 3)
    (drawer/'quarantine').write_text('in the way')
    before = snapshot(drawer)
    r = cables('check', drawer, '--fix')
    refused(r, 'cannot write the quarantine')
    assert snapshot(drawer) == before
    (drawer/'quarantine').unlink()
    spoil(drawer, 12)
    refused(cables('check', drawer, '--fix'), '12 of 50', '--yes')
    assert not (drawer/'quarantine').exists()


def test_real_photos(real_photos):
    "What is wrong with the real photos, and nothing else: two classes are small. Seen by eye, every photo is whole, sharp enough and its own."
    s = check_folder(real_photos).summary
    assert s['kinds'] == {'few': 2} and s['errors'] == 0
