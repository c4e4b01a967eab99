#!/usr/bin/env python3
"""README.md from nbs/index.ipynb, so that the front page exists once: `python tools/make_readme.py`.

Markdown cells are taken as they are, pictures found from where README.md lies; code cells are for the notebook alone.
The project's public home is named in settings.ini alone: links to Colab and Binder in index.ipynb are brought into line with it.
"""
import json
import re
from configparser import ConfigParser
from pathlib import Path

root = Path(__file__).resolve().parents[1]


def home_links(text):
    "`text` with its links to Colab, Binder and the repository leading to the home that settings.ini names"
    parser = ConfigParser(delimiters=['='])
    parser.read(root/'settings.ini', encoding='utf-8')
    cfg = parser['DEFAULT']
    where = f"{cfg['user']}/{cfg['repo']}"
    text = re.sub(r'(https://colab\.research\.google\.com/github/)[\w.-]+/[\w.-]+/blob/[\w.-]+/', rf"\g<1>{where}/blob/{cfg['branch']}/", text)
    text = re.sub(r'(https://mybinder\.org/v2/gh/)[\w.-]+/[\w.-]+/[\w.-]+(?=\?)', rf"\g<1>{where}/{cfg['branch']}", text)
    return re.sub(r'git\+https://[\w./-]+', f"git+{cfg['git_url']}", text)


def readme():
    "The text README.md should have"
    cells = json.loads((root/'nbs'/'index.ipynb').read_text(encoding='utf-8'))['cells']
    text = '\n\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'markdown') + '\n'
    text = re.sub(r'\]\((images/[^)]+)\)', r'](nbs/\1)', text)
    text = text.replace('](../', '](')
    return re.sub(r'\]\(((?!http|nbs/|\.\./)[\w/]+\.ipynb)\)', r'](nbs/\1)', text)


if __name__ == '__main__':
    index = root/'nbs'/'index.ipynb'
    text = index.read_text(encoding='utf-8')
    if home_links(text) != text: index.write_text(home_links(text), encoding='utf-8')
    (root/'README.md').write_text(readme(), encoding='utf-8')
