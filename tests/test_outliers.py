"Photos of what it is not: those that ship, those of a folder, and the plane between them and ours."
import csv
import zipfile

import pytest
import torch
from fastai.vision.all import Callback, Normalize, set_seed

from cable_classifier.data import embedded_zip, get_data, get_dls, get_items, split_items
from cable_classifier.interpret import Memory, get_features
from cable_classifier.invented import _is_a_target, _like_a_target, invent, invented_kinds, outlier_kinds
from cable_classifier.outliers import Exposed, Taught, as_trained, get_outliers, get_unmet, outliers_zip, teach, unmet_kinds
from cable_classifier.photos import get_photos
from cable_classifier.plugs import other_kinds, target_kinds
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


@pytest.fixture(scope='module')
def learn(few):
    set_seed(1, reproducible=True)
    return get_learner(get_dls(*few, size=32, bs=8))


def test_near_misses():
    "Half of the kinds for outliers are about as flat as a class, none is as flat, and the starter weights met none"
    drawn = [invent(int(k[1:]), near=int(k[1:]) % 2 == 0) for k in outlier_kinds]
    assert [_like_a_target(s) for s in drawn] == [True, False]*100
    assert not any(_is_a_target(s) for s in drawn) and not set(outlier_kinds) & set(invented_kinds)


def test_shown_as_in_training(learn, others):
    "All of them, in their order, another way each time, normalised once, without labels; the learner's own batches stay as they were"
    dl = as_trained(learn, others[:11])
    one, two = ([b[0] for b in dl] for _ in range(2))
    assert [len(x) for x in one] == [8, 3] and all(len(b) == 1 for b in dl) and one[0].shape[1:] == (3, 32, 32)
    assert not torch.equal(one[0], two[0]) and not dl.shuffle and list(dl.dataset.items) == others[:11]
    assert sum(isinstance(t, Normalize) for t in dl.after_batch.fs) == 1
    assert len(learn.dls.train.dataset) == 48 and len(learn.dls.one_batch()) == 2


@pytest.mark.parametrize('n, m', [(40, 40), (200, 10), (3, 60)])
def test_a_plane_parts_what_can_be_parted(n, m):
    r = torch.Generator().manual_seed(0)
    def at(k, x): return torch.nn.functional.normalize(torch.randn(k, 6, generator=r) + x), torch.randn(k, 3, generator=r) + x
    taught = teach(at(n, 3), at(m, -3))
    ours, others = taught(*at(50, 3)), taught(*at(50, -3))
    assert isinstance(taught, Taught) and taught.weight.shape == (6+3+2,) and ours.dtype == torch.float32
    assert ours.min() > others.max() and 0 <= others.min() and ours.max() <= 1


def test_scale_and_shift_of_one_number_do_not_matter():
    "Each number counts by how it scatters, not by its unit"
    r = torch.Generator().manual_seed(0)
    f, g, l = (torch.randn(60, k, generator=r) for k in (4, 4, 3))
    x = torch.randn(9, 4, generator=r)
    a, b = teach((f+1, l), (g, l)), teach(((f+1)*100-7, l), (g*100-7, l))
    assert torch.allclose(a(x, l[:9]), b(x*100-7, l[:9]), atol=1e-3)


def test_as_a_layer_it_says_the_same(learn, others):
    feats, logits = get_features(learn)
    taught = teach((feats, logits), get_features(learn, learn.dls.test_dl(others)))
    maps = torch.randn(5, 512, 2, 2)
    layer = Memory(taught)
    assert torch.equal(layer(maps, logits[:5]), taught(torch.nn.functional.normalize(maps.flatten(2).mean(2)), logits[:5]))
    assert set(layer.state_dict()) == {'weight', 'bias'}


def test_those_that_ship():
    "No class of the course, no cable of the test, and what is never shown is of kinds of its own"
    met, unmet = get_outliers(), get_unmet()
    kinds = [{f.parent.name for f in fs} for fs in (met, unmet)]
    assert kinds[0] == {*other_kinds, *outlier_kinds} - set(unmet_kinds) and kinds[1] == set(unmet_kinds)
    assert not set(target_kinds) & (kinds[0] | kinds[1])
    manifest = [list(csv.DictReader(zipfile.ZipFile(z).read('manifest.csv').decode().splitlines())) for z in (outliers_zip(), embedded_zip())]
    numbers = [{r['seed'] for r in rows} for rows in manifest]
    assert not numbers[0] & numbers[1] and len(manifest[0]) == len(met) + len(unmet)
    assert not {f.read_bytes() for f in met + unmet} & {f.read_bytes() for f in get_photos(get_data()/'other')}
    assert outliers_zip().stat().st_size < 25e6


def test_a_folder_of_them(tmp_path, others):
    (tmp_path/'in').mkdir()
    (tmp_path/'in'/'a.jpg').write_bytes(others[0].read_bytes())
    (tmp_path/'broken.jpg').write_bytes(b'no photo')
    said = []
    assert get_outliers(tmp_path, said.append) == [tmp_path/'in'/'a.jpg'] and len(said) == 1 and 'broken.jpg' in said[0]
    (tmp_path/'in'/'a.jpg').unlink()
    with pytest.raises(CableError, match='could show what the classes are not'): get_outliers(tmp_path)
    for f in ('nowhere', 'broken.jpg'):
        with pytest.raises(CableError, match=f"no folder .*{f}'"): get_outliers(tmp_path/f)


def test_a_run_with_them(few, others, tmp_path, monkeypatch):
    "They teach what is none of these and, exposed, change stage-2, nothing else; they are in the command that made the model, without a path"
    import cable_classifier.run as run
    looks = []
    monkeypatch.setattr(run, 'as_trained', lambda learn, fs: looks.append(len(fs)) or as_trained(learn, fs))
    path, items = few
    photos, drawer = tmp_path/'photos', tmp_path/'drawer'
    for f in items.fname:
        (photos/f).parent.mkdir(parents=True, exist_ok=True)
        (photos/f).write_bytes((path/f).read_bytes())
    drawer.mkdir()
    for i, f in enumerate(others[::20]): (drawer/f'{i}.jpg').write_bytes(f.read_bytes())
    how = dict(epochs=1, finetune_epochs=1, size=64, groups=r'^(.+)_\d+\.jpg$', device='cpu', say=lambda s: None)
    asked = dict(plain={}, shown=dict(outliers=drawer, expose=False), ship=dict(outliers='embedded', expose=False), exposed=dict(outliers=drawer))
    plain, shown, ship, exposed = runs = [run_course(photos, tmp_path/name, **words, **how) for name, words in asked.items()]
    assert [(m['n_outliers'], m['exposed']) for m in runs] == [(0, False), (6, False), (len(get_outliers()), False), (6, True)]
    n, shipped = shown['n_train'], len(get_outliers())
    assert looks == [n, 6, n, shipped, 2*n, 2*6] # the plane of an exposed run rests on two looks at each photo
    def head(name, stage): return torch.load(tmp_path/name/'stages'/f'{stage}.pth', weights_only=False)['model']['1.8.weight']
    for stage, same in (('stage-1', True), ('stage-2', False)):
        assert torch.equal(head('plain', stage), head('shown', stage)) and torch.equal(head('plain', stage), head('ship', stage))
        assert torch.equal(head('plain', stage), head('exposed', stage)) == same
    assert len({m['test']['threshold'] for m in runs}) == 4 and len({m['test']['temperature'] for m in (plain, shown, ship)}) == 1
    assert '--outliers drawer --no-expose' in shown['command'] and '--outliers drawer' in exposed['command'] and 'expose' not in exposed['command'] + plain['command'] and 'stage-2, too' in (tmp_path/'exposed'/'model_card.md').read_text()
    with pytest.raises(CableError, match='there are none; add --outliers'): run_course(photos, tmp_path/'none', expose=True, **how)
    assert '--outliers drawer' in shown['command'] and '--outliers embedded' in ship['command'] and '--outliers' not in plain['command']
    assert str(tmp_path) not in shown['command'] and '6 photos of other things' in (tmp_path/'shown'/'model_card.md').read_text()
    with pytest.raises(CableError, match='no folder'): run_course(photos, tmp_path/'none', outliers=tmp_path/'nowhere', **how)
    with pytest.raises(CableError, match='among --outliers, too'): run_course(photos, tmp_path/'none', outliers=photos/'usb_c', **how)
    assert not (tmp_path/'none').exists()


def test_none_at_all(few, tmp_path, monkeypatch):
    "`none` leaves the embedded ones out, also with the embedded photos"
    import cable_classifier.run as run
    asked = []
    monkeypatch.setattr(run, 'get_outliers', lambda *a: asked.append(a) or [])
    def stop(*a, **kw): raise CableError('far enough')
    monkeypatch.setattr(run, 'get_learner', stop)
    for o in (None, 'none', 'embedded'):
        with pytest.raises(CableError, match='far enough'): run_course(None, tmp_path/'out', outliers=o, say=lambda s: None)
    assert [a[0] for a in asked] == ['embedded', 'embedded']


def exposed_fit(few, path, files, n, *cbs, epochs=2, bs=8):
    set_seed(3, reproducible=True)
    learn = get_learner(get_dls(*few, size=32, bs=bs), path=path)
    learn.unfreeze()
    beside = Exposed(files, n=n)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, 1e-3, cbs=[beside, *cbs])
    return learn, beside


class Seen(Callback):
    "How many photos went through the model, of what type, how many answers and labels were left, and what was lost"
    order = 30
    def before_fit(self): self.sizes,self.types = [],set()
    def after_loss(self):
        self.types.add(type(self.xb[0]))
        if self.training: self.sizes.append((len(self.xb[0]), len(self.pred), len(self.yb[0]), float((self.loss_func(self.pred, *self.yb) - self.loss).detach())))


@pytest.mark.parametrize('n, come', [(3, 3), (50, 11)])
def test_others_beside_each_batch(few, others, tmp_path, n, come):
    "They go through the model and leave no answer and no loss behind; validation does without; the plane is gone from the optimiser and has learnt"
    seen = Seen()
    learn, beside = exposed_fit(few, tmp_path, others[:11], n, seen, epochs=1)
    assert seen.sizes == [(8+come, 8, 8, 0.)]*6 and seen.types == {torch.Tensor} # with images of fastai's the process held a sixth more memory
    assert len(learn.opt.param_lists[-1]) == len(get_learner(learn.dls).opt.param_lists[-1]) and not learn.model[0]._forward_hooks
    assert all(p.abs().max() > 0 for p in beside.plane.parameters())
    assert len(learn.get_preds()[0]) == len(learn.dls.valid_ds)


def test_the_body_learns_to_part_them(few, others, tmp_path):
    "What the plane gets wrong reaches the body, which ends elsewhere; with weight 0 it ends as without"
    def body(weight):
        set_seed(3, reproducible=True)
        learn = get_learner(get_dls(*few, size=32, bs=8), path=tmp_path)
        learn.unfreeze()
        for m in learn.model.modules():
            if isinstance(m, torch.nn.BatchNorm2d): m.momentum = 0. # other photos beside a batch change its statistics in any case
        with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(1, 1e-3, cbs=Exposed(others[:24], n=4, weight=weight))
        return learn.model[0][0].weight.detach()
    assert not torch.allclose(body(0.), body(2.), atol=1e-5) and torch.equal(body(0.), body(0.))


@pytest.mark.parametrize('cut', [1, 2])
def test_goes_on_where_it_stopped(few, others, tmp_path, cut):
    "With a checkpoint, a fit that was broken off ends in the same weights, those of the plane too"
    class Cut(Callback):
        order = 95
        def after_epoch(self):
            if self.epoch == cut-1: raise KeyboardInterrupt
    whole, plane = exposed_fit(few, tmp_path, others[:30], 4, epochs=3)
    keep = lambda: Checkpoint(tmp_path/'keep.safetensors')
    with pytest.raises(KeyboardInterrupt): exposed_fit(few, tmp_path, others[:30], 4, keep(), Cut(), epochs=3)
    again, plane2 = exposed_fit(few, tmp_path, others[:30], 4, keep(), epochs=3)
    for a, b in zip(whole.model.state_dict().values(), again.model.state_dict().values()): assert torch.equal(a, b)
    for a, b in zip(plane.plane.parameters(), plane2.plane.parameters()): assert torch.equal(a, b)
    with pytest.raises(CableError, match='is not what this run would have written'): # another optimiser: that of a fit without a plane
        set_seed(3, reproducible=True)
        alone = get_learner(get_dls(*few, size=32, bs=8), path=tmp_path)
        alone.unfreeze()
        with alone.no_bar(), alone.no_logging(): alone.fit_one_cycle(3, 1e-3, cbs=keep())
