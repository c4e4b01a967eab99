"Whatever is given to `predict_photos`: one record each, in order, never an exception. Tried on inputs that hypothesis makes up."
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('hypothesis', reason="no hypothesis; pip install -e '.[dev]'")
from hypothesis import HealthCheck, example, given, settings, strategies as st

from cable_classifier.deploy import Model, fits, preprocess, predict_photos, softmax

often = settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
vocab = ['lightning', 'micro_usb', 'usb_c']


class Means:
    "A session whose logits are the three mean colours of a photo"
    def run(self, _, feed): return [feed['photos'].mean((2, 3))*5]


def model(threshold=0.5, size=16): return Model(Path('m'), dict(arch='x', vocab=vocab, size=size, fit='crop', mean=[.5]*3, std=[.25]*3, temperature=1.3, threshold=threshold), Means())


@pytest.fixture(scope='module')
def folder(tmp_path_factory): return tmp_path_factory.mktemp('predict')


def is_record(r, path, threshold):
    "What every record keeps, error or not"
    assert list(r) == ['path', 'label', 'confidence', 'probs', 'none_of_these', 'error'] and r['path'] == str(path)
    assert json.loads(json.dumps(r)) == r
    if r['error'] is not None:
        assert r['error'] and ('\n' in str(path) or '\n' not in r['error']) and all(r[k] is None for k in ('label', 'confidence', 'probs', 'none_of_these'))
        return False
    ps = list(r['probs'].values())
    assert list(r['probs']) == vocab and abs(sum(ps) - 1) < 1e-9 and all(0 <= p <= 1 for p in ps)
    assert r['confidence'] == max(ps) and r['probs'][r['label']] == max(ps)
    assert r['none_of_these'] is (None if threshold is None else max(ps) < threshold)
    return True


formats = {'JPEG': ['L', 'RGB', 'CMYK'], 'PNG': ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16'], 'WEBP': ['RGB', 'RGBA'], 'GIF': ['L', 'P'], 'BMP': ['1', 'L', 'RGB'], 'TIFF': ['1', 'L', 'RGB', 'RGBA', 'CMYK', 'I;16', 'F']}


@st.composite
def pictures(draw):
    "Bytes of a picture of any format, mode, shape and orientation"
    fmt = draw(st.sampled_from(sorted(formats)))
    mode, w, h = draw(st.sampled_from(formats[fmt])), draw(st.integers(1, 70)), draw(st.integers(1, 70))
    rng = np.random.default_rng(draw(st.integers(0, 2**32-1)))
    if mode in ('I;16', 'F'): im = Image.fromarray((rng.random((h, w))*65535).astype(np.uint16 if mode == 'I;16' else np.float32))
    else: im = Image.fromarray(rng.integers(0, 256, (h, w, 4), dtype=np.uint8)).convert(mode)
    exif, buf = Image.Exif(), io.BytesIO()
    exif[0x0112] = draw(st.integers(0, 9))
    im.save(buf, fmt, **(dict(exif=exif) if fmt in ('JPEG', 'PNG', 'WEBP', 'TIFF') else {}))
    return buf.getvalue()


suffixes = st.sampled_from(['.jpg', '.png', '.heic', '.txt', '', '.JPG'])


@often
@given(data=pictures(), suffix=suffixes, threshold=st.none() | st.floats(0, 1))
def test_any_picture_is_answered(folder, data, suffix, threshold):
    "Of any format, under any suffix"
    f = folder/f'picture{suffix}'
    f.write_bytes(data)
    assert is_record(model(threshold).predict([f])[0], f, threshold)


@often
@given(data=st.binary(max_size=300) | st.builds(lambda head, rest: head + rest, st.sampled_from([b'\xff\xd8\xff\xe0', b'\x89PNG\r\n\x1a\n', b'RIFF\x10\0\0\0WEBPVP8 ', b'GIF89a', b'BM', b'II*\0', b'MM\0*', b'\0\0\0\x18ftypheic', b'\0\0\0\x18ftypavif']), st.binary(max_size=300)), suffix=suffixes)
@example(data=b'', suffix='.jpg')
def test_any_bytes_get_a_record(folder, data, suffix):
    "Noise, with and without the first bytes of a picture"
    f = folder/f'bytes{suffix}'
    f.write_bytes(data)
    is_record(model().predict([f])[0], f, 0.5)


@often
@given(data=pictures(), spoil=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=8), keep=st.floats(0, 1))
def test_damaged_pictures_get_a_record(folder, data, spoil, keep):
    "Bytes changed, the end cut off"
    data = bytearray(data)
    for where, by in spoil: data[int(where*(len(data)-1))] ^= by
    f = folder/'damaged'
    f.write_bytes(data[:max(1, int(keep*len(data)))])
    is_record(model().predict([f])[0], f, 0.5)


@often
@given(path=st.text(max_size=60) | st.text('./\\~\0 *?$`\n\u202e', max_size=20) | st.integers() | st.none() | st.binary(max_size=20) | st.floats())
@example(path='/')
@example(path='\ud800')
@example(path='a'*5000)
def test_any_path_gets_a_record(path):
    "Paths that are none: an error, whatever they are"
    assert not is_record(model().predict([path])[0], path, 0.5)


@often
@given(kinds=st.lists(st.sampled_from(['good', 'other', 'bad', 'gone']), max_size=25), bs=st.integers(1, 40))
def test_order_and_company_do_not_matter(folder, kinds, bs):
    "A record for each, in order; a photo's answer is the same alone, in any batch, beside any bad file"
    files = {k: folder/f'{k}.png' for k in ('good', 'other', 'bad', 'gone')}
    Image.new('RGB', (40, 30), (200, 100, 50)).save(files['good'])
    Image.new('RGB', (30, 40), (20, 100, 250)).save(files['other'])
    files['bad'].write_bytes(b'no photo')
    m = model()
    alone = {k: m.predict([f])[0] for k, f in files.items()}
    assert list(predict_photos(m, (files[k] for k in kinds), bs)) == [alone[k] for k in kinds]


@often
@given(z=st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=1, max_size=5), t=st.floats(1e-3, 1e3))
def test_softmax(z, t):
    "Probabilities for any logits and any temperature; the favourite stays"
    p = softmax(np.array(z), t)
    assert np.isfinite(p).all() and (p >= 0).all() and np.allclose(p.sum(1), 1)
    for row, q in zip(z, p): assert q[int(np.argmax(row))] == q.max()


@often
@given(w=st.integers(1, 3000), h=st.integers(1, 3000), size=st.integers(8, 300), fit=st.sampled_from(sorted(fits)))
def test_any_shape_becomes_the_square(w, h, size, fit):
    "Of the size asked for, cut or padded, whatever the shape; padding adds no colour of its own"
    if w*h > 1_000_000: w = max(1, 1_000_000//h)
    im = Image.new('RGB', (w, h), 'white')
    assert fits[fit](im, size).size == (size, size)
    x = preprocess(im, size, [0.]*3, [1.]*3, fit)
    assert x.shape == (3, size, size) and x.dtype == np.float32 and x.min() == 1.
