"Every exercise has a stub that fails its check and a worked answer that is handed in; likely mistakes are told apart."
import ast
import json
import math
import re
from pathlib import Path
import numpy as np
import pandas as pd
import pytest
from cable_classifier.exercises import check_exercise, checks
from cable_classifier.workspace import CableError

root = Path(__file__).resolve().parents[1]
chapters = ['00_data', '01_train', '02_lr_find', '03_finetune', '04_interpret']


def code(path):
    return [''.join(c['source']) for c in json.loads(path.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'code']


def stubs(name): return [s for s in code(root/'nbs'/f'{name}.ipynb') if 'check_exercise(' in s]
def handed_in(s): return re.findall(r"check_exercise\('([\d.]+)'", s)


def result(wrong, n=200):
    half = 1.96*math.sqrt(max(wrong, 1)*(n-wrong)/n**3)
    return dict(n=n, n_wrong=wrong, error_rate=wrong/n, error_rate_ci95=(max(0, wrong/n-half), wrong/n+half))


@pytest.mark.parametrize('name', chapters)
def test_each_exercise_has_a_check_a_stub_and_a_worked_answer(name):
    want = sorted(k for k in checks if k.startswith(name[:2]))
    assert len(want) == 3
    assert [n for s in stubs(name) for n in handed_in(s)] == want
    assert [n for s in code(root/'nbs'/'solutions'/f'{name}.ipynb') for n in handed_in(s)] == want
    text = '\n'.join(''.join(c['source']) for c in json.loads((root/'nbs'/f'{name}.ipynb').read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'markdown')
    assert len(re.findall(r'^\d\. \*\*', text, re.M)) == 3


@pytest.mark.parametrize('name', chapters)
def test_a_stub_as_it_stands_is_not_yet_right(name):
    for s in stubs(name):
        body = ast.parse(s).body
        env = dict(check_exercise=check_exercise, stage1=result(40), stage2=result(30))
        exec(compile(ast.Module(body[:-1], []), name, 'exec'), env)
        verdict = eval(compile(ast.Expression(body[-1].value), name, 'eval'), env)
        assert not verdict and 'still empty' in verdict.said


@pytest.mark.parametrize('name', sorted(checks))
@pytest.mark.parametrize('junk', [0, -1, float('nan'), 'text', [], {}, object(), [[1, 2], [3]], pd.DataFrame(), np.zeros((2, 3, 4)), {'frozen': 1, 'unfrozen': 2}, result(0, 1)],
                         ids=lambda x: type(x).__name__)
def test_junk_is_answered_with_a_sentence(name, junk):
    import inspect
    verdict = check_exercise(name, **{k: junk for k in inspect.signature(checks[name]).parameters})
    assert not verdict and len(verdict.said) > 20 and '\n' not in verdict.said


class Loaders:
    "As much of DataLoaders as the check looks at"
    def __init__(self, vocab, train, valid, bs=8):
        self.vocab, self.bs, self.train = vocab, bs, range(len(train)//bs)
        self.train_ds, self.valid_ds = (type('', (), dict(items=[Path(i if isinstance(i, str) else f'{i}.jpg') for i in o]))() for o in (train, valid))


def moved(rate, wrong, early, late=0.01): return result(wrong) | {'body, early': early, 'body, late': late}


lrs = list(np.geomspace(1e-5, 1, 40))
low, high = [1 + 5*max(0, math.log10(x)+2) for x in lrs], [1 + 5*max(0, math.log10(x)+1) for x in lrs]
sizes = pd.DataFrame({'activations': [112**2/100, 160**2/100, 224**2/100]}, index=[112, 160, 224])
losses = np.linspace(0, 1, 100)
drops = np.linspace(0, .5, 24)
mean, std = np.array([.5, .5, .5]), np.array([.25, .25, .25])
right = {
    '00.1': dict(dls=Loaders(['a', 'b'], range(24), range(24, 32))),
    '00.2': dict(shares=[.95, .96, .97, .96, .95, .96, .97, .96, .95, .96]),
    '01.1': dict(stage1=result(30), random_body=result(90)),
    '01.2': dict(everything=result(30), tenth=result(50)),
    '01.3': dict(rates={3e-4: result(40), '0.003': result(30), 0.03: result(35)}),
    '02.1': dict(runs={3e-3: moved(3e-3, 60, .1), 3e-4: moved(3e-4, 40, .01), 3e-5: moved(3e-5, 40, .001)}),
    '02.2': dict(curves={'frozen': (lrs, high), 'unfrozen': (lrs, low)}),
    '02.3': dict(adam={'body, late': .1}, sgd={'body, late': .001}),
    '03.1': dict(stage2=result(30), bit_by_bit=result(31)),
    '03.2': dict(one_line=result(30), seconds=55.),
    '03.3': dict(memory=sizes),
    '04.1': dict(hot_drop=drops, cold_drop=drops/2),
    '04.2': dict(losses=losses, planted=[99, 98, 97, 5, 6, 7]),
    '04.3': dict(aurocs=dict(confidence=.7, energy=.72, familiarity=.8)),
}


def test_all_right_answers_are_here_but_that_of_00_3(): assert sorted([*right, '00.3']) == sorted(checks)


@pytest.mark.parametrize('name', sorted(right))
def test_a_right_answer_passes(name):
    verdict = check_exercise(name, **right[name])
    assert verdict, verdict
    assert repr(verdict).startswith('Right: ')


wrong = [
    ('00.1', dict(dls=Loaders(['a', 'b', 'c'], range(24), range(24, 32))), '3 classes'),
    ('00.1', dict(dls=Loaders(['a', 'b'], range(24), range(20, 32))), 'in train and in valid'),
    ('00.1', dict(dls=Loaders(['a', 'b'], range(3), range(3, 5))), 'only 5 photos'),
    ('00.1', dict(dls=Loaders(['a', 'b'], [*range(24), 'usb_c/usb_c_0003_0.jpg'], [*range(24, 32), 'usb_c/usb_c_0003_2.jpg'])), 'photos of one cable'),
    ('00.1', dict(dls=Loaders(['a', 'b'], range(24), range(24, 32), bs=32)), 'a smaller bs'),
    ('00.2', dict(shares=[.96]*10), 'a seed of its own'),
    ('00.2', dict(shares=[.95, .96, .97]), 'ten shares'),
    ('00.2', dict(shares=[0, 0, .1, 0, 0, 0, 0, 0, 0, 0]), 'few for a split by lot'),
    ('01.1', dict(stage1=result(30), random_body=result(30)), 'same error'),
    ('01.1', dict(stage1=result(90), random_body=result(30)), 'other way round'),
    ('01.1', dict(stage1=result(30), random_body=result(33)), 'within the interval'),
    ('01.1', dict(stage1=result(30), random_body=result(90, 100)), 'different numbers of photos'),
    ('01.1', dict(stage1=.15, random_body=.45), 'what error_ci returns'),
    ('01.1', dict(stage1=result(30), random_body=result(90) | dict(error_rate=.9)), 'contradicts itself'),
    ('01.2', dict(everything=result(50), tenth=result(30)), 'fewer photos should not do so much better'),
    ('01.2', dict.fromkeys(('everything', 'tenth'), result(30)), 'result of all photos again'),
    ('01.3', dict(rates={3e-4: result(40), 3e-3: result(30)}), 'no run at 0.03'),
    ('01.3', dict(rates={k: result(40) for k in (3e-4, 3e-3, 3e-2)}), 'a new learner'),
    ('02.1', dict(runs={k: moved(k, 40, .01) for k in (3e-3, 3e-4, 3e-5)}), 'does not move less'),
    ('02.1', dict(runs={k: moved(k, 40, 0.) for k in (3e-3, 3e-4, 3e-5)}), 'has not moved at all'),
    ('02.1', dict(runs={k: result(40) for k in (3e-3, 3e-4, 3e-5)}), "has no 'body, early'"),
    ('02.2', dict(curves={'frozen': (lrs, low), 'unfrozen': (lrs, low)}), 'the same'),
    ('02.2', dict(curves={'frozen': (lrs[::-1], low), 'unfrozen': (lrs, high)}), 'do not rise'),
    ('02.2', dict(curves={'frozen': (lrs[:9], low[:9]), 'unfrozen': (lrs, high)}), 'twenty at least'),
    ('02.2', dict(curves={'frozen': (lrs, low), 'unfrozen': (lrs, high)}), 'other way round'),
    ('02.3', dict(adam={'body, late': .1}, sgd={'body, late': .1}), 'opt_func'),
    ('02.3', dict(adam={'body, late': .1}, sgd={'body, late': .05}), 'no tenth'),
    ('03.1', dict(stage2=result(30), bit_by_bit=result(130)), 'near chance'),
    ('03.1', dict(stage2=result(30), bit_by_bit=result(30, 100)), 'different numbers'),
    ('03.1', dict.fromkeys(('stage2', 'bit_by_bit'), result(30)), 'result of stage-2 again'),
    ('03.2', dict(one_line=result(30), seconds=.002), 'too short'),
    ('03.2', dict(one_line=result(130), seconds=50), 'near chance'),
    ('03.3', dict(memory=sizes + 50), 'differ by'),
    ('03.3', dict(memory=sizes.iloc[:2]), '112, 160 and 224'),
    ('04.1', dict(hot_drop=drops/2, cold_drop=drops), 'costs more'),
    ('04.1', dict(hot_drop=drops, cold_drop=drops), 'same place'),
    ('04.1', dict(hot_drop=drops[:9], cold_drop=drops[:9]/2), '24 photos'),
    ('04.2', dict(losses=losses, planted=[1, 2, 3, 4, 5, 6]), 'by chance'),
    ('04.2', dict(losses=losses, planted=[1, 1, 2, 3, 4, 5]), 'six different'),
    ('04.3', dict(aurocs=dict(confidence=.7, energy=.2, familiarity=.8)), 'sign is turned'),
    ('04.3', dict(aurocs=dict(confidence=.7, energy=.7, familiarity=.7)), 'different scores'),
]


@pytest.mark.parametrize('name, answers, said', wrong)
def test_a_likely_mistake_is_named(name, answers, said):
    verdict = check_exercise(name, **answers)
    assert not verdict and said in verdict.said, verdict


def test_the_second_normalize():
    from cable_classifier.starter import starter_stats
    mean, std = (np.asarray(s, float).ravel() for s in starter_stats)
    once = np.array([.01, -.02, .03])
    assert check_exercise('00.3', once=once, twice=(once-mean)/std)
    for twice, said in ((once, 'changed nothing'), (((once-mean)/std-mean)/std, 'once more only')):
        verdict = check_exercise('00.3', once=once, twice=twice)
        assert not verdict and said in verdict.said
    assert 'far from 0' in check_exercise('00.3', once=once+1, twice=once).said


def test_what_is_asked_for_is_named():
    assert 'stage1 and random_body' in check_exercise('01.1', answer=1).said
    with pytest.raises(CableError, match='there are 00.1'): check_exercise('7')


def test_no_torch_is_loaded_for_it():
    import subprocess, sys
    code = "import sys; from cable_classifier.exercises import check_exercise; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code], cwd=root).returncode == 0
