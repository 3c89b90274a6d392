"""A producer that may write all of Redis, against a worker at work: it harms nobody but its own jobs.

One worker gets every form of every kind in `forgeries`, with honest jobs before, between and after them. What
came of it is looked at job by job and as a whole.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pixelkiln.jobs import Kiln, NoSuchJobError, Settings, UsageError
from pixelkiln.jobs.queue.record import JOB_ID
from pixelkiln.worker.commands.app import main
from pixelkiln.worker.local.instance import Local
from tests.hostile.farm import LANE, SPEC, Forger, Traps, Worker, digest, objects
from tests.hostile.forgeries import TABLE
from tests.hostile.forgeries.disturbances import DISTURBANCES
from tests.hostile.forgeries.form import DROPPED, FINISHED, STANDS, WAITS, Form
from tests.tiny import TINY_MODELS
from tests.waiting import until

FORMS = {
    form.job_id if form.job_id is not None else f"{re.sub('[^a-z]+', '-', kind.lower())}-{number}": (
        kind,
        name,
        form,
    )
    for kind, forms in TABLE.items()
    for number, (name, form) in enumerate(forms.items())
}
IDS = {job_id: f"{kind}: {name}" for job_id, (kind, name, _) in FORMS.items()}
CLIENTS = ("default", "victim", "other")
EVERY = 21  # forms between two disturbances
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class Aftermath:
    """What is left of it."""

    kiln: Kiln
    worker: Worker
    traps: Traps
    honest: dict[str, str]  # job id -> client
    before: dict[str, str]  # objects of the jobs that had finished before
    log: str


@pytest.fixture(scope="module")
def farm(servers: Local, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Path]]:
    folder = tmp_path_factory.mktemp("hostile")
    instance = servers.instance
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", instance.access_key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", instance.secret_key.get_secret_value())
        home = folder / "worker"
        settings = Settings(
            redis_url=SecretStr(instance.redis_url.get_secret_value()),
            s3_endpoint=instance.s3_endpoint,
            s3_bucket=instance.bucket,
            home=home / ".kiln",
            models_dir=TINY_MODELS,
            spool_dir=home / "spool",
            renders_dir=home / "renders",
        )
        for name in ("redis_url", "s3_endpoint", "s3_bucket", "home"):
            value = getattr(settings, name)
            patch.setenv(
                f"KILN_{name.upper()}", value.get_secret_value() if name == "redis_url" else str(value)
            )
        yield settings, folder


@pytest.fixture(scope="module")
def aftermath(farm: tuple[Settings, Path]) -> Iterator[Aftermath]:
    settings, folder = farm
    kiln, traps = Kiln(settings), Traps(folder)
    kiln.redis.flushdb()
    forger = Forger(kiln.redis, traps)
    honest: dict[str, str] = {}
    numbers = itertools.count()

    def submit(client: str) -> None:
        number = next(numbers)
        job = kiln.submit({**SPEC, "seed": number, "client": client}, id=f"honest-{number}")  # type: ignore[arg-type]
        honest[job.id] = client

    worker = Worker(settings, traps, folder / "worker")
    try:
        for client in CLIENTS:
            submit(client)
        kiln.wait(list(honest))
        before = objects(kiln)
        members: Any = kiln.redis.smembers("rq:workers")
        (forger.worker,) = members
        disturbances = iter(DISTURBANCES)
        for number, (job_id, (_, _, form)) in enumerate(FORMS.items()):
            with forger.at_once():
                form.forge(forger, job_id)
            if number % EVERY == 0:
                submit(CLIENTS[number // EVERY % 3])
                if (disturb := next(disturbances, None)) is not None:
                    with forger.at_once():
                        disturb(forger)
        assert next(disturbances, None) is None
        # Other clients' jobs pushed into lanes of one's own, and into the same lane again.
        for job_id in honest:
            forger.push(job_id, "kiln:demo:bf16:high:mallory")
            forger.push(job_id)
        for client in CLIENTS:
            submit(client)
        open_ids = [*honest, *(i for i, (*_, form) in FORMS.items() if ended(form) and i)]
        open_ids += [f"{i}{suffix}" for i, (*_, form) in FORMS.items() for suffix, _ in form.also]

        def done() -> bool:
            """Whether all have ended, or the worker has; the last of them is looked at until it has."""
            while open_ids and (one := kiln.status(open_ids[-1])) and one.ended:
                open_ids.pop()
            return not open_ids or worker.child.poll() is not None

        with suppress(AssertionError):  # each test says its own
            until(done, "all have ended", 60)
        assert worker.child.poll() is None, worker.log.read_text()[-3000:]
        yield Aftermath(kiln, worker, traps, honest, before, worker.log.read_text())
    finally:
        worker.close()
        traps.close()
        kiln.redis.flushdb()
        kiln.redis.close()


def ended(form: Form) -> bool:
    return form.ends not in {DROPPED, STANDS, WAITS}


def test_there_are_kinds_enough() -> None:
    assert len(TABLE) >= 20
    assert all(len(forms) > 1 for forms in TABLE.values())


@pytest.mark.parametrize("job_id", FORMS, ids=IDS.get)
def test_each_ends_as_it_should(aftermath: Aftermath, job_id: str) -> None:
    kiln, (_, _, form) = aftermath.kiln, FORMS[job_id]
    waiting = kiln.redis.lpos(f"rq:queue:{LANE}", job_id)
    assert waiting is None
    if form.ends == DROPPED:
        with pytest.raises((NoSuchJobError, UsageError)) as refused:
            kiln.status(job_id)
        assert not CONTROL.search(str(refused.value))
        return
    for one, ends in ((job_id, form.ends), *((job_id + suffix, ends) for suffix, ends in form.also)):
        found = kiln.status(one)
        assert not CONTROL.search(json.dumps(found.as_dict(), ensure_ascii=False))
        if ends == FINISHED:
            assert (found.state, found.error) == ("finished", "")
            assert kiln.sidecar(one).job.attempt == 1
        elif ends in (STANDS, WAITS):
            assert kiln.redis.exists(f"kiln:own:{one}") == 0 or ends == STANDS
        else:
            assert found.state == "failed", found
            assert found.error.startswith(ends)
            assert len(found.error) <= 500


def test_honest_jobs_finish(aftermath: Aftermath) -> None:
    kiln = aftermath.kiln
    for job_id, client in aftermath.honest.items():
        assert kiln.status(job_id).state == "finished"
        sidecar = kiln.sidecar(job_id)
        body = kiln.bucket.get(sidecar.png.key)
        assert body is not None
        assert (sidecar.spec.client, sidecar.job.attempt, digest(body)) == (client, 1, sidecar.png.sha256)


def test_no_foreign_code_ran_and_no_address_was_called(aftermath: Aftermath) -> None:
    assert aftermath.traps.sprung() == []


def test_the_worker_is_the_same(aftermath: Aftermath) -> None:
    assert aftermath.worker.child.poll() is None
    last = aftermath.kiln.submit(**SPEC).id
    assert [one.state for one in aftermath.kiln.wait([last])] == ["finished"]


def test_no_object_but_the_jobs_own_was_touched(aftermath: Aftermath) -> None:
    kiln, after = aftermath.kiln, objects(aftermath.kiln)
    assert {key: after.get(key) for key in aftermath.before} == aftermath.before
    rendered = {
        **aftermath.honest,
        **{i: "default" for i, (*_, form) in FORMS.items() if form.ends == FINISHED},
    }
    rendered |= {
        i + suffix: "default"
        for i, (*_, form) in FORMS.items()
        for suffix, ends in form.also
        if ends == FINISHED
    }
    new = {key for key in after.keys() - aftermath.before.keys() if f"/{last_of(kiln, key)}/" not in key}
    own = {
        f"jobs/{client}/{i}/{name}"
        for i, client in rendered.items()
        for name in ("image.png", "sidecar.json")
    }
    assert new == own - aftermath.before.keys()


def last_of(kiln: Kiln, key: str) -> str:
    """The id in a key, where it is one that a test of this module drew."""
    job_id = key.split("/")[2]
    return job_id if len(job_id) == 36 else "-"


def test_no_file_but_the_workers_own_was_touched(aftermath: Aftermath) -> None:
    pictures = {Path(name).stem for name in aftermath.worker.files() if name.startswith("renders/")}
    rest = {name for name in aftermath.worker.files() if not name.startswith("renders/")}
    assert all(JOB_ID.fullmatch(name) for name in pictures)
    digests = {name for name in rest if re.fullmatch(r"cache/weights-[0-9a-f]{16}\.json", name)}
    assert rest - digests <= {"spool/lock", "spool/inflight.json"}


def test_the_log_is_lines_of_the_workers_own(aftermath: Aftermath) -> None:
    assert not CONTROL.search(aftermath.log)
    assert "Traceback" not in aftermath.log
    stamped = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z] (kiln|rq)\.")
    assert [line for line in aftermath.log.splitlines() if not stamped.match(line)] == []
    assert max(len(line) for line in aftermath.log.splitlines()) < 1000


@pytest.fixture
def run(aftermath: Aftermath, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run one command in this process: its exit code and all that it printed."""

    def act(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["kiln", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out + said.err

    return act


def test_commands_survive_each_record(aftermath: Aftermath, run: Any, tmp_path: Path) -> None:
    """With the exit code that is documented, and nothing printed that a terminal would obey."""
    ends = {i: form.ends for i, (*_, form) in FORMS.items() if not i.startswith("-")}  # that is an option
    no_ids = [i for i in ends if JOB_ID.fullmatch(i) is None]
    gone = [i for i, end in ends.items() if end == DROPPED and i not in no_ids]
    there = [i for i in ends if i not in gone and i not in no_ids]
    ended = [i for i in there if ends[i] not in {STANDS, WAITS}]
    finished = [i for i in ended if ends[i] == FINISHED]
    out = ("--out", str(tmp_path))
    wanted = [
        *((("status", i), 2) for i in no_ids),
        *((("status", i), 1) for i in gone),
        *(((command, i), 2) for i in no_ids[:3] for command in ("watch", "fetch", "cancel")),
        *(((command, i), 1) for i in gone[:3] for command in ("watch", "fetch", "cancel")),
        *((("fetch", i, *out), 1) for i in [i for i in there if i not in finished][::12]),
        (("status", *there), 0),
        (("status", "--json", *there), 0),
        (("watch", *ended), 4),
        (("watch", "--json", *ended), 4),
        (("fetch", *finished, *out), 0),
        (("cancel", "--any-client", *ended), 0),
        (("cancel", "--any-client", "--json", *ended), 0),
    ]
    wrong = []
    for arguments, code in wanted:
        got, said = run(*arguments)
        if got != code or CONTROL.search(said) or max(map(len, said.splitlines())) > 1500:
            wrong.append((arguments[:3], got, said[:300]))
    assert wrong == []
    assert {path.stem for path in tmp_path.iterdir()} == set(finished)


def test_the_farm_is_shown(aftermath: Aftermath, run: Any) -> None:
    for arguments in (("status",), ("status", "--json")):
        code, said = run(*arguments)
        assert code == 0
        assert not CONTROL.search(said)
