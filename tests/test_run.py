"More cables than the chapters have: whose they are, where they go, and how they are left out."
import csv
import json
import zipfile

import pytest
from click.testing import CliRunner

import cable_classifier.run as run
from cable_classifier.cli import main
from cable_classifier.data import embedded_zip, get_data, label_func, load_split, save_split
from cable_classifier.outliers import outliers_zip
from cable_classifier.render import plan_set
from cable_classifier.run import data_digest, get_run_items, more_zip, run_command, run_course, run_folder, with_more
from cable_classifier.workspace import CableError, workspace


def rows(file):
    with zipfile.ZipFile(file) as z: return list(csv.DictReader(z.read('manifest.csv').decode().splitlines()))


def test_those_that_ship():
    "Drawn as the plan says, none for the test, each of a cable of its own that is nowhere else; all photos together stay small"
    more, known = rows(more_zip()), [rows(embedded_zip()), rows(outliers_zip())]
    assert more == [{k: str(v) for k, v in dict(r, split='train').items()} for r in plan_set(196, 43, views=1)]
    assert len({(r['label'], r['seed']) for r in more}) == len(more) == 588
    assert not {r['seed'] for r in more} & {r['seed'] for part in known for r in part}
    assert max(int(r['seed']) for r in more) < 50_000_000 # from there on the starter weights were taught
    assert sum(f.stat().st_size for f in (more_zip(), embedded_zip(), outliers_zip())) < 25e6


@pytest.mark.parametrize('seed', [42, 7])
def test_more_rows(seed):
    path = get_data()/'plugs'
    items = get_run_items(path, groups=path.parent/'manifest.csv', seed=seed)
    more = with_more(path, items, seed)
    assert len(more) == len(items) + 588 and list(more.columns) == list(items.columns) and list(items.split) != [''] * len(items)
    assert all((path/f).is_file() and label_func(f) == k for f, k in zip(more.fname, more.label))
    assert not any(f.startswith('/') or '\\' in f for f in more.fname) # a split that is saved names no folder of this machine
    groups = {s: set(more.group[more.split == s]) for s in ('train', 'valid', 'test')}
    assert not any(groups[a] & groups[b] for a, b in (('train', 'valid'), ('train', 'test'), ('valid', 'test')))
    assert set(more.fname[more.split == 'test']) == set(items.fname[items.split == 'test'])
    new = more[more.group.str.startswith('more_')]
    assert len(new) == 588 and .1 < (new.split == 'valid').mean() < .3 and set(new.split) == {'train', 'valid'}


def test_when(tmp_path, monkeypatch, embedded):
    "With the embedded photos unless told; never with a folder of one's own"
    asked = []
    monkeypatch.setattr(run, 'with_more', lambda path, items, seed: asked.append(seed) or items)
    def stop(*a, **kw): raise CableError('far enough')
    monkeypatch.setattr(run, 'get_learner', stop)
    for data, more in ((None, True), (None, False), (embedded/'plugs', True)):
        with pytest.raises(CableError, match='far enough'): run_course(data, tmp_path/'out', seed=3, more=more, say=lambda s: None)
    assert asked == [3] and not (tmp_path/'out').exists()


@pytest.mark.parametrize('epochs,finetune,wanted', [
    (4, 16, [(3, 64, 2), (1, 96, 2), (10, 64, 0), (6, 96, 1)]), (1, 1, [(1, 96, 2), (1, 96, 0)]), (2, 0, [(1, 64, 2), (1, 96, 2)])])
def test_small_photos_first(tmp_path, monkeypatch, photos, epochs, finetune, wanted):
    "Both stages end at full size, and all but the last epochs of each see smaller photos; the search begins at 1e-4"
    fits, searched = [], []
    def fit(self, n, *args, cbs=None, **kwargs): # noted, not fitted
        fits.append((n, self.dls.one_batch()[0].shape[-1], self.opt.frozen_idx))
        self.recorder.losses = []
        cbs[0].earlier = 0.
    def search(learn, **kwargs):
        searched.append((learn.dls.one_batch()[0].shape[-1], kwargs))
        return slice(1e-4, 1e-3)
    monkeypatch.setattr(run.Learner, 'fit_one_cycle', fit)
    monkeypatch.setattr(run, 'find_lr', search)
    metrics = run_course(photos, tmp_path/'out', epochs=epochs, finetune_epochs=finetune, size=96, bs=8, say=lambda s: None)
    assert fits == wanted and metrics['n_test']
    assert searched == ([(64, dict(num_it=40, start_lr=1e-4, below=5))] if finetune else [])


def test_the_command_says_it():
    assert run_command(data=None, seed=3, more=False) == 'cables run --seed 3 --no-more'
    assert run_command(seed=3, more=None) == 'cables run --seed 3'
    assert run_command(outliers='embedded', expose=False, turns=2) == 'cables run --outliers embedded --no-expose --turns 2'
    assert run_command(outliers='embedded', expose=True, finetune_epochs=3) == 'cables run --outliers embedded --expose --finetune-epochs 3'


def test_figures_are_those_of_the_folder(small_run):
    "The model folder, asked as a user asks it, errs and refuses on the test photos as often as metrics.json says"
    import pandas as pd
    from cable_classifier.deploy import load_model
    model, data = small_run
    m, split = load_model(model), pd.read_csv(model.parent/'split.csv')
    said = json.loads((model.parent/'metrics.json').read_text())
    test = split[split.split == 'test']
    rows = m.predict([data/f for f in test.fname])
    wrong = [r['label'] != c for r, c in zip(rows, test.label)]
    assert m.turns == said['turns'] == 4 and len(rows) == said['n_test']
    assert sum(wrong) == said['test']['n_wrong'] and sum(r['none_of_these'] for r in rows) == round(said['test']['refused']*len(rows))
    assert 'mean of 4 looks' in (model.parent/'model_card.md').read_text()


def test_other_ways_up_are_refused_at_once(photos, tmp_path):
    with pytest.raises(CableError, match='1, 2, 4 or 8'): run_course(photos, tmp_path/'out', turns=3, say=lambda s: None)
    assert not (tmp_path/'out').exists()


def test_photos_without_a_group_are_counted(photos, tmp_path):
    "A list that names some of the photos serves, and the run says how many it leaves out"
    f = sorted((photos/'usb_c').iterdir())[0]
    (tmp_path/'g.csv').write_text(f'fname,group\nusb_c/{f.name},one\n')
    said = []
    get_run_items(photos, tmp_path/'g.csv', say=said.append)
    assert said == ['71 of 72 photos are in no group that --groups names; each counts as a cable of its own']


def test_places_are_named_after_the_folder(tmp_path, monkeypatch):
    "Also where it is called `.` or `..`"
    (tmp_path/'plugs'/'sub').mkdir(parents=True)
    monkeypatch.chdir(tmp_path/'plugs'/'sub')
    here = run_folder(tmp_path/'plugs')
    assert run_folder('..') == run_folder('../../plugs/') == here and here.parent == workspace()/'runs' and here.name.startswith('plugs-')
    assert run_folder() == workspace()/'runs'/'embedded' and run_folder('/').name.startswith('photos-')
    assert len({here, run_folder(tmp_path/'elsewhere'/'plugs'), run_folder('embedded'), run_folder()}) == 4 # two folders of one name do not share their results
    assert run_command(data='.', outliers='none') == 'cables run --data sub --outliers none'


def test_names_that_are_no_text(tmp_path, embedded):
    "Bytes that are no UTF-8 in a name keep nobody from training"
    import os
    import shutil
    for label in ('a', 'b'):
        (tmp_path/'p'/label).mkdir(parents=True)
        for i, f in enumerate(sorted((embedded/'plugs'/'usb_c').iterdir())[:4]): shutil.copy(f, os.fsdecode(os.fsencode(tmp_path/'p'/label) + b'/%d\xff.jpg' % i))
    items = get_run_items(tmp_path/'p', say=lambda s: None)
    assert load_split(save_split(items, tmp_path/'split.csv')).values.tolist() == items.values.tolist()
    assert len(data_digest(tmp_path/'p', items)) == 64


def test_several_processes_are_told(monkeypatch):
    "What differs from the defaults reaches every process, flags that are switched off too"
    scale = pytest.importorskip('cable_classifier.scale', reason='needs the [scale] extra')
    said = []
    monkeypatch.setattr(scale, 'launch', lambda n, words: said.append((n, words)))
    for words, want in ((['--no-more', '--fresh', '--seed', '7'], ['--no-more', '--seed', '7', '--fresh']), (['--more'], [])):
        r = CliRunner().invoke(main, ['run', '--distributed', '2', *words])
        assert r.exit_code == 0, r.output
        assert said.pop() == (2, ['run', *want])
