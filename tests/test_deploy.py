"A model folder from a stranger: refused with a sentence if anything about it is odd, and never executed."
import io
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cable_classifier import deploy
from cable_classifier.deploy import export_model, file_digest, load_model, predict_photos, preprocess
from cable_classifier.workspace import CableError
from conftest import root as project


def noise(w, h, seed=0): return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8))


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    "Sixteen pictures in two classes, of odd sizes"
    root = tmp_path_factory.mktemp('photos')
    for i in range(16):
        f = root/'plugs'/('usb_c' if i % 2 else 'lightning')/f'{i:02d}.png'
        f.parent.mkdir(parents=True, exist_ok=True)
        noise(40+13*i, 230-11*i, i).save(f)
    return root/'plugs'


def tiny_dls(photos, item_tfms=None, batch_tfms=None):
    from fastai.vision.all import ImageDataLoaders, Normalize, PadMode, Resize, ResizeMethod, imagenet_stats
    return ImageDataLoaders.from_folder(photos, valid_pct=0.5, seed=1, bs=4, num_workers=0, item_tfms=item_tfms or Resize(32, ResizeMethod.Pad, PadMode.Border),
                                        batch_tfms=[Normalize.from_stats(*imagenet_stats)] if batch_tfms is None else batch_tfms)


@pytest.fixture(scope='module')
def learn(photos):
    "A network of three layers, so that a folder takes kilobytes and milliseconds"
    import torch
    from fastai.vision.all import CrossEntropyLossFlat, Learner, nn
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    return Learner(tiny_dls(photos), net, loss_func=CrossEntropyLossFlat())


@pytest.fixture(scope='module')
def exported(learn, tmp_path_factory):
    return export_model(learn, tmp_path_factory.mktemp('exported')/'model', arch='tiny', data_digest='0'*64)


@pytest.fixture
def folder(exported, tmp_path):
    "A copy of a good model folder, to be spoilt"
    return Path(shutil.copytree(exported, tmp_path/'model'))


# ---- ways to spoil a folder

marker = 'executed'


class Bomb:
    "Unpickled, it leaves a file behind"
    def __init__(self, path): self.path = str(path)
    def __reduce__(self): return Path.touch, (Path(self.path),)


def bomb(folder): return pickle.dumps(Bomb(folder.parent/marker))
def about(folder): return json.loads((folder/'model.json').read_text())
def write(folder, about): (folder/'model.json').write_text(json.dumps(about))
def edit(**kw): return lambda folder: write(folder, about(folder) | kw)
def put(name, data): return lambda folder: (folder/name).write_bytes(data(folder) if callable(data) else data)


def reseal(folder):
    "What a stranger does who knows about digests: make them fit"
    write(folder, about(folder) | dict(digests={n: file_digest(folder/n) for n in ('model.safetensors', 'model.onnx')}))


def resealed(spoil):
    def f(folder):
        spoil(folder)
        reseal(folder)
    return f


def without(key):
    def f(folder):
        a = about(folder)
        del a[key]
        write(folder, a)
    return f


def flip(name, where):
    "One bit of the file `name` turned, at the share `where` of its length"
    def f(folder):
        data = bytearray((folder/name).read_bytes())
        data[int(where*(len(data)-1))] ^= 4
        (folder/name).write_bytes(data)
    return f


def cut(name, share): return lambda folder: (folder/name).write_bytes((folder/name).read_bytes()[:int(share*(folder/name).stat().st_size)])


def link(name):
    def f(folder):
        (folder/name).rename(folder/'elsewhere')
        (folder/name).symlink_to('elsewhere')
    return f


def swap(folder):
    a, b = folder/'model.safetensors', folder/'model.onnx'
    data = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(data)


def other_weights(folder):
    "Good weights of the same shapes, with the description copied into them: of another export"
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file
    f = folder/'model.safetensors'
    with safe_open(f, framework='numpy') as s: notes = s.metadata()
    save_file({k: np.asarray(v+1) for k, v in load_file(f).items()}, f, metadata=notes)


def weights(state, notes=True):
    def f(folder):
        from safetensors import safe_open
        from safetensors.numpy import save_file
        with safe_open(folder/'model.safetensors', framework='numpy') as s: said = s.metadata()
        save_file(state, folder/'model.safetensors', metadata=said if notes else None)
    return f


def graph(change):
    "The ONNX file changed by `change(proto)`, digests made to fit: only a look inside can tell"
    def f(folder):
        import onnx
        p = onnx.load_model_from_string((folder/'model.onnx').read_bytes())
        change(p)
        (folder/'model.onnx').write_bytes(p.SerializeToString())
        reseal(folder)
    return f


def external(p, path='/etc/passwd'):
    t = p.graph.initializer[0]
    t.ClearField('raw_data')
    t.data_location = 1
    t.external_data.add(key='location', value=path)


def external_attribute(p):
    import onnx
    t = onnx.helper.make_tensor('t', 1, [1], [0.])
    external_data = t.external_data.add()
    external_data.key, external_data.value = 'location', '../../secret'
    n = onnx.helper.make_node('Constant', [], ['unused'])
    n.attribute.add(name='value', type=4).t.CopyFrom(t)
    p.graph.node.insert(0, n)


def loop(p):
    import onnx
    h = onnx.helper
    cond = h.make_tensor_value_info('c', 9, [])
    body = h.make_graph([h.make_node('Identity', ['c'], ['d'])], 'body', [h.make_tensor_value_info('i', 7, []), cond], [h.make_tensor_value_info('d', 9, [])])
    p.graph.initializer.append(h.make_tensor('yes', 9, [], [True]))
    p.graph.node.insert(0, h.make_node('Loop', ['', 'yes'], [], body=body))


def function(p):
    import onnx
    p.functions.append(onnx.helper.make_function('own', 'F', ['x'], ['y'], [onnx.helper.make_node('Relu', ['x'], ['y'])], [onnx.helper.make_opsetid('', 20)]))


def domain(p): p.graph.node[0].domain = 'com.microsoft'


def custom_op(p):
    p.graph.node[0].domain, p.graph.node[0].op_type = 'com.evil', 'Run'
    p.opset_import.add(domain='com.evil', version=1)


def rename_input(p):
    for n in p.graph.node: n.input[:] = ['x' if i == 'photos' else i for i in n.input]
    p.graph.input[0].name = 'x'


def second_input(p): p.graph.input.add().CopyFrom(p.graph.input[0]); p.graph.input[1].name = 'more'
def second_output(p): p.graph.output.add().CopyFrom(p.graph.output[0]); p.graph.output[1].name = p.graph.node[0].output[0]
def fixed_batch(p): p.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
def other_size(p): p.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 64
def no_notes(p): p.ClearField('metadata_props')
def unknown_op(p): p.graph.node[0].op_type = 'Format'
def dangling(p): p.graph.node[1].input[0] = 'nothing'
def no_graph(p): p.ClearField('graph')
def future_opset(p): p.opset_import[0].version = 999


def training(p): p.training_info.add()
def sparse(p): p.graph.sparse_initializer.add()
def string_tensor(p): p.graph.initializer[0].ClearField('raw_data'); p.graph.initializer[0].data_type = 8; p.graph.initializer[0].string_data.append(b'x')
def short_tensor(p): p.graph.initializer[0].raw_data = p.graph.initializer[0].raw_data[:-4]
def huge_tensor(p): p.graph.initializer[0].dims[:] = [2**40]
def no_output(p): p.graph.ClearField('output')
def no_weights_in_graph(p): p.graph.ClearField('initializer')


def branch(p):
    import onnx
    h = onnx.helper
    arm = lambda name: h.make_graph([h.make_node('Constant', [], [name], value_float=1.)], name, [], [h.make_tensor_value_info(name, 1, [])])
    p.graph.initializer.append(h.make_tensor('yes', 9, [], [True]))
    p.graph.node.insert(0, h.make_node('If', ['yes'], ['unused'], then_branch=arm('a'), else_branch=arm('b')))


def header(change):
    "The head of the safetensors file, a JSON object after its length, changed by `change(dict)`, or replaced if that gives bytes; digests made to fit, the one in the graph too"
    def f(folder):
        data = (folder/'model.safetensors').read_bytes()
        n = int.from_bytes(data[:8], 'little')
        head = change(json.loads(data[8:8+n]))
        head = head if isinstance(head, bytes) else json.dumps(head).encode()
        (folder/'model.safetensors').write_bytes(len(head).to_bytes(8, 'little') + head + data[8+n:])
        def name_it(p): next(o for o in p.metadata_props if o.key == 'weights').value = file_digest(folder/'model.safetensors')
        graph(name_it)(folder)
    return f


def first(head): return next(k for k in head if k != '__metadata__')
def moved(by): return lambda head: head | {first(head): head[first(head)] | dict(data_offsets=[o+by for o in head[first(head)]['data_offsets']])}


def zipped(folder):
    "What torch.save writes: a zip with a pickle in it"
    import torch
    buf = io.BytesIO()
    torch.save(dict(w=torch.zeros(2, 500)), buf)
    return buf.getvalue()


def wire(data):
    "A field of a kind no protobuf has, after a good file"
    return lambda folder: (folder/'model.onnx').write_bytes((folder/'model.onnx').read_bytes() + data)


def number_of(x):
    "A node whose domain is the number `x`, not text, in a graph after the graph"
    def f(folder):
        def varint(n): return bytes([n & 127 | 128]) + varint(n >> 7) if n > 127 else bytes([n])
        node = b'\x38' + varint(x)
        inner = b'\x0a' + varint(len(node)) + node
        wire(b'\x3a' + varint(len(inner)) + inner)(folder)
        reseal(folder)
    return f


deep = b'[' * 100_000
spoils = dict(
    domain_of_a_terabyte=number_of(2**40), domain_below_zero=number_of(2**63+5),
    # files
    empty_folder=lambda f: [p.unlink() for p in f.iterdir()],
    no_json=lambda f: (f/'model.json').unlink(),
    no_weights=lambda f: (f/'model.safetensors').unlink(),
    no_graph_file=lambda f: (f/'model.onnx').unlink(),
    a_file_instead=lambda f: (shutil.rmtree(f), f.write_text('model')),
    weights_a_folder=lambda f: ((f/'model.safetensors').unlink(), (f/'model.safetensors').mkdir()),
    json_a_folder=lambda f: ((f/'model.json').unlink(), (f/'model.json').mkdir()),
    linked_weights=link('model.safetensors'), linked_graph=link('model.onnx'), linked_json=link('model.json'),
    endless_weights=lambda f: ((f/'model.safetensors').unlink(), (f/'model.safetensors').symlink_to('/dev/zero')),
    pipe_for_json=lambda f: ((f/'model.json').unlink(), os.mkfifo(f/'model.json')),
    pipe_for_graph=lambda f: ((f/'model.onnx').unlink(), os.mkfifo(f/'model.onnx')),
    swapped=swap, swapped_resealed=resealed(swap),
    # bits and lengths
    **{f'bit_{n.split(".")[1]}_{w}': flip(n, w) for n in ('model.safetensors', 'model.onnx', 'model.json') for w in (0, .1, .5, 1)},
    **{f'cut_{n.split(".")[1]}_{s}': cut(n, s) for n in ('model.safetensors', 'model.onnx', 'model.json') for s in (0, .3, .97)},
    **{f'cut_{n.split(".")[1]}_{s}_resealed': resealed(cut(n, s)) for n in ('model.safetensors', 'model.onnx') for s in (0, .3, .97)},
    longer_graph=wire(b'\x00'), longer_weights=put('model.safetensors', lambda f: (f/'model.safetensors').read_bytes()+b'\x00'),
    longer_weights_resealed=resealed(put('model.safetensors', lambda f: (f/'model.safetensors').read_bytes()+b'\x00')),
    # pickles under other names
    pickle_json=put('model.json', bomb), pickle_weights=put('model.safetensors', bomb), pickle_graph=put('model.onnx', bomb),
    pickle_weights_resealed=resealed(put('model.safetensors', bomb)), pickle_graph_resealed=resealed(put('model.onnx', bomb)),
    # JSON that is none, or too much
    binary_json=put('model.json', bytes(range(256))), utf16_json=put('model.json', '{}'.encode('utf-16')), list_json=put('model.json', b'[]'), null_json=put('model.json', b'null'),
    deep_json=put('model.json', deep), large_json=put('model.json', lambda f: (f/'model.json').read_bytes() + b' '*deploy.max_json),
    long_number=put('model.json', b'{"format":' + b'1'*100_000 + b'}'), twins=put('model.json', lambda f: b'{"format":1,' + (f/'model.json').read_bytes().lstrip()[1:]),
    two_objects=put('model.json', lambda f: (f/'model.json').read_bytes()*2), nan=put('model.json', lambda f: (f/'model.json').read_bytes().replace(b'"temperature": 1.0', b'"temperature": NaN')),
    infinite=put('model.json', lambda f: (f/'model.json').read_bytes().replace(b'"temperature": 1.0', b'"temperature": 1e999')),
    python=put('model.json', b"__import__('os').system('touch executed')"),
    # wrong fields
    **{f'without_{k}': without(k) for k in ('format', 'vocab', 'size', 'fit', 'mean', 'digests', 'versions')},
    unknown_field=edit(run='rm -rf'), file_names=edit(files=['../../etc/passwd']), newer=edit(format=4), older=edit(format=1), squeezed=edit(fit='squish'), fit_list=edit(fit=['pad']), format_true=edit(format=True), format_word=edit(format='1'),
    vocab_turned=edit(vocab=['usb_c', 'lightning']), vocab_renamed=edit(vocab=['micro_usb', 'usb_c']), vocab_short=edit(vocab=['usb_c']), vocab_long=edit(vocab=['a', 'b', 'c']),
    vocab_twice=edit(vocab=['usb_c', 'usb_c']), vocab_word=edit(vocab='ab'), vocab_numbers=edit(vocab=[0, 1]), vocab_none=edit(vocab=None), vocab_nested=edit(vocab=[['a'], ['b']]),
    vocab_path=edit(vocab=['lightning', '../../usb_c']), vocab_dots=edit(vocab=['lightning', '..']), vocab_windows=edit(vocab=['lightning', 'C:\\usb_c']),
    vocab_escape=edit(vocab=['lightning', '\x1b[2Jusb_c']), vocab_bidi=edit(vocab=['lightning', '\u202eusb_c']), vocab_half=edit(vocab=['lightning', '\ud800']),
    vocab_newline=edit(vocab=['lightning', 'usb_c\n']), vocab_empty=edit(vocab=['lightning', '']), vocab_endless=edit(vocab=['lightning', 'x'*10_000]),
    size_zero=edit(size=0), size_minus=edit(size=-32), size_huge=edit(size=10**9), size_word=edit(size='32'), size_part=edit(size=32.5), size_true=edit(size=True), size_other=edit(size=64),
    mean_short=edit(mean=[.5]), mean_words=edit(mean=['a']*3), mean_far=edit(mean=[1e30]*3), mean_other=edit(mean=[.1, .2, .3]), std_zero=edit(std=[0, 0, 0]), std_minus=edit(std=[-1, 1, 1]),
    temperature_zero=edit(temperature=0), temperature_word=edit(temperature='hot'), temperature_other=edit(temperature=2.), threshold_two=edit(threshold=2), threshold_word=edit(threshold='x'), threshold_other=edit(threshold=.5),
    turns_other=edit(turns=4), turns_three=edit(turns=3), turns_true=edit(turns=True), turns_part=edit(turns=2.), turns_word=edit(turns='4'), turns_none=edit(turns=None), turns_many=edit(turns=10**6),
    turns_gone=without('turns'), format_2=edit(format=2), format_2_without_turns=lambda f: (without('turns')(f), edit(format=2)(f)),
    arch_other=edit(arch='resnet50'), arch_number=edit(arch=1), n_params_other=edit(n_params=7), n_params_huge=edit(n_params=10**11), data_other=edit(data_digest='1'*64), data_word=edit(data_digest='x'), command_other=edit(command='cables run --seed 7'), command_lines=edit(command='a\nb'),
    versions_list=edit(versions=[]), versions_nested=edit(versions=dict(a=dict())), versions_other=edit(versions=dict(torch='0')),
    digests_list=edit(digests=[]), digests_empty=edit(digests={}), digests_words=edit(digests={'model.safetensors': 'x', 'model.onnx': 'y'}), digests_zero=edit(digests={'model.safetensors': '0'*64, 'model.onnx': '0'*64}),
    digests_path=lambda f: write(f, about(f) | dict(digests={'../model.onnx': '0'*64} | about(f)['digests'])),
    digests_absolute=edit(digests={'/etc/passwd': '0'*64, 'model.onnx': '0'*64}),
    digests_capitals=lambda f: write(f, about(f) | dict(digests={k: v.upper() for k, v in about(f)['digests'].items()})),
    # other weights, with digests that fit
    weights_of_another_export=resealed(other_weights), weights_empty=resealed(weights({})), weights_small=resealed(weights({'w': np.zeros((2, 2), np.float32)})),
    weights_other_classes=resealed(weights({'w': np.zeros((5, 500), np.float32)})), weights_without_notes=resealed(weights({'w': np.zeros((2, 500), np.float32)}, notes=False)),
    torch_zip=resealed(put('model.safetensors', zipped)), torch_zip_graph=resealed(put('model.onnx', zipped)),
    head_outside=header(moved(10**12)), head_overlaps=header(moved(4)), head_type=header(lambda h: h | {first(h): h[first(h)] | dict(dtype='object')}),
    head_shape=header(lambda h: h | {first(h): h[first(h)] | dict(shape=[10**9, 10**9])}), head_no_json=header(lambda h: b"{'python': dict()}"), head_empty=header(lambda h: {}), head_deep=header(lambda h: deep),
    head_endless=resealed(put('model.safetensors', b'\xff'*8 + b'{}')), head_other_notes=header(lambda h: h | dict(__metadata__=dict(format='pt', model='{}'))),
    # other graphs, with digests that fit
    **{f'graph_{c.__name__}': graph(c) for c in (external, external_attribute, loop, function, domain, custom_op, rename_input, second_input, second_output, fixed_batch, other_size, no_notes, unknown_op, dangling, no_graph, future_opset, training,
                                         sparse, string_tensor, short_tensor, huge_tensor, no_output, no_weights_in_graph, branch)},
    graph_wire=resealed(wire(b'\x03\x04')), graph_endless_number=resealed(wire(b'\xff'*20)), graph_text=resealed(put('model.onnx', b'ir_version: 8')),
)


@pytest.mark.parametrize('spoil', spoils.values(), ids=spoils.keys())
def test_spoilt(folder, spoil):
    "Refused with one sentence that names the folder and says what to do; nothing in it was run"
    spoil(folder)
    with pytest.raises(CableError) as e: load_model(folder)
    said = str(e.value)
    assert str(folder) in said and ';' in said and '\n' not in said and len(said) < 500
    assert not (folder.parent/marker).exists() and not Path(marker).exists()


@pytest.mark.parametrize('same', [resealed(lambda f: None), graph(lambda p: None), header(lambda h: h)], ids=['resealed', 'graph', 'header'])
def test_the_tools_of_the_spoilers_spoil_nothing(folder, same):
    "Files read, written and sealed again without a change are accepted: above it was the change that was refused"
    same(folder)
    assert load_model(folder).vocab == ['lightning', 'usb_c']


def test_every_byte_of_the_description_counts(folder):
    "One random bit of each byte of model.json turned: all refused"
    good, rng = (folder/'model.json').read_bytes(), random.Random(0)
    for i in range(len(good)):
        (folder/'model.json').write_bytes(good[:i] + bytes([good[i] ^ 1 << rng.randrange(8)]) + good[i+1:])
        with pytest.raises(CableError): load_model(folder)
    (folder/'model.json').write_bytes(good)
    load_model(folder)


def test_random_damage(folder):
    "Random bytes of the other two files overwritten, with and without digests made to fit: never anything but a CableError"
    rng = random.Random(1)
    for name in ('model.safetensors', 'model.onnx'):
        good, n = (folder/name).read_bytes(), 0
        for i in range(60):
            bad = bytearray(good)
            for _ in range(rng.randrange(1, 6)): bad[rng.randrange(len(bad))] = rng.randrange(256)
            (folder/name).write_bytes(bad)
            if i % 2 and name == 'model.onnx': reseal(folder)
            try: load_model(folder).logits(np.zeros((1, 3, 32, 32), np.float32))
            except CableError: n += 1
            if not i % 2 and bad != good: assert n
        assert n >= 30
        (folder/name).write_bytes(good)
        reseal(folder)


def test_numbers_that_are_none(folder):
    "Weights of NaN pass every digest a stranger made to fit; the answer is refused instead"
    def spoil(p):
        for t in p.graph.initializer:
            if t.data_type == 1: t.raw_data = b'\xff'*len(t.raw_data)
    graph(spoil)(folder)
    with pytest.raises(CableError, match='not one number a class'): load_model(folder).logits(np.zeros((1, 3, 32, 32), np.float32))


def test_good_folder_with_company(folder):
    "Files that are none of ours are left alone and change nothing"
    (folder/'.DS_Store').write_bytes(b'x')
    (folder/'model.pkl').write_bytes(bomb(folder))
    assert load_model(folder).vocab == ['lightning', 'usb_c'] and not (folder.parent/marker).exists()


@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() == 0, reason='root reads everything')
def test_unreadable(folder):
    (folder/'model.onnx').chmod(0)
    with pytest.raises(CableError): load_model(folder)


# ---- writing

def test_folder_is_what_the_design_says(exported):
    assert {p.name for p in exported.iterdir()} == {'model.safetensors', 'model.json', 'model.onnx'}
    a = about(exported)
    assert a['vocab'] == ['lightning', 'usb_c'] and a['size'] == 32 and a['threshold'] is None and a['n_params'] == 3*8*9+8 + 16 + 18
    assert a['mean'] == [0.485, 0.456, 0.406] and 'torch' in a['versions']
    for f in exported.iterdir(): assert str(project).encode() not in f.read_bytes() and b'site-packages' not in f.read_bytes()


def test_same_answer_as_fastai(learn, exported, photos):
    fnames = sorted(photos.rglob('*.png'))
    with learn.no_bar(), learn.no_logging(): preds, _ = learn.get_preds(dl=learn.dls.test_dl(fnames))
    rows = load_model(exported).predict(fnames, bs=5)
    assert np.abs(np.array([list(r['probs'].values()) for r in rows]) - preds.numpy()).max() < 1e-3


@pytest.mark.parametrize('fit', ['crop', 'pad'])
def test_preprocess_is_fastai_s_resize(fit):
    "Every width that floating point treats badly at 224, and others"
    from fastai.vision.all import PadMode, PILImage, Resize, ResizeMethod
    resize = Resize(224, ResizeMethod.Crop if fit == 'crop' else ResizeMethod.Pad, PadMode.Border)
    odd = [w for w in range(20, 1000) if int(w/224*224) != w]
    assert odd
    for w in odd[:25]:
        for im in (noise(w, w+57), noise(w+31, w)):
            want = np.asarray(resize(PILImage.create(im), split_idx=1), dtype=np.float32)/255
            assert np.abs(preprocess(im, 224, [0.]*3, [1.]*3, fit).transpose(1, 2, 0) - want).max() < 1/255


@pytest.mark.parametrize('fit', ['crop', 'pad'])
def test_a_model_knows_how_its_photos_became_square(learn, photos, tmp_path, fit):
    "Cut or padded is asked of the DataLoaders, with a photo that is long, even where all others are square"
    from fastai.vision.all import PadMode, Resize, ResizeMethod
    dls = tiny_dls(photos, item_tfms=Resize(32, ResizeMethod.Crop if fit == 'crop' else ResizeMethod.Pad, PadMode.Border))
    m = load_model(export_model(with_dls(learn, dls), tmp_path/'m'))
    assert m.fit == m.about['fit'] == fit
    x = preprocess(noise(90, 31, 5), 32, m.mean, m.std, fit)
    noise(90, 31, 5).save(tmp_path/'long.png')
    assert np.allclose(m.probs(x[None])[0], list(m.predict([tmp_path/'long.png'])[0]['probs'].values()))


def test_temperature_and_threshold(learn, photos, tmp_path):
    "Temperature softens, the favourite stays; under the threshold the answer is none of these"
    m1 = load_model(export_model(learn, tmp_path/'m1', temperature=3., threshold=0.999))
    f = next(photos.rglob('*.png'))
    r = m1.predict([f])[0]
    assert r['none_of_these'] is True and r['label'] in m1.vocab and abs(sum(r['probs'].values()) - 1) < 1e-9
    z = m1.logits(preprocess(Image.open(f).convert('RGB'), 32, m1.mean, m1.std, m1.fit)[None])[0].astype(float)/3
    assert abs(r['confidence'] - (np.exp(z)/np.exp(z).sum()).max()) < 1e-6
    m1.threshold = 0.
    assert m1.predict([f])[0]['none_of_these'] is False


def test_it_looks_as_often_as_it_was_made_for(learn, photos, tmp_path):
    "The number is the folder's, and the parity of one look is checked all the same; who asks may say otherwise"
    files = sorted(photos.rglob('*.png'))[:3]
    once, four = (load_model(export_model(learn, tmp_path/f'm{n}', turns=n)) for n in (1, 4))
    assert (once.turns, four.turns, about(tmp_path/'m4')['turns']) == (1, 4, 4)
    for n in (1, 4): assert once.predict(files, turns=n) == four.predict(files, turns=n)
    assert once.predict(files) == once.predict(files, turns=1) != once.predict(files, turns=4) == four.predict(files)
    with pytest.raises(CableError, match='1, 2, 4 or 8'): four.predict(files, turns=0)
    with pytest.raises(CableError, match="'turns' cannot be right"): export_model(learn, tmp_path/'m3', turns=3)
    assert not (tmp_path/'m3').exists()


def test_a_folder_of_format_2_looks_once(learn, photos, tmp_path, monkeypatch):
    "Folders from before `turns` are read as they were meant"
    describe = deploy._describe
    def before(*args, **kwargs):
        a = describe(*args, **kwargs) | dict(format=2)
        del a['turns']
        return a
    monkeypatch.setattr(deploy, '_describe', before)
    m = load_model(export_model(learn, tmp_path/'m'))
    assert 'turns' not in m.about and m.about['format'] == 2 and m.turns == 1
    files = sorted(photos.rglob('*.png'))[:3]
    assert m.predict(files) == m.predict(files, turns=1)


@pytest.fixture(scope='module')
def remembering(photos, tmp_path_factory):
    "A folder whose graph knows its training photos, its learner, and what it knows"
    import torch
    from fastai.vision.all import CrossEntropyLossFlat, Learner, nn
    from cable_classifier.interpret import Memory, known_classes
    torch.manual_seed(0)
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU()), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)))
    learn = Learner(tiny_dls(photos), net, loss_func=CrossEntropyLossFlat())
    known = known_classes(learn)
    return export_model(learn, tmp_path_factory.mktemp('remembering')/'model', arch='tiny', threshold=0.9999, memory=Memory(known)),learn,known


def test_a_graph_with_a_memory_says_how_familiar_a_photo_is(remembering, photos, tmp_path):
    "The same familiarity as `interpret` gives, and it decides on none of these, whatever the confidence"
    from cable_classifier.interpret import familiarity, get_features
    out,learn,known = remembering
    m,files = load_model(out),list(learn.dls.valid_ds.items)
    xs = np.stack([preprocess(Image.open(f).convert('RGB'), 32, m.mean, m.std, m.fit) for f in files])
    probs,score = m.answers(xs)
    assert np.allclose(score, familiarity(*get_features(learn), known), atol=1e-3) and np.allclose(probs, m.probs(xs))
    flat = tmp_path/'flat.png'
    Image.new('RGB', (64, 64), (255, 0, 0)).save(flat)
    assert m.predict([flat])[0]['none_of_these'] is True
    m.threshold = float(score.min()) - 1e-3
    assert [r['none_of_these'] for r in m.predict([*files, tmp_path/'no.png', flat])] == [False]*len(files) + [None, True]


def test_a_memory_keeps_the_names_of_the_weights(remembering):
    "Plain torch reads the weights of such a folder into the network as it was"
    from safetensors.torch import load_file
    out,learn,known = remembering
    state = load_file(out/'model.safetensors')
    assert all(state.pop(f'memory.{name}').shape == x.shape for name,x in known._asdict().items())
    learn.model.load_state_dict(state)


@pytest.mark.parametrize('spoil', ['name', 'nan', 'shape'])
def test_a_spoilt_memory_is_refused(remembering, photos, tmp_path, spoil):
    m = load_model(remembering[0])
    class Odd:
        def get_inputs(self): return m.session.get_inputs()
        def get_modelmeta(self): return m.session.get_modelmeta()
        def get_outputs(self): return [m.session.get_outputs()[0]]*2
        def run(self, *args):
            z,score = m.session.run(*args)
            return [z, score*np.float32('nan') if spoil == 'nan' else score[:, None]]
    with pytest.raises(CableError, match='not a model folder we can trust'):
        if spoil == 'name': deploy._check_fit(m.folder, m.about, Odd(), m.folder/'model.safetensors')
        else: deploy.Model(m.folder, m.about, Odd()).predict([next(photos.rglob('*.png'))])


@pytest.mark.parametrize('kw,word', [(dict(temperature=0), 'temperature'), (dict(temperature=float('nan')), 'temperature'), (dict(threshold=1.5), 'threshold'), (dict(data_digest='abc'), 'data_digest'),
                                     (dict(arch='a\nb'), 'arch'), (dict(check=[]), 'check')], ids=str)
def test_export_refuses_odd_values(learn, tmp_path, kw, word):
    with pytest.raises(CableError, match=word): export_model(learn, tmp_path/'m', **kw)
    assert not list(tmp_path.iterdir())


def test_export_empties_no_other_folder(learn, tmp_path):
    (tmp_path/'thesis.txt').write_text('years of work')
    with pytest.raises(CableError, match='other things'): export_model(learn, tmp_path)
    with pytest.raises(CableError, match='other things'): export_model(learn, tmp_path/'thesis.txt')
    assert (tmp_path/'thesis.txt').read_text() == 'years of work'


def test_export_replaces_a_model_or_keeps_it(learn, folder, tmp_path, monkeypatch):
    "A second export takes the first one's place; one that fails leaves the first one whole"
    export_model(learn, folder, arch='second')
    assert load_model(folder).arch == 'second'
    (folder/'.DS_Store').write_bytes(b'x') # the Mac's Finder was here
    export_model(learn, folder, arch='second')
    assert load_model(folder).arch == 'second'
    monkeypatch.setattr(deploy, '_assert_parity', lambda *a: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt): export_model(learn, folder, arch='third')
    assert load_model(folder).arch == 'second' and [p.name for p in tmp_path.iterdir()] == ['model']


def test_weights_keep_no_path(learn, tmp_path):
    out = export_model(learn, tmp_path/'m', weights=str(tmp_path/'mine.safetensors'))
    assert about(out)['weights'] == 'mine.safetensors'


def with_dls(learn, dls):
    import copy
    other = copy.copy(learn)
    other.dls = dls
    return other


def test_parity_begins_at_the_file(learn, photos, tmp_path):
    "Another pipeline than `Resize`, no `Normalize` or two: refused, nothing written"
    from fastai.vision.all import Normalize, PadMode, Resize, ResizeMethod, imagenet_stats
    twice = tiny_dls(photos)
    twice.add_tfms([Normalize.from_stats(*imagenet_stats)], 'after_batch')
    for dls, word in ((tiny_dls(photos, item_tfms=Resize(32, method=ResizeMethod.Squish)), 'other pixels'),
                      (tiny_dls(photos, item_tfms=Resize(32, ResizeMethod.Pad, PadMode.Zeros)), 'other pixels'), (tiny_dls(photos, batch_tfms=[]), '0 times'),
                      (twice, '2 times'), (tiny_dls(photos, item_tfms=Resize((32, 48))), 'square')):
        with pytest.raises(CableError, match=word): export_model(with_dls(learn, dls), tmp_path/'m')
        assert not list(tmp_path.iterdir())


def test_parity_of_the_network(learn, exported, photos):
    "A graph that is not the network's is noticed"
    net = deploy._plain_copy(learn.model)
    net[-1].bias.data += 1.
    net[-1].bias.data[0] += 2.
    with pytest.raises(CableError, match='torch and onnxruntime differ'): deploy._assert_parity(learn, net, load_model(exported), sorted(photos.rglob('*.png')))


def test_learner_stays_as_it_was(learn, tmp_path):
    learn.model.train()
    before = {k: v.clone() for k, v in learn.model.state_dict().items()}
    export_model(learn, tmp_path/'m')
    assert learn.model.training and all((before[k] == v).all() for k, v in learn.model.state_dict().items())


def test_weights_can_be_read_back(learn, exported):
    "The safetensors file is the network's state, by its names"
    from safetensors.torch import load_file
    state = load_file(exported/'model.safetensors')
    assert state.keys() == learn.model.state_dict().keys() and all((v.cpu() == state[k]).all() for k, v in learn.model.state_dict().items())


def test_export_is_quiet(learn, tmp_path, capfd, recwarn):
    export_model(learn, tmp_path/'m')
    assert capfd.readouterr() == ('', '') and not recwarn.list


# ---- predicting

def test_bad_photos_do_not_stop_the_rest(exported, photos, tmp_path):
    "Every kind of bad input gets its own record, in its place"
    good = sorted(photos.rglob('*.png'))
    bad = [tmp_path/n for n in ('empty.jpg', 'text.jpg', 'cut.png', 'none.jpg', 'folder.jpg', 'pickle.jpg')]
    bad[0].touch(); bad[1].write_text('hello'); bad[2].write_bytes(good[0].read_bytes()[:500]); bad[4].mkdir(); bad[5].write_bytes(bomb(tmp_path))
    odd = ['', '\0', 'x'*5000, '\ud800', '/dev/zero', '~', 7, None]
    paths = [p for pair in zip(good, bad + odd) for p in pair]
    rows = load_model(exported).predict(paths, bs=3)
    assert [r['path'] for r in rows] == [str(p) for p in paths] and [r['error'] is None for r in rows] == [True, False]*(len(paths)//2)
    assert all(r['label'] is None and r['probs'] is None and r['confidence'] is None for r in rows if r['error'])
    assert [json.loads(json.dumps(r)) for r in rows] == rows and not (tmp_path/marker).exists()


def test_batches_do_not_matter_and_come_as_needed(exported, photos):
    "Any batch size, any iterable; no photo is opened before it is asked for"
    fnames, model = sorted(photos.rglob('*.png')), load_model(exported)
    one, many = model.predict(fnames, bs=1), model.predict(iter(fnames), bs=100)
    for a, b in zip(one, many): assert a['label'] == b['label'] and abs(a['confidence'] - b['confidence']) < 1e-5
    asked = []
    def names():
        for f in fnames:
            asked.append(f)
            yield f
    next(predict_photos(model, names(), bs=4))
    assert len(asked) == 4
    assert model.predict([]) == []


def test_photos_opened_side_by_side(exported, photos, tmp_path):
    "The same records in the same order, and no trace in the filters of warnings"
    (tmp_path/'bad.jpg').write_bytes(b'no photo')
    fnames, model, before = [*sorted(photos.rglob('*.png')), tmp_path/'bad.jpg']*6, load_model(exported), list(warnings.filters)
    alone = list(predict_photos(model, fnames, threads=1))
    assert list(predict_photos(model, fnames, threads=8)) == alone == model.predict(fnames) and [r['path'] for r in alone] == [str(f) for f in fnames]
    assert warnings.filters == before


@pytest.mark.parametrize('seed', range(4))
def test_padded_as_fastai_pads(seed):
    "To the pixel, whatever the shape: wide, tall, square, thinner than a pixel of the result"
    from fastai.vision.all import PadMode, PILImage, Resize, ResizeMethod
    rng = np.random.default_rng(seed)
    for w, h in [(1, 1), (1, 700), (700, 1), (256, 255), (255, 256), *rng.integers(1, 700, (40, 2))]:
        im, size = noise(int(w), int(h)), int(rng.choice([8, 64, 160, 224]))
        assert np.array_equal(deploy.pad_square(im, size), Resize(size, ResizeMethod.Pad, PadMode.Border)(PILImage.create(im), split_idx=1)), (w, h, size)


def test_shapes_of_photos(exported, tmp_path):
    "One pixel, one line, a very long strip, grey, palette, transparent: all are photos"
    ims = [Image.new('RGB', (1, 1)), Image.new('RGB', (1, 900)), Image.new('RGB', (5000, 2)), noise(9, 9).convert('L'), noise(30, 40).convert('P'), Image.new('RGBA', (50, 50), (1, 2, 3, 0))]
    for i, im in enumerate(ims): im.save(tmp_path/f'{i}.png')
    assert [r['error'] for r in load_model(exported).predict(sorted(tmp_path.iterdir()))] == [None]*len(ims)


def test_no_torch_is_imported(exported, photos):
    "Import, load, predict: torch, fastai, onnx and what they bring stay on the disk"
    code = ("import sys\nfrom cable_classifier.deploy import load_model\nr = load_model(sys.argv[1]).predict([sys.argv[2]])\nassert r[0]['error'] is None\n"
            "print([m for m in ('torch', 'torchvision', 'fastai', 'fastcore', 'onnx', 'onnxscript', 'pandas', 'matplotlib', 'scipy') if m in sys.modules])")
    r = subprocess.run([sys.executable, '-c', code, exported, next(photos.rglob('*.png'))], capture_output=True, text=True, cwd=project)
    assert r.stdout.strip() == '[]', r.stderr


def ten_lines():
    "The two cells of 13_deploy that read the graph without this package: imports, and the rest"
    cells = [''.join(c['source']) for c in json.loads((project/'nbs'/'13_deploy.ipynb').read_text(encoding='utf-8'))['cells']]
    return '\n'.join(c for c in cells if '#| export' not in c and (c.startswith('import json, numpy as np, onnxruntime as ort') or 'ort.InferenceSession' in c))


@pytest.mark.parametrize('turns', [1, 2, 4])
def test_ten_lines_give_the_answer_of_cables_predict(learn, turns, tmp_path, cables):
    "In a process that loads nothing of ours, on photos of awkward sizes and turned ones: the same numbers"
    folder = export_model(learn, tmp_path/'model', turns=turns)
    assert len(ten_lines().splitlines()) == 10
    for i, (w, h) in enumerate([(32, 32), (33, 90), (230, 320), (97, 41), (229, 230), (640, 480)]):
        exif = Image.Exif()
        exif[0x0112] = i + 1
        noise(w, h, i).save(tmp_path/f'{i}.jpg', exif=exif)
    fnames = sorted(tmp_path.glob('*.jpg'))
    code = f"import json, sys\ncode, folder, *photos = sys.argv[1:]\nfor p in photos:\n    d = dict(folder=folder, photo=p)\n    exec(code, d)\n    print(json.dumps(d['probs'].tolist()))\n" \
           "print([m for m in ('cable_classifier', 'torch', 'fastai') if m in sys.modules])"
    r = subprocess.run([sys.executable, '-c', code, ten_lines(), str(folder), *map(str, fnames)], capture_output=True, text=True, check=True, cwd=tmp_path, env=dict(os.environ, ORT_DISABLE_TELEMETRY='1'))
    *rows, loaded = r.stdout.splitlines()
    said = [json.loads(l) for l in cables('predict', folder, *fnames, '--json').stdout.splitlines()]
    assert loaded == '[]' and len(rows) == len(said) == 6
    for row, r in zip(rows, said): assert np.abs(np.array(json.loads(row)) - list(r['probs'].values())).max() < 1e-5


def test_one_line_a_photo_whatever_its_name(exported, tmp_path, cables):
    "A newline, an escape sequence or half a character in a name: still one line each, nothing the terminal obeys"
    if os.name == 'nt': pytest.skip('Windows has no such names')
    names = ['a\nb.png', 'c\x1b[2Jd.png', 'e\rf.png', os.fsdecode(b'g\xff.png')]
    for n in names: noise(40, 40).save(tmp_path/'x.png'); (tmp_path/'x.png').rename(tmp_path/n)
    for n in names: (tmp_path/f'bad{n}').write_bytes(b'no photo')
    r = cables('predict', exported, tmp_path)
    assert r.returncode == 1 and len(r.stdout.splitlines()) == len(r.stderr.splitlines()) == 4, (r.stdout, r.stderr)
    assert '\x1b' not in r.stdout + r.stderr and 'Traceback' not in r.stderr
