"Runs that are killed, run at the same time, or meet a disk that takes no more."
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

from conftest import some_photos

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='kills and forks, as Unix has them')


def serve():
    "Import everything once; then each line on stdin starts `cables` in a fork of this process, or asks after one"
    import onnxscript, torch.onnx  # noqa: what the export imports late
    import cable_classifier.run as job
    from functools import partial
    from cable_classifier.cli import main
    job.run_course, job.find_lr = partial(job.run_course, size=64, bs=16), partial(job.find_lr, num_it=12) # small, so that kills hit more than one place
    print('ready', flush=True)
    for line in sys.stdin:
        ask = json.loads(line)
        if 'args' in ask: answer = start(main, **ask)
        else:
            pid, status = os.waitpid(ask['pid'], 0 if ask['wait'] else os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        print(json.dumps(answer), flush=True)


def start(main, args, log, most):
    "The process number of `cables` with `args`, which writes to the file `log`, and nowhere files of more than `most` bytes"
    if pid := os.fork(): return pid
    fd = os.open(log, os.O_CREAT|os.O_WRONLY|os.O_TRUNC)
    for n in (1, 2): os.dup2(fd, n)
    if most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    try: code = main(args, prog_name='cables')
    except SystemExit as e: code = e.code
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code or 0)


class Runs:
    "Starts `cables run` again and again without importing again"
    def __init__(self):
        self.server = subprocess.Popen([sys.executable, '-W', 'ignore', __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ, OMP_NUM_THREADS='1'))
        while (line := self.server.stdout.readline()) != 'ready\n': assert line, 'the server did not come up'

    def ask(self, **kwargs):
        self.server.stdin.write(json.dumps(kwargs) + '\n')
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())

    def start(self, data, out, *more, most=0):
        "Begin a run of two and three epochs; returns its number"
        args = ['run', '--data', data, '--out', out, '--groups', r'^(.+)_\d+\.jpg$', '--epochs', 2, '--finetune-epochs', 3, '--device', 'cpu', *more]
        return self.ask(args=[str(a) for a in args], log=f'{out}.log', most=most)

    def code(self, pid, wait=True): return self.ask(pid=pid, wait=wait)

    def run(self, data, out, *more, **kwargs):
        "Exit code of a whole run, and all it said"
        code = self.code(self.start(data, out, *more, **kwargs))
        return code, said(out)

    def kill(self, pid, after, out=None):
        "Kill `pid` after so many seconds; with `out` at the next moment a file is being written there. Whether it was killed, or had ended before"
        end, old = time.time()+after, writing(out) if out else set()
        while time.time() < end or out and not writing(out)-old:
            if (code := self.code(pid, wait=False)) is not None:
                assert code == 0
                return False
            time.sleep(.002)
        os.kill(pid, signal.SIGKILL)
        return self.code(pid) == -signal.SIGKILL


def said(out): return out.with_name(f'{out.name}.log').read_text(errors='replace')


def writing(out):
    "The files and folders for `out` that are being written, or were when a run was killed"
    return {*out.glob('.*-????????'), *out.glob('*/.*-????????')}


@pytest.fixture(scope='module')
def runs():
    runs = Runs()
    yield runs
    runs.server.stdin.close()
    runs.server.wait(60)


@pytest.fixture(scope='module')
def data(embedded, tmp_path_factory):
    "Sixty-three photos in three classes, three of each cable"
    return some_photos(embedded, tmp_path_factory.mktemp('resume')/'photos', 21)


@pytest.fixture(scope='module')
def whole(runs, data, home):
    "Two undisturbed runs, both at once in one workspace: their folders, and the seconds they took"
    outs, began = [home/'runs'/f'resume-{os.getpid()}-{i}' for i in (1, 2)], time.time()
    outs[0].parent.mkdir(parents=True, exist_ok=True)
    pids = [runs.start(data, out) for out in outs]
    assert [runs.code(pid) for pid in pids] == [0, 0], [said(out)[-500:] for out in outs]
    yield outs, time.time()-began
    for out in outs: shutil.rmtree(out), out.with_name(f'{out.name}.log').unlink()


def result(out):
    "Figures and weights of a finished run"
    from cable_classifier.run import figures
    from safetensors.torch import load_file
    return figures(json.loads((out/'metrics.json').read_text())), load_file(out/'model'/'model.safetensors')


def assert_same(out, other):
    "Figures equal, weights equal to the last bit, and nothing left lying about"
    (a, x), (b, y) = result(out), result(other)
    assert a == b
    assert x.keys() == y.keys() and all(x[k].equal(y[k]) for k in x)
    assert {p.name for p in out.iterdir()} == {'.lock', 'metrics.json', 'model', 'model_card.md', 'report.html', 'split.csv', 'stages'}
    assert sorted(p.name for p in (out/'stages').iterdir()) == ['stage-1.pth', 'stage-2.pth']


def assert_whole(out):
    "Whatever stands under its name after a kill stands there whole; returns the finished epochs"
    from cable_classifier.deploy import file_digest
    from cable_classifier.resume import read_about
    from safetensors.torch import load_file
    if (out/'metrics.json').exists(): assert json.loads((out/'metrics.json').read_text())['n_test']
    if (out/'report.html').exists(): assert (out/'report.html').read_text().endswith('</html>')
    if (out/'model').exists():
        digests = json.loads((out/'model'/'model.json').read_text())['digests']
        assert all(file_digest(out/'model'/n) == d for n, d in digests.items())
    kept = list((out/'checkpoint').glob('*.safetensors'))
    assert all(load_file(f) for f in kept)
    return sum(read_about(f)['done'] for f in kept)


def survive(runs, data, whole, out, kills, seed=42):
    "Kill and start again, `kills` times; every run that ends is the undisturbed one"
    (same, _), seconds = whole
    rng, done, last, ends, amid = random.Random(seed), [], 0, 0, 0
    while len(done) < kills:
        old, saving = writing(out), rng.random() < .4
        if runs.kill(runs.start(data, out), rng.uniform(0, seconds/2), out if saving else None):
            amid += bool(writing(out)-old)
            done.append(assert_whole(out))
            assert done[-1] >= last, 'a finished epoch was lost'
            last = done[-1]
        else:
            assert_same(out, same)
            last, ends = 0, ends+1
    assert runs.run(data, out)[0] == 0
    assert_same(out, same)
    print(f'survived {len(done)} kills, {amid} of them while a file was being written, in {ends+1} runs; finished epochs at each kill: {done}')


def test_the_generator_of_an_apple_gpu(monkeypatch):
    "Kept where there is one; a file without it, or a machine without it, is no obstacle"
    import torch
    from cable_classifier.resume import get_random, set_random
    kept = get_random()
    assert kept['mps'] == [] or torch.backends.mps.is_available()
    held = [torch.tensor([1, 2, 3], dtype=torch.uint8)]
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: True)
    monkeypatch.setattr(torch.mps, 'get_rng_state', lambda: held[0])
    monkeypatch.setattr(torch.mps, 'set_rng_state', lambda s: held.__setitem__(0, s))
    state = json.loads(json.dumps(get_random()))
    held[0] = torch.tensor([9], dtype=torch.uint8)
    set_random({k: v for k, v in state.items() if k != 'mps'})
    assert held[0].tolist() == [9]
    set_random(state)
    assert held[0].tolist() == [1, 2, 3] and held[0].dtype == torch.uint8
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: False)
    held[0] = None
    set_random(state)
    assert held[0] is None


def test_two_at_once(whole):
    "Two runs in one workspace at the same time, each in its own folder: both end, and with the same figures and weights"
    (one, two), _ = whole
    assert_same(one, two)


def test_kills(runs, data, whole, tmp_path): survive(runs, data, whole, tmp_path/'out', 4)


@pytest.mark.slow
def test_twenty_kills(runs, data, whole, tmp_path): survive(runs, data, whole, tmp_path/'out', 20, seed=7)


def test_goes_on_or_starts_afresh(runs, data, tmp_path):
    "The same run goes on and says so, another one starts afresh and says why, and nothing is said where nothing was broken off"
    out = tmp_path/'out'
    def broken_off():
        shutil.rmtree(out, ignore_errors=True)
        pid = runs.start(data, out)
        while not (out/'checkpoint'/'stage-1-0.safetensors').exists(): time.sleep(.01)
        os.kill(pid, signal.SIGKILL)
        runs.code(pid)
        assert 'going on' not in said(out) and 'afresh' not in said(out)
    stop = dict(most=20_000_000) # no need to see the end: the disk takes no stage-1
    broken_off()
    code, text = runs.run(data, out, '--seed', 7, **stop)
    assert code == 2 and text.count('was another one (not the same: seed') == 1 and 'starting afresh' in text
    broken_off()
    assert 'going on' not in runs.run(data, out, '--fresh', **stop)[1]
    broken_off()
    (out/'checkpoint'/'stage-1-0.safetensors').write_bytes(b'half of it')
    code, text = runs.run(data, out)
    assert code == 2 and '--fresh' in text and 'Traceback' not in text
    broken_off()
    assert len(re.findall('going on where this run was broken off: [12] of 5 epochs are done', runs.run(data, out, **stop)[1])) == 1


def refused(code, text, *words):
    "One sentence, exit code 2, no traceback"
    lines = [l for l in text.splitlines() if l.startswith('cables: ')]
    assert code == 2 and len(lines) == 1 and 'Traceback' not in text, text[-2000:]
    for w in words: assert str(w) in lines[0], lines[0]


def test_second_run_in_one_folder(runs, data, tmp_path):
    "The second run is told at once, and leaves the first one's files alone"
    from cable_classifier.workspace import claim
    out = tmp_path/'out'
    with claim(out):
        (out/'.model-x1y2z3ab').mkdir()
        refused(*runs.run(data, out), out, 'another run')
        assert sorted(p.name for p in out.iterdir()) == ['.lock', '.model-x1y2z3ab']


def test_disk_full(runs, data, whole, tmp_path):
    "Wherever the disk takes no more: a sentence, the last checkpoint whole, and with room again the run goes on"
    out = tmp_path/'out'
    for most, where in ((3_000_000, 'stage-1-0.safetensors'), (20_000_000, 'stage-1.pth'), (60_000_000, 'stage-2-0.safetensors')):
        refused(*runs.run(data, out, most=most), where, 'cannot write', 'free some space')
        assert not writing(out) and not (out/'model').exists() and not (out/'metrics.json').exists()
        assert_whole(out)
    code, text = runs.run(data, out)
    assert code == 0 and '2 of 5 epochs are done' in text
    assert_same(out, whole[0][0])


def test_read_only(cables, data, tmp_path):
    "A folder that may not be written to: a sentence, and nothing there"
    shut = tmp_path/'shut'
    shut.mkdir(mode=0o555)
    if os.access(shut, os.W_OK): pytest.skip('this user may write anywhere, as root may')
    r = cables('run', '--data', data, '--out', shut/'out')
    refused(r.returncode, r.stderr, shut/'out', 'cannot write')
    r = cables('run', env=dict(os.environ, CABLES_HOME=str(shut)))
    refused(r.returncode, r.stderr, shut, 'cannot')
    r = cables('run', env=dict(os.environ, CABLES_HOME=str(shut/'home')))
    refused(r.returncode, r.stderr, shut, 'CABLES_HOME')
    assert not list(shut.iterdir())


if __name__ == '__main__': serve()


def test_nobody_sweeps_what_is_being_written(tmp_path):
    "A folder that another program is writing to is no litter; what a killed one left is"
    from cable_classifier.workspace import atomic_path, claim
    with atomic_path(tmp_path/'cut') as tmp:
        tmp.mkdir()
        (tmp/'a.txt').write_text('a')
        with claim(tmp_path): pass
    assert (tmp_path/'cut'/'a.txt').read_text() == 'a'
    left = tmp_path/'.cut-abcd1234'
    left.mkdir()
    (left/'.mode').touch()
    with claim(tmp_path): pass
    assert not left.exists() and sorted(p.name for p in tmp_path.iterdir() if p.name != '.lock') == ['cut']
