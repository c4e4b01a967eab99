"""Layer rates and memory where they do not read well in a lesson."""
import gc
import weakref

import pytest
import torch
from fastai.vision.all import CrossEntropyLossFlat, DataLoaders, Learner, nn, params

from cable_classifier.finetune import _kept, batch_that_fits, estimate_memory, group_lrs, step_memory
from cable_classifier.workspace import CableError

small = dict(arch='squeezenet1_1', size=64)


@pytest.fixture
def toy(tmp_path):
    def make(groups=3):
        data = [(torch.randn(4), i % 2) for i in range(16)]
        dls = DataLoaders.from_dsets(data, data, bs=8, num_workers=0, device='cpu')
        model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(groups-1)], nn.Linear(4, 2))
        def split(m): return [params(l) for l in m]
        return Learner(dls, model, loss_func=CrossEntropyLossFlat(), path=tmp_path, splitter=split)
    return make


@pytest.mark.parametrize('lr,want', [(1e-3, [1e-3]*3), (slice(1e-3), [1e-4, 1e-4, 1e-3]), (slice(1e-5, 1e-3), [1e-5, 1e-4, 1e-3]), ([1, 2, 3], [1, 2, 3])])
def test_rates_of_three_groups(toy, lr, want): assert group_lrs(toy(), lr).lr.tolist() == pytest.approx(want)


@pytest.mark.parametrize('groups', [1, 2, 5])
def test_rates_of_other_splits(toy, groups):
    table = group_lrs(toy(groups), slice(1e-6, 1e-2))
    assert len(table) == groups and table.lr.iloc[-1] == pytest.approx(1e-2)
    assert table.lr.is_monotonic_increasing


def test_asking_changes_nothing(toy):
    learn = toy()
    learn.create_opt()
    learn.opt.set_hyper('lr', [1e-4, 2e-4, 3e-4])
    group_lrs(learn, 5.)
    with pytest.raises(CableError): group_lrs(learn, [1., 2.])
    assert [h['lr'] for h in learn.opt.hypers] == [1e-4, 2e-4, 3e-4]


@pytest.mark.parametrize('lr', [[1e-3, 1e-3], [1e-3]*4])
def test_wrong_number_of_rates_is_said(toy, lr):
    with pytest.raises(CableError, match='each of 3 layer groups'): group_lrs(toy(), lr)


def test_max_lr_is_lr_max(toy):
    learn = toy()
    with pytest.raises(TypeError, match='max_lr'): learn.fit_one_cycle(1, max_lr=slice(1e-6, 1e-4))
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(1, lr_max=slice(1e-6, 1e-4))


def test_memory_parts():
    m = estimate_memory(**small, bs=16)
    assert m['total'] == sum(v for k, v in m.items() if k != 'total')
    assert m['adam'] in range(2*m['weights']-1, 2*m['weights']+2) and m['gradients'] == m['weights']


def test_only_activations_grow_with_the_batch():
    a, b = estimate_memory(**small, bs=64), estimate_memory(**small, bs=256)
    assert b['activations'] == pytest.approx(4*a['activations'], rel=0.1)
    assert (a['weights'], a['adam']) == (b['weights'], b['adam'])


def test_activations_grow_with_the_area():
    a, b = (estimate_memory('resnet18', size, 64, mixed=False) for size in (64, 128)) # in half precision a copy of the weights comes on top
    assert b['activations'] == pytest.approx(4*a['activations'], rel=0.1)


def test_half_precision_halves_most_of_it():
    a, b = estimate_memory('resnet18', 128, 64, mixed=False), estimate_memory('resnet18', 128, 64, mixed=True)
    assert 0.4 < b['activations']/a['activations'] < 0.7


def test_an_estimate_leaves_the_random_numbers_alone():
    torch.manual_seed(0)
    want = torch.rand(1)
    torch.manual_seed(0)
    estimate_memory(**small, bs=2)
    assert torch.rand(1) == want


def test_one_photo_and_no_arch():
    assert 0 < estimate_memory(**small, bs=1)['total'] <= estimate_memory(**small, bs=2)['total']
    with pytest.raises(CableError, match='no architecture'): estimate_memory('resnet99')
    with pytest.raises(CableError, match='no architecture'): batch_that_fits(1000, 'resnet99')


def test_the_batch_that_fits_is_the_largest():
    memory = 300
    bs = batch_that_fits(memory, **small, most=4096)
    assert bs & (bs-1) == 0
    assert estimate_memory(**small, bs=bs)['total'] <= memory+2
    assert estimate_memory(**small, bs=2*bs)['total'] >= memory-2
    assert batch_that_fits(1e6, **small, most=100) == 64
    with pytest.raises(CableError, match='take a smaller network'): batch_that_fits(1, **small)


def test_a_measured_step_is_a_number(): assert step_memory(**small, bs=4) >= 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no NVIDIA GPU')
@pytest.mark.parametrize('arch', ['resnet18', 'resnet50'])
def test_estimate_against_a_gpu(arch):
    assert 0.7 < step_memory(arch, bs=64, device='cuda')/estimate_memory(arch, bs=64)['total'] < 1.4


def test_what_was_counted_is_let_go():
    "A hook that hands an output back to the graph ties a knot that Python cannot undo (`saved_tensors_hooks` of PyTorch's documentation warns of it)"
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    ref = weakref.ref(model[0].weight)
    assert _kept(model, 2, 16, False) == (2*3*16*16*4 + 2*4*14*14*4, 2*4*14*14*4)
    del model
    gc.collect()
    assert ref() is None
