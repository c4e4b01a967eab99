"Several processes that train together."
import json
import os
import re
import subprocess
import sys

import pytest

from conftest import some_photos

pytest.importorskip('accelerate', reason="needs pip install 'cable_classifier[scale]'")
args = ['--outliers', 'embedded', '--expose', '--epochs', 1, '--finetune-epochs', 2, '--groups', r'^(.+)_\d+\.jpg$', '--device', 'cpu']


@pytest.fixture(scope='module')
def few(embedded, tmp_path_factory):
    "Seventy-five photos in three classes"
    return some_photos(embedded, tmp_path_factory.mktemp('scale')/'photos', 25)


@pytest.fixture(scope='module')
def two(few, tmp_path_factory):
    "A run of two processes: its folder, and what it said"
    out = tmp_path_factory.mktemp('two')/'out'
    r = cables('run', '--data', few, '--out', out, *args, '--distributed', 2)
    assert r.returncode == 0, r.stderr[-2000:]
    return out, r


def cables(*words):
    code = 'from cable_classifier.cli import main; main()'
    return subprocess.run([sys.executable, '-c', code, *map(str, words)], capture_output=True, text=True, timeout=600, env=dict(os.environ, OMP_NUM_THREADS='1'))


def test_whole_run(two):
    "Two processes leave what one leaves, written once and said once"
    out, r = two
    metrics = json.loads((out/'metrics.json').read_text())
    assert r.stdout.count('test: error') == 1 and r.stdout.count('done in') == 1
    assert {p.name for p in out.iterdir()} == {'.lock', 'metrics.json', 'model', 'model_card.md', 'report.html', 'split.csv', 'stages'}
    assert [s['name'] for s in metrics['stages']] == ['stage-1', 'stage-2']


def test_each_photo_counted_once(two):
    "The last error rate in the table, put together from both processes, is the one counted by the first process alone"
    out, r = two
    stages = json.loads((out/'metrics.json').read_text())['stages']
    assert stages[0]['n'] % 2, 'an odd number of photos is what this test is about'
    rows = re.findall(r'(\d+) +(\d\.\d{6}) +(\d\.\d{6}) +(\d\.\d{6}) +\d\d:\d\d', r.stdout)
    for s, row in zip(stages, (rows[0], rows[-1])):
        counted = float(row[3])*s['n'] # a whole number, and s['n_wrong'] but for a photo that bfloat16 sees otherwise
        assert abs(counted - round(counted)) < 1e-3 and abs(counted - s['n_wrong']) < 1.5


def test_counted_once():
    "A mean over photos, whatever the sizes of the batches, and an empty one is none"
    import torch
    from types import SimpleNamespace
    from fastai.vision.all import error_rate
    from cable_classifier.scale import CountedOnce
    right, wrong = torch.tensor([[9., 0.]]), torch.tensor([[0., 9.]])
    metric = CountedOnce(error_rate)
    metric.reset()
    for pred in (torch.cat([right]*4), wrong, right[:0]):
        metric.accumulate(SimpleNamespace(pred=pred, y=torch.zeros(len(pred), dtype=torch.long), to_detach=lambda t: t))
    assert metric.name == 'error_rate' and abs(metric.value - 1/5) < 1e-6


def test_shares_of_a_loader(tmp_path):
    "Two shares of seven photos: four each, and all seven among them"
    import torch.distributed as dist
    from fastai.vision.all import DataLoader
    from cable_classifier.scale import SharedDL
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/meet', rank=0, world_size=1)
    try:
        shares = [[int(x) for b in SharedDL(DataLoader(range(7), bs=2), rank=r, world_size=2, device='cpu') for x in b] for r in (0, 1)]
    finally: dist.destroy_process_group()
    assert [len(s) for s in shares] == [4, 4] and set(sum(shares, [])) == set(range(7))


def test_one_sentence(tmp_path):
    "What is wrong is said once, as one process says it"
    r = cables('run', '--data', tmp_path/'nowhere', '--distributed', 2)
    assert r.returncode == 2 and r.stderr.count('cables: ') == 1 and 'no folder' in r.stderr and 'Traceback' not in r.stderr


def test_one_alone(few):
    "A team of one is no team: nothing is gathered, nothing waited for"
    from cable_classifier.scale import Team
    from cable_classifier.run import Alone
    for team in (Team(), Alone()): assert team.first and team.size == 1 and team.agree([1., 2.]) == [1., 2.]


@pytest.mark.slow
def test_launcher_resumes(few, two, tmp_path):
    "Started by Accelerate's own launcher, killed after an epoch, started again: the run goes on in both processes"
    import signal, time
    out = tmp_path/'out'
    launch = [sys.executable, '-m', 'accelerate.commands.launch', '--cpu', '--num_processes', '2', '--num_machines', '1', '--mixed_precision', 'no', '--dynamo_backend', 'no',
              '--main_process_port', '0', '-m', 'cable_classifier.scale', 'run', '--data', str(few), '--out', str(out), *map(str, args)]
    p = subprocess.Popen(launch, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while not (out/'checkpoint'/'stage-1-0.safetensors').exists(): time.sleep(.05); assert p.poll() is None
    os.killpg(p.pid, signal.SIGKILL)
    p.wait()
    r = subprocess.run(launch, capture_output=True, text=True, timeout=600)
    assert r.returncode == 0 and 'going on where this run was broken off' in r.stdout
    again, undisturbed = (json.loads((o/'metrics.json').read_text()) for o in (out, two[0]))
    assert [s['n_wrong'] for s in again['stages']] == [s['n_wrong'] for s in undisturbed['stages']]
