"Weights from everywhere they may come from, and stages that survive a kill."
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from fastai.vision.all import Normalize, imagenet_stats, set_seed, tensor
from safetensors.torch import save_file
from torchvision.models import resnet18, squeezenet1_1

from cable_classifier.data import get_dls, get_items, split_items
from cable_classifier.train import error_ci, get_learner, group_table, imagenet_file, save_stage, wilson
from cable_classifier.workspace import CableError

from conftest import shared


@pytest.fixture
def dls(photos):
    "Small DataLoaders: 72 photos at 64 pixels"
    return get_dls(photos, split_items(get_items(photos, groups=r'^(.+)_\d+\.jpg$')), size=64, bs=8)


def norm_of(learn):
    "The one `Normalize` of a learner"
    for dl in learn.dls.loaders: assert len([t for t in dl.after_batch.fs if isinstance(t, Normalize)]) == 1
    return next(t for t in learn.dls.after_batch.fs if isinstance(t, Normalize))


def test_imagenet_weights_come_from_the_cache(dls, tmp_path, monkeypatch):
    "A file where torchvision keeps its downloads is used without a network, with ImageNet's statistics"
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    torch.manual_seed(1)
    model = resnet18()
    file = imagenet_file('resnet18')
    assert tmp_path in file.parents
    file.parent.mkdir(parents=True)
    torch.save(model.state_dict(), file)
    learn = get_learner(dls, weights='imagenet', path=tmp_path)
    assert torch.equal(learn.model[0][0].weight.cpu(), model.conv1.weight)
    assert torch.allclose(norm_of(learn).mean.flatten().cpu(), tensor(imagenet_stats[0]))
    assert group_table(learn).trainable.iloc[-1] > 0


def test_weights_from_a_file(dls, tmp_path):
    "Body weights of another architecture from safetensors; a file that does not fit is refused by the name of what is missing"
    body = {k: v for k, v in squeezenet1_1().state_dict().items() if k.startswith('features.')}
    save_file(body, tmp_path/'squeeze.safetensors')
    learn = get_learner(dls, 'squeezenet1_1', str(tmp_path/'squeeze.safetensors'), path=tmp_path)
    assert torch.equal(learn.model[0][0][0].weight.cpu(), body['features.0.weight'])
    with pytest.raises(CableError, match='do not fit resnet18'): get_learner(dls, 'resnet18', str(tmp_path/'squeeze.safetensors'))
    (tmp_path/'cut.safetensors').write_bytes((tmp_path/'squeeze.safetensors').read_bytes()[:1000])
    with pytest.raises(CableError, match='cannot read weights'): get_learner(dls, 'squeezenet1_1', str(tmp_path/'cut.safetensors'))
    torch.save(body, tmp_path/'pickle.safetensors')
    with pytest.raises(CableError, match='cannot read weights'): get_learner(dls, 'squeezenet1_1', str(tmp_path/'pickle.safetensors'))


def test_shared_squeezenet(dls, tmp_path):
    "Real ImageNet features, where they are at hand"
    file = shared/'weights'/'squeezenet1_1-imagenet-features.safetensors'
    if not file.exists(): pytest.skip('no ImageNet weights beside this checkout')
    learn = get_learner(dls, 'squeezenet1_1', str(file), path=tmp_path)
    learn.fit_one_cycle(1, 3e-3)
    assert error_ci(learn)['n'] > 0


def test_exactly_one_normalize_whatever_the_weights(dls, tmp_path):
    for _ in range(2): norm_of(get_learner(dls, path=tmp_path))


def test_wilson_against_published_values():
    "Newcombe 1998, table I: 81 of 263 is 0.2553 to 0.3662, 0 of 20 is 0 to 0.1611"
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0., 0.1611), abs=1e-4)


def test_plain_fastai_reads_a_stage(dls, tmp_path):
    "`Learner.load` knows nothing of us and needs nothing of us"
    set_seed(1)
    learn = get_learner(dls, path=tmp_path)
    file = save_stage(learn, 'stage-1')
    assert file == tmp_path/'models'/'stage-1.pth'
    other = get_learner(dls, path=tmp_path)
    assert not torch.equal(other.model[1][4].weight, learn.model[1][4].weight)
    other.load('stage-1')
    assert torch.equal(other.model[1][4].weight, learn.model[1][4].weight)


kill_script = """
import sys, torch
from types import SimpleNamespace
from pathlib import Path
from cable_classifier.train import save_stage
class L:
    path, model_dir = Path(sys.argv[1]), 'models'
    def save(self, file): torch.save({'w': torch.full((4_000_000,), float(self.i))}, file + '.pth')
l = L()
for l.i in range(10_000):
    save_stage(l, 'stage-1')
    print(l.i, flush=True)
"""


@pytest.mark.parametrize('wait', [0.05, 0.13, 0.29])
def test_kill_while_saving(tmp_path, wait):
    "Whenever SIGKILL comes, the file under the final name is one whole save, not older than the last that was reported"
    p = subprocess.Popen([sys.executable, '-c', kill_script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    p.stdout.readline()
    time.sleep(wait)
    os.kill(p.pid, signal.SIGKILL)
    seen = [0] + [int(l) for l in p.communicate()[0].split()]
    w = torch.load(tmp_path/'models'/'stage-1.pth', weights_only=True)['w']
    assert w.min() == w.max() and w[0] >= max(seen)
