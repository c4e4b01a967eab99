"Photos of what it is not, shown without touching what is recorded."
import random

import pytest
import torch
from fastai.vision.all import Callback, CancelFitException, set_seed

from cable_classifier.data import get_data, get_dls, get_items, split_items
from cable_classifier.invented import _is_a_target, _like_a_target, invent, invented_kinds, outlier_kinds
from cable_classifier.outliers import Outliers, get_outliers
from cable_classifier.photos import get_photos
from cable_classifier.resume import Checkpoint
from cable_classifier.run import run_course
from cable_classifier.train import get_learner
from cable_classifier.workspace import CableError


@pytest.fixture(scope='module')
def few():
    path = get_data()
    items = split_items(get_items(path/'plugs', groups=path/'manifest.csv'), seed=42)
    return path/'plugs', items.groupby(['label', 'split'], group_keys=False).head(16)


@pytest.fixture(scope='module')
def others(): return get_photos(get_data()/'other')


def a_learner(few, seed=1):
    set_seed(seed, reproducible=True)
    learn = get_learner(get_dls(*few, size=32, bs=8))
    learn.unfreeze()
    return learn


def fit(learn, *cbs, epochs=2):
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, 1e-3, cbs=list(cbs))
    return learn


def test_near_misses():
    "Half of the kinds for outliers are about as flat as a class, none is as flat, and the starter weights met none"
    drawn = [invent(int(k[1:]), near=int(k[1:]) % 2 == 0) for k in outlier_kinds]
    assert [_like_a_target(s) for s in drawn] == [True, False]*100
    assert not any(_is_a_target(s) for s in drawn) and not set(outlier_kinds) & set(invented_kinds)


@pytest.mark.parametrize('n, share, beside', [(120, .5, 4), (120, .01, 1), (3, .5, 3), (120, 2., 16)])
def test_beside_each_batch(few, others, n, share, beside):
    seen = []

    class Look(Callback):
        order = 90
        def after_loss(self): seen.append((self.training, len(self.xb[0]), len(self.pred), len(self.yb[0]), float(self.loss), float(self.loss_grad)))
    fit(a_learner(few), Outliers(others[:n], share=share), Look(), epochs=1)
    train, valid = ([s for s in seen if s[0] is t] for t in (True, False))
    assert all(x == 8+beside and p == y == 8 and g > l for _, x, p, y, l, g in train) and len(train) == 6
    assert all(x == p == y and g == l for _, x, p, y, l, g in valid) and valid


def test_learner_is_left_as_it_was(few, others):
    "Validation and a later fit know nothing of it"
    learn = a_learner(few)
    cbs = {type(cb) for cb in learn.cbs}
    fit(learn, Outliers(others), epochs=1)
    assert {type(cb) for cb in learn.cbs} == cbs and len(learn.dls.train.dataset) == 48
    assert len(learn.get_preds()[0]) == len(learn.dls.valid_ds)


def test_broken_off_and_gone_on(few, others, tmp_path):
    "The outliers of an epoch depend on its number alone"
    class Stop(Callback):
        order = 95
        def after_epoch(self):
            if self.epoch == 0: raise CancelFitException
    whole = fit(a_learner(few), Outliers(others), Checkpoint(tmp_path/'whole.safetensors'), epochs=3)
    fit(a_learner(few), Outliers(others), Checkpoint(tmp_path/'half.safetensors'), Stop(), epochs=3)
    random.seed(99)
    torch.manual_seed(99)
    again = fit(a_learner(few, seed=2), Outliers(others), Checkpoint(tmp_path/'half.safetensors'), epochs=3)
    a, b = whole.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_folder_of_them(tmp_path, others):
    (tmp_path/'in').mkdir()
    (tmp_path/'in'/'a.jpg').write_bytes(others[0].read_bytes())
    (tmp_path/'broken.jpg').write_bytes(b'no photo')
    said = []
    assert get_outliers(tmp_path, said.append) == [tmp_path/'in'/'a.jpg'] and len(said) == 1 and 'broken.jpg' in said[0]
    (tmp_path/'in'/'a.jpg').unlink()
    with pytest.raises(CableError, match='could show what the classes are not'): get_outliers(tmp_path)
    with pytest.raises(CableError, match='no folder'): get_outliers(tmp_path/'nowhere')


def test_a_run_with_them(few, others, tmp_path, monkeypatch):
    "They are shown in stage-2, are part of what makes a run the same, and of the command that made it"
    path, items = few
    photos, drawer = tmp_path/'photos', tmp_path/'drawer'
    for f in items.fname:
        (photos/f).parent.mkdir(parents=True, exist_ok=True)
        (photos/f).write_bytes((path/f).read_bytes())
    drawer.mkdir()
    for i, f in enumerate(others[::20]): (drawer/f'{i}.jpg').write_bytes(f.read_bytes())
    how = dict(epochs=1, finetune_epochs=1, size=64, groups=r'^(.+)_\d+\.jpg$', device='cpu', say=lambda s: None)
    epochs, before = [], Outliers.before_train
    monkeypatch.setattr(Outliers, 'before_train', lambda self: (epochs.append((self.opt.frozen_idx, len(self.files))), before(self)))
    plain = run_course(photos, tmp_path/'plain', **how)
    assert not epochs
    shown = run_course(photos, tmp_path/'shown', outliers=drawer, **how)
    assert epochs == [(0, 6)] and plain['stages'][0]['n_wrong'] == shown['stages'][0]['n_wrong']
    assert '--outliers drawer' in shown['command'] and '--outliers' not in plain['command'] and str(tmp_path) not in shown['command']
    with pytest.raises(CableError, match='no folder'): run_course(photos, tmp_path/'none', outliers=tmp_path/'nowhere', **how)
    assert not (tmp_path/'none').exists()
