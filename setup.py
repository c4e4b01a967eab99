"Packaging, read from settings.ini so that every setting lives in one place."
import shlex
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=['='])
parser.read(here/'settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']

requirements = shlex.split(cfg['requirements'])
extras = {name: shlex.split(cfg[f'{name}_requirements']) for name in ('dev', 'render', 'openvino', 'scale')}
pythons = ['3.10', '3.11', '3.12', '3.13']

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'],
    long_description=(here/'README.md').read_text(encoding='utf-8') if (here/'README.md').exists() else cfg['description'],
    long_description_content_type='text/markdown',
    author=cfg['author'], author_email=cfg['author_email'], license='Apache-2.0', url=cfg['git_url'],
    classifiers=['Development Status :: 3 - Alpha', 'Intended Audience :: Education', 'Natural Language :: English']
                + [f'Programming Language :: Python :: {p}' for p in pythons],
    packages=find_packages(include=['cable_classifier', 'cable_classifier.*']), include_package_data=True,
    package_data={'cable_classifier': ['assets/*']},
    install_requires=requirements, extras_require=extras, python_requires=f">={cfg['min_python']}",
    entry_points={'console_scripts': shlex.split(cfg['console_scripts']), 'nbdev': [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"]},
    zip_safe=False)
