"""Draw postcards, train a model on them, score one with them: `python -m postcards draw|train|score`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pixelkiln.worker.engines.blas import use_openblas

SHOWN = 48  # pictures on a sheet of samples


def _draw(args: argparse.Namespace) -> None:
    from postcards.draw import draw
    from postcards.grammar import captioned
    from postcards.sheet import contact_sheet

    size = (args.width, args.height) if args.width and args.height else None
    rows = [captioned(args.seed, index, size) for index in range(args.n)]
    cells = [(draw(scene, args.scale), caption.text) for scene, caption in rows]
    contact_sheet(cells, args.columns).save(args.out)
    print(args.out)


def _train(args: argparse.Namespace) -> None:
    use_openblas()
    import mlx.core as mx

    from pixelkiln.worker.engines.hidream.engine import HiDreamEngine
    from postcards.checkpoint import Geometry
    from postcards.exam import exam, render
    from postcards.reader import read
    from postcards.sheet import contact_sheet
    from postcards.train import Run, default_processes, note, train

    gpu = mx.default_device() == mx.Device(mx.gpu)
    run = Run(
        out=args.out,
        pool=args.pool or args.out / "pool",
        geometry=Geometry(args.hidden, args.inner, args.layers, args.heads, args.groups, args.head),
        seed=args.seed,
        scenes=args.scenes,
        start=args.start,
        processes=args.processes or max(1, default_processes() - 2),
        batch=args.batch,
        rate=args.rate,
        matrix_rate=args.matrix_rate,
        steps=args.steps,
        minutes=args.minutes,
        until=args.until,
        log_steps=args.log_steps,
        half=gpu and not args.float32,
        compiled=gpu and not args.eager,
    )
    folder = train(run)
    print(folder)
    engine, cells, held, stated = HiDreamEngine.load(folder), [], 0, 0
    for index, (scene, caption) in enumerate(exam(args.samples)):
        picture, _ = render(engine, caption.text, (scene.width, scene.height), index)
        reading = read(picture)
        held += sum(reading.holds(fact) for fact in caption.facts)
        stated += len(caption.facts)
        cells.append((picture, caption.text))
    if cells:
        contact_sheet(cells[:SHOWN], 6).save(args.out / "samples.png")
        note(args.out, event="samples", pictures=len(cells), held=held, stated=stated)


def _score(args: argparse.Namespace) -> None:
    use_openblas()
    if args.coarse or args.size:
        from postcards.sweep import settings, sweep
        from postcards.sweep import table as swept
        from postcards.train import default_processes

        rows = settings(args.size or [1], args.steps, args.coarse or [0])
        processes = args.processes or max(1, default_processes() - 2)
        print(swept(sweep(args.checkpoint, args.out, rows, args.n, processes, args.timed)))
        return
    from postcards.score import score, table

    print(table(score(args.checkpoint, args.out, args.bits, args.steps, args.n)))


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    """Run one of the three commands."""
    parser = argparse.ArgumentParser(prog="python -m postcards", description=__doc__)
    commands = parser.add_subparsers(required=True)

    draw = commands.add_parser("draw", help="a contact sheet of the world's own postcards")
    draw.set_defaults(run=_draw)
    draw.add_argument("--out", type=Path, default=Path("postcards.png"))
    draw.add_argument("--n", type=int, default=24)
    draw.add_argument("--columns", type=int, default=6)
    draw.add_argument("--seed", type=int, default=0)
    draw.add_argument("--width", type=int)
    draw.add_argument("--height", type=int)
    draw.add_argument("--scale", type=int, default=1, help="at how many times its size each is drawn")

    train = commands.add_parser("train", help="train a model, or go on where --out was left")
    train.set_defaults(run=_train)
    train.add_argument("--out", type=Path, required=True, help="checkpoint, log, state to resume from")
    train.add_argument("--pool", type=Path, help="where the drawn pictures go, 0.2 MB each (OUT/pool)")
    end = train.add_mutually_exclusive_group(required=True)
    end.add_argument("--minutes", type=float, help="wall time of this sitting, drawing the pool included")
    end.add_argument("--steps", type=int, help="of the whole run")
    train.add_argument("--until", type=float, default=1.0, help="share of the run that this sitting ends at")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--scenes", type=int, default=65536)
    train.add_argument("--start", type=Path, help="a checkpoint to go on from, rather than from nothing")
    train.add_argument("--processes", type=int, help="that draw (as many as there are processors)")
    train.add_argument("--batch", type=int, default=256)
    train.add_argument("--rate", type=float, default=1e-3, help="AdamW's")
    train.add_argument("--matrix-rate", type=float, default=0.02, help="Muon's")
    train.add_argument("--hidden", type=int, default=384)
    train.add_argument("--inner", type=int, default=512)
    train.add_argument("--layers", type=int, default=8)
    train.add_argument("--heads", type=int, default=6)
    train.add_argument("--groups", type=int, default=2, help="key-value heads")
    train.add_argument("--head", type=int, default=64, help="size of a head")
    train.add_argument("--log-steps", type=int, default=50)
    train.add_argument("--samples", type=int, default=48, help="unseen captions to render when done")
    train.add_argument("--float32", action="store_true", help="multiply in float32 on a GPU, too")
    train.add_argument("--eager", action="store_true", help="do not compile")

    score = commands.add_parser("score", help="what a checkpoint's pictures show, by bits and steps")
    score.set_defaults(run=_score)
    score.add_argument("checkpoint", type=Path)
    score.add_argument("--out", type=Path, default=Path("score"))
    score.add_argument("--bits", type=_numbers, default=[16, 8, 6, 5, 4])
    score.add_argument("--steps", type=_numbers, default=[28, 14, 8])
    score.add_argument("--n", type=int, default=200, help="captions")
    score.add_argument(
        "--coarse", type=_numbers, help="coarse steps of the most steps; with fewer, that share"
    )
    score.add_argument("--size", type=_numbers, help="1: the eight formats, 2: their doubles")
    score.add_argument("--processes", type=int, help="that read pictures (as many as there are processors)")
    score.add_argument("--timed", type=int, default=5, help="pictures of a setting to time alone")

    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
