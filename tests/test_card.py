"The card that goes with a model: every figure of the run on it, nothing else, whatever the names are."
import json
import re

import numpy as np
import pytest

from cable_classifier.card import auroc_interval, model_card, share_interval, write_card
from cable_classifier.workspace import CableError

test = dict(n=144, n_wrong=37, error_rate=37/144, error_rate_ci95=[0.193, 0.334], ece=0.054, ece_as_trained=0.09, temperature=1.54, threshold=0.46, refused=7/144)
other = dict(other_n=100, other_refused=0.07, other_auroc=0.576, other_auroc_confidence=0.55)
metrics = dict(arch='resnet18', weights='starter', seed=42, size=224, vocab=['lightning', 'micro_usb', 'usb_c'], n_train=489, n_valid=123, n_test=144, data='embedded', data_digest='45e2'*16, notes=[],
               stages=[dict(name='stage-1', error_rate=0.25, error_rate_ci95=[0.18, 0.34], seconds=37.2)], seconds=124.1, peak_rss_mb=2034, versions=dict(torch='2.15.0'), test=test | other)


def test_every_figure_is_on_it():
    card = model_card(metrics)
    for line in ('| error rate | 0.257 | 0.193 to 0.334 | 144 |', '(ECE) | 0.054 |', 'photos padded to a square of 224 pixels', '| photos of the classes, answered "none of these" | 0.049 | 0.024 to 0.097 | 144 |', '| 0.070 | 0.034 to 0.137 | 100 |', '| 0.576 |', '489 photos', '45e2'*16, 'stage-1 0.250 (0.180 to 0.340)', '1.54', '0.46'): assert line in card, line


def test_other_figures_give_another_card():
    "No sentence about a figure is there by habit"
    good = metrics | dict(data='mine', test=test | other | dict(error_rate=0.02, error_rate_ci95=[0.01, 0.06], ece=0.01, other_auroc=0.99, other_auroc_confidence=0.9, other_refused=0.95))
    for words in ('answer in 4 is wrong', 'not as chances', 'cannot be relied on', 'drawn by a computer'): assert words in model_card(metrics) and words not in model_card(good)
    untried = model_card(metrics | dict(test=test))
    assert 'Nobody has tried' in untried and 'AUROC' not in untried and 'Nobody has tried' not in model_card(good)
    assert 'guessing' in model_card(metrics | dict(test=test | dict(error_rate_ci95=[0.5, 0.7]))) and 'guessing' not in model_card(metrics)
    assert 'flatter' in model_card(good) and 'flatter' not in model_card(metrics)
    assert 'mean of 4 looks' in model_card(metrics | dict(turns=4)) and not any('looks' in model_card(metrics | m) for m in ({}, dict(turns=1)))


@pytest.mark.parametrize('name', ['<script>alert(1)</script>', 'a|b', '# heading', '`code`', '![x](http://evil.example/x.png)', 'a\nb\n\n# c', '\u202egnp', '*bold*', '~~gone~~', '{seed}', '{0.__class__}'])
def test_names_are_text(name):
    "A folder's name is neither HTML nor Markdown nor a format string"
    card = model_card(metrics | dict(vocab=[name, 'b'], weights=name, data=name, stages=[dict(name=name, error_rate=0., error_rate_ci95=[0., 1.])]))
    assert '<script' not in card and '![' not in re.sub(r'\\.', '', card) and '\u202e' not in card and '__class__' not in card.replace('{0.__class__}', '')
    assert [l for l in card.splitlines() if l.startswith('# ')] == [card.splitlines()[0]]
    rows = [re.sub(r'\\.', '', l).count('|') for l in card.splitlines() if l.startswith('| ')]
    assert set(rows) == {5}


def test_no_path_of_the_machine_that_made_it():
    "Notes name files by their paths; the card counts them"
    card = model_card(metrics | dict(notes=["left out: '/somebody/photos/a.jpg' is empty", "left out: '/somebody/photos/b.jpg' is empty", 'stage-1: fine']))
    assert 'somebody' not in card and 'do not open: 2.' in card


@pytest.mark.parametrize('spoil', [{}, dict(test={}), dict(vocab=None), dict(stages=7), dict(test=test | dict(error_rate_ci95=[1])), dict(test=test | dict(n=0) | other), dict(versions=[])], ids=str)
def test_half_a_run_gets_no_card(spoil, tmp_path):
    (tmp_path/'metrics.json').write_text(json.dumps(metrics | spoil if spoil else {}))
    with pytest.raises(CableError, match='whole run'): write_card(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ['metrics.json']


@pytest.mark.parametrize('text', ['', '{', '[1]', '\xff'])
def test_no_figures_no_card(text, tmp_path):
    (tmp_path/'metrics.json').write_bytes(text.encode('latin1'))
    with pytest.raises(CableError): write_card(tmp_path)


def test_auroc_interval_covers():
    "Of 400 draws from two normal distributions with a known area, about 95 % of the intervals hold it"
    from scipy.stats import norm, rankdata
    rng, n, k, hits = np.random.default_rng(0), 60, 40, 0
    for _ in range(400):
        a, b = rng.normal(1, 1, n), rng.normal(0, 1, k)
        u = rankdata(np.concatenate([a, b]))[:n].sum() - n*(n+1)/2
        low, high = auroc_interval(u/(n*k), n, k)
        hits += low <= norm.cdf(1/2**.5) <= high
    assert 0.91 <= hits/400 <= 0.99


def test_share_interval():
    for share in (0., .5, 1.):
        low, high = share_interval(share, 20)
        assert 0 <= low <= share <= high <= 1 and high-low > 0.1
