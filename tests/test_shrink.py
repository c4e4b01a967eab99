"A model folder in 8 bits: of the same format, nearly the same answers, whole or not at all."
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cable_classifier.deploy import export_model, load_model, preprocess
from cable_classifier.photos import get_photos, open_photo
from cable_classifier.shrink import compare_models, shrink_model
from cable_classifier.workspace import CableError
from conftest import some_photos


@pytest.fixture(scope='module')
def photos(embedded, tmp_path_factory): return get_photos(some_photos(embedded, tmp_path_factory.mktemp('photos')/'photos', 24))


@pytest.fixture(scope='module')
def model(photos, tmp_path_factory):
    "A model folder with a memory, whose head is fitted to its photos so that its answers are far apart"
    from fastai.vision.all import set_seed
    from cable_classifier.data import get_dls, get_items, split_items
    from cable_classifier.interpret import Memory, known_classes
    from cable_classifier.train import get_learner
    folder = tmp_path_factory.mktemp('model')
    root = photos[0].parents[1]
    set_seed(1, reproducible=True)
    learn = get_learner(get_dls(root, split_items(get_items(root, groups=r'^(.+)_\d+\.jpg$')), size=96, bs=16), path=folder)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(3, 3e-3)
    return export_model(learn, folder/'model', memory=Memory(known_classes(learn)), threshold=.5, temperature=1.2)


@pytest.fixture(scope='module')
def small(model, photos):
    out = model.parent/'small'
    return out, shrink_model(model, out, photos, most=.1)


def test_same_format(model, small):
    a, b = load_model(model), load_model(small[0])
    same = [k for k in a.about if k != 'digests']
    assert {k: a.about[k] for k in same} == {k: b.about[k] for k in same}
    assert (model/'model.safetensors').read_bytes() == (small[0]/'model.safetensors').read_bytes()
    assert {p.name for p in small[0].iterdir()} == {p.name for p in model.iterdir()}
    assert small[1]['bytes_after'] < small[1]['bytes_before']/2.5


def test_whole_numbers_really(small):
    import onnx
    g = onnx.load(small[0]/'model.onnx').graph
    convs = [n for n in g.node if n.op_type == 'Conv']
    int8 = {t.name for t in g.initializer if t.data_type == onnx.TensorProto.INT8}
    from_int8 = {n.output[0] for n in g.node if n.op_type == 'DequantizeLinear' and n.input[0] in int8}
    assert len(convs) == 20 and all(c.input[1] in from_int8 for c in convs)


def test_answers_stay_near(model, small, photos):
    a, b = load_model(model), load_model(small[0])
    xs = np.stack([preprocess(open_photo(p), a.size, a.mean, a.std, a.fit) for p in photos])
    (pa, fa), (pb, fb) = a.answers(xs), b.answers(xs)
    assert np.abs(pa-pb).mean() < .05 and np.abs(fa-fb).max() < .1
    assert np.ptp(pa[:,0]) > .3     # answers that say something, or the line above would prove nothing
    alone = np.concatenate([b.probs(x[None]) for x in xs[:4]])
    assert np.abs(alone-pb[:4]).max() < 1e-3, 'a photo gets one answer, alone or in a batch'


def test_compare_counts_by_hand(photos):
    "Two models that say known things of five photos"
    class Says:
        vocab = ['lightning', 'micro_usb']
        def __init__(self, *ps): self.ps = ps
        def predict(self, paths):
            rows = [dict(path=str(q), label=None if p is None else self.vocab[p < .5], probs=None if p is None else dict(lightning=p, micro_usb=1-p), error='no' if p is None else None) for q, p in zip(paths, self.ps)]
            return rows
    paths = [Path(c)/'a.jpg' for c in ('lightning', 'lightning', 'micro_usb', 'elsewhere', 'lightning')]
    res = compare_models(Says(.9, .6, .6, .6, None), Says(.8, .4, .4, .4, .9), paths)
    assert res == dict(n=4, changed=3, gap=pytest.approx(.2), labelled=3, wrong_before=1, wrong_after=1)
    assert compare_models(Says(), Says(), [])['n'] == 0


def test_photos_without_labels(model, photos, tmp_path):
    "Then a changed name counts as a cost"
    (tmp_path/'mine').mkdir()
    for i, p in enumerate(photos): shutil.copy(p, tmp_path/'mine'/f'{i}.jpg')
    res = shrink_model(model, tmp_path/'small', get_photos(tmp_path/'mine'), most=1.)
    assert res['labelled'] == 0 and res['n'] > 30


def test_a_photo_that_does_not_open_is_left_out(model, photos, tmp_path):
    (tmp_path/'bad.jpg').write_bytes(b'no photo')
    steps = []
    def progress(paths, n, word): steps.append((word, n)); return iter(paths)
    res = shrink_model(model, tmp_path/'small', [tmp_path/'bad.jpg', *photos], most=.1, progress=progress)
    assert [w for w, _ in steps] == ['opening', 'ranges', 'comparing', 'in 8 bits'] and steps[0][1] == len(photos)+1 and steps[1][1] + steps[2][1] == len(photos)
    assert res['n'] < len(photos) and list(res['left_out']) == [tmp_path/'bad.jpg']
    with pytest.raises(CableError, match='in 8 bits already'): shrink_model(tmp_path/'small', tmp_path/'smaller', photos)


@pytest.mark.parametrize('case,word', [('there', 'is there already'), ('few', 'too few'), ('costs', 'nothing was written'), ('no model', 'no model in'), ('spoilt', 'not the file that')])
def test_refusals_leave_nothing(model, photos, tmp_path, case, word):
    paths, most, folder = photos, .1, model
    if case == 'there': (tmp_path/'small').mkdir()
    if case == 'few': paths = photos[:39]
    if case == 'costs': most = -1.
    if case == 'no model': folder = tmp_path/'nowhere'
    if case == 'spoilt':
        folder = shutil.copytree(model, tmp_path/'spoilt')
        (folder/'model.onnx').write_bytes((folder/'model.onnx').read_bytes()[:-1])
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(CableError, match=word): shrink_model(folder, tmp_path/'small', paths, most=most)
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert case != 'there' or not list((tmp_path/'small').iterdir())


def test_a_changed_byte_is_noticed(small, tmp_path):
    folder = shutil.copytree(small[0], tmp_path/'changed')
    data = bytearray((folder/'model.onnx').read_bytes())
    data[len(data)//2] ^= 1
    (folder/'model.onnx').write_bytes(data)
    with pytest.raises(CableError, match='is not the file that model.json describes'): load_model(folder)


def test_nobody_is_silenced_for_good(small, caplog):
    logging.getLogger('after').error('still heard')
    assert 'still heard' in caplog.text


def test_command(cables, model, photos, tmp_path):
    r = cables('shrink', model, tmp_path/'small', '--photos', photos[0].parents[1], '--most', .1)
    assert r.returncode == 0, r.stderr
    assert 'MB instead of' in r.stdout and 'are wrong instead of' in r.stdout and load_model(tmp_path/'small')
    r = cables('shrink', tmp_path/'nowhere', tmp_path/'b')
    assert (r.returncode, r.stderr.count('\n')) == (2, 1) and 'no model in' in r.stderr
    r = cables('shrink', model, tmp_path/'b', '--photos', tmp_path/'nowhere')
    assert (r.returncode, r.stderr.count('\n')) == (2, 1) and 'no folder' in r.stderr


def test_command_wants_photos_for_other_classes(cables, tmp_path):
    from fastai.vision.all import ImageDataLoaders, Normalize, Resize, imagenet_stats, resnet18, vision_learner
    for c in ('ash', 'oak'):
        (tmp_path/'leaves'/c).mkdir(parents=True)
        for i in range(4): Image.effect_noise((40, 40), 50+i).convert('RGB').save(tmp_path/'leaves'/c/f'{i}.jpg')
    dls = ImageDataLoaders.from_folder(tmp_path/'leaves', valid_pct=.5, seed=1, item_tfms=Resize(32), bs=2, num_workers=0, batch_tfms=Normalize.from_stats(*imagenet_stats))
    model = export_model(vision_learner(dls, resnet18, pretrained=False), tmp_path/'model')
    r = cables('shrink', model, tmp_path/'small')
    assert (r.returncode, r.stderr.count('\n')) == (2, 1) and 'ash, oak' in r.stderr and '--photos' in r.stderr
