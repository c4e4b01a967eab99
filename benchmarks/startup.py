"""How long it takes to begin: `python -m benchmarks.startup`. Ours against `import fastai.vision.all`, each in a process of its own."""
from benchmarks.clock import gpu_or_leave, parser, process, row, show, turns


def main():
    args = parser(__doc__).parse_args()
    gpu_or_leave(args)
    n = 1 if args.small else args.repeat
    got = turns({'import': process('-c', 'import cable_classifier'),
                 'help': process('-c', "from cable_classifier.cli import main; main(['--help'])"),
                 'fastai': process('-c', 'import fastai.vision.all')}, n)
    show([row('import cable_classifier / fastai', got['import'], got['fastai'], None),
          row('cables --help / import fastai', got['help'], got['fastai'], None)], args, seconds=got)


if __name__ == '__main__': main()
