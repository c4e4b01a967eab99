"Photos of one's own, from the command line."
import json

from conftest import some_photos


def test_a_dozen_of_each_from_their_own_folder(cables, embedded, tmp_path):
    "The lines of the README as they stand there: relative paths, a dozen photos a class, names of one's own"
    for i, f in enumerate(sorted(some_photos(embedded, tmp_path/'photos', 12).iterdir())): f.rename(tmp_path/'photos'/f'pen_{i}')
    assert cables('check', 'photos', cwd=tmp_path).returncode == 0
    r = cables('run', '--data', 'photos', '--out', 'result', '--epochs', '1', '--finetune-epochs', '1', cwd=tmp_path)
    assert r.returncode == 0, r.stdout + r.stderr
    m = json.loads((tmp_path/'result'/'metrics.json').read_text())
    assert m['vocab'] == ['pen_0', 'pen_1', 'pen_2'] and m['n_valid'] < 9
    r = cables('predict', 'result/model', 'photos/pen_0', cwd=tmp_path)
    assert r.returncode == 0 and len(r.stdout.splitlines()) == 12


def test_real_photos(cables, real_photos, tmp_path):
    "85 real photos in four classes: finishes, says how few they are, gives the interval (stage-2 of a few photos is what the dozen above is for)"
    r = cables('run', '--data', real_photos, '--groups', real_photos/'SOURCES.csv', '--out', tmp_path/'out', '--epochs', '1', '--finetune-epochs', '0')
    assert r.returncode == 0, r.stderr
    assert 'only 85 photos' in r.stdout
    m = json.loads((tmp_path/'out'/'metrics.json').read_text())
    assert len(m['vocab']) == 4 and m['test']['error_rate_ci95'][0] <= m['test']['error_rate']
