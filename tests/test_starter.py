"Starter weights meet files that are not theirs, and photos that are none."
import pickle
import sys

import numpy as np
import pytest
import torch
from fastai.vision.all import CancelBatchException, Callback, F, Normalize, error_rate, set_seed, tensor, vision_learner
from safetensors.torch import load_file, save_file
from torchvision.models import resnet18, resnet34

from cable_classifier.data import get_dls, get_items, split_items
from cable_classifier.plugs import target_kinds
from cable_classifier.starter import (BFloat16, PlugMaps, Rough, about_starter, bf16_pays, body_features, has_bf16, kind_error, linear_probe, load_body, load_turns,
                                      part_error, render_turns, save_body, starter_file, starter_resnet18, starter_stats, train_starter, turn_dls, turn_loss,
                                      turns_digest)
from cable_classifier.workspace import CableError


def one_sentence(err, file):
    "The message names the file and stays on one line"
    said = str(err.value)
    assert file.name in said and '\n' not in said and len(said) < 600
    return said


def turns_of(path, kinds=('hdmi', 'usb_a'), cables=2, n=3, size=32, seed=0):
    "A folder of photos and maps without a renderer: noise in a square"
    rng = np.random.default_rng(seed)
    path.mkdir(parents=True, exist_ok=True)
    for k in kinds:
        for c in range(cables): turn(path/f'{k}_{c}.npz', rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8), rng)
    return path


def turn(file, x, rng=np.random.default_rng(0)):
    "Photos `x` with maps of noise"
    maps = np.concatenate([rng.integers(0, 4, (len(x), 1, 8, 8)), rng.integers(-126, 127, (len(x), 6, 8, 8))], 1).astype(np.int8)
    np.savez(file, photos=x, maps=maps.repeat(x.shape[1]//32, 2).repeat(x.shape[1]//32, 3))


# The shipped file

def test_shipped_file_is_a_whole_small_body():
    "Every body weight of torchvision's ResNet-18 in half precision, no classifier, at most 25 MB, finite"
    state, want = load_file(starter_file()), resnet18().state_dict()
    assert set(state) == {k for k in want if not k.startswith('fc.')}
    assert all(v.dtype == torch.float16 for v in state.values() if v.is_floating_point())
    assert starter_file().stat().st_size <= 25e6
    assert all(torch.isfinite(v.float()).all() for v in state.values())


def test_shipped_file_has_never_seen_the_course():
    "Eight kinds and more, none of them a class of the course"
    about = about_starter()
    assert len(about['kinds']) >= 8 and not set(about['kinds']) & set(target_kinds)
    assert about['mean'] == starter_stats[0] and about['std'] == starter_stats[1]


def test_starter_weights_and_random_weights_differ():
    same = starter_resnet18('starter'), starter_resnet18(starter_file())
    assert torch.equal(same[0].layer4[1].conv2.weight, same[1].layer4[1].conv2.weight)
    assert all(p.dtype == torch.float32 for p in same[0].parameters())
    set_seed(1)
    random = starter_resnet18()
    assert not torch.equal(random.conv1.weight, same[0].conv1.weight)


@pytest.mark.parametrize('pretrained', [True, False])
def test_in_vision_learner(photos, tmp_path, pretrained):
    "One `Normalize` with our statistics, three layer groups, a frozen body: like any pretrained ResNet"
    dls = get_dls(photos, split_items(get_items(photos, groups=r'^(.+)_\d+\.jpg$')), size=64, bs=8)
    learn = vision_learner(dls, starter_resnet18, pretrained=pretrained, metrics=error_rate, path=tmp_path)
    norms = [t for t in learn.dls.after_batch.fs if isinstance(t, Normalize)]
    assert len(norms) == 1 and torch.allclose(norms[0].mean.flatten().cpu(), tensor(starter_stats[0]))
    if learn.opt is None: learn.create_opt()
    assert len(learn.opt.param_lists) == 3
    assert learn.model[0][0].weight.requires_grad is not pretrained
    assert torch.equal(learn.model[0][0].weight.cpu(), load_body(starter_file()).conv1.weight) is pretrained


# Files that do not serve

@pytest.mark.parametrize('share', [0, 4, 100, 0.5, 0.999])
def test_cut_short(tmp_path, share):
    whole, file = starter_file().read_bytes(), tmp_path/'cut.safetensors'
    file.write_bytes(whole[:int(share*len(whole)) if share < 1 else share])
    with pytest.raises(CableError, match='cannot read weights') as err: starter_resnet18(file)
    one_sentence(err, file)
    with pytest.raises(CableError) as err: about_starter(file)
    one_sentence(err, file)


def test_missing_and_folder(tmp_path):
    for file in (tmp_path/'none.safetensors', tmp_path):
        with pytest.raises(CableError, match='cannot read weights') as err: starter_resnet18(file)
        one_sentence(err, file)
        with pytest.raises(CableError, match='does not say'): about_starter(file)


def test_pickle_is_not_opened(tmp_path):
    "A pickle under a safetensors name is refused; what it would run does not run"
    file, trap = tmp_path/'trap.safetensors', tmp_path/'sprung'
    class Trap:
        def __reduce__(self): return (open, (str(trap), 'w'))
    file.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CableError, match='cannot read weights'): starter_resnet18(file)
    torch.save(resnet18().state_dict(), file)
    with pytest.raises(CableError, match='cannot read weights'): starter_resnet18(file)
    assert not trap.exists()


def test_huge_header(tmp_path):
    "A header that claims more bytes than there are asks for no memory"
    file = tmp_path/'bomb.safetensors'
    file.write_bytes((2**62).to_bytes(8, 'little') + b'{}')
    with pytest.raises(CableError, match='cannot read weights'): starter_resnet18(file)


def body_of(model): return {k: v for k, v in model.state_dict().items() if not k.startswith('fc.')}


def test_foreign_network(tmp_path):
    "Another ResNet has our names and more; another shape or a lost layer is named"
    file = tmp_path/'body.safetensors'
    state = body_of(resnet18())
    save_file({k: v for k, v in state.items() if k != 'layer3.0.conv1.weight'}, file)
    with pytest.raises(CableError, match="'layer3.0.conv1.weight' is missing") as err: starter_resnet18(file)
    one_sentence(err, file)
    save_file(dict(state, **{'layer1.0.conv1.weight': torch.zeros(64, 64, 1, 1)}), file)
    with pytest.raises(CableError, match="'layer1.0.conv1.weight'"): starter_resnet18(file)
    save_file({'weight': torch.zeros(3)}, file)
    with pytest.raises(CableError, match='do not fit resnet18'): starter_resnet18(file)


def test_spoilt_numbers(tmp_path):
    state, file = body_of(resnet18()), tmp_path/'nan.safetensors'
    state['layer2.0.bn1.running_var'] = torch.full((128,), float('nan'))
    save_file(state, file)
    with pytest.raises(CableError, match="spoilt: 'layer2.0.bn1.running_var'") as err: starter_resnet18(file)
    one_sentence(err, file)


def test_files_with_more_are_fine(tmp_path):
    "A whole torchvision ResNet-18 with its classifier, or unknown extras, loads its body"
    model, file = resnet18(), tmp_path/'whole.safetensors'
    save_file(dict(model.state_dict(), extra=torch.zeros(2)), file)
    assert torch.equal(load_body(file).layer4[0].conv1.weight, model.layer4[0].conv1.weight)


def test_resnet34_is_not_taken_for_resnet18(tmp_path):
    "Its first blocks bear the same names and shapes, so the body would load; what is left over tells"
    file = tmp_path/'resnet34.safetensors'
    save_file(body_of(resnet34()), file)
    with pytest.raises(CableError, match='more than resnet18'): starter_resnet18(file)


@pytest.mark.parametrize('about', [None, '', '[', '{}'])
def test_header_that_says_nothing(tmp_path, about):
    file = tmp_path/'quiet.safetensors'
    save_file(body_of(resnet18()), file, metadata=None if about is None else {'about': about})
    if about == '{}': assert about_starter(file) == {}
    else:
        with pytest.raises(CableError, match='does not say'): about_starter(file)


def test_saving_is_whole_or_not_at_all(tmp_path, monkeypatch):
    "A disk that fails in the middle leaves the file of before"
    file = tmp_path/'body.safetensors'
    save_body(resnet18(), file, dict(kinds=['hdmi']))
    before = file.read_bytes()
    def full(*args, **kwargs): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(sys.modules['cable_classifier.starter'], 'save_file', full)
    with pytest.raises(CableError, match='No space left'): save_body(resnet18(), file, dict(kinds=['rca']))
    assert file.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [file.name]


def test_saved_body_comes_back(tmp_path):
    "To half precision, statistics of the normalisation layers included"
    set_seed(2)
    model = resnet18()
    model.layer1[0].bn1.running_mean.uniform_(-2, 2)
    back = load_body(save_body(model, tmp_path/'b.safetensors', dict(kinds=['hdmi'])))
    assert torch.allclose(back.layer1[0].bn1.running_mean, model.layer1[0].bn1.running_mean, atol=2e-3)
    assert torch.allclose(back.conv1.weight, model.conv1.weight, atol=1e-3)


# Photos from all around

def test_no_class_of_the_course(tmp_path):
    "Neither drawn nor taught"
    with pytest.raises(CableError, match="'lightning'"): render_turns(tmp_path/'new', 1, kinds=['rca', 'lightning'])
    assert not (tmp_path/'new').exists()
    with pytest.raises(CableError, match="'usb_c'"): train_starter(turns_of(tmp_path/'t', ('hdmi', 'usb_c')), tmp_path/'out'/'w.safetensors', [(1, 32, 1e-3)])
    assert not (tmp_path/'out').exists()


@pytest.mark.parametrize('spoil, says', [
    (lambda f: f.write_bytes(b''), 'holds no photos'),
    (lambda f: f.write_bytes(f.read_bytes()[:200]), 'holds no photos'),
    (lambda f: turn(f, np.zeros((3, 32, 32, 4), np.uint8)), 'holds no photos'),
    (lambda f: turn(f, np.zeros((3, 32, 32, 3), np.float32)), 'holds no photos'),
    (lambda f: np.savez(f, photos=np.array([{'a': 1}], dtype=object), maps=np.zeros(3)), 'holds no photos'),
    (lambda f: np.savez(f, photos=np.zeros((3, 32, 32, 3), np.uint8)), 'holds no photos'),
    (lambda f: np.savez(f, photos=np.zeros((3, 32, 32, 3), np.uint8), maps=np.zeros((2, 7, 8, 8), np.int8)), 'holds no photos'),
    (lambda f: np.savez(f, photos=np.zeros((3, 32, 32, 3), np.uint8), maps=np.zeros((3, 7, 8, 8), np.float32)), 'holds no photos'),
    (lambda f: turn(f, np.zeros((3, 64, 64, 3), np.uint8)), 'differ in size'),
    (lambda f: f.rename(f.with_name('hdmi_x.npz')), 'holds no photos')])
def test_broken_photos(tmp_path, spoil, says):
    path = turns_of(tmp_path/'t')
    spoil(path/'hdmi_1.npz')
    with pytest.raises(CableError, match=says): load_turns(path)


def test_no_photos(tmp_path):
    for path in (tmp_path, tmp_path/'nowhere'):
        with pytest.raises(CableError, match='no photos in'): load_turns(path)
    with pytest.raises(CableError, match='one cable number'): turn_dls(load_turns(turns_of(tmp_path/'t', cables=1)), 32)


def test_valid_holds_whole_cables(tmp_path):
    "One number in ten, of every kind; cables with fewer photos than others are fine"
    path = turns_of(tmp_path/'t', cables=12)
    turn(path/'hdmi_5.npz', np.zeros((1, 32, 32, 3), np.uint8))
    cables = load_turns(path)
    dls, of = turn_dls(cables, 32, bs=4), [cable for cable, (x, _) in cables.items() for _ in x]
    train, valid = [{of[i] for i in part} for part in dls.train_ds.splits[:2]]
    assert not train & valid and train | valid == set(cables)
    assert {c for _, c in valid} == {1, 11} and {k for k, _ in valid} == {'hdmi', 'usb_a'}


def test_valid_photos_keep_their_colours(tmp_path):
    "Colours are swapped to teach, never to judge"
    cables = load_turns(turns_of(tmp_path/'t', cables=2, n=40))
    dls, photos = turn_dls(cables, 32, bs=4), np.concatenate([x for x, _ in cables.values()])
    for part, swaps in (dls.train_ds, True), (dls.valid_ds, False):
        same = [np.array_equal(np.asarray(x).transpose(1, 2, 0), photos[i]) for i, (x, *_) in zip(part.items, part)]
        assert all(same) is not swaps


def test_maps_turn_with_their_photo(tmp_path):
    "Photos that are their own maps still are after turning, zooming and lighting"
    rng = np.random.default_rng(1)
    for c in range(2):
        part = rng.integers(0, 4, (8, 1, 4, 4)).repeat(4, 2).repeat(4, 3)
        maps = np.concatenate([part, np.zeros((8, 6, 16, 16))], 1).astype(np.int8)
        np.savez(tmp_path/f'hdmi_{c}.npz', photos=(70*part[:, 0]).repeat(4, 1).repeat(4, 2)[..., None].repeat(3, 3).astype(np.uint8), maps=maps)
    dls = turn_dls(load_turns(tmp_path), 64, bs=8)
    for dl in dls:
        x, _, m = dl.one_batch()
        assert type(m) is PlugMaps and m.shape == (8, 7, 64, 64)
        for a, b in zip(x.mean(1).numpy(), m[:, 0].numpy()): assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > .85


def test_unknown_maps_do_not_count():
    "Without maps the kinds alone are learnt; with maps a perfect reader loses nothing by them"
    named, filled, kind = torch.zeros(2, 3), torch.randn(2, 10, 8, 8, requires_grad=True), tensor([0, 2])
    maps = PlugMaps(torch.full((2, 7, 32, 32), -1))
    loss = turn_loss((named, filled), kind, maps)
    loss.backward()
    assert loss.item() == pytest.approx(np.log(3), abs=1e-5) and not filled.grad.abs().sum()
    assert part_error((named, filled), kind, maps) == 1
    part = torch.randint(0, 4, (2, 32, 32))
    maps = PlugMaps(torch.cat([part[:, None], torch.randint(-126, 127, (2, 6, 32, 32))], 1))
    good = torch.cat([50*F.one_hot(part, 4).permute(0, 3, 1, 2), maps[:, 1:].as_subclass(torch.Tensor)/63], 1)[..., 2::4, 2::4]
    assert turn_loss((named, good), kind, maps).item() == pytest.approx(np.log(3), abs=1e-4) and part_error((named, good), kind, maps) == 0
    assert kind_error((named + F.one_hot(kind, 3), good), kind, maps) == 0


def test_digest_follows_contents(tmp_path):
    path = turns_of(tmp_path/'t')
    a = turns_digest(path)
    assert a == turns_digest(turns_of(tmp_path/'same')) and a != turns_digest(turns_of(tmp_path/'other', seed=1))
    (path/'hdmi_0.npz').rename(path/'rca_0.npz')
    assert a != turns_digest(path)


class Kill(Callback):
    "Ends the program after `n` epochs, once they are kept; counts all"
    order = 99
    def __init__(self, n=99): self.n, self.done = n, 0
    def after_train(self): self.done += 1 # not called in an epoch that is passed over
    def after_epoch(self):
        if self.done == self.n: raise KeyboardInterrupt


def test_training_goes_on_from_its_last_epoch(tmp_path):
    "Killed in its second stage, it trains what is left, and takes its epochs away when it is done"
    path, out = turns_of(tmp_path/'t'), tmp_path/'out'/'w.safetensors'
    call, kill, rest = dict(stages=[(1, 32, 1e-3), (2, 48, 1e-3)], bs=4), Kill(2), Kill()
    def kept(): return sorted(p.relative_to(out.parent).parts[1] for p in out.parent.glob('starter-epochs-*/*'))
    with pytest.raises(KeyboardInterrupt): train_starter(path, out, **call, cbs=kill)
    assert kept() == ['stage_0_0.pth', 'stage_1_0.pth'] and not out.exists()
    train_starter(path, out, **call, cbs=rest)
    about = about_starter(out)
    assert rest.done == 1 and [p.name for p in out.parent.iterdir()] == [out.name]
    assert about['data'] == turns_digest(path) and about['cables'] == 4 and about['stages'] == [[1, 32, 1e-3], [2, 48, 1e-3]]


def test_epochs_of_another_training_are_not_taken_up(tmp_path):
    "Other photos, other stages, another seed or start: it begins anew, beside what was kept"
    from cable_classifier.starter import _epochs_of
    for f in 'ab': (tmp_path/f).write_bytes(f.encode())
    of = dict(data='x', stages=((2, 32, 1e-3),), bs=4, seed=42, start=None)
    other = [{}, dict(data='y'), dict(stages=((2, 48, 1e-3),)), dict(bs=3), dict(seed=43), dict(start=tmp_path/'a'), dict(start=tmp_path/'b')]
    assert len({_epochs_of(**(of | o)) for o in other}) == len(other) and _epochs_of(**of) == _epochs_of(**(of | dict(stages=[[2, 32, 1e-3]])))
    out, call, anew = tmp_path/'out'/'w.safetensors', dict(stages=[(2, 32, 1e-3)], bs=4), Kill()
    with pytest.raises(KeyboardInterrupt): train_starter(turns_of(tmp_path/'t'), out, **call, cbs=Kill(1))
    kept, = out.parent.iterdir()
    train_starter(turns_of(tmp_path/'u', seed=1), out, **call, cbs=anew)
    assert anew.done == 2 and sorted(out.parent.iterdir()) == sorted([kept, out])


def test_training_goes_on_from_a_file(tmp_path):
    "Other photos, another number of kinds: the body is that of the file, and the new file says where it came from"
    from cable_classifier.starter import _new_body
    one, two = tmp_path/'one'/'w.safetensors', tmp_path/'two'/'w.safetensors'
    train_starter(turns_of(tmp_path/'t'), one, [(1, 32, 1e-3)], bs=4)
    assert torch.equal(_new_body(one).layer3[0].conv1.weight, load_body(one).layer3[0].conv1.weight)
    path = turns_of(tmp_path/'u', ('hdmi', 'rca', 'vga'), seed=3)
    train_starter(path, two, [(1, 32, 0.)], bs=4, start=one)
    assert torch.equal(load_body(two).conv1.weight, load_body(one).conv1.weight)
    assert about_starter(two)['before'] == about_starter(one) and about_starter(one)['before'] is None
    (tmp_path/'junk').write_bytes(b'junk')
    with pytest.raises(CableError, match='does not say'): train_starter(path, tmp_path/'three'/'w.safetensors', [(1, 32, 0.)], bs=4, start=tmp_path/'junk')
    assert not (tmp_path/'three').exists()


# bfloat16

def test_bfloat16_asks_first(monkeypatch):
    for have, want in [({}, False), ({'amx_bf16': True}, True), ({'avx512_bf16': True}, True), ({'avx2': True}, False)]:
        monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: have, raising=False)
        assert has_bf16() is want
    monkeypatch.delattr(torch.cpu, 'get_capabilities', raising=False)
    assert has_bf16(torch.device('cpu')) is False and has_bf16(torch.device('mps')) is False


@pytest.mark.parametrize('rough, want', [(.5, True), (.8, True), (.95, False), (2., False)])
def test_bfloat16_is_timed(monkeypatch, rough, want):
    "Seconds of each way come in turns, and a turn in which the machine was busy decides nothing"
    starter = sys.modules['cable_classifier.starter']
    took = [s*busy for busy in (9., 1., 1., 4., 1., 1., 1., 1.) for s in (1., rough)]
    clock = iter(np.cumsum([x for s in took for x in (0., s)]).tolist())
    bf16_pays.cache_clear()
    monkeypatch.setattr(starter, 'has_bf16', lambda device=None: True)
    monkeypatch.setattr(starter.time, 'perf_counter', lambda: next(clock))
    before = torch.random.get_rng_state()
    with torch.no_grad(): assert bf16_pays() is want
    assert torch.equal(before, torch.random.get_rng_state()) and next(clock, None) is None
    assert bf16_pays() is want # asked once
    bf16_pays.cache_clear()


def test_bfloat16_is_not_timed_in_vain(monkeypatch):
    starter = sys.modules['cable_classifier.starter']
    monkeypatch.setattr(starter.time, 'perf_counter', lambda: 1/0)
    for device, have in ((None, False), (torch.device('cuda', 0), True), (torch.device('cuda', 0), False)):
        bf16_pays.cache_clear()
        monkeypatch.setattr(starter, 'has_bf16', lambda device=None: have)
        assert bf16_pays(device) is have
    bf16_pays.cache_clear()


class Spy(Callback):
    "Which precision the model ran in, and what reached the loss"
    order = 30
    def before_fit(self): self.inside, self.hook = set(), self.learn.model.register_forward_hook(lambda m, i, o: self.inside.add(o[0].dtype))
    def after_loss(self): assert {p.dtype for p in self.pred} == {torch.float32} and not torch.is_autocast_enabled('cpu')
    def after_fit(self): self.hook.remove()


@pytest.mark.parametrize('have', [True, False])
def test_bfloat16_where_there_is_some(tmp_path, monkeypatch, have):
    from cable_classifier.starter import PlugReader, _new_body, _starter_learner
    monkeypatch.setattr(sys.modules['cable_classifier.starter'], 'bf16_pays', lambda device=None: have)
    learn = _starter_learner(turn_dls(load_turns(turns_of(tmp_path/'t')), 32, bs=4), PlugReader(_new_body(), 2), tmp_path)
    spy = Spy()
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, 1e-3, cbs=spy)
        assert spy.inside == {torch.bfloat16 if have else torch.float32}
        assert {p.dtype for p in learn.get_preds()[0]} == {torch.float32}
    assert all(p.dtype == torch.float32 for p in learn.model.parameters())


@pytest.mark.parametrize('have', [True, False])
def test_predictions_are_exact_unless_told(tmp_path, monkeypatch, have):
    "float32 inside the model in `get_preds`; with `Rough` bfloat16 where there is some, float32 outside; without it again float32"
    from cable_classifier.starter import PlugReader, _new_body, _starter_learner
    monkeypatch.setattr(sys.modules['cable_classifier.starter'], 'bf16_pays', lambda device=None: have)
    learn = _starter_learner(turn_dls(load_turns(turns_of(tmp_path/'t')), 32, bs=4), PlugReader(_new_body(), 2), tmp_path)
    inside = []
    learn.model.register_forward_hook(lambda m, i, o: inside.append(o[0].dtype))
    def seen(**kwargs):
        inside.clear()
        with learn.no_bar(), learn.no_logging(): assert {p.dtype for p in learn.get_preds(**kwargs)[0]} == {torch.float32}
        return set(inside)
    assert seen() == {torch.float32}
    assert seen(cbs=Rough()) == {torch.bfloat16 if have else torch.float32}
    assert seen() == {torch.float32} and not torch.is_autocast_enabled('cpu')
    learn.add_cb(Rough())
    for kwargs in ({}, dict(cbs=Rough()), {}): assert seen(**kwargs) == {torch.bfloat16 if have else torch.float32}


def test_bfloat16_leaves_nothing_on(tmp_path, monkeypatch):
    "A batch that is cancelled inside the model switches autocast off all the same"
    from cable_classifier.starter import PlugReader, _new_body, _starter_learner
    monkeypatch.setattr(sys.modules['cable_classifier.starter'], 'bf16_pays', lambda device=None: True)
    learn = _starter_learner(turn_dls(load_turns(turns_of(tmp_path/'t')), 32, bs=4), PlugReader(_new_body(), 2), tmp_path)
    def stop(*args): raise CancelBatchException
    learn.model.body.layer1.register_forward_hook(stop)
    learn.remove_cbs([cb for cb in learn.cbs if cb.name in ('progress', 'recorder')])
    learn.fit(1, 1e-3)
    assert not torch.is_autocast_enabled('cpu')


# The probe

def test_probe_counts_rightly():
    "Classes that features tell apart are told apart; features of nothing are guessed; the interval is Wilson's"
    rng = np.random.default_rng(0)
    y = np.repeat(['a', 'b', 'c'], 40)
    x = rng.normal(size=(120, 8)) + 8*np.eye(3, 8)[np.searchsorted(['a', 'b', 'c'], y)]
    good = linear_probe(x[::2], y[::2], x[1::2], y[1::2])
    assert good['n'] == 60 and good['correct'] == 60 and good['ci95'] == pytest.approx((0.9398, 1.), abs=1e-3)
    noise = rng.normal(size=(120, 8))
    assert linear_probe(noise[::2], y[::2], noise[1::2], y[1::2])['accuracy'] < 0.6


def test_features_do_not_depend_on_company(embedded):
    "A photo's features are its own, whatever batch it comes in"
    fs = sorted((embedded/'other').rglob('*.jpg'))[:5]
    body = starter_resnet18('starter')
    x = body_features(body, fs, size=64)
    assert x.shape == (5, 512) and np.allclose(x, body_features(body, fs, size=64, bs=2), rtol=0.05, atol=0.05)
