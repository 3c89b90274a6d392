"""The model's side: vocabulary, batches through the engine's decoder, a run that resumes, a score."""

import json
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.hidream import patches as engine_patches
from pixelkiln.worker.engines.hidream.config import Config
from pixelkiln.worker.engines.hidream.engine import HiDreamEngine
from pixelkiln.worker.engines.hidream.model import Model
from pixelkiln.worker.engines.hidream.pipeline import predict as engine_predict
from pixelkiln.worker.engines.hidream.pipeline import prepare
from pixelkiln.worker.engines.hidream.prefixes import PrefixCache
from pixelkiln.worker.engines.hidream.recipes import DEV_TIMESTEPS, RECIPES
from pixelkiln.worker.engines.hidream.tokens import Prompts
from postcards import tokenizer as words
from postcards.batch import Asked, Batches
from postcards.checkpoint import Geometry, components, initial, read_weights, write_frame, write_weights
from postcards.data import PACE, Pool
from postcards.draw import draw
from postcards.exam import exam, render
from postcards.forward import Given, Places, predict
from postcards.grammar import captioned
from postcards.looks import kept, psnr
from postcards.pool import ROOM, to_patches
from postcards.reader import read
from postcards.scene import FORMATS, sample
from postcards.score import judge, table
from postcards.sweep import settings, sweep
from postcards.train import Run, chosen, is_hidden, loss, orthogonal, sigmas, train, update

TINY = Geometry(hidden=64, inner=64, layers=2, heads=2, groups=1, head=32)


@pytest.fixture(scope="module")
def captions():
    return [captioned(0, index)[1].text for index in range(300)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, captions):
    path = tmp_path_factory.mktemp("model")
    write_frame(path, TINY, words.train(captions))
    write_weights(path, initial(TINY, None), "none")
    return path


def test_the_shipped_size_stays_below_ten_million_parameters():
    assert sum(np.prod(shape) for _, shape in Geometry().shapes()) <= 10_000_000


def test_any_text_survives_the_vocabulary(captions):
    tokenizer = words.train(captions)
    for text in (*captions[:20], "Ein Fuchs, naïve 漢字\n🦊"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert len(tokenizer.encode(captions[0]).ids) <= len(captions[0].split()) + 4
    assert words.train(captions).to_str() == tokenizer.to_str()


def test_captions_encode_as_the_chat_template_says(folder, captions):
    model = Model(folder, write_frame(folder, TINY, words.train(captions)), mx.float32)
    ids = Prompts(folder, model.config).encode("A red fox")
    assert ids[0] == words.control_id("<|im_start|>")
    assert ids[-2:] == (words.control_id("<|boi_token|>"), words.control_id("<|tms_token|>"))
    assert max(ids) < words.ROWS


def test_patches_are_the_engines():
    picture = draw(sample(0, 0, (192, 256)))
    planes = mx.array(picture.transpose(2, 0, 1))
    np.testing.assert_array_equal(to_patches(picture), np.array(engine_patches.to_patches(planes)))


def test_a_batch_predicts_what_the_engine_predicts_alone(folder, captions):
    config = write_frame(folder, TINY, words.train(captions))
    model, prompts = Model(folder, config, mx.float32), Prompts(folder, config)
    parameters = {name: value.astype(mx.bfloat16) for name, value in initial(TINY, None).items()}
    recipe, step, grid = RECIPES["dev"].text, 9, (2, 3)
    rows = [prompts.encode(text)[:-1] for text in captions[:3]]
    ids = mx.array([[*row, *[0] * (ROOM - len(row))] for row in rows])
    z = 3 * mx.random.normal((3, 6, 3072), key=mx.random.key(1))
    found = predict(
        Given(parameters, mx.float32),
        config.text,
        Places.of(ROOM, grid, config.text),
        ids,
        mx.array([len(row) for row in rows]),
        mx.array([recipe.schedule().timesteps[step]] * 3),
        z,
    )
    for i, text in enumerate(captions[:3]):
        plan = prepare(model, prompts, PrefixCache(0), recipe, text, grid)
        alone = engine_predict(model, plan, plan.branches[0], z[i], step)[1:7]
        assert mx.abs(alone - found[i]).max() < 1e-5


def test_noise_levels_spread_evenly_over_the_listed_steps():
    found = np.array(sigmas(270, mx.random.key(3)))
    listed = np.array(DEV_TIMESTEPS) / 1000
    assert found.max() <= listed[0]
    assert found.min() >= listed[-1]
    counts, _ = np.histogram(found, listed[::-1])
    np.testing.assert_allclose(counts, 10, atol=1)


def test_components_rebuild_what_they_were_made_of():
    rng = np.random.default_rng(0)
    flat = rng.standard_normal((200, 5), np.float32) @ rng.standard_normal((5, 3072), np.float32) + 1
    found = components(flat, 5)
    rebuilt = (flat - found.mean) @ found.axes @ found.axes.T + found.mean
    np.testing.assert_allclose(rebuilt, flat, atol=1e-2)


def test_muon_s_steps_have_singular_values_near_one():
    x = mx.random.normal((3, 32, 96), key=mx.random.key(5))
    values = np.linalg.svd(np.array(orthogonal(x)), compute_uv=False)
    assert 0.6 < values.min() <= values.max() < 1.3


def test_steps_lower_the_error_on_what_they_see(tmp_path, folder):
    config = Config.read(folder).text
    one = Pool(tmp_path, folder, seed=0, scenes=8, processes=1).batch(0, 4)
    part = one.part
    arrays = chosen((part.patches, part.ids, part.lengths), one.rows, one.wordings)
    places = Places.of(ROOM, (part.size[1] // 32, part.size[0] // 32), config)
    share = mx.array(1 / part.patches[0].size)

    def errors(now):
        return loss(Given(now, mx.float32), config, places, arrays, mx.random.key(0), share)

    now = initial(TINY, None)
    zero = {name: mx.zeros_like(value) for name, value in now.items()}
    second = {name: value for name, value in zero.items() if not is_hidden(name)}
    state = {"now": now, "used": now, "mean": now, "first": zero, "second": second}
    seen = []
    for step in range(1, 9):
        (total, _), slopes = mx.value_and_grad(errors)(state["used"])
        state = update(state, slopes, mx.array([5e-3, 2e-2]), mx.array(float(step)), 0.9)
        mx.eval(state, total)
        seen.append(total.item())
    assert seen[-1] < 0.7 * seen[0]


def test_a_run_resumes_and_is_loaded_by_the_engine(tmp_path):
    run = Run(
        out=tmp_path / "run",
        pool=tmp_path / "pool",
        geometry=TINY,
        scenes=8,
        batch=4,
        rate=3e-3,
        steps=4,
        log_steps=1,
        compiled=False,
        fitted=False,
    )
    folder = train(run)
    train(replace(run, steps=6))
    log = [json.loads(line) for line in (run.out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if "mse" in line] == list(range(1, 7))
    assert any(line.get("event") == "resume" and line["step"] == 4 for line in log)
    pixels, _ = render(HiDreamEngine.load(folder), "A red fox", (64, 96), 3, steps=2)
    assert pixels.shape == (96, 64, 3)


def test_two_sittings_end_where_one_does(tmp_path):
    whole = Run(
        out=tmp_path / "one",
        pool=tmp_path / "pool",
        geometry=TINY,
        scenes=16,
        batch=4,
        steps=4,
        log_steps=1,
        compiled=False,
        fitted=False,
    )
    train(whole)
    train(replace(whole, out=tmp_path / "two", until=0.5))
    train(replace(whole, out=tmp_path / "two"))
    one, two = (mx.load(str(tmp_path / name / "state.safetensors")) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(np.array(value), np.array(two[name]))


def test_a_run_goes_on_from_a_checkpoint(tmp_path, folder):
    run = Run(
        out=tmp_path / "run",
        pool=tmp_path / "pool",
        geometry=TINY,
        start=folder,
        scenes=16,
        batch=4,
        steps=1,
        rate=0.0,
        matrix_rate=0.0,
        compiled=False,
    )
    found = read_weights(train(run), TINY)
    for name, value in read_weights(folder, TINY).items():
        np.testing.assert_array_equal(np.array(found[name]), np.array(value))
    assert Manifest.read(run.out / "checkpoint").revision == "none; 1 steps of 4, seed 0"
    assert (run.out / "checkpoint/tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_pictures_rendered_together_are_the_engines(folder):
    questions = [captioned(3, index, (192, 256)) for index in range(2)]
    asked = [Asked(caption.text, (8, 6), index) for index, (_, caption) in enumerate(questions)]
    engine = HiDreamEngine.load(folder)
    for coarse in (0, 2):
        together = Batches(folder, TINY).render(asked, 4, coarse)
        for index, one in enumerate(asked):
            alone, _ = render(engine, one.text, (192, 256), index, 4, coarse)
            assert np.abs(alone.astype(int) - together[index]).max() <= 1
    engine.close()


def test_batches_depend_on_their_number_alone(tmp_path, folder):
    pool = Pool(tmp_path, folder, seed=2, scenes=16, processes=1)
    late = Pool(tmp_path, folder, seed=2, scenes=16, processes=1)  # finds what the first drew
    for number in (7, 0):
        first, second = pool.batch(number, 3), late.batch(number, 3)
        assert first.part.size == second.part.size
        np.testing.assert_array_equal(first.rows, second.rows)
        np.testing.assert_array_equal(first.wordings, second.wordings)
    part = pool.blocks[0][2]
    patches = np.array(part.patches)
    np.testing.assert_array_equal(patches[0], to_patches(draw(sample(2, 2, FORMATS[2]))))
    ids, lengths = np.array(part.ids).reshape(-1, ROOM), np.array(part.lengths).reshape(-1)
    assert (ids[np.arange(len(ids)), lengths.astype(int) - 1] == words.control_id("<|boi_token|>")).all()
    np.testing.assert_array_equal(patches, np.array(late.blocks[0][2].patches))


def test_a_pool_grows_as_training_goes_on(tmp_path, folder, monkeypatch):
    monkeypatch.setattr("postcards.data.BLOCK", 8)
    pool = Pool(tmp_path, folder, seed=2, scenes=24, processes=1)
    pool.batch(PACE - 1, 2)
    assert len(pool.blocks) == 1
    pool.batch(PACE, 2)
    assert len(pool.blocks) == 2
    pool.batch(100 * PACE, 2)
    assert len(pool.blocks) == 3
    firsts = [np.array(block[0].patches[0]) for block in pool.blocks]
    assert not any(np.array_equal(firsts[i], firsts[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_the_worlds_own_pictures_score_full_marks_and_grey_ones_none():
    questions = exam(6)
    drawn = [draw(scene) for scene, _ in questions]
    best = judge("drawn", questions, drawn)
    assert best.held >= 0.99
    assert best.low <= best.held <= best.high
    worst = judge("grey", questions, [np.full_like(one, 128) for one in drawn], against=drawn, equal=drawn)
    assert worst.held < 0.3
    assert worst.psnr == pytest.approx(np.mean([psnr(np.full_like(one, 128), one) for one in drawn]))
    assert "| drawn | 100.0%" in table([best, worst])


def test_what_of_a_composition_is_kept():
    (scene, _), (other, _) = (captioned(11, index, (256, 256)) for index in (0, 5))
    first, second = read(draw(scene)), read(draw(other))
    assert kept(first, first) == (len(first.things), len(first.things))
    assert kept(first, read(draw(scene, 2), 2)) == (len(first.things), len(first.things))
    assert kept(first, second)[0] == 0
    assert kept(first, replace(first, things=()))[0] == 0


def test_every_share_is_scored_at_every_step_count():
    found = settings([1, 2], [28, 14, 8], [0, 8, 18, 24])
    by_steps = {
        steps: [one.coarse for one in found if (one.scale, one.steps) == (2, steps)] for steps in (28, 14, 8)
    }
    assert by_steps == {28: [0, 8, 18, 24], 14: [0, 4, 9, 12], 8: [0, 2, 5, 7]}
    assert [str(one) for one in found[:2]] == ["formats, 28 steps", "formats, 28 steps, 8 of them coarse"]


def test_a_sweep_leaves_a_table_and_pages(tmp_path, folder, monkeypatch):
    monkeypatch.setattr("postcards.sweep.Geometry", lambda: TINY)
    rows = settings([1, 2], [4], [0, 2])
    found = sweep(folder, tmp_path, rows, n=2, processes=1, timed=1)
    assert [(one.scale, one.coarse) for one in found] == [(1, 0), (1, 2), (2, 0), (2, 2)]
    assert found[0].psnr is found[0].agree is found[0].kept is None
    assert found[1].agree is not None
    assert found[1].tokens == pytest.approx(found[0].tokens * 5 / 8, rel=0.1)
    assert found[2].tokens == 4 * found[0].tokens
    assert len((tmp_path / "sweep.md").read_text().splitlines()) == 6
    assert len(json.loads((tmp_path / "sweep.json").read_text())) == 4
