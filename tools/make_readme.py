#!/usr/bin/env python3
"""README.md from nbs/index.ipynb, so that the front page exists once: `python tools/make_readme.py`.

Markdown cells are taken as they are, pictures found from where README.md lies; code cells are for the notebook alone.
"""
import json
import re
from pathlib import Path

root = Path(__file__).resolve().parents[1]


def readme():
    "The text README.md should have"
    cells = json.loads((root/'nbs'/'index.ipynb').read_text(encoding='utf-8'))['cells']
    text = '\n\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'markdown') + '\n'
    text = re.sub(r'\]\((images/[^)]+)\)', r'](nbs/\1)', text)
    return re.sub(r'\]\(((?!http|nbs/|\.\./)[\w/]+\.ipynb)\)', r'](nbs/\1)', text)


if __name__ == '__main__': (root/'README.md').write_text(readme(), encoding='utf-8')
