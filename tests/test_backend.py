"The graph of a model folder, run by OpenVINO: the same answers, nobody told of it, and a sentence where it cannot be."
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip('openvino', reason='OpenVINO is not installed')

from cable_classifier.backend import with_openvino
from cable_classifier.deploy import load_model
from cable_classifier.workspace import CableError
from test_shrink import model, photos, small # noqa: F401


@pytest.fixture(scope='module')
def both(model): # noqa: F811
    plain = load_model(model)
    return plain, with_openvino(plain)


def test_the_same_answers(both, photos): # noqa: F811
    "Label, familiarity and everything else of the folder; to the last digits only where both compute in float32"
    plain, quick = both
    assert quick.about == plain.about and quick.threshold == plain.threshold and quick.vocab == plain.vocab
    assert quick.session.precision in ('f32', 'bf16', 'f16')
    x = np.random.default_rng(0).normal(size=(5, 3, 96, 96)).astype(np.float32)
    (p, s), (q, t) = (m.answers(x) for m in both)
    far = 1e-3 if quick.session.precision == 'f32' else .05
    assert q.shape == p.shape and t.shape == s.shape and np.abs(p-q).max() < far and np.abs(s-t).max() < far
    a, b = (m.predict(photos) for m in both)
    assert [r['path'] for r in a] == [r['path'] for r in b]
    assert sum(r['label'] != o['label'] for r, o in zip(a, b)) <= len(a)//20


@pytest.mark.parametrize('n', [1, 2, 7, 1])
def test_any_number_of_photos(both, n):
    x = np.random.default_rng(n).normal(size=(n, 3, 96, 96)).astype(np.float32)
    assert both[1].logits(x).shape == (n, 3)
    assert np.abs(both[1].logits(x)[:1] - both[1].logits(x[:1])).max() < .05


def test_turns_are_the_model_s(both):
    x = np.random.default_rng(0).normal(size=(2, 3, 96, 96)).astype(np.float32)
    assert np.abs(both[0].answers(x, 4)[0] - both[1].answers(x, 4)[0]).max() < .05


def test_threads_get_their_own_answers(both):
    xs = list(np.random.default_rng(0).normal(size=(24, 1, 3, 96, 96)).astype(np.float32)*np.linspace(.1, 3, 24, dtype=np.float32)[:, None, None, None, None])
    alone = [both[1].logits(x) for x in xs]
    with ThreadPoolExecutor(6) as pool:
        for a, b in zip(alone, pool.map(both[1].logits, xs)): assert np.abs(a-b).max() < 1e-3


def test_a_graph_in_8_bits(small, photos): # noqa: F811
    a = load_model(small[0])
    x, y = (m.predict(photos) for m in (a, with_openvino(a, threads=1)))
    assert sum(r['label'] != o['label'] for r, o in zip(x, y)) <= len(x)//10


def test_nobody_is_told(model, photos, tmp_path): # noqa: F811
    "Nothing is written into the home folder, what reports is not loaded, and torch stays out"
    code = ("import sys; from cable_classifier.deploy import load_model; from cable_classifier.backend import with_openvino; "
            "r = with_openvino(load_model(sys.argv[1])).predict([sys.argv[2]]); "
            "print(r[0]['error'], [m for m in sys.modules if m.startswith(('openvino_telemetry.', 'torch')) or (m == 'openvino_telemetry' and sys.modules[m])])")
    home = tmp_path/'home'
    home.mkdir()
    r = subprocess.run([sys.executable, '-c', code, str(model), str(photos[0])], capture_output=True, text=True, env=os.environ | dict(HOME=str(home), USERPROFILE=str(home)))
    assert r.stdout.strip() == 'None []', r
    assert not list(home.iterdir())


@pytest.mark.parametrize('spoil, words', [(lambda f: f.write_bytes(b'another graph'), 'has changed'), (lambda f: f.unlink(), 'cannot read')])
def test_a_file_that_is_another_by_now(model, tmp_path, spoil, words): # noqa: F811
    m = load_model(shutil.copytree(model, tmp_path/'model'))
    spoil(tmp_path/'model'/'model.onnx')
    with pytest.raises(CableError, match=words): with_openvino(m)


def test_a_graph_it_cannot_run(both, monkeypatch):
    import openvino
    class Core:
        def read_model(self, data): return data
        def compile_model(self, graph, device, config): raise RuntimeError('Check failed at line 1')
    monkeypatch.setattr(openvino, 'Core', Core)
    with pytest.raises(CableError, match='stay with onnxruntime'): with_openvino(both[0])


def test_command_line(model, photos, cables, monkeypatch): # noqa: F811
    plain, quick = ([json.loads(line) for line in cables('predict', model, *photos[:6], '--json', '--backend', how).stdout.splitlines()] for how in ('onnxruntime', 'openvino'))
    assert len(quick) == 6 and [r['path'] for r in plain] == [r['path'] for r in quick] and all(r['error'] is None for r in quick)
    for a, b in zip(plain, quick): assert max(abs(a['probs'][k]-b['probs'][k]) for k in a['probs']) < .05
    r = cables('predict', model, photos[0], '--backend', 'openvino', '--engine', 'ray')
    assert r.returncode == 2 and '--engine ray works with onnxruntime' in r.stderr and not r.stdout


def test_not_installed(model, photos): # noqa: F811
    code = "import sys; sys.modules['openvino'] = None; from cable_classifier.cli import main; main()"
    r = subprocess.run([sys.executable, '-c', code, 'predict', str(model), str(photos[0]), '--backend', 'openvino'], capture_output=True, text=True)
    assert r.returncode == 2 and "pip install 'cable_classifier[openvino]'" in r.stderr and 'Traceback' not in r.stderr and not r.stdout
