"What those who carry on rely on: links to the project's home, pinned versions, the container, the workflows."
import importlib.util
import json
import re
from configparser import ConfigParser

import yaml
from packaging.requirements import Requirement

from conftest import root

parser = ConfigParser(delimiters=['='])
parser.read(root/'settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']


def tool(name):
    spec = importlib.util.spec_from_file_location(name, root/'tools'/f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_home_is_named_once():
    "Colab, Binder and git links on the front page lead to the home in settings.ini, and to notebooks that exist"
    text, where = (root/'README.md').read_text(encoding='utf-8'), f"{cfg['user']}/{cfg['repo']}"
    colab = re.findall(r'https://colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)/blob/([\w.-]+)/([\w./-]+\.ipynb)', text)
    binder = re.findall(r'https://mybinder\.org/v2/gh/([\w.-]+/[\w.-]+)/([\w.-]+)\?urlpath=lab/tree/([\w./-]+\.ipynb)', text)
    assert colab and binder
    for home, branch, file in colab + binder: assert (home, branch) == (where, cfg['branch']) and (root/file).exists()
    assert f"git+{cfg['git_url']}" in text


def test_home_links_follow(monkeypatch, tmp_path):
    "Move the home in settings.ini, and the links move"
    readme = tool('make_readme')
    (tmp_path/'settings.ini').write_text((root/'settings.ini').read_text(encoding='utf-8').replace(f"user = {cfg['user']}", 'user = someone-else'), encoding='utf-8')
    monkeypatch.setattr(readme, 'root', tmp_path)
    text = readme.home_links((root/'nbs'/'index.ipynb').read_text(encoding='utf-8'))
    links = re.findall(r'https://(?:colab|mybinder)[^)\s]+|git\+https://[\w./-]+', text)
    assert len(links) == 3 and all('someone-else' in l for l in links)


def test_constraints():
    "Every requirement of the library and of the notebooks is pinned to a version that it allows"
    pins = dict(l.split('==') for l in (root/'constraints.txt').read_text(encoding='utf-8').splitlines() if not l.startswith('#'))
    for req in map(Requirement, f"{cfg['requirements']} {cfg['dev_requirements']}".split()):
        assert req.specifier.contains(pins[re.sub(r'[-_.]+', '-', req.name).lower()]), req


def test_container():
    "The container copies what it installs, runs as a user, and the dev container builds from the same file"
    docker = (root/'Dockerfile').read_text(encoding='utf-8')
    assert re.search(r'^USER (?!root)', docker, re.M) and docker.index('COPY') < docker.index('pip install --user')
    assert '-c constraints.txt' in docker and '.[dev]' in docker
    dev = json.loads((root/'.devcontainer'/'devcontainer.json').read_text(encoding='utf-8'))
    assert (root/'.devcontainer'/dev['build']['dockerfile']).resolve() == root/'Dockerfile'


def test_workflows():
    "Tests on every push, the site from main, and once a week everything unpinned, in both lanes"
    flows = {p.stem: yaml.safe_load(p.read_text(encoding='utf-8')) for p in (root/'.github'/'workflows').glob('*.yaml')}
    assert set(flows) == {'docs', 'test', 'weekly'}
    assert flows['weekly'][True]['schedule'] # YAML 1.1 reads the key "on" as true
    runs = [s['run'] for j in flows['weekly']['jobs'].values() for s in j['steps'] if 'run' in s]
    assert any(".[dev]" in r for r in runs) and any(re.search(r'pip install \S.* \.$', r) for r in runs) and not any('-c constraints' in r for r in runs)


def test_contributing():
    "Every file and tool that CONTRIBUTING names is there, and every habit is in it"
    text = (root/'CONTRIBUTING.md').read_text(encoding='utf-8')
    for path in re.findall(r'`((?:nbs|tests|tools)/[\w./]+\.\w+)`', text):
        assert (root/path).exists() or re.search(r'THAT|x_name|test_x', path), path
    for tool_name in re.findall(r'python (tools/\w+\.py)', text): assert (root/tool_name).exists()
    for habit in ('nbdev_install_hooks', 'nbdev_prepare', 'Add a class', 'Add a chapter', 'Add an architecture', 'run_notebooks.py', 'constraints.txt'): assert habit in text
