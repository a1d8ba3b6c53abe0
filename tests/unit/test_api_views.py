"""What the API tells: history, log, metrics, the document of itself, and what requests made up from that meet."""

from __future__ import annotations

import logging
from dataclasses import replace

import httpx
from prometheus_client.parser import text_string_to_metric_families

from streamv2v_obs.control.history import POINTS, History
from streamv2v_obs.control.log_tail import LINES, LogTail
from streamv2v_obs.control.server import ControlServer
from streamv2v_obs.stats import OutputStatus
from tests.rigs.fake_service import FakeService
from tests.rigs.fuzz import fuzz, intruders


def metrics(client: httpx.Client, **params: str) -> dict[str, float]:
    answer = client.get("/metrics", params=params)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    samples = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]
    return {sample.name + "".join(f" {v}" for v in sample.labels.values()): sample.value for sample in samples}


def test_the_metrics_are_the_status(cli: httpx.Client, service: FakeService) -> None:
    service.publish = replace(
        service.publish,
        state="TRANSLATED",
        fps=29.5,
        published=120,
        content_age_ms_p50=84.0,
        content_age_ms_p95=None,
        outputs=(OutputStatus("browser", "", True), OutputStatus("camera", "", False)),
    )
    service.engine = replace(service.engine, translate_fps=14.25, translated=60, prompt="a secret garden")
    found = metrics(cli)
    assert found["streamv2v_obs_publish_fps"] == 29.5
    assert found["streamv2v_obs_published_total"] == 120
    assert found["streamv2v_obs_content_age_seconds 0.5"] == 0.084
    assert "streamv2v_obs_content_age_seconds 0.95" not in found
    assert found["streamv2v_obs_translate_fps"] == 14.25
    states = {name.split()[1]: value for name, value in found.items() if name.startswith("streamv2v_obs_state ")}
    assert states == {"TRANSLATED": 1, "HOLD": 0, "SLATE": 0, "BYPASS": 0}
    assert (found["streamv2v_obs_output_ok browser"], found["streamv2v_obs_output_ok camera"]) == (1, 0)
    assert "secret garden" not in cli.get("/metrics").text


def test_the_metrics_take_the_lasting_key_too(anyone: httpx.Client, server: ControlServer) -> None:
    assert anyone.get("/metrics").status_code == 401
    key = server.auth.stream_key
    assert metrics(anyone, key=key)["streamv2v_obs_panic"] == 0
    bearer = {"authorization": f"Bearer {key}"}
    assert anyone.get("/metrics", headers=bearer).status_code == 200
    assert anyone.get("/v1/status", headers=bearer).status_code == 401


def test_ready_is_translated_pictures_going_out(anyone: httpx.Client, service: FakeService) -> None:
    for state, code in (("SLATE", 503), ("HOLD", 503), ("BYPASS", 503), ("TRANSLATED", 200)):
        service.publish = replace(service.publish, state=state)  # type: ignore[arg-type]
        assert anyone.get("/readyz").status_code == code


def test_the_history_is_what_the_status_was(cli: httpx.Client, service: FakeService) -> None:
    history = History(service.status)
    service.publish = replace(service.publish, fps=12.5)
    history.start()
    history.stop()
    history.join(5)
    assert [(point.publish_fps, point.age_ms_p50 != point.age_ms_p50) for point in history.points()] == [(12.5, True)]
    answer = cli.get("/v1/history").json()
    assert answer["period_s"] == 1
    assert 1 <= len(answer["points"]) <= POINTS
    assert {"publish_fps", "translate_fps", "age_ms_p50", "state"} <= answer["points"][-1].keys()


def test_the_log_is_told_from_where_the_reader_was(cli: httpx.Client) -> None:
    log = logging.getLogger("streamv2v_obs.test")
    log.warning("first, see http://127.0.0.1/open?key=%s", "k" * 32)
    lines = cli.get("/v1/log").json()["lines"]
    assert (lines[-1]["level"], lines[-1]["text"]) == ("WARNING", "first, see http://127.0.0.1/open?key=...")
    log.warning("second")
    newer = cli.get("/v1/log", params={"after": lines[-1]["number"]}).json()["lines"]
    assert [line["text"] for line in newer] == ["second"]
    for wrong in ("-1", "x", "1e3", "9" * 20, "²"):
        assert cli.get("/v1/log", params={"after": wrong}).status_code == 422


def test_the_log_does_not_grow_without_end() -> None:
    tail = LogTail()
    for number in range(LINES + 100):
        tail.handle(logging.LogRecord("x", logging.INFO, "x", 1, "%d", (number,), None))
    assert len(tail.after(0, 10_000)) == LINES
    assert [line.text for line in tail.after(0, 2)] == [str(LINES + 98), str(LINES + 99)]
    tail.handle(logging.LogRecord("x", logging.INFO, "x", 1, "x" * 10_000, (), None))
    assert len(tail.after(0, 1)[0].text) == 2000


def test_every_route_is_in_the_document(cli: httpx.Client) -> None:
    found = cli.get("/v1/openapi.json").json()
    listed = {(method.upper(), path) for path, methods in found["paths"].items() for method in methods}
    for method, path in listed:
        code = cli.request(method, path, headers={"content-type": "text/plain"}).status_code if method == "POST" else 0
        assert code in (0, 415), f"{path} takes what is not JSON"
    assert {("GET", "/v1/status"), ("POST", "/v1/prompt"), ("POST", "/v1/preset"), ("GET", "/metrics")} <= listed
    prompt = found["components"]["schemas"]["PromptBody"]
    assert prompt["additionalProperties"] is False
    assert "translate_fps" in found["components"]["schemas"]["EngineStatus"]["properties"]


def test_requests_made_up_from_the_document_break_nothing(server: ControlServer, service: FakeService) -> None:
    found = fuzz(server, service, 400)
    assert found.requests > 250
    assert found.by.keys() == {"the owner", *intruders(server)}
    assert {200, 401, 422} <= found.codes.keys()
    assert 500 not in found.codes
