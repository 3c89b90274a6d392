"""A GPU that fails costs a job a start, not its end; the worker leaves to be started anew."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pixelkiln.jobs import Kiln, KilnError, Settings, keys
from pixelkiln.worker.engines.engine import DeviceError, Step, device_fault
from pixelkiln.worker.engines.hidream.engine import HiDreamEngine
from pixelkiln.worker.render.renderer import Renderer
from pixelkiln.worker.service import Service

TIMEOUT = (
    "[METAL] Command buffer execution failed: Caused GPU Timeout Error"
    " (00000002:kIOGPUCommandBufferCallbackErrorTimeout)."
)
MEMORY = (
    "[METAL] Command buffer execution failed: Insufficient Memory"
    " (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)."
)
IGNORED = "Ignored (for causing prior errors) (00000004:kIOGPUCommandBufferCallbackErrorSubmissionsIgnored)"


@pytest.mark.parametrize("text", [TIMEOUT, MEMORY, IGNORED])
def test_faults_of_the_gpu_are_told_by_their_text(text: str) -> None:
    assert isinstance(device_fault(RuntimeError(text)), DeviceError)
    assert device_fault(ValueError(text)) is None


@pytest.mark.parametrize("text", ["[matmul] Last dimension of first input", "", "[metal::malloc] Attempting"])
def test_other_errors_of_mlx_are_not(text: str) -> None:
    assert device_fault(RuntimeError(text)) is None


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """From the second step of the next render on, the device answers with this error."""
    render = HiDreamEngine.render

    def act(text: str) -> None:
        def failing(engine: HiDreamEngine, *arguments: Any) -> Iterator[Step]:
            for step in render(engine, *arguments):
                if step.index == 2:
                    raise RuntimeError(text)
                yield step

        monkeypatch.setattr(HiDreamEngine, "render", failing)

    return act


def fails(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it run until it leaves by itself; no canary is asked of a broken device."""
    monkeypatch.setattr(Renderer, "_ask_canary", lambda renderer: pytest.fail("the canary was asked"))
    too_long = threading.Timer(30, os.kill, (os.getpid(), signal.SIGTERM))
    too_long.start()
    try:
        with pytest.raises(KilnError, match="unwell: the GPU failed") as left:
            service.run()
    finally:
        too_long.cancel()
    assert left.value.exit_code != 0  # launchd and systemd start it again


def test_an_innocent_job_is_given_back_and_the_worker_leaves(
    submit: Callable[..., str],
    broken: Callable[[str], None],
    settings: Settings,
    kiln: Kiln,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = submit(), submit()
    with monkeypatch.context() as patch:
        broken(TIMEOUT)
        fails(Service(settings, ["demo"]), patch)
    status = kiln.status(first)
    assert (status.state, status.error) == ("queued", "")
    assert kiln.redis.hget(keys.BLAME(first), "crashes") == b"1"  # as if it had died
    assert kiln.status(second).state == "queued"
    assert kiln.redis.keys("kiln:own:*") == []
    assert list(settings.spool_dir.glob("done-*")) == []


def test_a_job_that_breaks_the_gpu_each_time_is_quarantined(
    submit: Callable[..., str],
    broken: Callable[[str], None],
    settings: Settings,
    kiln: Kiln,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job_id = submit()
    broken(MEMORY)
    for _ in range(2):
        fails(Service(settings, ["demo"]), monkeypatch)
    status = kiln.status(job_id)
    assert status.state == "failed"
    assert status.error.startswith("quarantined: 2 workers died while they rendered it")


def test_a_gpu_that_fails_in_a_load_costs_no_checkpoint(
    submit: Callable[..., str], settings: Settings, kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: Any, **named: Any) -> None:
        raise RuntimeError(IGNORED)

    monkeypatch.setattr(HiDreamEngine, "load", failing)
    job_id = submit()
    service = Service(settings, ["demo"])
    fails(service, monkeypatch)
    assert kiln.status(job_id).state == "queued"
    assert service._served  # the checkpoint is not to blame


def test_a_panic_of_native_code_fails_its_job_and_no_other(
    submit: Callable[..., str], settings: Settings, kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rust's are no Exception; unseen they ended the worker, and the job came back to end the next."""

    class PanicException(BaseException):
        pass

    render, service = HiDreamEngine.render, Service(settings, ["demo"])

    def failing(engine: HiDreamEngine, spec: Any, *more: Any) -> Iterator[Step]:
        if spec.prompt == "a panic":
            raise PanicException("retry-limit-in-match over")
        yield from render(engine, spec, *more)

    monkeypatch.setattr(HiDreamEngine, "render", failing)
    poison, sound = submit(prompt="a panic"), submit()
    threading.Thread(
        target=lambda: (kiln.wait([poison, sound]), os.kill(os.getpid(), signal.SIGTERM))
    ).start()
    service.run()
    assert kiln.status(poison).error == "PanicException: retry-limit-in-match over"
    assert kiln.status(sound).state == "finished"
