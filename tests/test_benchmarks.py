"Each benchmark runs in its smallest form and prints a ratio; what the ratio is, is for the machine it is asked on."
import json
import re
import subprocess
import sys

import pytest

from conftest import root


def bench(name, *args):
    return subprocess.run([sys.executable, '-W', 'ignore', '-m', f'benchmarks.{name}', *map(str, args)], capture_output=True, text=True, timeout=300, cwd=root)


@pytest.mark.parametrize('name', ['startup', 'memory', 'train', 'kept', 'beside'])
def test_prints_a_ratio(name, tmp_path):
    p = bench(name, '--small', '--json', tmp_path/'figures.json')
    assert p.returncode == 0, p.stderr
    assert 'ratio' in p.stdout and re.search(r'\d\.\d\d', p.stdout)
    assert all(r['ratio'] > 0 for r in json.loads((tmp_path/'figures.json').read_text())['rows'])


@pytest.mark.parametrize('args,lines', [(['augment', '--only', 'none', 'any way round'], ['none', 'any way round']),
                                        (['fewshot'], ['starter: straight line', 'starter: 2 a class', 'random: straight line', 'random: 2 a class']),
                                        (['growth'], ['one epoch at 64 px']*2+['prediction']*2)])
def test_prints_a_line_for_each(args, lines, tmp_path):
    p = bench(*args, '--small', '--json', tmp_path/'figures.json')
    assert p.returncode == 0, p.stderr
    assert [r['name'] for r in json.loads((tmp_path/'figures.json').read_text())['rows']] == lines
    assert all(any(l.startswith(name) for l in p.stdout.splitlines()) for name in lines)


def test_says_that_there_is_no_gpu(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    p = bench('startup', '--gpu')
    assert p.returncode == 0 and p.stdout.count('\n') == 1 and 'no GPU' in p.stdout


def test_predict_prints_a_ratio_or_says_why_not(tmp_path):
    p = bench('predict', '--small', '--json', tmp_path/'figures.json')
    assert p.returncode == 0, p.stderr
    if 'cannot export' in p.stdout: pytest.skip(p.stdout.strip())
    assert all(r['ratio'] > 0 for r in json.loads((tmp_path/'figures.json').read_text())['rows'])


def test_crop_and_int8_say_what_is_missing(small_run, tmp_path):
    "A folder without the classes of the model: one sentence; with a photo of each: a line for each way to cut, and for each precision"
    from PIL import Image
    model_folder, real = small_run[0], tmp_path/'real'
    real.mkdir()
    for name in ('crop', 'int8'):
        p = bench(name, real, '--model', model_folder)
        assert p.returncode == 1 and p.stderr.count('\n') == 1 and 'needs a folder of each' in p.stderr
    for c in ('lightning', 'micro_usb', 'usb_c'):
        (real/c).mkdir()
        Image.effect_noise((90, 60), 60).convert('RGB').save(real/c/'a.jpg')
    p = bench('crop', real, '--model', model_folder, '--json', tmp_path/'figures.json')
    assert p.returncode == 0, p.stderr
    assert [r['name'] for r in json.loads((tmp_path/'figures.json').read_text())['rows']] == ['whole', 'middle, 0.8', 'middle, 0.6', 'what stands out', 'the locator']
    p = bench('int8', real, '--model', model_folder, '--repeat', 3, '--json', tmp_path/'int8.json')
    assert p.returncode == 0, p.stderr
    rows = json.loads((tmp_path/'int8.json').read_text())['rows']
    assert [r['name'] for r in rows] == ['float32', '8 bits'] and rows[1]['mb'] < rows[0]['mb']/2.5


def test_real_photos_are_scored_by_hand_counts(monkeypatch):
    "Two of three right; a photo that does not open is wrong; of the others only what was refused counts"
    monkeypatch.syspath_prepend(root)   # `benchmarks` is run from a checkout, never installed
    from benchmarks.real_photos import score
    def row(target, label, none=False): return dict(target=target, label=label, none_of_these=none)
    s = score([row('usb_c', 'usb_c'), row('usb_c', None, None), row('micro_usb', 'micro_usb', True), row('other', 'usb_c', True), row('other', 'usb_c')],
              ['lightning', 'micro_usb', 'usb_c'])
    assert (s['n'], s['accuracy'], s['recall'], s['balanced_accuracy']) == (3, 2/3, {'micro_usb': 1., 'usb_c': .5}, .75)
    assert (s['n_other'], s['other_refused'], s['known_refused']) == (2, .5, 1/3)
    assert s['ci95'][0] < 2/3 < s['ci95'][1]


def test_real_strangers_are_parted_by_hand_counts(monkeypatch):
    "Familiarity parts the four that open; of the three others two are named surely, one of which is refused"
    monkeypatch.syspath_prepend(root)
    import numpy as np
    from types import SimpleNamespace
    from benchmarks import real_photos
    def row(path, target, confidence, none): return dict(path=path, target=target, confidence=confidence, none_of_these=none, error=None)
    rows = [row('a', 'usb_c', .95, False), row('b', 'other', .97, False), row('c', 'other', .9, True), row('d', 'other', .5, False),
            dict(path='e', target='usb_c', confidence=None, none_of_these=None, error='is empty')]
    asked = dict(a=.8, b=.6, c=.1, d=.7)
    monkeypatch.setattr(real_photos, 'answers', lambda model, paths, turns: (None, np.array([asked[p] for p in paths])))
    said = real_photos.parted(SimpleNamespace(vocab=['lightning', 'micro_usb', 'usb_c']), rows, 1)
    assert said == pytest.approx(dict(other_auroc=1., other_auroc_confidence=2/3, other_confident=1/3, other_confident_plain=2/3))
    assert set(said) == set(real_photos.parted_figures)


def test_real_photos_needs_classes_and_others(small_run):
    "Asked before anything is trained"
    p = bench('real_photos', small_run[1])
    assert p.returncode and 'others in a folder `other`' in p.stderr and 'Traceback' not in p.stderr, p.stderr


@pytest.mark.parametrize('turns', [1, 4])
def test_real_photos_are_asked_about_as_predict_asks(monkeypatch, small_run, turns):
    "The names are those of `predict`, and what lies below the threshold is what it refuses"
    monkeypatch.syspath_prepend(root)
    from benchmarks.real_photos import answers
    from cable_classifier.deploy import load_model
    from cable_classifier.photos import get_photos
    model, files = load_model(small_run[0]), get_photos(small_run[1])[::3]
    named, how = answers(model, files, turns)
    assert how.shape == (len(files),) and 0 < model.threshold < 1
    assert list(zip(named, (how < model.threshold).tolist())) == [(r['label'], r['none_of_these']) for r in model.predict(files, turns=turns)]
