"Each benchmark runs in its smallest form and prints a ratio; what the ratio is, is for the machine it is asked on."
import json
import re
import subprocess
import sys

import pytest

from conftest import root


def bench(name, *args):
    return subprocess.run([sys.executable, '-W', 'ignore', '-m', f'benchmarks.{name}', *map(str, args)], capture_output=True, text=True, timeout=300, cwd=root)


@pytest.mark.parametrize('name', ['startup', 'memory', 'train'])
def test_prints_a_ratio(name, tmp_path):
    p = bench(name, '--small', '--json', tmp_path/'figures.json')
    assert p.returncode == 0, p.stderr
    assert 'ratio' in p.stdout and re.search(r'\d\.\d\d', p.stdout)
    assert all(r['ratio'] > 0 for r in json.loads((tmp_path/'figures.json').read_text())['rows'])


def test_says_that_there_is_no_gpu(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    p = bench('startup', '--gpu')
    assert p.returncode == 0 and p.stdout.count('\n') == 1 and 'no GPU' in p.stdout


def test_predict_prints_a_ratio_or_says_why_not(tmp_path):
    p = bench('predict', '--small', '--json', tmp_path/'figures.json')
    assert p.returncode == 0, p.stderr
    if 'cannot export' in p.stdout: pytest.skip(p.stdout.strip())
    assert all(r['ratio'] > 0 for r in json.loads((tmp_path/'figures.json').read_text())['rows'])
