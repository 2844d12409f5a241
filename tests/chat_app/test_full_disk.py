"""A disk that is full: what goes on, what says so, and that nobody is shown the server's paths."""

from pathlib import Path

import httpx

from tests.chat_app.serving import full_disk, serving


def test_chat_goes_on_over_a_full_disk_and_says_what_is_not_kept(
    tiny_model: Path, tmp_path: Path
) -> None:
    options = ("--model", str(tiny_model), "--quantization", "none")
    given = {"reply__prompt_tokens": "64"}
    with serving(tmp_path / "data", *options, log=tmp_path / "log", **given) as (process, url):
        client = httpx.Client(
            base_url=url, headers={"authorization": "Bearer ann"}, trust_env=False, timeout=60
        )
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
        with client:
            kept = client.post("/v1/chat/completions", json=body).json()
            vote = {"message_id": kept["id"], "thumb": "up", "idempotency_key": "k"}
            assert client.get("/readyz").json()["saves"] is True
            with full_disk(process.pid):
                answer = client.post("/v1/chat/completions", json=body)
                stream = client.post("/v1/chat/completions", json={**body, "stream": True})
                refused = client.post("/v1/feedback", json=vote)
                ready = client.get("/readyz")
                read = client.get("/v1/feedback/me")
            again = client.post("/v1/feedback", json=vote)
            after = client.get("/readyz").json()
    assert answer.status_code == 200 and answer.json()["choices"][0]["message"]["content"]
    assert answer.json()["stored"] is False and "could not be stored" in answer.json()["note"]
    assert '"stored": false' in stream.text and "[DONE]" in stream.text
    assert refused.status_code == 503 and "nothing was saved" in refused.text
    assert (ready.status_code, ready.json()["saves"]) == (200, False)
    assert read.status_code == 200
    assert (again.status_code, after["saves"]) == (200, True)
    for said in (answer, stream, refused, ready):
        assert str(tmp_path) not in said.text and "feedback.db" not in said.text
