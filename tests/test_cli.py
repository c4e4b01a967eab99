"What a user types, and what they get for it."
import json
import os
import shutil
import subprocess
import sys

import pytest


def refused(r, *words):
    "One sentence on stderr, exit code 2, no traceback"
    assert r.returncode == 2, r.stderr
    assert 'Traceback' not in r.stderr
    line = [l for l in r.stderr.splitlines() if l.startswith('cables: ')]
    assert len(line) == 1, r.stderr
    for w in words: assert str(w) in line[0]
    return line[0]


def test_help_is_quick_and_light(cables):
    "No heavy import stands between a user and the help"
    r = cables('--help')
    assert r.returncode == 0 and all(v in r.stdout for v in ('run', 'predict', 'render'))
    for verb in ('run', 'predict', 'render'): assert cables(verb, '--help').returncode == 0


@pytest.mark.parametrize('spoil,words', [
    (lambda p: shutil.rmtree(p), ('no folder',)),
    (lambda p: [shutil.rmtree(d) for d in p.iterdir()], ('no photos', 'one folder per class')),
    (lambda p: (p.rename(p.parent/'train'), p.mkdir(), (p.parent/'train').rename(p/'train')), ('deeper', 'photos/train')),
    (lambda p: [shutil.rmtree(p/c) for c in ('usb_c', 'micro_usb')], ('one class only', 'lightning')),
    (lambda p: [f.unlink() for f in sorted((p/'usb_c').iterdir())[1:]], ("'usb_c'", 'has 1 photo')),
    (lambda p: [f.write_bytes(b'not a photo') for f in p.rglob('*.jpg')], ('none of the 72 photos', 'opens')),
], ids=['missing', 'empty', 'split already', 'one class', 'one photo', 'none decodes'])
def test_bad_data_folder(cables, photos, tmp_path, spoil, words):
    "A data folder that cannot be trained on: one sentence, exit code 2, nothing written"
    spoil(photos)
    refused(cables('run', '--data', photos, '--out', tmp_path/'out'), *words)
    assert not (tmp_path/'out').exists()


def test_a_file_where_a_folder_should_be(cables, photos, tmp_path):
    refused(cables('run', '--data', next(photos.rglob('*.jpg')), '--out', tmp_path/'out'))
    assert not (tmp_path/'out').exists()


def test_weights_that_cannot_be_had(cables, photos, tmp_path):
    "No network and no cache: says where the file is expected, and what works offline"
    env = dict(CABLES_HOME=str(tmp_path/'home'), TORCH_HOME=str(tmp_path/'torch'), HOME=str(tmp_path), PATH='', https_proxy='http://127.0.0.1:9', http_proxy='http://127.0.0.1:9')
    line = refused(cables('run', '--data', photos, '--out', tmp_path/'out', '--weights', 'imagenet', env=env), tmp_path/'torch', 'starter', 'offline')
    assert 'resnet18' in line and not (tmp_path/'out').exists()
    refused(cables('run', '--data', photos, '--out', tmp_path/'out', '--arch', 'resnet99'), 'resnet99')
    refused(cables('run', '--data', photos, '--out', tmp_path/'out', '--arch', 'resnet34'), 'resnet34', 'imagenet')
    refused(cables('run', '--data', photos, '--out', tmp_path/'out', '--weights', tmp_path/'no.safetensors'), 'no.safetensors')
    assert not (tmp_path/'out').exists()


def test_out_that_cannot_be_written(cables, photos, tmp_path):
    (tmp_path/'file').write_text('in the way')
    refused(cables('run', '--data', photos, '--out', tmp_path/'file'/'out'))


def test_a_note_where_the_model_goes(cables, photos, tmp_path):
    "Whatever would be in the way at the end is found at the beginning; what macOS leaves in every folder is not in the way"
    model = tmp_path/'out'/'model'
    model.mkdir(parents=True)
    (model/'.DS_Store').touch()
    (model/'note.txt').write_text('mine')
    refused(cables('run', '--data', photos, '--out', tmp_path/'out'), model, 'holds other things than a model')
    assert {p.name for p in model.iterdir()} == {'.DS_Store', 'note.txt'} and [p.name for p in (tmp_path/'out').iterdir()] == ['model']


def test_what_is_not_of_a_run_stays(cables, photos, tmp_path):
    "Whoever names a folder with things of their own in it keeps them"
    for i, mine in enumerate(('checkpoint/my/thesis.txt', 'report.html', 'model_card.md')):
        (file := tmp_path/str(i)/mine).parent.mkdir(parents=True)
        file.write_text('precious')
        refused(cables('run', '--data', photos, '--out', tmp_path/str(i)), 'is not of a run', 'another --out')
        assert file.read_text() == 'precious'


@pytest.mark.parametrize('words', [('check', '', '--fix'), ('run', '--data', ''), ('run', '--groups', ''), ('predict', 'model', 'a.jpg', ''), ('render', ''), ('crop', 'photos', '')])
def test_nothing_is_no_name(cables, words, tmp_path):
    "A variable of a shell that is not set must not mean the folder one stands in"
    refused(cables(*words), 'is empty')


def test_class_names(cables, photos, tmp_path):
    "What no model folder could hold is told before anything is trained"
    (photos/'usb_c').rename(photos/'usb\\c')
    refused(cables('run', '--data', photos, '--out', tmp_path/'out'), 'class', 'rename it')
    assert not (tmp_path/'out').exists()


def test_a_share_is_a_number(cables):
    refused(cables('collect', 'a', '--class', 'usb_c=one', '--class', 'usb_c=two'), 'twice')
    r = cables('shrink', 'a', 'b', '--most', 'nan')
    assert r.returncode == 2 and 'nan is not a number' in r.stderr


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no /dev/full here')
@pytest.mark.parametrize('words', [('--help',), ('--version',), ('check', '{photos}')])
def test_nobody_takes_the_answers(photos, words):
    "A full disk behind the answers is a sentence"
    words = [w.format(photos=photos) for w in words]
    with open('/dev/full', 'w') as full:
        r = subprocess.run([sys.executable, '-c', 'from cable_classifier.cli import main; main()', *words], stdout=full, stderr=subprocess.PIPE, text=True)
    refused(r, 'cannot write the answers', 'No space left')


def test_names_are_one_line():
    "No name can clear the screen, break a line or make a column of its own"
    from cable_classifier.cli import _column, _plain
    assert _plain('a\x1b[2Jb\nc\x9bd\x07\u2028e\u202ef\udcff') == r'a\x1b[2Jb\nc\x9bd\x07\u2028e\u202ef\udcff'
    assert _plain('Kabel für 日本.jpg\t1') == 'Kabel für 日本.jpg\t1' and _column('a\tb') == r'a\tb'


def test_run_and_predict(cables, photos, tmp_path):
    "One bad photo is named and left out; the run writes what the design says; the model folder predicts"
    (photos/'usb_c'/'cut.jpg').write_bytes(next((photos/'usb_c').iterdir()).read_bytes()[:2000])
    out = tmp_path/'out'
    r = cables('run', '--data', photos, '--out', out, '--groups', r'^(.+)_\d+\.jpg$', '--epochs', '1', '--finetune-epochs', '1')
    assert r.returncode == 0, r.stderr
    assert 'cut.jpg' in r.stdout and 'only 72 photos' in r.stdout
    assert 'valid_loss' in r.stdout and '%' not in r.stdout, 'bars are drawn on a screen, not into a file; lines of the table go there'
    m = json.loads((out/'metrics.json').read_text())
    assert m['vocab'] == ['lightning', 'micro_usb', 'usb_c'] and [s['name'] for s in m['stages']] == ['stage-1', 'stage-2']
    low, high = m['test']['error_rate_ci95']
    assert low <= m['test']['error_rate'] <= high and m['n_train'] + m['n_valid'] + m['n_test'] == 72
    assert {p.name for p in (out/'model').iterdir()} == {'model.safetensors', 'model.json', 'model.onnx'}
    assert f"| error rate | {m['test']['error_rate']:.3f} | {low:.3f} to {high:.3f} | {m['n_test']} |" in (out/'model_card.md').read_text()
    report = (out/'report.html').read_text()
    assert report.count('<img alt=') == 4 and '</html>' in report

    r = cables('predict', out/'model', photos, '--json')
    rows = [json.loads(l) for l in r.stdout.splitlines()]
    assert r.returncode == 1 and len(rows) == 73, 'one bad file fails, the rest go on'
    bad = [x for x in rows if x['error']]
    assert len(bad) == 1 and 'cut.jpg' in bad[0]['path']
    assert all(list(x) == ['path', 'label', 'confidence', 'probs', 'none_of_these', 'error'] for x in rows)
    good = next((photos/'usb_c').glob('usb_c*.jpg'))
    r = cables('predict', out/'model', good)
    assert r.returncode == 0 and len(r.stdout.splitlines()) == 1 and str(good) in r.stdout
    refused(cables('predict', tmp_path/'nowhere', good))
    (tmp_path/'empty').mkdir()
    refused(cables('predict', out/'model', tmp_path/'empty'), tmp_path/'empty', 'no photos')
    r = cables('predict', out/'model', tmp_path/'empty', good, '--json')
    assert r.returncode == 1 and [json.loads(l)['error'] is None for l in r.stdout.splitlines()] == [False, True]
    refused(cables('predict', out/'model', good, '--out', tmp_path/'answers'), '--engine ray')
    refused(cables('check', photos, '--address', 'auto'), '--engine ray')


def test_interrupted(photos, tmp_path):
    "Ctrl-C in mid-run leaves no half-written result under its final name"
    import signal
    import time
    out = tmp_path/'out'
    p = subprocess.Popen([sys.executable, '-c', 'from cable_classifier.cli import main; main()', 'run', '--data', str(photos), '--out', str(out), '--epochs', '50'],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) # a job in the background starts with Ctrl-C ignored
    p.stdout.readline()
    time.sleep(20)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=60)
    assert p.returncode == 130 and 'interrupted' in err and 'Traceback' not in err
    assert not (out/'metrics.json').exists() and not (out/'model').exists()


def test_a_cluster_that_names_half_of_itself(monkeypatch):
    "A variable that some schedulers set for every process does not make a team of one"
    from cable_classifier.cli import _team
    for size, rank, host in (('2', None, None), ('', '0', 'h'), ('abc', '0', 'h'), ('1', '0', 'h'), ('2', '0', '')):
        for k, v in dict(WORLD_SIZE=size, RANK=rank, MASTER_ADDR=host).items(): monkeypatch.delenv(k, raising=False) if v is None else monkeypatch.setenv(k, v)
        assert _team(1, 'cpu') is None


@pytest.mark.parametrize('words, said', [(('check', 'x', '--yes'), '--yes belongs to --fix'), (('check', 'x', '--undo', '--split', 'y.csv'), '--undo takes neither'), (('app', 'x', '--host', ''), '--host is empty')])
def test_options_that_nobody_would_heed(cables, words, said):
    r = cables(*words)
    assert r.returncode == 2 and said in r.stderr and len(r.stderr.splitlines()) == 1


@pytest.mark.skipif(os.name == 'nt', reason='no ulimit')
def test_answers_that_cannot_be_written(small_run, tmp_path):
    "A file that grows past a limit, and a closed standard output: a sentence, exit code 2"
    model, photos = small_run
    code = f'{sys.executable} -c "from cable_classifier.cli import main; main()" predict {model} {photos} --json'
    for command, said in ((f'ulimit -f 1; {code} > {tmp_path/"a"}', 'cannot write the answers'), (f'{code} >&-', 'standard output is closed')):
        r = subprocess.run(['bash', '-c', command], capture_output=True, text=True)
        assert r.returncode == 2 and said in r.stderr and len(r.stderr.splitlines()) == 1, r
