"Other ways to the same sums: gradients, batches and pictures are what fastai and torch make of them."
import random
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from fastai.vision.all import (CategoryBlock, DataBlock, DataLoaders, IndexSplitter, Learner, PadMode, PILImage, Resize, ResizeMethod, SGD,
                               TensorImage, TransformBlock, nn, np, params, set_seed)

from cable_classifier.speed import Compiled, FrozenBody, GiveBack, ResidentDL, ResizeOnce, SmallMaps, _Conv, hold_memory


def toy(model, n=8, size=16, **kwargs):
    set_seed(0, reproducible=True)
    data = [(torch.randn(3, size, size), torch.tensor(i%2)) for i in range(n)]
    dls = DataLoaders.from_dsets(data, data, bs=4, device='cpu', num_workers=0)
    return Learner(dls, model, loss_func=nn.CrossEntropyLoss(), **kwargs)


def net(**kwargs):
    set_seed(1)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Conv2d(8, 8, **dict(dict(kernel_size=3, stride=2, padding=1, bias=False), **kwargs)), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(8, 2))


@pytest.mark.parametrize('stride,padding,kernel', [((1,1), (1,1), (3,3)), ((2,2), (1,1), (3,3)), ((2,1), (0,2), (3,5)), ((2,2), (3,3), (7,7)), ((3,2), (1,0), (2,3))])
@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_gradients_are_those_of_torch(stride, padding, kernel, dtype):
    x = torch.randn(3, 4, 11, 8, dtype=dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    w = torch.randn(5, 4, *kernel, dtype=dtype).requires_grad_()
    y, z = _Conv.apply(x, w, stride, padding), torch.nn.functional.conv2d(x, w, None, stride, padding)
    g = torch.randn_like(z)
    assert torch.equal(y, z)
    for a, b in zip(torch.autograd.grad(y, (x, w), g), torch.autograd.grad(z, (x, w), g)):
        assert a.shape == b.shape and a.dtype == b.dtype
        torch.testing.assert_close(a, b, **(dict(rtol=.05, atol=.3) if dtype == torch.bfloat16 else {}))


def test_an_input_that_asks_for_no_gradient_gets_none():
    w = torch.randn(5, 4, 3, 3).requires_grad_()
    _Conv.apply(torch.randn(2, 4, 6, 6), w, (1,1), (1,1)).sum().backward()
    assert w.grad.shape == w.shape


@pytest.mark.parametrize('mixed', [False, True])
def test_a_fit_goes_as_it_would_have_gone(mixed):
    def weights(*cbs):
        learn = toy(net(), opt_func=SGD) # Adam would make steps of one size of gradients that are nearly none
        with learn.no_bar(), learn.no_logging(), torch.autocast('cpu', torch.bfloat16, enabled=mixed): learn.fit(2, 1e-2, cbs=list(cbs))
        return learn.model.state_dict()
    small = SmallMaps(most=1000)
    for a, b in zip(weights().values(), weights(small).values()): torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 if mixed else 1e-6)
    assert len(small.convs) == 2 and not any('forward' in vars(m) for m in small.convs)


@pytest.mark.parametrize('kwargs', [dict(groups=2), dict(dilation=2), dict(bias=True), dict(padding_mode='reflect'), dict(padding='same', stride=1), dict(kernel_size=1)])
def test_other_convolutions_are_left_alone(kwargs):
    learn, small = toy(net(**kwargs)), SmallMaps(most=1000)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-2, cbs=small)
    assert len(small.convs) == 1


def test_a_fit_that_broke_off_leaves_a_model_that_predicts():
    "After an interruption the detour is still there, and predicts as torch does, without a graph"
    learn, small = toy(net()), SmallMaps(most=1000)
    learn.add_cb(small)
    small('before_fit')
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad(): y = learn.model(x)
    small('after_fit')
    with torch.no_grad(): torch.testing.assert_close(y, learn.model(x))
    assert not y.requires_grad


def test_nothing_is_detoured_in_a_compiled_network():
    learn, small = toy(net()), SmallMaps(most=1000)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-2, cbs=[Compiled(backend='eager'), small])
    assert small.convs == [] and learn.model._compiled_call_impl is None


@pytest.mark.parametrize('group, learnt', [(0, {0, 1, 2}), (1, {1, 2}), (2, {2}), (-2, {1, 2})])
@pytest.mark.parametrize('adapt', [True, False])
def test_layers_that_are_frozen_stand_still(group, learnt, adapt):
    "Their weights and norms are the same after a fit, their averages move if told to, and the next fit finds all as it was"
    def part(i): return nn.Sequential(nn.Conv2d(i, 4, 3), nn.BatchNorm2d(4))
    learn = toy(nn.Sequential(part(3), part(4), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))), splitter=lambda m: [params(x) for x in m], wd=.1)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, .1)
    learn.freeze_to(group)
    asked = [p.requires_grad for p in learn.model.parameters()]
    before, averages = [[p.clone() for p in params(x)] for x in learn.model], [learn.model[i][1].running_mean.clone() for i in (0, 1)]
    with learn.no_bar(), learn.no_logging(): learn.fit(1, .1, cbs=FrozenBody(adapt=adapt))
    assert {i for i, x in enumerate(learn.model) if any(not torch.equal(p, q) for p, q in zip(params(x), before[i]))} == learnt
    assert [torch.equal(learn.model[i][1].running_mean, a) for i, a in enumerate(averages)] == [not (adapt or i in learnt) for i in (0, 1)]
    assert [p.requires_grad for p in learn.model.parameters()] == asked


@pytest.mark.parametrize('size', [(32, 32), (32, 20), (9, 40), (40, 32)])
@pytest.mark.parametrize('split', [0, 1])
def test_resize_once_is_resize(size, split):
    im = PILImage.create(np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8))
    made, state = [], []
    for cls in (Resize, ResizeOnce):
        random.seed(3)
        made.append(np.array(cls(32, ResizeMethod.Pad, PadMode.Border)(im, split_idx=split)))
        state.append(random.random())
    assert (made[0] == made[1]).all() and state[0] == state[1]


def block(n=10, **kwargs):
    "`n` grey squares and their numbers' parity, in batches of 4"
    set_seed(5, reproducible=True)
    def picture(i): return TensorImage(torch.full((3, 8, 8), i, dtype=torch.uint8))
    db = DataBlock(blocks=(TransformBlock(type_tfms=picture), CategoryBlock(vocab=[0, 1])), get_y=lambda i: i%2, splitter=IndexSplitter([1, 2, 3]), dl_type=ResidentDL)
    dls = db.dataloaders(range(n), bs=4, num_workers=0, device='cpu', **kwargs)
    for dl in dls.loaders: dl.devices = ('cpu',)
    return dls


def test_resident_photos_come_in_the_order_of_the_day():
    train = block().train
    days = [torch.cat([x[:,0,0,0] for x, _ in train]).tolist() for _ in range(4)]
    assert train.kept is not None and len({tuple(d) for d in days}) == 4
    for d in days: assert len(d) == 4 and set(d) <= {0, 4, 5, 6, 7, 8, 9} # seven photos, the last three dropped


def test_resident_only_after_a_whole_pass():
    valid = block().valid
    for _ in range(3): valid.one_batch()
    assert valid.passes == 0 and valid.kept is None
    list(valid); assert valid.kept is None
    list(valid); assert valid.kept is not None


def test_too_many_photos_stay_where_they_are(monkeypatch):
    train = block().train
    monkeypatch.setattr(ResidentDL, '_fits', lambda self: False)
    for _ in range(3): list(train)
    assert train.kept is None


def test_free_memory_is_asked_on_a_gpu(monkeypatch):
    train = block().train
    each = 3*8*8 + 8
    monkeypatch.setattr(type(train), 'device', torch.device('cuda', 0))
    for free, fits in ((4*7*each, True), (4*7*each-1, False)):
        monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device, free=free: (free, 10**9))
        assert train._fits() is fits


FAULTS = """
import resource, sys, torch
from cable_classifier.speed import hold_memory
for on in (False, True):
    if not hold_memory(on): sys.exit()
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.empty(2**25).fill_(1.)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_memory_that_is_kept_is_not_wiped_again():
    pytest.importorskip('resource')
    out = subprocess.run([sys.executable, '-c', FAULTS], capture_output=True, text=True, check=True).stdout
    if not out: pytest.skip('no glibc here')
    given_back, kept = map(int, out.split()) # pages touched for the first time when a tensor is made the fifth time
    assert kept < 10 < given_back


HELD = """
import sys, torch
from pathlib import Path
from fastai.vision.all import *
from cable_classifier.speed import GiveBack, hold_memory
def held(): return int(re.search(r'VmRSS:.*?(\\d+) kB', Path('/proc/self/status').read_text())[1])/2**10
class Wasteful(nn.Module):
    def __init__(self): super().__init__(); self.one = nn.Linear(1, 1)
    def forward(self, x):
        many = [torch.ones(2**18) for _ in range(200)] # 200 MB, let go one by one
        return self.one(x)
if not hold_memory(): sys.exit()
data = [(torch.ones(1), torch.ones(1))]*4
for cbs in ([], [GiveBack()]):
    learn = Learner(DataLoaders.from_dsets(data, data, bs=2, num_workers=0, device='cpu'), Wasteful(), loss_func=F.mse_loss, cbs=cbs)
    with learn.no_bar(), learn.no_logging():
        for work in (lambda: learn.fit(1, 0.), learn.get_preds):
            before = held()
            work()
            print(held()-before)
"""


def test_memory_that_was_kept_is_given_back():
    if not sys.platform.startswith('linux'): pytest.skip('/proc is of Linux')
    out = subprocess.run([sys.executable, '-W', 'ignore', '-c', HELD], capture_output=True, text=True, check=True).stdout
    if not out: pytest.skip('no glibc here')
    fit, preds, fit_back, preds_back = map(float, out.split()) # MB that are held more after than before
    assert fit > 150 and fit_back < -100 and preds_back < 50, out


def test_one_batch_of_predictions_gives_nothing_back(monkeypatch):
    "`learn.predict` is asked again and again, and would be the slower for it"
    calls = []
    monkeypatch.setattr('cable_classifier.speed.platform.libc_ver', lambda: ('glibc', ''))
    monkeypatch.setattr('cable_classifier.speed.ctypes.CDLL', lambda name: SimpleNamespace(malloc_trim=calls.append))
    for n, expected in ((2, 0), (4, 1)):
        data = [(torch.ones(1), torch.ones(1))]*n
        learn = Learner(DataLoaders.from_dsets(data, data, bs=2, num_workers=0, device='cpu'), nn.Linear(1, 1), loss_func=nn.MSELoss(), cbs=GiveBack())
        calls.clear()
        with learn.no_bar(), learn.no_logging():
            learn.get_preds()
            assert len(calls) == expected
            learn.fit(3)
            assert len(calls) == expected + 3


def test_memory_is_given_back_when_the_checkpoint_is_written():
    "Otherwise each epoch leaves gaps between what a checkpoint holds, and a long fit grows"
    from cable_classifier.resume import Checkpoint
    assert GiveBack.order > Checkpoint.order


def test_no_glibc_no_matter(monkeypatch):
    monkeypatch.setattr('cable_classifier.speed.platform.libc_ver', lambda: ('', ''))
    assert hold_memory() is False
